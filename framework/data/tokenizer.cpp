#include "data/tokenizer.h"

#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include <charconv>
#include <optional>

#include "base/check.h"
#include "base/errors.h"
#include "data/mapped_file.h"
#include "data/span_corruption.h"

namespace switchyard {

struct Tokenizer::Model {
  sentencepiece::SentencePieceProcessor processor;
  Digest digest;
};

Tokenizer::Tokenizer(std::unique_ptr<Model> model) : model_(std::move(model)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

int padded_vocabulary(int piece_count) { return (piece_count + kSentinels + 127) / 128 * 128; }

Tokenizer Tokenizer::load(const std::filesystem::path& path) {
  const MappedFile file(path);
  return from_bytes(file.text(), path.string());
}

Tokenizer Tokenizer::from_bytes(std::string_view bytes, const std::string& name) {
  constexpr size_t kMaxBytes = size_t{100} << 20;
  const std::string advice = "give a SentencePiece model with pad 0, end of text 1, unknown 2";
  auto model = std::make_unique<Model>();
  if (bytes.empty() || bytes.size() > kMaxBytes) {
    throw InputError(fmt::format("{} bytes are no SentencePiece model", bytes.size()), name,
                     advice);
  }
  const auto status = model->processor.LoadFromSerializedProto({bytes.data(), bytes.size()});
  if (!status.ok()) {
    throw InputError("the file is no SentencePiece model", name, advice);
  }
  const auto& processor = model->processor;
  if (processor.pad_id() != kPadId || processor.eos_id() != kEosId ||
      processor.unk_id() != kUnknownId) {
    throw InputError(fmt::format("the model has pad {}, end of text {}, unknown {}",
                                 processor.pad_id(), processor.eos_id(), processor.unk_id()),
                     name, advice);
  }
  model->digest = digest_of(bytes);
  return Tokenizer(std::move(model));
}

int Tokenizer::piece_count() const { return model_->processor.GetPieceSize(); }

Vocabulary Tokenizer::ids() const {
  return {.size = vocabulary(),
          .pad = kPadId,
          .eos = kEosId,
          .first_sentinel = sentinel_id(0),
          .sentinels = kSentinels};
}

int32_t Tokenizer::sentinel_id(int k) const {
  SWITCHYARD_CHECK(k >= 0 && k < kSentinels, "sentinel ", k);
  return piece_count() + kSentinels - 1 - k;
}

bool Tokenizer::is_sentinel(int32_t id) const {
  return id >= piece_count() && id < piece_count() + kSentinels;
}

namespace {

struct SentinelText {
  size_t begin, end;
  int k;
};

// The first literal <extra_id_k> at or after `from`.
std::optional<SentinelText> find_sentinel(std::string_view text, size_t from) {
  constexpr std::string_view kOpening = "<extra_id_";
  for (size_t begin = text.find(kOpening, from); begin != std::string_view::npos;
       begin = text.find(kOpening, begin + 1)) {
    const char* digits = text.data() + begin + kOpening.size();
    const char* const stop = text.data() + text.size();
    int k = -1;
    const auto [end, error] = std::from_chars(digits, stop, k);
    if (error == std::errc() && *digits != '-' && end != stop && *end == '>' && k < kSentinels) {
      return SentinelText{begin, static_cast<size_t>(end + 1 - text.data()), k};
    }
  }
  return std::nullopt;
}

}  // namespace

std::vector<int32_t> Tokenizer::encode_plain(std::string_view text) const {
  std::vector<int> ids;
  const auto status = model_->processor.Encode({text.data(), text.size()}, &ids);
  SWITCHYARD_CHECK(status.ok(), status.ToString());
  return ids;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  const auto append = [&](std::string_view part) {
    const std::vector<int32_t> part_ids = encode_plain(part);
    ids.insert(ids.end(), part_ids.begin(), part_ids.end());
  };
  size_t begin = 0;
  while (const auto sentinel = find_sentinel(text, begin)) {
    append(text.substr(begin, sentinel->begin - begin));
    ids.push_back(sentinel_id(sentinel->k));
    begin = sentinel->end;
  }
  append(text.substr(begin));
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  std::vector<int> run;
  const auto append_run = [&] {
    if (run.empty()) return;
    std::string part;
    const auto status = model_->processor.Decode(run, &part);
    SWITCHYARD_CHECK(status.ok(), status.ToString());
    if (!text.empty()) text += ' ';
    text += part;
    run.clear();
  };
  for (const int32_t id : ids) {
    if (id == kPadId || id == kEosId) continue;
    if (id >= 0 && id < piece_count()) {
      run.push_back(id);
      continue;
    }
    append_run();
    if (!text.empty()) text += ' ';
    text += piece(id);
  }
  append_run();
  return text;
}

std::string Tokenizer::piece(int32_t id) const {
  SWITCHYARD_CHECK(id >= 0 && id < vocabulary(), "id ", id, " of ", vocabulary());
  if (is_sentinel(id)) return fmt::format("<extra_id_{}>", piece_count() + kSentinels - 1 - id);
  return id < piece_count() ? model_->processor.IdToPiece(id) : "<unused_id>";
}

Digest Tokenizer::digest() const { return model_->digest; }

}  // namespace switchyard
