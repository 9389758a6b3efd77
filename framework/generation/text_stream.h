// Text that grows token by token, for showing it as it comes.
#pragma once

#include <string>
#include <vector>

#include "data/tokenizer.h"

namespace switchyard {

class TextStream {
 public:
  //   before  the ids that the text goes on from; their text doesn't come out
  explicit TextStream(const Tokenizer& tokenizer, std::vector<int32_t> before = {});

  // What an id adds to the text, whole characters only: bytes of an unfinished one are kept back
  // until it is whole.
  std::string add(int32_t id);
  // What has been kept back.
  std::string finish();

 private:
  // What `text`, the text of ids_, has beyond what has come out.
  std::string rest_of(const std::string& text);

  const Tokenizer& tokenizer_;
  std::vector<int32_t> ids_;
  size_t shown_bytes_ = 0;
};

}  // namespace switchyard
