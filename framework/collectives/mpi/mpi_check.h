// Every call of MPI goes through SWITCHYARD_MPI: no return code is ignored.
#pragma once

#include <mpi.h>

namespace switchyard::internal {

// Throws RankError with the call's text and MPI's word for the code.
[[noreturn]] void fail_mpi(const char* call, int code);

}  // namespace switchyard::internal

#define SWITCHYARD_MPI(call)                                                        \
  do {                                                                              \
    const int mpi_code = (call);                                                    \
    if (mpi_code != MPI_SUCCESS) ::switchyard::internal::fail_mpi(#call, mpi_code); \
  } while (false)
