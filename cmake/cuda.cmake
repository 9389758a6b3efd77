# SWITCHYARD_CUDA: AUTO builds the CUDA backend where its toolkit is found, and in no build with
# sanitizers, which know nothing of device code; ON insists on it; OFF doesn't look. Sets
# SWITCHYARD_HAVE_CUDA.
set(SWITCHYARD_CUDA AUTO CACHE STRING "Build the CUDA backend: AUTO, ON or OFF")
set_property(CACHE SWITCHYARD_CUDA PROPERTY STRINGS AUTO ON OFF)
set(SWITCHYARD_HAVE_CUDA OFF)
if(NOT SWITCHYARD_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "SWITCHYARD_CUDA is ${SWITCHYARD_CUDA}; set it to AUTO, ON or OFF")
endif()
if(SWITCHYARD_CUDA STREQUAL "OFF" OR (SWITCHYARD_CUDA STREQUAL "AUTO" AND SWITCHYARD_SANITIZE))
  return()
endif()

# Ampere and Hopper as machine code, what comes after them as text that the driver compiles.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES "80-real;90a-real;90-virtual")
endif()
include(CheckLanguage)
check_language(CUDA)
if(CMAKE_CUDA_COMPILER)
  find_package(CUDAToolkit 13.0 QUIET)
endif()
find_library(SWITCHYARD_NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
find_path(SWITCHYARD_NCCL_INCLUDE nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
mark_as_advanced(SWITCHYARD_NCCL_LIBRARY SWITCHYARD_NCCL_INCLUDE)
if(TARGET CUDA::cublasLt AND SWITCHYARD_NCCL_LIBRARY AND SWITCHYARD_NCCL_INCLUDE)
  enable_language(CUDA)
  set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
  # CMake 3.25 doesn't know that nvcc takes it.
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  set(SWITCHYARD_HAVE_CUDA ON)
  message(STATUS "CUDA backend: CUDA ${CUDAToolkit_VERSION}")
elseif(SWITCHYARD_CUDA STREQUAL "ON")
  message(FATAL_ERROR "SWITCHYARD_CUDA=ON, but no CUDA toolkit of 13.0 or later with cuBLAS and "
                      "NCCL was found; install it, set CUDACXX to its nvcc, or set SWITCHYARD_CUDA=AUTO")
else()
  message(STATUS "CUDA backend: not built, no CUDA toolkit of 13.0 or later with NCCL was found")
endif()
