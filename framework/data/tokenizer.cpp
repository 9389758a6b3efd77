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
  int sentinels = 0;
  bool takes_words_apart = false;

  std::vector<int> encode(std::string_view text) const {
    std::vector<int> ids;
    const auto status = processor.Encode({text.data(), text.size()}, &ids);
    SWITCHYARD_CHECK(status.ok(), status.ToString());
    return ids;
  }
  // Whether the normaliser folds white space of every kind, and no piece reaches over a space.
  bool folds_white_space() const;
};

static std::optional<int32_t> id_or_none(int id) {
  return id < 0 ? std::nullopt : std::optional<int32_t>(id);
}

bool Tokenizer::Model::folds_white_space() const {
  const std::vector<int> once = encode("a");
  std::vector<int> twice = once;
  twice.insert(twice.end(), once.begin(), once.end());
  for (const std::string space : {" ", "\n", "\t", "\r"}) {
    if (encode(space + "a" + space + space + "a" + space) != twice) return false;
  }
  constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581, in pieces
  for (int id = 0; id < processor.GetPieceSize(); ++id) {
    if (processor.IdToPiece(id).find(kSpace, 1) != std::string::npos) return false;
  }
  return true;
}

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
  const std::string advice = "give a SentencePiece model (not a tokenizer.json)";
  auto model = std::make_unique<Model>();
  if (bytes.empty() || bytes.size() > kMaxBytes) {
    throw InputError(fmt::format("{} bytes are no SentencePiece model", bytes.size()), name,
                     advice);
  }
  const auto status = model->processor.LoadFromSerializedProto({bytes.data(), bytes.size()});
  const auto& processor = model->processor;
  std::vector<int> ids;
  if (!status.ok() || !processor.Encode("a", &ids).ok()) {
    throw InputError("the file is no SentencePiece model", name, advice);
  }
  const bool as_t5 = processor.pad_id() == kPadId && processor.eos_id() == kEosId &&
                     processor.unk_id() == kUnknownId;
  model->sentinels = as_t5 ? kSentinels : 0;
  model->takes_words_apart = model->folds_white_space();
  model->digest = digest_of(bytes);
  return Tokenizer(std::move(model));
}

int Tokenizer::piece_count() const { return model_->processor.GetPieceSize(); }

int Tokenizer::vocabulary() const {
  return model_->sentinels > 0 ? padded_vocabulary(piece_count()) : piece_count();
}

Vocabulary Tokenizer::ids() const {
  Vocabulary ids{.size = vocabulary(),
                 .pad = id_or_none(model_->processor.pad_id()),
                 .eos = id_or_none(model_->processor.eos_id()),
                 .first_sentinel = {},
                 .sentinels = model_->sentinels};
  if (ids.sentinels > 0) ids.first_sentinel = sentinel_id(0);
  return ids;
}

std::optional<int32_t> Tokenizer::beginning() const {
  return id_or_none(model_->processor.bos_id());
}

bool Tokenizer::takes_words_apart() const { return model_->takes_words_apart; }

int32_t Tokenizer::sentinel_id(int k) const {
  SWITCHYARD_CHECK(k >= 0 && k < model_->sentinels, "sentinel ", k, " of ", model_->sentinels);
  return piece_count() + model_->sentinels - 1 - k;
}

bool Tokenizer::is_sentinel(int32_t id) const {
  return id >= piece_count() && id < piece_count() + model_->sentinels;
}

namespace {

struct SentinelText {
  size_t begin, end;
  int k;
};

// The first literal <extra_id_k> with k below `sentinels`, at or after `from`.
std::optional<SentinelText> find_sentinel(std::string_view text, size_t from, int sentinels) {
  constexpr std::string_view kOpening = "<extra_id_";
  for (size_t begin = text.find(kOpening, from); begin != std::string_view::npos;
       begin = text.find(kOpening, begin + 1)) {
    const char* digits = text.data() + begin + kOpening.size();
    const char* const stop = text.data() + text.size();
    int k = -1;
    const auto [end, error] = std::from_chars(digits, stop, k);
    if (error == std::errc() && *digits != '-' && end != stop && *end == '>' && k < sentinels) {
      return SentinelText{begin, static_cast<size_t>(end + 1 - text.data()), k};
    }
  }
  return std::nullopt;
}

}  // namespace

std::vector<int32_t> Tokenizer::encode_plain(std::string_view text) const {
  return model_->encode(text);
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  const auto append = [&](std::string_view part) {
    const std::vector<int32_t> part_ids = encode_plain(part);
    ids.insert(ids.end(), part_ids.begin(), part_ids.end());
  };
  size_t begin = 0;
  while (const auto sentinel = find_sentinel(text, begin, model_->sentinels)) {
    append(text.substr(begin, sentinel->begin - begin));
    ids.push_back(sentinel_id(sentinel->k));
    begin = sentinel->end;
  }
  append(text.substr(begin));
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  const auto& processor = model_->processor;
  const auto is_silent = [&](int32_t id) {
    return id >= 0 &&
           (id == processor.pad_id() || id == processor.bos_id() || id == processor.eos_id());
  };
  std::string text;
  std::vector<int> run;
  const auto append_run = [&] {
    if (run.empty()) return;
    std::string part;
    const auto status = processor.Decode(run, &part);
    SWITCHYARD_CHECK(status.ok(), status.ToString());
    if (!text.empty()) text += ' ';
    text += part;
    run.clear();
  };
  for (const int32_t id : ids) {
    if (is_silent(id)) continue;
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
  if (is_sentinel(id)) {
    return fmt::format("<extra_id_{}>", piece_count() + model_->sentinels - 1 - id);
  }
  return id < piece_count() ? model_->processor.IdToPiece(id) : "<unused_id>";
}

Digest Tokenizer::digest() const { return model_->digest; }

}  // namespace switchyard
