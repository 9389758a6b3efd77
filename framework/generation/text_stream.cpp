#include "generation/text_stream.h"

#include <algorithm>

namespace switchyard {

TextStream::TextStream(const Tokenizer& tokenizer, std::vector<int32_t> before)
    : tokenizer_(tokenizer),
      ids_(std::move(before)),
      shown_bytes_(tokenizer_.decode(ids_).size()) {}

std::string TextStream::rest_of(const std::string& text) {
  const std::string rest = text.substr(std::min(shown_bytes_, text.size()));
  shown_bytes_ = std::max(shown_bytes_, text.size());
  return rest;
}

std::string TextStream::add(int32_t id) {
  ids_.push_back(id);
  std::string text = tokenizer_.decode(ids_);
  const std::string unfinished = "\xEF\xBF\xBD";  // how the tokenizer shows such bytes
  while (text.ends_with(unfinished)) text.resize(text.size() - unfinished.size());
  return rest_of(text);
}

std::string TextStream::finish() { return rest_of(tokenizer_.decode(ids_)); }

}  // namespace switchyard
