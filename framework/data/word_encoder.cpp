#include "data/word_encoder.h"

namespace switchyard {

void WordEncoder::encode(std::string_view text, std::vector<int32_t>& ids) {
  constexpr std::string_view kSpaces = " \n\t\r";
  constexpr size_t kMaxWord = 64;  // bytes: longer ones, Chinese lines for one, hardly recur
  const auto append = [&ids](const std::vector<int32_t>& more) {
    ids.insert(ids.end(), more.begin(), more.end());
  };
  if (!tokenizer_->takes_words_apart()) return append(tokenizer_->encode_plain(text));
  for (;;) {
    const size_t begin = text.find_first_not_of(kSpaces);
    if (begin == std::string_view::npos) return;
    text.remove_prefix(begin);
    const std::string_view word = text.substr(0, text.find_first_of(kSpaces));
    text.remove_prefix(word.size());
    if (word.size() > kMaxWord) {
      append(tokenizer_->encode_plain(word));
      continue;
    }
    auto found = known_.find(word);
    if (found == known_.end()) {
      if (known_.size() >= max_known_) known_.clear();
      found = known_.emplace(word, tokenizer_->encode_plain(word)).first;
    }
    append(found->second);
  }
}

}  // namespace switchyard
