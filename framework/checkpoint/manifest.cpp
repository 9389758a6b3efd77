#include "checkpoint/manifest.h"

#include <fmt/format.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/stubs/logging.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <unordered_set>

#include "base/errors.h"
#include "manifest.pb.h"
#include "safetensors/elements.h"
#include "safetensors/file_system.h"
#include "safetensors/safetensors.h"
#include "tensor/shape.h"

namespace switchyard {
namespace {

constexpr int kMaxDepth = 4;  // Manifest, Tensor, Slice, and one to spare
constexpr size_t kDigestBytes = sizeof(Digest::bytes);

std::string bytes_of(const Digest& digest) {
  return {reinterpret_cast<const char*>(digest.bytes.data()), kDigestBytes};
}

// Field by field: unknown ones hide at every depth.
bool has_unknown_fields(const google::protobuf::Message& message) {
  const auto* reflection = message.GetReflection();
  if (!reflection->GetUnknownFields(message).empty()) return true;
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  reflection->ListFields(message, &fields);
  for (const auto* field : fields) {
    if (field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated()) {
      if (has_unknown_fields(reflection->GetMessage(message, field))) return true;
      continue;
    }
    for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
      if (has_unknown_fields(reflection->GetRepeatedMessage(message, field, i))) return true;
    }
  }
  return false;
}

// Texts of a manifest go to a terminal.
std::string without_controls(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return text;
}

bool parse(std::string_view bytes, google::protobuf::Message& message) {
  const google::protobuf::LogSilencer silent;  // the caller says what is wrong
  google::protobuf::io::CodedInputStream stream(reinterpret_cast<const uint8_t*>(bytes.data()),
                                                static_cast<int>(bytes.size()));
  stream.SetRecursionLimit(kMaxDepth);
  return message.ParseFromCodedStream(&stream) && stream.ConsumedEntireMessage();
}

class Decoder {
 public:
  explicit Decoder(const std::string& where) : where_(where) {}

  [[noreturn]] void refuse(const std::string& problem) const {
    throw CheckpointError("bad manifest: " + without_controls(problem), where_);
  }

  Manifest decode(std::string_view bytes) const {
    if (bytes.size() > kMaxManifestBytes) {
      refuse(fmt::format("{} bytes, at most {} are allowed", bytes.size(), kMaxManifestBytes));
    }
    proto::Signed envelope;
    if (!parse(bytes, envelope)) refuse("damaged or cut short");
    // Nothing may lie beside the two fields: the hash wouldn't cover it.
    if (envelope.SerializeAsString() != bytes || has_unknown_fields(envelope)) {
      refuse("damaged: bytes that its hash does not cover");
    }
    if (envelope.xxh3() != bytes_of(digest_of(envelope.body()))) {
      refuse("damaged: its hash differs");
    }
    proto::Manifest message;
    if (!parse(envelope.body(), message)) refuse("not readable, or nested too deeply");
    if (message.format_version() != kManifestFormat) {
      throw CheckpointError(
          fmt::format("the checkpoint's format is version {}, this program reads {}",
                      message.format_version(), kManifestFormat),
          where_, "use Switchyard " + without_controls(message.program_version()) + " or later");
    }
    if (has_unknown_fields(message)) refuse("it holds fields that this program does not know");
    return plain(message);
  }

 private:
  Manifest plain(const proto::Manifest& message) const {
    Manifest manifest;
    manifest.program_version = without_controls(message.program_version());
    manifest.step = number(message.step(), "step");
    manifest.tokens_seen = number(message.tokens_seen(), "tokens_seen");
    manifest.sampler_position = number(message.sampler_position(), "sampler_position");
    manifest.seed = message.seed();
    manifest.layout = {.ranks = message.layout().ranks(),
                       .expert_group_size = message.layout().expert_group_size(),
                       .sharded_optimizer = message.layout().sharded_optimizer()};
    manifest.config_hash = digest(message.config_hash(), "config_hash");
    if (!message.dataset_hash().empty()) {
      manifest.dataset_hash = digest(message.dataset_hash(), "dataset_hash");
    }
    for (const proto::Tensor& tensor : message.tensors()) {
      manifest.tensors.push_back(plain(tensor));
    }
    for (const proto::File& file : message.files()) manifest.files.push_back(plain(file));
    return manifest;
  }

  ManifestTensor plain(const proto::Tensor& message) const {
    const auto type = stored_type_named(message.dtype());
    if (!type) {
      refuse(fmt::format("tensor \"{}\": unknown dtype \"{}\"", message.name(), message.dtype()));
    }
    if (message.part() != proto::MODEL && message.part() != proto::OPTIMIZER) {
      refuse(fmt::format("tensor \"{}\": part {}", message.name(), int{message.part()}));
    }
    ManifestTensor tensor{.name = message.name(), .type = *type};
    if (message.part() == proto::OPTIMIZER) tensor.part = TensorPart::kOptimizer;
    tensor.shape.assign(message.shape().begin(), message.shape().end());
    for (const proto::Slice& slice : message.slices()) {
      tensor.slices.push_back({.file = slice.file(),
                               .begin = slice.begin(),
                               .end = slice.end(),
                               .first_element = slice.first_element(),
                               .elements = slice.elements(),
                               .digest = digest(slice.xxh3(), message.name())});
    }
    return tensor;
  }

  ManifestFile plain(const proto::File& message) const {
    ManifestFile file{.name = message.name(), .size_bytes = message.size_bytes(), .chunks = {}};
    const std::string_view digests = message.chunk_xxh3();
    if (digests.size() % kDigestBytes != 0) {
      refuse(fmt::format("file \"{}\": {} bytes of hashes", message.name(), digests.size()));
    }
    for (size_t at = 0; at < digests.size(); at += kDigestBytes) {
      file.chunks.push_back(digest(digests.substr(at, kDigestBytes), message.name()));
    }
    return file;
  }

  Digest digest(std::string_view bytes, std::string_view what) const {
    if (bytes.size() != kDigestBytes) {
      refuse(fmt::format("{}: a hash of {} bytes", what, bytes.size()));
    }
    Digest digest;
    std::memcpy(digest.bytes.data(), bytes.data(), kDigestBytes);
    return digest;
  }

  int64_t number(uint64_t value, std::string_view what) const {
    if (value > INT64_MAX) refuse(fmt::format("{} = {}", what, value));
    return static_cast<int64_t>(value);
  }

  const std::string& where_;
};

class Checker {
 public:
  Checker(const Manifest& manifest, const std::string& where)
      : manifest_(manifest), refuse_(where) {}

  void check() {
    const CheckpointLayout& layout = manifest_.layout;
    if (layout.ranks < 1 || layout.expert_group_size < 1 ||
        layout.ranks % layout.expert_group_size != 0) {
      refuse_.refuse(
          fmt::format("{} ranks in expert groups of {}", layout.ranks, layout.expert_group_size));
    }
    for (const ManifestFile& file : manifest_.files) check(file);
    std::unordered_set<std::string_view> names;
    for (const ManifestTensor& tensor : manifest_.tensors) {
      if (!is_tensor_name(tensor.name) || !names.insert(tensor.name).second) {
        refuse(tensor, "its name is unfit or there twice");
      }
      check(tensor);
    }
  }

 private:
  [[noreturn]] void refuse(const ManifestTensor& tensor, std::string_view problem) const {
    refuse_.refuse(fmt::format("tensor \"{}\": {}", tensor.name, problem));
  }

  void check(const ManifestFile& file) {
    if (!is_shard_name(file.name) || file.name == "manifest.pb" ||
        !sizes_.try_emplace(file.name, file.size_bytes).second) {
      refuse_.refuse(fmt::format("file \"{}\": its name is unfit or there twice", file.name));
    }
    if (file.chunks.size() != chunks_of(file.size_bytes)) {
      refuse_.refuse(fmt::format("file \"{}\": {} hashes for {} bytes", file.name,
                                 file.chunks.size(), file.size_bytes));
    }
  }

  void check(const ManifestTensor& tensor) const {
    const bool is_known = dtype_of(tensor.type) || fits_float32(tensor.type);
    const bool fits = std::all_of(tensor.shape.begin(), tensor.shape.end(),
                                  [](uint64_t size) { return size <= INT64_MAX; });
    const auto bytes = stored_bytes(tensor.type, tensor.shape);
    if (!is_known || !fits || !bytes || *bytes > INT64_MAX ||
        tensor.shape.size() > size_t{Shape::kMaxRank}) {
      refuse(tensor, "a shape or dtype that tensors do not have");
    }
    const uint64_t size = element_bytes(tensor.type);
    const uint64_t elements = *bytes / size;
    if (tensor.slices.empty()) refuse(tensor, "no slice");
    uint64_t at = 0;
    for (const TensorSlice& slice : tensor.slices) {
      const auto file = sizes_.find(slice.file);
      if (file == sizes_.end()) refuse(tensor, fmt::format("file \"{}\" unknown", slice.file));
      if (slice.begin > slice.end || slice.end > file->second) {
        refuse(tensor, fmt::format("bytes {} to {} of \"{}\" with its {} bytes", slice.begin,
                                   slice.end, slice.file, file->second));
      }
      if (slice.first_element != at || slice.elements > elements - at ||
          (slice.elements == 0 && elements > 0)) {
        refuse(tensor, "its slices do not cover it one after the other");
      }
      if (slice.end - slice.begin != slice.elements * size) {
        refuse(tensor,
               fmt::format("{} elements in {} bytes", slice.elements, slice.end - slice.begin));
      }
      at += slice.elements;
    }
    if (at != elements) refuse(tensor, fmt::format("slices of {} of {} elements", at, elements));
  }

  const Manifest& manifest_;
  Decoder refuse_;
  std::unordered_map<std::string_view, uint64_t> sizes_;
};

}  // namespace

const ManifestFile* Manifest::file(std::string_view name) const {
  const auto found = std::find_if(files.begin(), files.end(),
                                  [&](const ManifestFile& file) { return file.name == name; });
  return found == files.end() ? nullptr : &*found;
}

std::string encode_manifest(const Manifest& manifest) {
  proto::Manifest message;
  message.set_format_version(kManifestFormat);
  message.set_program_version(manifest.program_version);
  message.set_step(static_cast<uint64_t>(manifest.step));
  message.set_tokens_seen(static_cast<uint64_t>(manifest.tokens_seen));
  message.set_sampler_position(static_cast<uint64_t>(manifest.sampler_position));
  message.set_seed(manifest.seed);
  message.mutable_layout()->set_ranks(static_cast<uint32_t>(manifest.layout.ranks));
  message.mutable_layout()->set_expert_group_size(
      static_cast<uint32_t>(manifest.layout.expert_group_size));
  message.mutable_layout()->set_sharded_optimizer(manifest.layout.sharded_optimizer);
  message.set_config_hash(bytes_of(manifest.config_hash));
  if (manifest.dataset_hash != Digest{}) message.set_dataset_hash(bytes_of(manifest.dataset_hash));
  for (const ManifestTensor& tensor : manifest.tensors) {
    proto::Tensor* added = message.add_tensors();
    added->set_name(tensor.name);
    added->set_part(tensor.part == TensorPart::kModel ? proto::MODEL : proto::OPTIMIZER);
    added->set_dtype(std::string(name_of(tensor.type)));
    added->mutable_shape()->Add(tensor.shape.begin(), tensor.shape.end());
    for (const TensorSlice& slice : tensor.slices) {
      proto::Slice* part = added->add_slices();
      part->set_file(slice.file);
      part->set_begin(slice.begin);
      part->set_end(slice.end);
      part->set_first_element(slice.first_element);
      part->set_elements(slice.elements);
      part->set_xxh3(bytes_of(slice.digest));
    }
  }
  for (const ManifestFile& file : manifest.files) {
    proto::File* added = message.add_files();
    added->set_name(file.name);
    added->set_size_bytes(file.size_bytes);
    for (const Digest& digest : file.chunks) *added->mutable_chunk_xxh3() += bytes_of(digest);
  }
  proto::Signed envelope;
  envelope.set_body(message.SerializeAsString());
  envelope.set_xxh3(bytes_of(digest_of(envelope.body())));
  std::string bytes = envelope.SerializeAsString();
  if (bytes.size() > kMaxManifestBytes) {
    throw CheckpointError(fmt::format("the manifest would have {} bytes, at most {} are allowed",
                                      bytes.size(), kMaxManifestBytes));
  }
  return bytes;
}

Manifest decode_manifest(std::string_view bytes, const std::string& where) {
  return Decoder(where).decode(bytes);
}

void check_manifest(const Manifest& manifest, const std::string& where) {
  Checker(manifest, where).check();
}

}  // namespace switchyard
