#include "base/reused_memory.h"

#include <algorithm>
#include <array>
#include <bit>
#include <new>
#include <utility>

namespace switchyard {

namespace {

// Stands before the bytes of every piece; its size keeps them aligned for any type.
struct alignas(16) Piece {
  size_t list;
  Piece* next;  // where nobody uses the piece
};

constexpr size_t kSmallestBytes = 64;

// Pieces hold powers of two: those of list n kSmallestBytes << n.
size_t list_of(size_t size_bytes) {
  const size_t units = (std::max(size_bytes, kSmallestBytes) - 1) / kSmallestBytes;
  return static_cast<size_t>(std::bit_width(units));
}

Piece* new_piece(size_t list) {
  return new (::operator new(sizeof(Piece) + (kSmallestBytes << list))) Piece{list, nullptr};
}

class Store {
 public:
  Store() = default;
  ~Store() {
    is_open = false;
    for (Piece* list : lists_) {
      while (list != nullptr) ::operator delete(std::exchange(list, list->next));
    }
  }
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  Piece* take(size_t list) {
    // What is a little too large serves as well: lists that are shorter than they were cost
    // nothing.
    const size_t last = std::min(list + kLargerLists, lists_.size() - 1);
    for (size_t i = list; i <= last; ++i) {
      if (lists_[i] != nullptr) return std::exchange(lists_[i], lists_[i]->next);
    }
    return new_piece(list);
  }
  void give_back(Piece* piece) { piece->next = std::exchange(lists_[piece->list], piece); }

  // False once the thread's store has ended; what lives longer bypasses it.
  static thread_local bool is_open;

 private:
  static constexpr size_t kLargerLists = 4;
  std::array<Piece*, 58> lists_{};
};

thread_local bool Store::is_open = true;
thread_local Store store;

}  // namespace

void* take_reused_memory(size_t size_bytes) {
  const size_t list = list_of(size_bytes);
  return (Store::is_open ? store.take(list) : new_piece(list)) + 1;
}

void give_back_reused_memory(void* memory) noexcept {
  Piece* piece = static_cast<Piece*>(memory) - 1;
  if (Store::is_open) {
    store.give_back(piece);
  } else {
    ::operator delete(piece);
  }
}

}  // namespace switchyard
