// Counts what is taken from the heap, in a test executable that links it: its malloc stands before
// the C library's for the whole process. Frames of MPI, oneDNN and OpenMP are left out.
#pragma once

#include <cstdint>
#include <string>

namespace switchyard::test {

// Whether this build can count: sanitizers bring a malloc of their own.
bool can_count_allocations();

// Counts from here on, on all threads.
void begin_counting_allocations();

struct Allocations {
  int64_t count = 0;
  std::string first;  // where the first few came from: addresses and, where known, functions
};
// Of all threads since begin_counting_allocations().
Allocations end_counting_allocations();

}  // namespace switchyard::test
