// Base of the readers of JSON text from files that nobody vouches for: events instead of a tree, so
// that duplicate keys are seen, depth is bounded and nothing is built that wasn't asked for.
// Included by .cpp files only.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace switchyard {

// A subclass refuses what it doesn't expect by fail(); refuse() is the answer to every event that
// it doesn't override.
class JsonEvents : public nlohmann::json_sax<nlohmann::json> {
 public:
  // Empty after a text that was accepted.
  const std::string& problem() const { return problem_; }

  bool null() override { return refuse("null"); }
  bool boolean(bool) override { return refuse("a boolean"); }
  bool number_integer(int64_t) override { return refuse("a negative number"); }
  bool number_unsigned(uint64_t) override { return refuse("a number"); }
  bool number_float(double, const std::string&) override {
    return refuse("a number that is no unsigned 64-bit integer");
  }
  bool string(std::string&) override { return refuse("a string"); }
  bool binary(nlohmann::json::binary_t&) override { return refuse("binary data"); }
  bool start_object(size_t) override { return refuse("an object"); }
  bool key(std::string&) override { return true; }
  bool end_object() override { return true; }
  bool start_array(size_t) override { return refuse("an array"); }
  bool end_array() override { return true; }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    return fail("no valid JSON at byte " + std::to_string(position));
  }

  // Feeds the whole text; returns problem().
  const std::string& read(std::string_view text) {
    // The library would skip a byte-order mark and stop at a NUL.
    if (text.starts_with("\xEF") || text.find('\0') != text.npos) {
      fail("no valid JSON");
    } else if (!nlohmann::json::sax_parse(text.begin(), text.end(), this) && problem_.empty()) {
      fail("no valid JSON");
    }
    return problem_;
  }

 protected:
  virtual bool refuse(std::string_view what) = 0;
  bool fail(std::string problem) {
    if (!problem_.empty()) return false;
    problem_ = std::move(problem);
    // Names come from the file and go to a terminal.
    for (char& c : problem_) {
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    }
    return false;
  }

 private:
  std::string problem_;
};

}  // namespace switchyard
