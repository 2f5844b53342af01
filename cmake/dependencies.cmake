# The libraries that Octavo stands on; scripts/install_deps.sh installs them, docs/dependencies.md says why each.
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(Protobuf REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(JPEG REQUIRED)
find_package(ZLIB REQUIRED)

# octavo_import(NAME HEADER): a library without a usable CMake package becomes the target octavo::NAME, the name under
# which octavoConfig.cmake finds it again for installed copies. (Debian's package file for oneDNN asks for OpenCL's
# development files, which the CPU engine does not need; libspng's and Highway's are for pkg-config.)
function(octavo_import name header)
  find_path(OCTAVO_${name}_INCLUDE_DIR ${header})
  find_library(OCTAVO_${name}_LIBRARY ${name})
  if(NOT OCTAVO_${name}_INCLUDE_DIR OR NOT OCTAVO_${name}_LIBRARY)
    message(FATAL_ERROR "lib${name} (${header}) was not found: run scripts/install_deps.sh")
  endif()
  mark_as_advanced(OCTAVO_${name}_INCLUDE_DIR OCTAVO_${name}_LIBRARY)
  add_library(octavo::${name} UNKNOWN IMPORTED GLOBAL)
  set_target_properties(octavo::${name} PROPERTIES IMPORTED_LOCATION "${OCTAVO_${name}_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${OCTAVO_${name}_INCLUDE_DIR}")
endfunction()
octavo_import(dnnl oneapi/dnnl/dnnl.hpp)
octavo_import(spng spng.h)
octavo_import(hwy hwy/highway.h)
