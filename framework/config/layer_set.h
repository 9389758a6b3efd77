// Which layers of a stack something applies to: a value of the config, `none`, `all`, `{every: n}`
// or a list of layer numbers. It doesn't know how many layers the stack has.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard {

class LayerSet {
 public:
  static LayerSet none() { return LayerSet(Kind::kNone, 0, {}); }
  static LayerSet all() { return LayerSet(Kind::kAll, 0, {}); }
  // Layers i with i % n == 1, all of them for n = 1 (T5's and Switch's sparse step).
  static LayerSet every(int64_t n) { return LayerSet(Kind::kEvery, n, {}); }
  // Exactly these layers, counted from 0; kept sorted.
  static LayerSet list(std::vector<int64_t> layers);

  bool contains(int64_t layer) const;
  // The chosen ones of layers 0 .. layers-1.
  std::vector<int64_t> of(int64_t layers) const;
  bool is_none() const { return kind_ == Kind::kNone; }
  // The step of `{every: n}`; 0 for the other forms.
  int64_t step() const { return every_; }
  // The numbers of the list form; empty for the other forms.
  const std::vector<int64_t>& listed() const { return list_; }
  // As the config writes it: none, all, {every: 2}, [1, 3].
  std::string text() const;

  bool operator==(const LayerSet&) const = default;

 private:
  enum class Kind { kNone, kAll, kEvery, kList };
  LayerSet(Kind kind, int64_t every, std::vector<int64_t> list)
      : kind_(kind), every_(every), list_(std::move(list)) {}

  Kind kind_;
  int64_t every_;
  std::vector<int64_t> list_;
};

}  // namespace switchyard
