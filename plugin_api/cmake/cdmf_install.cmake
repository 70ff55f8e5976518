# What `cmake --install` puts where, and the package other projects find.
install(DIRECTORY config/ DESTINATION ${CDMF_INSTALL_CONFIG_DIR} FILES_MATCHING PATTERN "*.yaml")
