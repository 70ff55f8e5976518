# cdmf_add_transport(<type>
#   ENTRY <file>             the source that says CDMF_EXPORT_TRANSPORT(...), alone with that job
#   [SOURCES <files>...]     everything else of the transport
#   [LINK <targets>...]      libraries the transport itself needs
#   [PUBLIC_INCLUDE <dir>])  folder of headers for programs that link the transport directly
#
# Writes two targets, inside this tree and in any project after find_package(cdmf):
#   cdmf_<type>_core   static library of SOURCES: what unit tests, and programs without plugins, link. Absent without SOURCES.
#   cdmf_<type>        the plugin, libcdmf_<type>.so: ENTRY linked with the core. Built into ${CMAKE_BINARY_DIR}/plugins,
#                      installed into ${CMAKE_INSTALL_LIBDIR}/cdmf/1, where a host looks.
#
# The plugin exports one symbol, cdmf_plugin_v1. Everything else stays inside, so that two plugins carrying different
# versions of the same library live in one process without meeting.

include_guard(GLOBAL)

function(cdmf_add_transport type)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "ENTRY;PUBLIC_INCLUDE" "SOURCES;LINK")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "cdmf_add_transport(${type}): unknown argument '${arg_UNPARSED_ARGUMENTS}'")
  endif()
  if(NOT type MATCHES "^[a-z][a-z0-9_]*$")
    message(FATAL_ERROR "cdmf_add_transport(${type}): a type is lower case letters, digits and '_'; it is the word users "
                        "write after 'type:'")
  endif()
  if(NOT arg_ENTRY)
    message(FATAL_ERROR "cdmf_add_transport(${type}): ENTRY is missing; it names the source with CDMF_EXPORT_TRANSPORT")
  endif()

  set(module_links ${arg_LINK})
  if(arg_SOURCES)
    set(core cdmf_${type}_core)
    add_library(${core} STATIC ${arg_SOURCES})
    target_include_directories(${core} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
    if(arg_PUBLIC_INCLUDE)
      cmake_path(ABSOLUTE_PATH arg_PUBLIC_INCLUDE NORMALIZE)
      target_include_directories(${core} PUBLIC $<BUILD_INTERFACE:${arg_PUBLIC_INCLUDE}>)
    endif()
    target_link_libraries(${core} PUBLIC cdmf::plugin_api PRIVATE ${arg_LINK})
    _cdmf_transport_properties(${core})
    set(module_links ${core})
  endif()

  set(module cdmf_${type})
  add_library(${module} MODULE ${arg_ENTRY})
  target_include_directories(${module} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(${module} PRIVATE cdmf::plugin_api ${module_links})
  _cdmf_transport_properties(${module})

  set(version_script ${CMAKE_CURRENT_BINARY_DIR}/${module}.map)
  file(CONFIGURE OUTPUT ${version_script} CONTENT "{ global: cdmf_plugin_v1; local: *; };\n" @ONLY)
  set_target_properties(
    ${module}
    PROPERTIES PREFIX lib
               OUTPUT_NAME cdmf_${type}
               SUFFIX .so
               # A plugin is found by its path. A soname would let the loader confuse two files that share one.
               NO_SONAME ON
               LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/plugins
               LINK_DEPENDS ${version_script})
  # now: an unresolvable plugin is refused when it is loaded, not in the middle of the first message.
  target_link_options(${module} PRIVATE -Wl,--version-script=${version_script} -Wl,-z,now)
  if(NOT CDMF_SANITIZE AND NOT CMAKE_CXX_FLAGS MATCHES "-fsanitize")
    # A symbol that only the host could resolve is a mistake, found here rather than at the user's. Sanitizers resolve
    # theirs from the program by design.
    target_link_options(${module} PRIVATE -Wl,-z,defs)
  endif()

  set_property(GLOBAL APPEND PROPERTY CDMF_PLUGIN_TARGETS ${module})
  include(GNUInstallDirs)
  install(TARGETS ${module} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/cdmf/1 COMPONENT plugins)
endfunction()

function(_cdmf_transport_properties target)
  if(COMMAND cdmf_use_flags)
    cdmf_use_flags(${target})
  endif()
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON C_VISIBILITY_PRESET hidden
                                             CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  target_compile_features(${target} PRIVATE cxx_std_20)
  # "Unique" symbols are shared across plugins in spite of RTLD_LOCAL, and pin a library in memory.
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fno-gnu-unique>)
endfunction()
