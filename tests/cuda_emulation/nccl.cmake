# Collectives between devices (framework/collectives/nccl/) over NVIDIA's header and NCCL's entry
# points over MPI (nccl_mpi.cpp): ranks of mpirun, each with an emulated device. Without
# ThreadSanitizer, which knows nothing of MPI.
find_path(SWITCHYARD_NCCL_INCLUDE nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
mark_as_advanced(SWITCHYARD_NCCL_INCLUDE)
if(NOT SWITCHYARD_NCCL_INCLUDE OR NOT SWITCHYARD_MPI)
  message(STATUS "CUDA emulation: collectives are left out, since there is no nccl.h or no MPI")
  return()
endif()

file(GLOB nccl_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/framework/collectives/nccl/*.cu
                                         ${PROJECT_SOURCE_DIR}/framework/collectives/nccl/*.cpp)
set_source_files_properties(${nccl_sources} PROPERTIES LANGUAGE CXX)

function(switchyard_emulated_nccl variant)
  add_library(switchyard_emulated_nccl_${variant} STATIC ${nccl_sources} nccl_mpi.cpp)
  target_include_directories(switchyard_emulated_nccl_${variant} SYSTEM
                             PUBLIC ${SWITCHYARD_NCCL_INCLUDE})
  target_compile_definitions(switchyard_emulated_nccl_${variant} PRIVATE OMPI_SKIP_MPICXX)
  target_link_libraries(switchyard_emulated_nccl_${variant}
                        PUBLIC switchyard_emulated_cuda_${variant} switchyard_collectives
                        PRIVATE MPI::MPI_C)
  get_target_property(options switchyard_emulated_cuda_${variant} COMPILE_OPTIONS)
  target_compile_options(switchyard_emulated_nccl_${variant} PRIVATE ${options})
  get_target_property(options test_emulated_cuda_${variant} LINK_LIBRARIES)
  list(FILTER options INCLUDE REGEX "^-fsanitize")

  add_executable(test_emulated_nccl_${variant}
                 nccl_suite_test.cpp ${PROJECT_SOURCE_DIR}/tests/collectives/cases.cpp
                 $<TARGET_OBJECTS:switchyard_cuda_runtime_${variant}>)
  target_link_libraries(test_emulated_nccl_${variant} PRIVATE
                        switchyard_emulated_nccl_${variant} switchyard_mpirun_main ${options})
  switchyard_mpirun_test(emulated_nccl_${variant} RANKS 1 2 3 4
                         COMMAND test_emulated_nccl_${variant})

  add_executable(nccl_failing_ranks_${variant} nccl_failing_ranks.cpp
                 $<TARGET_OBJECTS:switchyard_cuda_runtime_${variant}>)
  target_link_libraries(nccl_failing_ranks_${variant} PRIVATE
                        switchyard_emulated_nccl_${variant} switchyard_collectives_mpi ${options})
endfunction()

function(switchyard_nccl_failure name mode reason code)
  switchyard_mpirun_test(emulated_nccl_${name} RANKS 2 4 COMMAND nccl_failing_ranks_plain
                         CHECKED_BY
                         ${PROJECT_SOURCE_DIR}/tests/collectives/mpirun/failing_ranks.sh ${mode}
                         ${reason} ${code})
endfunction()

foreach(variant ${SWITCHYARD_CUDA_EMULATION})
  if(NOT variant STREQUAL "thread")
    switchyard_emulated_nccl(${variant})
  endif()
endforeach()
if("plain" IN_LIST SWITCHYARD_CUDA_EMULATION)
  switchyard_nccl_failure(rank_fails one "rank 1: the corpus is torn" 3)
  switchyard_nccl_failure(rank_aborts abort "rank 1 failed: I give up" 6)
  switchyard_nccl_failure(link_breaks link "rank 1: NCCL failed: remote process exited" 6)
  switchyard_nccl_failure(calls_differ mismatch
                          "rank 0 calls all-reduce of 1000 float32, rank 1 broadcast of 4000" 1)
  switchyard_nccl_failure(lengths_differ lengths
                          "rank 0 takes a message of 40 uint8, rank 1 sends a message of 36" 1)
endif()
