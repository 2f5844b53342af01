# `cmake --install`: the library with its headers and CMake package, the command line, the embedded model and pictures.
include(CMakePackageConfigHelpers)

set(OCTAVO_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/octavo)
install(TARGETS octavo_lib EXPORT octavoTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/octavo DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES ${PROJECT_BINARY_DIR}/generated/octavo/version.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/octavo)
install(EXPORT octavoTargets NAMESPACE octavo:: DESTINATION ${OCTAVO_CMAKE_DIR})
configure_package_config_file(cmake/octavoConfig.cmake.in ${PROJECT_BINARY_DIR}/octavoConfig.cmake
  INSTALL_DESTINATION ${OCTAVO_CMAKE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/octavoConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/octavoConfig.cmake ${PROJECT_BINARY_DIR}/octavoConfigVersion.cmake
  DESTINATION ${OCTAVO_CMAKE_DIR})

install(TARGETS octavo RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY models samples DESTINATION ${CMAKE_INSTALL_DATADIR}/octavo)
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
