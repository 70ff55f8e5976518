# How code of this project is compiled. Flags travel with targets, never with directories, so that a project which
# takes cdmf in with add_subdirectory() keeps its own.
#
#   cdmf_flags             INTERFACE target: warnings and sanitizers. Not exported: it is nobody else's business.
#   cdmf_use_flags(name)   applies it and what a target property alone can say.

add_library(cdmf_flags INTERFACE)
target_compile_options(cdmf_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow)
# gcc 12 warns of overlapping copies inside std::string's own operator+ (its bug 105329); later ones do not.
target_compile_options(
  cdmf_flags INTERFACE $<$<AND:$<COMPILE_LANG_AND_ID:CXX,GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>:-Wno-restrict>)
if(CDMF_WARNINGS_AS_ERRORS)
  target_compile_options(cdmf_flags INTERFACE -Werror)
endif()

if(CDMF_SANITIZE STREQUAL "address")
  set(cdmf_sanitizers -fsanitize=address,undefined -fno-sanitize-recover=all)
elseif(CDMF_SANITIZE STREQUAL "thread")
  set(cdmf_sanitizers -fsanitize=thread)
elseif(NOT CDMF_SANITIZE STREQUAL "")
  message(FATAL_ERROR "CDMF_SANITIZE is '${CDMF_SANITIZE}'; it takes 'address', 'thread' or nothing.")
endif()
if(CDMF_SANITIZE)
  # -O1: an unoptimised sanitized ring is slow enough to make every time-out of the tests look short.
  # -g1: reports need functions and lines; tracking variables as well would cost a quarter of the time to compile.
  target_compile_options(cdmf_flags INTERFACE ${cdmf_sanitizers} -O1 -g1 -fno-omit-frame-pointer)
  target_link_options(cdmf_flags INTERFACE ${cdmf_sanitizers})
endif()

function(cdmf_use_flags target)
  # BUILD_INTERFACE keeps cdmf_flags out of the export set of static libraries.
  target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:cdmf_flags>)
  # Static libraries end up inside plugins: position independent, and nothing of them visible from outside a plugin.
  set_target_properties(
    ${target}
    PROPERTIES POSITION_INDEPENDENT_CODE ON
               C_VISIBILITY_PRESET hidden
               CXX_VISIBILITY_PRESET hidden
               VISIBILITY_INLINES_HIDDEN ON
               CXX_EXTENSIONS OFF
               C_EXTENSIONS OFF)
  target_compile_features(${target} PRIVATE cxx_std_20 c_std_11)
endfunction()
