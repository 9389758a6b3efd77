#include "conversion/read_config.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/errors.h"

namespace switchyard {

namespace {

Family family_of(ForeignConfig& given) {
  const std::string type = given.text("model_type", "");
  const std::optional<Family> family = family_named(type);
  if (!family) {
    throw CheckpointError(type.empty()
                              ? "config.json has no \"model_type\""
                              : fmt::format("the model type \"{}\" can't be converted", type),
                          given.where(), "those that can: " + family_list());
  }
  const std::vector<std::string> classes = given.texts("architectures");
  // The name that T5's class had once.
  const bool known =
      classes.empty() || classes == std::vector<std::string>{class_of(*family)} ||
      (family == Family::kT5 && classes == std::vector<std::string>{"T5WithLMHeadModel"});
  if (!known) given.refuse("architectures", fmt::format("only {} can be", class_of(*family)));
  return *family;
}

// What every config of transformers may say and no model computes with.
void take_common(ForeignConfig& given) {
  given.ignore({"_name_or_path",
                "name_or_path",
                "_commit_hash",
                "transformers_version",
                "torch_dtype",
                "dtype",
                "use_cache",
                "_attn_implementation",
                "attn_implementation",
                "_attn_implementation_autoset",
                "output_attentions",
                "output_hidden_states",
                "output_router_logits",
                "output_past",
                "return_dict",
                "return_dict_in_generate",
                "use_return_dict",
                "torchscript",
                "use_bfloat16",
                "tf_legacy_loss",
                "gradient_checkpointing",
                "chunk_size_feed_forward",
                "initializer_factor"});
  // Of generation and of tasks.
  given.ignore({"max_length",
                "min_length",
                "do_sample",
                "early_stopping",
                "num_beams",
                "num_beam_groups",
                "diversity_penalty",
                "temperature",
                "top_k",
                "top_p",
                "typical_p",
                "repetition_penalty",
                "length_penalty",
                "no_repeat_ngram_size",
                "encoder_no_repeat_ngram_size",
                "bad_words_ids",
                "num_return_sequences",
                "output_scores",
                "remove_invalid_values",
                "suppress_tokens",
                "begin_suppress_tokens",
                "forced_bos_token_id",
                "forced_eos_token_id",
                "exponential_decay_length_penalty",
                "task_specific_params",
                "finetuning_task",
                "id2label",
                "label2id",
                "num_labels",
                "problem_type",
                "prefix",
                "tokenizer_class",
                "sep_token_id",
                "classifier_dropout",
                "n_positions",
                "model_max_length",
                "architectures",
                "model_type"});
  given.only("quantization_config", nullptr, "its weights are quantised; fetch the original ones");
  given.only("compression_config", nullptr, "its weights are compressed; fetch the original ones");
  given.only("auto_map", nullptr, "its code isn't that of transformers");
  given.only("pruned_heads", nlohmann::json::object(), "pruned heads can't be expressed");
  given.only("tie_encoder_decoder", false, "the stacks have weights of their own here");
  given.only("is_decoder", false, "the model is read as transformers' class has it");
  given.only("add_cross_attention", false, "the model is read as transformers' class has it");
  given.only("cross_attention_hidden_size", nullptr,
             "all widths of attention are those of d_model");
}

struct SpecialIds {
  std::optional<int64_t> pad, eos;
};

SpecialIds special_ids(Family family, ForeignConfig& given, int64_t vocabulary) {
  const auto id = [&](const char* key, int64_t of_t5) -> std::optional<int64_t> {
    nlohmann::json value = given.value(key);
    if (value.is_null()) {
      if (is_encoder_decoder(family)) return of_t5;
      return {};
    }
    if (value.is_array() && !value.empty()) value = nlohmann::json(value[0]);  // of several
    if (value == -1) return {};  // how older configs say that there is none
    if (value.is_number_unsigned() && value.get<uint64_t>() < static_cast<uint64_t>(vocabulary)) {
      return value.get<int64_t>();
    }
    given.refuse(key, "it is no id of the vocabulary");
  };
  given.ignore({"bos_token_id"});  // the tokenizer's counts
  return {.pad = id("pad_token_id", 0), .eos = id("eos_token_id", 1)};
}

template <typename Id>
std::string id_text(const std::optional<Id>& id) {
  return id ? std::to_string(*id) : "none";
}

// Whether the model's text can be read with the tokenizer; `read` notes why not.
bool reads_text(const TokenizerFile& tokenizer, const SpecialIds& ids, int64_t vocabulary,
                ReadConfig& read) {
  if (tokenizer.path.empty()) return false;
  const std::string file = tokenizer.path.filename().string();
  const bool fits = tokenizer.ids && tokenizer.ids->size <= vocabulary;
  if (!fits) {
    read.notes.push_back(fmt::format(
        "{} {}: it is carried along, and text has to be turned into ids with another program", file,
        tokenizer.ids ? fmt::format("has {} ids, the model {}", tokenizer.ids->size, vocabulary)
                      : "is no SentencePiece model"));
  } else if (ids.eos && tokenizer.ids->eos != ids.eos) {
    read.notes.push_back(fmt::format("config.json ends a text with id {}, {} with {}: so do data",
                                     *ids.eos, file, id_text(tokenizer.ids->eos)));
  }
  return fits;
}

// Text where its tokenizer is at hand, with T5's sentinels if it has them, else ready ids.
std::string data_section(ReadConfig& read, ForeignConfig& given, const std::string& name,
                         const TokenizerFile& tokenizer, int64_t vocabulary, int64_t length) {
  const bool t5 = is_encoder_decoder(read.dialect.family);
  const SpecialIds ids = special_ids(read.dialect.family, given, vocabulary);
  const bool text = reads_text(tokenizer, ids, vocabulary, read);
  const bool corrupts = text && tokenizer.ids->sentinels > 0;
  std::string yaml = fmt::format("data:\n  dir: {}\n", yaml_text("data/" + name));
  yaml += fmt::format("  task: {}\n", !t5        ? "causal"
                                      : corrupts ? "span_corruption"
                                                 : "text_to_text");
  yaml += t5 ? std::string("  inputs_length: 512\n") : fmt::format("  length: {}\n", length);
  if (text) {
    return yaml + fmt::format("  tokenizer: {{model: {}}}\n", yaml_text(tokenizer.path.string()));
  }
  // One of the two must be there: what the decoder begins with.
  const std::optional<int64_t> pad = ids.pad || ids.eos ? ids.pad : std::optional<int64_t>(0);
  return yaml + fmt::format("  vocabulary: {{size: {}, pad: {}, eos: {}}}\n", vocabulary,
                            id_text(pad), id_text(ids.eos));
}

}  // namespace

std::string yaml_number(double number) { return fmt::format("{}", number); }

std::string yaml_text(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

ReadConfig read_foreign_config(ForeignConfig& given, const std::string& name,
                               const TokenizerFile& tokenizer) {
  const Family family = family_of(given);
  const int64_t vocabulary = given.integer("vocab_size", {1, 1 << 24});
  take_common(given);
  ReadConfig read;
  int64_t length = kUsualLength;
  if (family == Family::kSwitchTransformers) {
    read = read_switch_transformers(given);
  } else if (family == Family::kT5) {
    read = read_t5(given);
  } else {
    read = read_decoder(family, given);
    const int64_t positions =
        given.integer("max_position_embeddings", {2, int64_t{1} << 40}, kUsualLength);
    length = std::min(positions, kUsualLength);
    if (length < positions) {
      read.notes.push_back(fmt::format(
          "max_position_embeddings {}: data.length, the tokens of a training row, is {}", positions,
          length));
    }
  }
  const std::string data = data_section(read, given, name, tokenizer, vocabulary, length);
  read.yaml =
      fmt::format("name: {}\n{}{}train:\n  batch_sequences: 8\n", yaml_text(name), read.yaml, data);
  for (const std::string& key : given.finish()) {
    read.notes.push_back(fmt::format("\"{}\" is unknown and switched off", key));
  }
  return read;
}

}  // namespace switchyard
