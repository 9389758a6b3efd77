#include "safetensors/header.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <unordered_set>

#include "base/check.h"
#include "base/errors.h"
#include "safetensors/json_events.h"

namespace switchyard {
namespace {

struct TypeRow {
  std::string_view name;
  int bits;
};
// In the order of StoredType.
constexpr std::array<TypeRow, 22> kTypes = {{
    {"U64", 64},    {"I64", 64},        {"F64", 64},        {"C64", 64},    {"F32", 32},
    {"U32", 32},    {"I32", 32},        {"BF16", 16},       {"F16", 16},    {"U16", 16},
    {"I16", 16},    {"F8_E5M2FNUZ", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E8M0", 8}, {"F8_E4M3", 8},
    {"F8_E5M2", 8}, {"I8", 8},          {"U8", 8},          {"F6_E3M2", 6}, {"F6_E2M3", 6},
    {"F4", 4},      {"BOOL", 8},
}};
static_assert(kTypes.size() == static_cast<size_t>(StoredType::kBool) + 1);

constexpr uint64_t kLengthBytes = 8;
constexpr int kMaxUnknownDepth = 32;  // of a field that the format doesn't know
constexpr size_t kMaxDimensions = 64;
constexpr size_t kMaxWarnings = 10;

// Reads {"__metadata__": {text: text}, name: {"dtype", "shape", "data_offsets"}, ...}.
// Offsets come out relative to the data.
class HeaderEvents : public JsonEvents {
 public:
  explicit HeaderEvents(SafetensorsHeader& header) : header_(header) {}

  bool start_object(size_t) override {
    switch (place_) {
      case Place::kStart:
        place_ = Place::kTop;
        return true;
      case Place::kTop:
        return open_entry();
      case Place::kEntry:
        return is_unknown_field() ? open_unknown() : refuse("an object");
      case Place::kUnknown:
        return open_unknown();
      default:
        return refuse("an object");
    }
  }

  bool end_object() override {
    if (place_ == Place::kUnknown) return close_unknown();
    if (place_ == Place::kEntry) return close_entry();
    place_ = place_ == Place::kMetadata ? Place::kTop : Place::kStart;
    return true;
  }

  bool start_array(size_t) override {
    if (place_ == Place::kUnknown) return open_unknown();
    if (place_ != Place::kEntry) return refuse("an array");
    if (field_ == "shape") {
      place_ = Place::kShape;
    } else if (field_ == "data_offsets") {
      place_ = Place::kOffsets;
    } else {
      return is_unknown_field() ? open_unknown() : refuse("an array");
    }
    return true;
  }

  bool end_array() override {
    if (place_ == Place::kUnknown) return close_unknown();
    if (place_ == Place::kOffsets && offsets_.size() != 2) {
      return fail(in_entry(fmt::format("data_offsets holds {} numbers, not 2", offsets_.size())));
    }
    place_ = Place::kEntry;
    return true;
  }

  bool key(std::string& key) override {
    switch (place_) {
      case Place::kTop:
        if (!names_.insert(key).second) return fail(fmt::format("\"{}\" stands there twice", key));
        if (key != kMetadataKey && !is_tensor_name(key)) {
          return fail("the name of a tensor is empty or holds control characters");
        }
        entry_ = StoredTensor{.name = key};
        return true;
      case Place::kMetadata:
        if (header_.metadata.contains(key)) {
          return fail(fmt::format("__metadata__ holds \"{}\" twice", key));
        }
        field_ = key;
        return true;
      case Place::kEntry:
        if (!fields_.insert(key).second) return fail(in_entry(fmt::format("two of \"{}\"", key)));
        field_ = key;
        if (is_unknown_field() && header_.warnings.size() < kMaxWarnings) {
          header_.warnings.push_back(in_entry(fmt::format("unknown field \"{}\"", key)));
        }
        return true;
      default:
        return true;
    }
  }

  bool string(std::string& value) override {
    if (place_ == Place::kMetadata) {
      header_.metadata[field_] = value;
      return true;
    }
    if (place_ == Place::kEntry && field_ == "dtype") {
      const auto type = stored_type_named(value);
      if (!type) return fail(in_entry(fmt::format("unknown dtype \"{}\"", value)));
      entry_.type = *type;
      return true;
    }
    return JsonEvents::string(value);
  }

  bool number_unsigned(uint64_t value) override {
    if (place_ == Place::kShape) {
      if (entry_.shape.size() == kMaxDimensions) {
        return fail(in_entry(fmt::format("more than {} dimensions", kMaxDimensions)));
      }
      entry_.shape.push_back(value);
      return true;
    }
    if (place_ == Place::kOffsets) {
      if (offsets_.size() == 2) return fail(in_entry("data_offsets holds more than 2 numbers"));
      offsets_.push_back(value);
      return true;
    }
    return JsonEvents::number_unsigned(value);
  }

 protected:
  bool refuse(std::string_view what) override {
    switch (place_) {
      case Place::kUnknown:
        return true;
      case Place::kStart:
        return fail(fmt::format("the header is {}, not an object", what));
      case Place::kTop:
        return fail(fmt::format("\"{}\" is {}, not an object", entry_.name, what));
      case Place::kMetadata:
        return fail(fmt::format("__metadata__ \"{}\" is {}, not a string", field_, what));
      case Place::kEntry:
        return is_unknown_field() || fail(in_entry(fmt::format("{} as \"{}\"", what, field_)));
      default:
        return fail(in_entry(fmt::format("{} in \"{}\"", what, field_)));
    }
  }

 private:
  enum class Place : uint8_t { kStart, kTop, kMetadata, kEntry, kShape, kOffsets, kUnknown };
  static constexpr std::string_view kMetadataKey = "__metadata__";

  std::string in_entry(std::string_view problem) const {
    return fmt::format("tensor \"{}\": {}", entry_.name, problem);
  }
  bool is_unknown_field() const {
    return field_ != "dtype" && field_ != "shape" && field_ != "data_offsets";
  }

  bool open_entry() {
    place_ = entry_.name == kMetadataKey ? Place::kMetadata : Place::kEntry;
    fields_.clear();
    offsets_.clear();
    return true;
  }

  bool close_entry() {
    for (const char* field : {"dtype", "shape", "data_offsets"}) {
      if (!fields_.contains(field)) return fail(in_entry(fmt::format("no \"{}\"", field)));
    }
    entry_.begin = offsets_[0];
    entry_.end = offsets_[1];
    header_.tensors.push_back(std::move(entry_));
    place_ = Place::kTop;
    return true;
  }

  bool open_unknown() {
    place_ = Place::kUnknown;
    return ++unknown_depth_ <= kMaxUnknownDepth || fail(in_entry("nested too deeply"));
  }
  bool close_unknown() {
    if (--unknown_depth_ == 0) place_ = Place::kEntry;
    return true;
  }

  SafetensorsHeader& header_;
  Place place_ = Place::kStart;
  int unknown_depth_ = 0;
  StoredTensor entry_;
  std::string field_;
  std::vector<uint64_t> offsets_;
  std::unordered_set<std::string> fields_, names_;
};

// Offsets in `tensors` are relative to the data here; they become positions in the file.
void place_tensors(SafetensorsHeader& header, uint64_t file_bytes, const std::string& where) {
  const uint64_t data_bytes = file_bytes - header.data_begin;
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const StoredTensor& a, const StoredTensor& b) {
              return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
            });
  uint64_t at = 0;
  for (StoredTensor& tensor : header.tensors) {
    const auto refuse = [&](std::string_view problem) {
      throw CheckpointError(fmt::format("tensor \"{}\": {}", tensor.name, problem), where);
    };
    if (tensor.end < tensor.begin) {
      refuse(fmt::format("ends at {}, before it begins at {}", tensor.end, tensor.begin));
    }
    if (tensor.begin != at) {
      refuse(fmt::format("begins at {}, the one before ends at {}", tensor.begin, at));
    }
    const auto bytes = stored_bytes(tensor.type, tensor.shape);
    if (!bytes) refuse("its size is no whole number of bytes or exceeds 64 bits");
    if (*bytes != tensor.size_bytes()) {
      refuse(fmt::format("{} bytes by its shape, {} by its offsets", *bytes, tensor.size_bytes()));
    }
    if (tensor.end > data_bytes) {
      refuse(fmt::format("ends at byte {} of the data, the file holds {}", tensor.end, data_bytes));
    }
    at = tensor.end;
    tensor.begin += header.data_begin;
    tensor.end += header.data_begin;
  }
  if (at != data_bytes) {
    throw CheckpointError(fmt::format("{} bytes follow that belong to no tensor", data_bytes - at),
                          where);
  }
}

}  // namespace

std::string_view name_of(StoredType type) { return kTypes[static_cast<size_t>(type)].name; }
int bits_of(StoredType type) { return kTypes[static_cast<size_t>(type)].bits; }
size_t element_bytes(StoredType type) { return static_cast<size_t>(bits_of(type)) / 8; }

std::optional<StoredType> stored_type_named(std::string_view name) {
  for (size_t i = 0; i < kTypes.size(); ++i) {
    if (kTypes[i].name == name) return static_cast<StoredType>(i);
  }
  return {};
}

StoredType stored_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return StoredType::kF32;
    case DType::kFloat64:
      return StoredType::kF64;
    case DType::kBFloat16:
      return StoredType::kBF16;
    case DType::kInt32:
      return StoredType::kI32;
    case DType::kInt64:
      return StoredType::kI64;
    case DType::kUint8:
      return StoredType::kU8;
  }
  SWITCHYARD_CHECK(false, "dtype ", static_cast<int>(dtype));
}

std::optional<DType> dtype_of(StoredType type) {
  switch (type) {
    case StoredType::kF32:
      return DType::kFloat32;
    case StoredType::kF64:
      return DType::kFloat64;
    case StoredType::kBF16:
      return DType::kBFloat16;
    case StoredType::kI32:
      return DType::kInt32;
    case StoredType::kI64:
      return DType::kInt64;
    case StoredType::kU8:
      return DType::kUint8;
    default:
      return {};
  }
}

Shape shape_of(const StoredTensor& tensor) {
  return Shape(std::vector<int64_t>(tensor.shape.begin(), tensor.shape.end()));
}

std::vector<uint64_t> stored_shape(const Shape& shape) {
  std::vector<uint64_t> sizes;
  for (int i = 0; i < shape.rank(); ++i) sizes.push_back(static_cast<uint64_t>(shape[i]));
  return sizes;
}

std::optional<uint64_t> stored_bytes(StoredType type, std::span<const uint64_t> shape) {
  uint64_t bits = 1;
  for (uint64_t size : shape) {
    if (__builtin_mul_overflow(bits, size, &bits)) return {};
  }
  if (__builtin_mul_overflow(bits, static_cast<uint64_t>(bits_of(type)), &bits)) return {};
  if (bits % 8 != 0) return {};
  return bits / 8;
}

bool is_tensor_name(std::string_view name) {
  if (name.empty() || name == "__metadata__") return false;
  return std::none_of(name.begin(), name.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7f;
  });
}

uint64_t read_header_length(std::span<const std::byte> first_bytes, uint64_t file_bytes,
                            const std::string& where) {
  if (first_bytes.size() < kLengthBytes || file_bytes < kLengthBytes) {
    throw CheckpointError("no safetensors file: it ends before its header", where);
  }
  constexpr const char* kFetchAgain =
      "fetch or copy it again; a pointer of Git LFS is not the file";
  uint64_t length = 0;
  for (uint64_t i = 0; i < kLengthBytes; ++i) {
    length |= std::to_integer<uint64_t>(first_bytes[i]) << (8 * i);
  }
  if (length > kMaxHeaderBytes) {
    throw CheckpointError(fmt::format("no safetensors file: a header of {} bytes, at most {} are "
                                      "allowed",
                                      length, kMaxHeaderBytes),
                          where, kFetchAgain);
  }
  if (length > file_bytes - kLengthBytes) {
    throw CheckpointError(
        fmt::format("no safetensors file, or one cut short: a header of {} bytes in a file of {}",
                    length, file_bytes),
        where, kFetchAgain);
  }
  return length;
}

SafetensorsHeader parse_header(std::string_view json, uint64_t file_bytes,
                               const std::string& where) {
  SWITCHYARD_CHECK(file_bytes >= kLengthBytes + json.size(), where);
  SafetensorsHeader header;
  header.data_begin = kLengthBytes + json.size();
  HeaderEvents events(header);
  if (const std::string& problem = events.read(json); !problem.empty()) {
    throw CheckpointError("bad safetensors header: " + problem, where);
  }
  place_tensors(header, file_bytes, where);
  return header;
}

HeaderBytes make_header(std::vector<StoredTensor> tensors,
                        std::map<std::string, std::string> metadata, const std::string& where) {
  metadata.try_emplace("format", "pt");
  std::sort(tensors.begin(), tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return std::tie(a.type, a.name) < std::tie(b.type, b.name);
  });
  // Built by hand where order matters: the library sorts keys.
  std::string json = "{\"__metadata__\":" + nlohmann::json(metadata).dump();
  std::unordered_set<std::string_view> names;
  uint64_t at = 0;
  for (StoredTensor& tensor : tensors) {
    const auto bytes = stored_bytes(tensor.type, tensor.shape);
    if (!is_tensor_name(tensor.name) || !names.insert(tensor.name).second || !bytes ||
        __builtin_add_overflow(at, *bytes, &tensor.end)) {
      throw CheckpointError(
          fmt::format("tensor \"{}\" cannot be written: its name is unfit or there already, or its "
                      "size exceeds 64 bits",
                      tensor.name),
          where);
    }
    tensor.begin = at;
    at = tensor.end;
    json += fmt::format(R"(,{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                        nlohmann::json(tensor.name).dump(), name_of(tensor.type),
                        fmt::join(tensor.shape, ","), tensor.begin, tensor.end);
  }
  json += '}';
  json.resize((json.size() + 7) / 8 * 8, ' ');
  if (json.size() > kMaxHeaderBytes) {
    throw CheckpointError(fmt::format("a header of {} bytes cannot be written, at most {} are "
                                      "allowed",
                                      json.size(), kMaxHeaderBytes),
                          where, "spread the tensors over more files");
  }
  HeaderBytes made;
  for (uint64_t i = 0; i < kLengthBytes; ++i) {
    made.bytes += static_cast<char>(json.size() >> (8 * i) & 0xff);
  }
  made.bytes += json;
  made.header.metadata = std::move(metadata);
  made.header.data_begin = made.bytes.size();
  for (StoredTensor& tensor : tensors) {
    tensor.begin += made.header.data_begin;
    tensor.end += made.header.data_begin;
  }
  made.header.tensors = std::move(tensors);
  return made;
}

}  // namespace switchyard
