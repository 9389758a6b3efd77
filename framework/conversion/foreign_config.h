// A config.json of Hugging Face, from a file that nobody vouches for. Whoever reads it says of
// every key what becomes of it; what nobody has asked for is refused, never ignored. Included by
// .cpp files of conversion/ only.
#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "config/fields.h"

namespace switchyard {

// At most this many bytes of JSON are read.
inline constexpr size_t kMaxForeignConfigBytes = size_t{4} << 20;

// The object in a JSON text. Throws CheckpointError naming `where` for a text that is none, too
// large, nested too deeply or holds a key twice.
nlohmann::json parse_json_object(std::string_view text, const std::string& where);

// All functions throw CheckpointError naming file and key. A key that is null counts as absent.
class ForeignConfig {
 public:
  static ForeignConfig parse(std::string_view text, const std::string& where);

  const std::string& where() const { return where_; }
  bool has(const std::string& key) const;

  // The value, or `absent` where there is none; without one it must be there.
  int64_t integer(const std::string& key, Range<int64_t> range, std::optional<int64_t> absent = {});
  double real(const std::string& key, Range<double> range, std::optional<double> absent = {});
  bool boolean(const std::string& key, bool absent);
  std::string text(const std::string& key, const std::string& absent);
  std::vector<int64_t> integers(const std::string& key);  // empty where absent
  std::vector<std::string> texts(const std::string& key);
  nlohmann::json object(const std::string& key);  // empty where absent
  nlohmann::json value(const std::string& key);   // whatever it is; null where absent

  // Whatever it says changes nothing here.
  void ignore(std::initializer_list<const char*> keys);
  // Absent or this value; anything else can't be expressed.
  void only(const std::string& key, const nlohmann::json& value, const std::string& reason);
  [[noreturn]] void refuse(const std::string& key, const std::string& reason) const;

  // Refuses the keys that were not asked for, but for those that are null, false or empty: they
  // come out, switched off as they are.
  std::vector<std::string> finish() const;

 private:
  ForeignConfig(nlohmann::json values, std::string where)
      : values_(std::move(values)), where_(std::move(where)) {}
  // The value, noted as read; null where there is none.
  const nlohmann::json* take(const std::string& key);
  const nlohmann::json& need(const std::string& key);
  [[noreturn]] void refuse_type(const std::string& key, const char* wanted) const;

  nlohmann::json values_;
  std::string where_;
  std::set<std::string> read_;
};

}  // namespace switchyard
