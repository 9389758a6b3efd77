#include "verify/snapshot.h"

#include <algorithm>
#include <cstring>

#include "ops/kernels.h"

namespace switchyard {

const char* name_of(Check check) {
  switch (check) {
    case Check::kChoice:
      return "choice of expert";
    case Check::kDrop:
      return "kept choice";
    case Check::kBatch:
      return "batch";
    case Check::kLoad:
      return "load";
    case Check::kLoss:
      return "loss";
    case Check::kAuxiliaryLoss:
      return "auxiliary loss";
    case Check::kGradient:
      return "gradient";
    case Check::kGradientNorm:
      return "gradient norm";
    case Check::kWeight:
      return "weight";
    case Check::kState:
      return "optimizer state";
  }
  return "";
}

const char* name_of(ItemGroup group) {
  constexpr const char* kNames[kItemGroups] = {"routing",    "losses",        "auxiliary losses",
                                               "embeddings", "attention",     "position biases",
                                               "norms",      "dense layers",  "routers",
                                               "experts",    "gradient norm", "optimizer state"};
  return kNames[static_cast<size_t>(group)];
}

Item Item::absent(Check check, ItemGroup group, std::string name, DType dtype, const Shape& shape) {
  return {.check = check,
          .group = group,
          .name = std::move(name),
          .dtype = dtype,
          .shape = shape,
          .held = {},
          .bytes = {}};
}

void Item::allocate() { bytes.resize(static_cast<size_t>(shape.elements()) * size_of(dtype)); }

void append(Snapshot& snapshot, Snapshot more) {
  for (Item& item : more) snapshot.push_back(std::move(item));
}

static ItemGroup group_of(const Weight& weight) {
  switch (weight.role()) {
    case WeightRole::kExpert:
      return ItemGroup::kExperts;
    case WeightRole::kRouter:
    case WeightRole::kBalanceBias:
      return ItemGroup::kRouters;
    case WeightRole::kNorm:
      return ItemGroup::kNorms;
    case WeightRole::kEmbedding:
      return ItemGroup::kEmbeddings;
    case WeightRole::kPositionBias:
      return ItemGroup::kPositionBiases;
    case WeightRole::kDense:
      break;
  }
  return weight.name().find("attention") != std::string::npos ? ItemGroup::kAttention
                                                              : ItemGroup::kFeedForward;
}

// body(here, there): where each run of the tensor's elements stands in its value and in the whole.
template <typename Body>
static void over_runs(const GlobalTensor& tensor, const Body& body) {
  const ElementRuns& runs = tensor.runs;
  for (int64_t i = 0; i < runs.count; ++i) body(i * runs.length, runs.first + i * runs.stride);
}

Snapshot copy_tensors(ExecContext& ctx, Check check, const std::vector<GlobalTensor>& tensors) {
  Snapshot copies;
  for (const GlobalTensor& tensor : tensors) {
    const ItemGroup group =
        check == Check::kState ? ItemGroup::kOptimizerState : group_of(*tensor.weight);
    Item& item =
        copies.emplace_back(Item::absent(check, group, tensor.name, tensor.dtype, tensor.shape));
    if (!tensor.held) continue;
    item.allocate();
    const Tensor host = read_back(ctx, tensor.value);
    const auto* data = static_cast<const std::byte*>(host.view().raw());
    const auto element = static_cast<int64_t>(size_of(tensor.dtype));
    const int64_t length = tensor.runs.length;
    over_runs(tensor, [&](int64_t here, int64_t there) {
      std::copy_n(data + here * element, length * element, item.bytes.begin() + there * element);
      item.hold({there, there + length});
    });
  }
  return copies;
}

void restore_tensors(ExecContext& ctx, const Snapshot& whole, Check check,
                     const std::vector<GlobalTensor>& tensors) {
  auto item = std::find_if(whole.begin(), whole.end(),
                           [&](const Item& candidate) { return candidate.check == check; });
  for (const GlobalTensor& tensor : tensors) {
    SWITCHYARD_CHECK(item != whole.end() && item->name == tensor.name, tensor.name);
    if (tensor.held) {
      std::vector<std::byte> part(tensor.value.size_bytes());
      const auto element = static_cast<int64_t>(size_of(tensor.dtype));
      over_runs(tensor, [&](int64_t here, int64_t there) {
        std::copy_n(item->bytes.begin() + there * element, tensor.runs.length * element,
                    part.begin() + here * element);
      });
      upload_bytes(ctx, part.data(), tensor.value);
    }
    ++item;
  }
}

std::vector<GlobalTensor> global_gradients(const std::vector<Weight*>& weights) {
  std::vector<OptimizerState> gradients;
  for (const Weight* weight : weights) {
    if (!weight->is_trained()) continue;
    gradients.push_back({.name = "gradient", .weight = weight, .value = weight->gradient()});
  }
  std::vector<GlobalTensor> tensors = global_tensors({}, gradients);
  for (GlobalTensor& tensor : tensors) {
    tensor.name.erase(tensor.name.rfind('/'));
    tensor.held = tensor.held && tensor.weight->gradient_written();
  }
  return tensors;
}

template <typename T>
static Item values_item(Check check, ItemGroup group, std::string name,
                        const std::vector<T>& values) {
  const auto count = static_cast<int64_t>(values.size());
  Item item = Item::absent(check, group, std::move(name), DTypeOf<T>::value, {count});
  item.allocate();
  std::copy(values.begin(), values.end(), item.data<T>());
  item.hold({0, count});
  return item;
}

Snapshot record_items(const StepRecord& record) {
  const auto number = [](Check check, ItemGroup group, const std::string& name, double value) {
    return values_item<double>(check, group, name, {value});
  };
  Snapshot items;
  items.push_back(values_item<int64_t>(Check::kBatch, ItemGroup::kLosses,
                                       "target tokens and real tokens",
                                       {record.target_tokens, record.tokens}));
  for (const LayerRecord& layer : record.layers) {
    const ItemGroup group = ItemGroup::kRouting;
    items.push_back(
        values_item(Check::kLoad, group, layer.name + ": tokens by expert", layer.load));
    items.push_back(values_item(Check::kLoad, group, layer.name + ": share dropped by choice",
                                layer.dropped_by_choice));
    items.push_back(
        number(Check::kLoad, group, layer.name + ": gate weight lost", layer.weight_lost_share));
    items.push_back(
        number(Check::kLoad, group, layer.name + ": router entropy", layer.router_entropy));
    items.push_back(
        number(Check::kLoad, group, layer.name + ": top probability", layer.top_probability));
  }
  items.push_back(number(Check::kLoss, ItemGroup::kLosses, "cross-entropy", record.loss));
  items.push_back(number(Check::kLoss, ItemGroup::kLosses, "output z", record.output_z));
  for (const LayerRecord& layer : record.layers) {
    const ItemGroup group = ItemGroup::kAuxiliaryLosses;
    items.push_back(
        number(Check::kAuxiliaryLoss, group, layer.name + ": load_balance", layer.load_balance));
    items.push_back(
        number(Check::kAuxiliaryLoss, group, layer.name + ": router_z", layer.router_z));
    items.push_back(
        number(Check::kAuxiliaryLoss, group, layer.name + ": importance", layer.importance));
    items.push_back(number(Check::kAuxiliaryLoss, group, layer.name + ": load", layer.load_loss));
  }
  return items;
}

Item gradient_norm_item(const StepRecord& record) {
  return values_item<double>(Check::kGradientNorm, ItemGroup::kGradientNorm, "gradient norm",
                             {record.gradient_norm});
}

namespace {

// Elements travel as words of at most 32 bits in int64, so that -1 can say "not held" and a maximum
// over the ranks is an exact copy.
constexpr int64_t kNotHeld = -1;
constexpr size_t kWordsAtOnce = size_t{4} << 20;

struct WordSize {
  explicit WordSize(const Item& item)
      : bytes(std::min<size_t>(4, size_of(item.dtype))),
        words(static_cast<size_t>(item.shape.elements()) * size_of(item.dtype) / bytes),
        of_element(size_of(item.dtype) / bytes) {}
  size_t bytes, words, of_element;
};

void append_words(const Item& item, std::vector<int64_t>& words) {
  const WordSize size(item);
  const size_t first = words.size();
  words.resize(first + size.words, kNotHeld);
  for (const Share& run : item.held) {
    for (size_t i = static_cast<size_t>(run.begin) * size.of_element;
         i < static_cast<size_t>(run.end) * size.of_element; ++i) {
      uint32_t word = 0;
      std::memcpy(&word, &item.bytes[i * size.bytes], size.bytes);
      words[first + i] = word;
    }
  }
}

//   mine, merged  the item's words here, and their maximum over the ranks
Merged take_words(Item& item, std::span<const int64_t> mine, std::span<const int64_t> merged) {
  const WordSize size(item);
  const auto element = [&](size_t word) { return static_cast<int64_t>(word / size.of_element); };
  Merged result;
  std::vector<std::byte> bytes(size.words * size.bytes);
  for (size_t i = 0; i < size.words; ++i) {
    if (merged[i] == kNotHeld) {
      result.missing = element(i);
      return result;
    }
    if (mine[i] != kNotHeld && mine[i] != merged[i] && !result.differs) {
      result.differs = element(i);
    }
    const auto word = static_cast<uint32_t>(merged[i]);
    std::memcpy(&bytes[i * size.bytes], &word, size.bytes);
  }
  if (result.differs) {
    const auto at = bytes.begin() + *result.differs * static_cast<int64_t>(size_of(item.dtype));
    result.other.assign(at, at + static_cast<int64_t>(size_of(item.dtype)));
    return result;
  }
  item.bytes = std::move(bytes);
  item.held = {{0, item.shape.elements()}};
  return result;
}

}  // namespace

std::vector<Merged> make_whole(Collectives& world, std::span<Item* const> items) {
  std::vector<Merged> results;
  while (results.size() < items.size()) {
    const size_t first = results.size();
    std::vector<int64_t> mine;
    size_t last = first;
    while (last < items.size() && (last == first || mine.size() < kWordsAtOnce)) {
      append_words(*items[last++], mine);
    }
    std::vector<int64_t> merged = mine;
    InlineStream stream;
    const TensorView view(merged.data(), DType::kInt64, {static_cast<int64_t>(merged.size())});
    if (!merged.empty()) world.all_reduce(stream, view, ReduceOp::kMax)->wait();
    size_t at = 0;
    for (size_t i = first; i < last; ++i) {
      const size_t words = WordSize(*items[i]).words;
      results.push_back(take_words(*items[i], std::span(mine).subspan(at, words),
                                   std::span(merged).subspan(at, words)));
      at += words;
    }
  }
  return results;
}

namespace {

// Items as bytes and back.
class Packer {
 public:
  explicit Packer(std::vector<std::byte>& bytes) : bytes_(bytes) {}
  void put(const void* data, size_t size) {
    const auto* first = static_cast<const std::byte*>(data);
    bytes_.insert(bytes_.end(), first, first + size);
  }
  void get(void* data, size_t size) {
    SWITCHYARD_CHECK(at_ + size <= bytes_.size(), "at ", at_, " of ", bytes_.size());
    std::memcpy(data, bytes_.data() + at_, size);
    at_ += size;
  }
  bool done() const { return at_ == bytes_.size(); }

 private:
  std::vector<std::byte>& bytes_;
  size_t at_ = 0;
};

struct ItemHeader {
  Check check = Check::kLoss;
  ItemGroup group = ItemGroup::kLosses;
  DType dtype = DType::kFloat32;
  Shape shape;
  size_t name_bytes = 0;
};
static_assert(std::is_trivially_copyable_v<ItemHeader>);

void put_header(Packer& packer, const Item& item) {
  const ItemHeader header{item.check, item.group, item.dtype, item.shape, item.name.size()};
  packer.put(&header, sizeof header);
  packer.put(item.name.data(), item.name.size());
}

Item get_header(Packer& packer) {
  ItemHeader header;
  packer.get(&header, sizeof header);
  std::string name(header.name_bytes, ' ');
  packer.get(name.data(), name.size());
  return Item::absent(header.check, header.group, name, header.dtype, header.shape);
}

}  // namespace

void share_whole(Collectives& world, Snapshot& whole) {
  std::vector<std::byte> bytes;
  Packer packer(bytes);
  if (world.rank() == 0) {
    for (const Item& item : whole) {
      put_header(packer, item);
      packer.put(item.bytes.data(), item.bytes.size());
    }
  }
  InlineStream stream;
  auto size = static_cast<int64_t>(bytes.size());
  world.broadcast(stream, TensorView(&size, DType::kInt64, {1}), 0)->wait();
  bytes.resize(static_cast<size_t>(size));
  if (size > 0) world.broadcast(stream, TensorView(bytes.data(), DType::kUint8, {size}), 0)->wait();
  if (world.rank() == 0) return;
  whole.clear();
  while (!packer.done()) {
    Item& item = whole.emplace_back(get_header(packer));
    item.allocate();
    packer.get(item.bytes.data(), item.bytes.size());
    item.hold({0, item.shape.elements()});
  }
}

}  // namespace switchyard
