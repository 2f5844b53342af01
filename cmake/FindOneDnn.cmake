# Debian's own package file for oneDNN asks for OpenCL's development files, which the CPU engine does not need:
# take the header and the library directly.
find_path(DNNL_INCLUDE_DIR oneapi/dnnl/dnnl.hpp REQUIRED)
find_library(DNNL_LIBRARY dnnl REQUIRED)
add_library(octavo_dnnl INTERFACE)
target_include_directories(octavo_dnnl SYSTEM INTERFACE $<BUILD_INTERFACE:${DNNL_INCLUDE_DIR}>)
target_link_libraries(octavo_dnnl INTERFACE ${DNNL_LIBRARY})
