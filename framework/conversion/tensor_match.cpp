#include "conversion/tensor_match.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstring>
#include <map>
#include <set>

#include "base/errors.h"
#include "safetensors/elements.h"

namespace switchyard {

namespace {

// Tensors by what is wrong with them; an error names the first few of each kind.
class Problems {
 public:
  void add(const std::string& kind, const std::string& tensor) {
    List& list = lists_[kind];
    if (list.count < kNamed) list.names += (list.count > 0 ? ", " : "") + tensor;
    ++list.count;
  }
  void throw_any(const std::string& where) const {
    if (lists_.empty()) return;
    std::string all;
    for (const auto& [kind, list] : lists_) {
      all += fmt::format("{}{} tensor{} {}: {}{}", all.empty() ? "" : "; ", list.count,
                         list.count == 1 ? "" : "s", kind, list.names,
                         list.count > kNamed ? ", ..." : "");
    }
    throw CheckpointError("the weights don't fit config.json: " + all, where,
                          "nothing is left out or made up: fetch the files again, or mend them");
  }

 private:
  static constexpr int kNamed = 4;
  struct List {
    int count = 0;
    std::string names;
  };
  std::map<std::string, List> lists_;
};

class Matcher {
 public:
  Matcher(const Dialect& dialect, const SafetensorsSet& set) : dialect_(dialect), set_(set) {}

  Matched match(const std::vector<TensorSpec>& wanted, const std::string& where) {
    for (const TensorSpec& spec : wanted) find(spec);
    for (const Spare& spare : spares_of(dialect_)) take_spare(spare);
    check_used();
    problems_.throw_any(where);
    return std::move(matched_);
  }

 private:
  const StoredTensor& stored(const std::string& name) const {
    return set_.file_of(name).tensor(name);
  }
  std::span<const std::byte> bytes(const std::string& name) const {
    return set_.file_of(name).data(name);
  }

  void find(const TensorSpec& spec) {
    const Place* found = nullptr;
    const std::vector<Place> places = places_of(dialect_, spec.name, spec.shape, spec.experts);
    for (const Place& place : places) {
      if (!set_.contains(place.name)) continue;
      if (found == nullptr) {
        found = &place;
      } else {
        problems_.add("there in two forms", fmt::format("{} and {}", found->name, place.name));
      }
    }
    // One of a tied embedding's other names will do.
    Place other;
    for (const Spare& spare : spares_of(dialect_)) {
      if (found != nullptr || spare.equal_to != places.front().name) continue;
      if (!set_.contains(spare.name)) continue;
      other = {.name = spare.name, .shape = spec.shape};
      found = &other;
    }
    if (found == nullptr) return problems_.add("missing", places.front().name);
    take(spec, *found);
  }

  void take(const TensorSpec& spec, const Place& place) {
    const StoredTensor& tensor = stored(place.name);
    used_[place.name] += 1;
    parts_[place.name] = place.parts;
    if (tensor.shape != place.shape) {
      if (used_[place.name] > 1) return;
      return problems_.add(
          "of another shape",
          fmt::format("{} ([{}] stored, [{}] wanted)", place.name, fmt::join(tensor.shape, ", "),
                      fmt::join(place.shape, ", ")));
    }
    if (!fits_float32(tensor.type)) {
      return problems_.add("of a type that isn't converted",
                           fmt::format("{} ({})", place.name, name_of(tensor.type)));
    }
    const uint64_t size = tensor.size_bytes() / place.parts;
    const std::span<const std::byte> part = bytes(place.name).subspan(place.part * size, size);
    SourceTensor source{.name = spec.name,
                        .type = tensor.type,
                        .shape = spec.shape,
                        .origin = place.name,
                        .read = [part](const TakeBytes& give) {
                          for (size_t at = 0; at < part.size(); at += kChunkBytes) {
                            give(part.subspan(at, std::min(kChunkBytes, part.size() - at)));
                          }
                        }};
    if (place.parts > 1) source.note = fmt::format("part {} of {}", place.part, place.parts);
    matched_.tensors.push_back(std::move(source));
  }

  // The name under which the tensor was found that the spare one is equal to; empty: none.
  std::string name_used_for(const Spare& spare) const {
    if (spare.equal_to.empty()) return "";
    if (used_.contains(spare.equal_to)) return spare.equal_to;
    for (const Spare& other : spares_of(dialect_)) {
      if (other.equal_to == spare.equal_to && used_.contains(other.name)) return other.name;
    }
    return "";
  }

  void take_spare(const Spare& spare) {
    if (!set_.contains(spare.name) || used_.contains(spare.name)) return;
    const std::string first = name_used_for(spare);
    used_[spare.name] = parts_[spare.name] = 1;
    matched_.left_out.push_back({spare.name, spare.reason});
    if (first.empty()) return;
    const auto mine = bytes(spare.name), theirs = bytes(first);
    const bool equal = stored(spare.name).type == stored(first).type &&
                       stored(spare.name).shape == stored(first).shape &&
                       std::memcmp(mine.data(), theirs.data(), mine.size()) == 0;
    if (!equal) {
      problems_.add("unequal where one is the other", fmt::format("{} and {}", spare.name, first));
    }
    matched_.left_out.back().reason += fmt::format(" (equal to {})", first);
  }

  void check_used() {
    for (const SafetensorsFile& file : set_.files()) {
      for (const StoredTensor& tensor : file.tensors()) {
        if (set_.contains(tensor.name) && &set_.file_of(tensor.name) == &file) continue;
        problems_.add("in a file that the index doesn't name for them",
                      fmt::format("{} in {}", tensor.name, file.path().filename().string()));
      }
    }
    for (const std::string& name : set_.names()) {
      const auto found = used_.find(name);
      if (found == used_.end()) {
        problems_.add("that the model does not have", name);
      } else if (found->second != parts_.at(name)) {
        problems_.add("only in part used", name);
      }
    }
  }

  const Dialect& dialect_;
  const SafetensorsSet& set_;
  Problems problems_;
  std::map<std::string, uint64_t> used_, parts_;  // how many parts of a tensor; of how many
  Matched matched_;
};

}  // namespace

Matched match_tensors(const Dialect& dialect, const std::vector<TensorSpec>& wanted,
                      const SafetensorsSet& set, const std::string& where) {
  return Matcher(dialect, set).match(wanted, where);
}

}  // namespace switchyard
