# cdmf_test(<name>                 as ctest shows it: unit.shm.record_ring
#   SOURCES <files>...
#   [LINK <targets>...]            their private headers may be included as well: a unit test sees what the unit sees
#   [NO_MAIN]                      the sources bring their own main()
#   [any option of cdmf_test_run])
# builds one program, with GoogleTest, and registers it. The target's name is <name> with '_' for '.'.
#
# cdmf_test_run(<name> TARGET <program>
#   [ARGS <words>...]
#   [LABELS <labels>...]           besides the first word of <name>; `slow` keeps a test out of `./dev test`
#   [ENVIRONMENT <NAME=value>...]
#   [TIMEOUT <seconds>]            120, or 900 with the label slow
#   [RUN_SERIAL])                  alone on the machine: for a test that measures
# registers another run of a program that exists, as conformance does once per transport.
#
# cdmf_benchmark(<name> SOURCES <files>... [LINK <targets>...]) builds a program that no test runs, into
# ${CMAKE_BINARY_DIR}/bin. Sanitized builds leave it out: its figures would mean nothing.
#
# Every test finds: CDMF_PLUGIN_PATH, the plugins of this build; CDMF_BINARY, the program `cdmf`; CDMF_CONFIG_DIR, the
# shipped configurations.

function(cdmf_test name)
  cmake_parse_arguments(run "NO_MAIN;RUN_SERIAL" "TIMEOUT" "SOURCES;LINK;ARGS;LABELS;ENVIRONMENT" ${ARGN})
  if(run_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "test ${name}: unknown argument '${run_UNPARSED_ARGUMENTS}'")
  endif()
  string(REPLACE "." "_" target ${name})
  add_executable(${target} ${run_SOURCES})
  _cdmf_test_program(${target} "${run_LINK}")
  if(run_NO_MAIN)
    target_link_libraries(${target} PRIVATE GTest::gtest)
  else()
    target_link_libraries(${target} PRIVATE GTest::gtest_main)
  endif()

  set(options "")
  foreach(option TIMEOUT ARGS LABELS ENVIRONMENT)
    if(DEFINED run_${option})
      list(APPEND options ${option} ${run_${option}})
    endif()
  endforeach()
  if(run_RUN_SERIAL)
    list(APPEND options RUN_SERIAL)
  endif()
  cdmf_test_run(${name} TARGET ${target} ${options})
endfunction()

function(cdmf_test_run name)
  cmake_parse_arguments(arg "RUN_SERIAL" "TARGET;TIMEOUT" "ARGS;LABELS;ENVIRONMENT" ${ARGN})
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "test ${name}: unknown argument '${arg_UNPARSED_ARGUMENTS}'")
  endif()
  if(NOT DEFINED arg_TIMEOUT)
    set(arg_TIMEOUT 120)
    if("slow" IN_LIST arg_LABELS)
      set(arg_TIMEOUT 900)
    endif()
  endif()
  string(REGEX MATCH "^[^.]+" suite ${name})

  add_test(NAME ${name} COMMAND ${arg_TARGET} ${arg_ARGS})
  set(environment CDMF_PLUGIN_PATH=${CMAKE_BINARY_DIR}/plugins CDMF_CONFIG_DIR=${PROJECT_SOURCE_DIR}/config
                  CDMF_BINARY=$<TARGET_FILE:cdmf_cli>)
  set_tests_properties(
    ${name}
    PROPERTIES LABELS "${suite};${arg_LABELS}"
               TIMEOUT ${arg_TIMEOUT}
               RUN_SERIAL ${arg_RUN_SERIAL}
               ENVIRONMENT "${environment};${arg_ENVIRONMENT}")
endfunction()

function(cdmf_benchmark name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  _cdmf_test_program(${name} "${arg_LINK}")
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
  if(CDMF_SANITIZE)
    set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)
  endif()
endfunction()

function(_cdmf_test_program target links)
  cdmf_use_flags(${target})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/tests ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(${target} PRIVATE ${links})
  foreach(library IN LISTS links)
    if(TARGET ${library})
      target_include_directories(${target} PRIVATE $<TARGET_PROPERTY:${library},INCLUDE_DIRECTORIES>)
    endif()
  endforeach()
endfunction()
