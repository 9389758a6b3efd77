// The index of a sharded set.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/errors.h"
#include "safetensors/json_events.h"
#include "safetensors/safetensors.h"

namespace switchyard {
namespace {

constexpr int kMaxDepth = 32;

// Keeps "weight_map" and skips everything else.
class IndexEvents : public JsonEvents {
 public:
  explicit IndexEvents(SafetensorsIndex& index) : index_(index) {}

  bool has_map() const { return has_map_; }

  bool start_object(size_t) override {
    if (depth_ == 1 && key_ == "weight_map") in_map_ = has_map_ = true;
    if (in_map_ && depth_ > 1) return fail("weight_map \"" + key_ + "\" is no file name");
    return open();
  }
  bool end_object() override {
    if (--depth_ == 1) in_map_ = false;
    return true;
  }
  bool start_array(size_t) override {
    if (depth_ == 0 || in_map_ || key_is_map()) return refuse("an array");
    return open();
  }
  bool end_array() override {
    --depth_;
    return true;
  }

  bool key(std::string& key) override {
    if (depth_ == 1 && !top_keys_.insert(key).second) {
      return fail(fmt::format("\"{}\" stands there twice", key));
    }
    if (in_map_ && (!is_tensor_name(key) || index_.file_of.contains(key))) {
      return fail(fmt::format("weight_map: the name \"{}\" is unfit or stands there twice", key));
    }
    key_ = key;
    return true;
  }

  bool string(std::string& value) override {
    if (!in_map_) return JsonEvents::string(value);
    if (!is_shard_name(value)) {
      return fail(fmt::format("tensor \"{}\": \"{}\" is no file name of a set", key_, value));
    }
    index_.file_of[key_] = value;
    return true;
  }

 protected:
  bool refuse(std::string_view what) override {
    if (depth_ == 0) return fail(fmt::format("the index is {}, not an object", what));
    if (in_map_) return fail(fmt::format("tensor \"{}\": {} as file name", key_, what));
    if (key_is_map()) return fail(fmt::format("weight_map is {}, not an object", what));
    return true;
  }

 private:
  bool key_is_map() const { return depth_ == 1 && key_ == "weight_map"; }
  bool open() { return ++depth_ <= kMaxDepth || fail("nested too deeply"); }

  SafetensorsIndex& index_;
  int depth_ = 0;
  bool in_map_ = false, has_map_ = false;
  std::string key_;
  std::set<std::string> top_keys_;
};

}  // namespace

bool is_shard_name(std::string_view name) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  return !name.empty() && name.size() <= 200 && name[0] != '.' &&
         std::all_of(name.begin(), name.end(), fits);
}

SafetensorsIndex parse_index(std::string_view json, const std::string& where) {
  SafetensorsIndex index;
  IndexEvents events(index);
  std::string problem = events.read(json);
  if (problem.empty() && !events.has_map()) problem = "no \"weight_map\"";
  if (!problem.empty()) throw CheckpointError("bad safetensors index: " + problem, where);
  return index;
}

std::string index_text(const SafetensorsIndex& index) {
  nlohmann::ordered_json json;
  json["metadata"]["total_size"] = index.total_bytes;
  json["weight_map"] = index.file_of;
  return json.dump(2) + "\n";
}

}  // namespace switchyard
