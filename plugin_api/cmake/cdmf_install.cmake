# What `cmake --install` puts where, and the package that find_package(cdmf) finds.
#   bin/cdmf   lib/libcdmf_*.a   lib/cdmf/1/libcdmf_<type>.so   include/cdmf/ipc/*.h   share/cdmf/config/*.yaml
#   lib/cmake/cdmf/   the package: targets cdmf::plugin_api, cdmf::ring_buffer, cdmf::shm, cdmf::host
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/cdmf)

# _cdmf_install_library(<target> <name in the package> <export set> [<folder with its public headers>])
function(_cdmf_install_library target name export_set)
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  # <prefix>/include/cdmf, so that #include "ipc/transport.h" means the same inside this tree and outside.
  target_include_directories(${target} INTERFACE $<INSTALL_INTERFACE:${CDMF_INSTALL_INCLUDE_DIR}>)
  install(TARGETS ${target} EXPORT ${export_set} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  if(ARGV3)
    install(DIRECTORY ${ARGV3}/ DESTINATION ${CDMF_INSTALL_INCLUDE_DIR} FILES_MATCHING PATTERN "*.h")
  endif()
endfunction()

_cdmf_install_library(cdmf_plugin_api plugin_api cdmfTargets plugin_api/include)
_cdmf_install_library(cdmf_ring_buffer ring_buffer cdmfTargets plugins/shm/include)
_cdmf_install_library(cdmf_shm_core shm cdmfTargets)
# The host has an export set of its own, because it alone needs yaml-cpp and spdlog at the user's.
_cdmf_install_library(cdmf_host host cdmfHostTargets host/include)
install(TARGETS cdmf_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY config/ DESTINATION ${CDMF_INSTALL_CONFIG_DIR} FILES_MATCHING PATTERN "*.yaml")

foreach(export_set cdmfTargets cdmfHostTargets)
  install(EXPORT ${export_set} NAMESPACE cdmf:: DESTINATION ${package_dir})
endforeach()
configure_package_config_file(
  plugin_api/cmake/cdmfConfig.cmake.in ${PROJECT_BINARY_DIR}/cdmfConfig.cmake
  INSTALL_DESTINATION ${package_dir}
  PATH_VARS CDMF_INSTALL_PLUGIN_DIR CDMF_INSTALL_CONFIG_DIR)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/cdmfConfigVersion.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${PROJECT_BINARY_DIR}/cdmfConfig.cmake ${PROJECT_BINARY_DIR}/cdmfConfigVersion.cmake
              plugin_api/cmake/cdmf_add_transport.cmake DESTINATION ${package_dir})
