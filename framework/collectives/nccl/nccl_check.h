// Every call of NCCL goes through SWITCHYARD_NCCL: no result is ignored.
#pragma once

#include <nccl.h>

namespace switchyard::internal {

// Throws RankError with the call's text and NCCL's words for the result.
[[noreturn]] void fail_nccl(const char* call, ncclResult_t result);

}  // namespace switchyard::internal

#define SWITCHYARD_NCCL(call)                                                              \
  do {                                                                                     \
    const ncclResult_t nccl_result = (call);                                               \
    if (nccl_result != ncclSuccess) ::switchyard::internal::fail_nccl(#call, nccl_result); \
  } while (false)
