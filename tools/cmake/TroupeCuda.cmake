# Whether the CUDA plug-in is built: TROUPE_WITH_CUDA. The core neither needs the toolkit nor knows of it.
set(TROUPE_CUDA AUTO CACHE STRING "The CUDA plug-in: AUTO (where the toolkit is found), ON or OFF")
set(TROUPE_WITH_CUDA OFF)
if(NOT TROUPE_CUDA STREQUAL "OFF" AND NOT TROUPE_SANITIZE) # sanitizers do not see through the driver
  find_package(CUDAToolkit 13 QUIET)
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
  if(CUDAToolkit_FOUND AND TARGET CUDA::cublasLt AND TARGET CUDA::cudart_static AND NCCL_INCLUDE_DIR AND NCCL_LIBRARY)
    set(TROUPE_WITH_CUDA ON)
  elseif(TROUPE_CUDA STREQUAL "ON")
    message(FATAL_ERROR "TROUPE_CUDA is ON, and no CUDA toolkit 13 with cuBLASLt and NCCL was found. Say where: -DCUDAToolkit_ROOT=...")
  endif()
endif()

if(TROUPE_WITH_CUDA)
  set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
  set(CMAKE_CUDA_ARCHITECTURES OFF) # by the option below: CMake 3.25 does not know sm_90a
  if(CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
  endif()
  enable_language(CUDA)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION) # nor that this compiler has C++20
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  add_library(troupe_cuda_options INTERFACE)
  target_compile_options(
    troupe_cuda_options INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:-gencode=arch=compute_90a,code=sm_90a -lineinfo
                                  -Xcompiler=-Wall,-Wextra $<$<BOOL:${TROUPE_WERROR}>:-Werror=all-warnings>>)
  target_link_libraries(troupe_cuda_options INTERFACE CUDA::cublasLt CUDA::cudart_static ${NCCL_LIBRARY})
  target_include_directories(troupe_cuda_options SYSTEM INTERFACE ${NCCL_INCLUDE_DIR})
endif()
