// Collectives between CUDA devices, one a rank. Names no type of NCCL, so that the plugin can offer
// it.
#pragma once

#include <memory>

#include "collectives/collectives.h"

namespace switchyard {

// Operations on a CUDA stream are enqueued there and run over NCCL; sums are made in an order of
// NCCL's choice, the same bits on all ranks. Operations on any other stream run over `host`, and so
// does barrier(). Every rank calls it, with the device that it uses current.
//   host  must outlive the result; carries the identification that NCCL's ranks find each other by
std::unique_ptr<Collectives> make_nccl_collectives(Collectives& host);

}  // namespace switchyard
