#include "data/dataset_listing.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>

#include "base/check.h"
#include "base/errors.h"
#include "data/mapped_file.h"

namespace switchyard {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFormat = "switchyard-dataset";
constexpr int64_t kVersion = 2;
constexpr size_t kMaxBytes = size_t{16} << 20;

[[noreturn]] void refuse(const std::string& reason, const std::filesystem::path& path) {
  throw InputError("the dataset's listing is unusable: " + reason, path.string(),
                   "run `switchyard data build` to make the dataset anew");
}

// Takes members out of a JSON object, refusing what is missing or of the wrong kind.
class Reader {
 public:
  Reader(const Json& json, const std::filesystem::path& path, std::string name)
      : json_(json), path_(path), name_(std::move(name)) {
    if (!json.is_object()) refuse(name_ + " is no object", path_);
  }

  const Json& member(const char* key) const {
    const auto found = json_.find(key);
    if (found == json_.end()) refuse(fmt::format("{} lacks \"{}\"", name_, key), path_);
    return *found;
  }

  Reader object(const char* key) const { return {member(key), path_, key}; }
  bool is_null(const char* key) const { return member(key).is_null(); }

  int64_t count(const char* key, int64_t limit = int64_t{1} << 52) const {
    const Json& value = member(key);
    if (!value.is_number_unsigned() || value.get<uint64_t>() > static_cast<uint64_t>(limit)) {
      refuse(fmt::format("\"{}\" of {} is no count", key, name_), path_);
    }
    return value.get<int64_t>();
  }

  std::string text(const char* key) const {
    const Json& value = member(key);
    if (!value.is_string()) refuse(fmt::format("\"{}\" of {} is no text", key, name_), path_);
    return value.get<std::string>();
  }

  const Json& array(const char* key) const {
    const Json& value = member(key);
    if (!value.is_array()) refuse(fmt::format("\"{}\" of {} is no array", key, name_), path_);
    return value;
  }

  DatasetListing::File file() const { return {count("size_bytes"), text("xxh3")}; }

 private:
  const Json& json_;
  const std::filesystem::path& path_;
  std::string name_;
};

std::vector<std::string> read_labels(const Reader& root, const std::filesystem::path& path) {
  std::vector<std::string> labels;
  std::set<std::string> seen;
  for (const Json& label : root.array("labels")) {
    if (!label.is_string() || !seen.insert(label.get<std::string>()).second) {
      refuse("its labels are no set of names", path);
    }
    labels.push_back(label.get<std::string>());
  }
  if (labels.empty()) refuse("it has no label", path);
  return labels;
}

std::vector<DatasetListing::Counts> read_counts(const Reader& split, size_t labels,
                                                const std::filesystem::path& path) {
  std::vector<DatasetListing::Counts> counts;
  for (const Json& entry : split.array("by_label")) {
    const Reader reader(entry, path, "by_label");
    counts.push_back(
        {reader.count("documents"), reader.count("tokens"), reader.count("text_bytes")});
  }
  if (counts.size() != labels) refuse("its counts don't match its labels", path);
  return counts;
}

Vocabulary read_vocabulary(const Reader& reader, const std::filesystem::path& path) {
  Vocabulary vocabulary;
  vocabulary.size = static_cast<int>(reader.count("size", 1 << 30));
  const auto id = [&](const char* key) -> std::optional<int32_t> {
    if (reader.is_null(key)) return std::nullopt;
    return static_cast<int32_t>(reader.count(key, vocabulary.size - 1));
  };
  if (vocabulary.size < 1) refuse("its vocabulary is empty", path);
  vocabulary.pad = id("pad");
  vocabulary.eos = id("eos");
  vocabulary.first_sentinel = id("first_sentinel");
  vocabulary.sentinels = static_cast<int>(reader.count("sentinels", vocabulary.size));
  const bool fits =
      vocabulary.first_sentinel
          ? vocabulary.sentinels >= 1 && vocabulary.sentinels <= *vocabulary.first_sentinel + 1
          : vocabulary.sentinels == 0;
  if (!fits) refuse("its sentinels don't fit its vocabulary", path);
  return vocabulary;
}

}  // namespace

const char* name_of(ExampleKind kind) { return kind == ExampleKind::kText ? "text" : "pairs"; }

const char* name_of(Split split) { return split == Split::kTrain ? "train" : "validation"; }

std::string token_file_name(Split split) { return std::string(name_of(split)) + ".tokens"; }

DatasetListing::Counts DatasetListing::total(Split split) const {
  Counts sum;
  for (const Counts& label : counts[static_cast<size_t>(split)]) {
    sum.documents += label.documents;
    sum.tokens += label.tokens;
    sum.text_bytes += label.text_bytes;
  }
  return sum;
}

Digest DatasetListing::digest() const {
  std::string all = (tokenizer ? tokenizer->xxh3 : "") + name_of(examples) + to_json(vocabulary);
  for (const std::string& header : header_xxh3) all += header;
  for (const std::string& label : labels) all += label + '\0';
  return digest_of(all);
}

std::string to_json(const Vocabulary& vocabulary) {
  const auto id = [](const std::optional<int32_t>& value) {
    return value ? Json(*value) : Json(nullptr);
  };
  const Json json{{"size", vocabulary.size},
                  {"pad", id(vocabulary.pad)},
                  {"eos", id(vocabulary.eos)},
                  {"first_sentinel", id(vocabulary.first_sentinel)},
                  {"sentinels", vocabulary.sentinels}};
  return json.dump();
}

std::string to_json(const DatasetListing& listing) {
  Json root;
  root["format"] = kFormat;
  root["version"] = kVersion;
  root["examples"] = name_of(listing.examples);
  root["labels"] = listing.labels;
  root["vocabulary"] = Json::parse(to_json(listing.vocabulary));
  root["tokenizer"] = nullptr;
  if (listing.tokenizer) {
    root["tokenizer"] = {{"size_bytes", listing.tokenizer->size_bytes},
                         {"xxh3", listing.tokenizer->xxh3}};
  }
  for (const Split split : kSplits) {
    const auto s = static_cast<size_t>(split);
    Json by_label = Json::array();
    for (size_t l = 0; l < listing.labels.size(); ++l) {
      const DatasetListing::Counts& counts = listing.counts[s][l];
      by_label.push_back({{"label", listing.labels[l]},
                          {"documents", counts.documents},
                          {"tokens", counts.tokens},
                          {"text_bytes", counts.text_bytes}});
    }
    root[name_of(split)] = {{"size_bytes", listing.token_files[s].size_bytes},
                            {"xxh3", listing.token_files[s].xxh3},
                            {"header_xxh3", listing.header_xxh3[s]},
                            {"by_label", std::move(by_label)}};
  }
  root["build"] = Json::parse(listing.build);
  // A label or path that is no UTF-8 shows as replacement characters instead of throwing.
  return root.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

DatasetListing read_listing(const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / kListingFile;
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    throw InputError("there is no dataset here", path.string(),
                     "run `switchyard data build`, or correct the path");
  }
  const MappedFile file(path);
  if (file.size_bytes() > kMaxBytes) refuse("it is too large", path);
  const Json json = Json::parse(file.text(), nullptr, false);
  if (json.is_discarded()) refuse("it is no JSON", path);

  const Reader root(json, path, "it");
  if (root.text("format") != kFormat) refuse("it is of another program", path);
  if (root.count("version") != kVersion) {
    refuse(fmt::format("its format is version {}, this program reads {}", root.count("version"),
                       kVersion),
           path);
  }
  DatasetListing listing;
  const std::string examples = root.text("examples");
  if (examples != name_of(ExampleKind::kText) && examples != name_of(ExampleKind::kPairs)) {
    refuse("its examples are neither text nor pairs", path);
  }
  listing.examples =
      examples == name_of(ExampleKind::kText) ? ExampleKind::kText : ExampleKind::kPairs;
  listing.labels = read_labels(root, path);
  listing.vocabulary = read_vocabulary(root.object("vocabulary"), path);
  if (!root.is_null("tokenizer")) listing.tokenizer = root.object("tokenizer").file();
  for (const Split split : kSplits) {
    const auto s = static_cast<size_t>(split);
    const Reader reader = root.object(name_of(split));
    listing.token_files[s] = reader.file();
    listing.header_xxh3[s] = reader.text("header_xxh3");
    listing.counts[s] = read_counts(reader, listing.labels.size(), path);
  }
  listing.build = root.member("build").dump();
  return listing;
}

}  // namespace switchyard
