// Each key's default stands in the header; its unit, range and meaning stand here, nowhere else.
#include <algorithm>

#include "config/config.h"
#include "config/fields.h"

namespace switchyard {

void Config::describe(Fields& f) {
  f.base_files(kBaseKey,
               "Files, relative to this one, whose keys hold where this file doesn't give others.");
  f.text(
      "name", name,
      "Name of the run: its folder under run.dir. Default: the file's name, not that of a base.");
  f.integer("seed", seed, {0, (int64_t{1} << 53) - 1}, "",
            "Everything random follows from it: weights, sample order, noise.");
  f.text("device", device,
         "What computes: auto (cuda where a GPU answers, else cpu), cpu, cuda or reference.");
  f.section("model", model, "The shape of the transformer.");
  f.section_with("moe", "Mixtures of experts: where they stand, how tokens come to them.",
                 [&] { moe.describe(f, model.is_decoder_only()); });
  f.section("data", data, "The text, how it is cut into examples, and the tokenizer.");
  f.section("train", train, "The training loop.");
  f.section("checkpoint", checkpoint, "What the run saves, and what it may start from.");
  f.choice("optimizer", "optimizer", optimizer, "How gradients become updates.");
  f.choice("schedule", "schedule", schedule, "The learning rate over the steps.");
  f.section("parallel", parallel, "How the work is laid out over ranks and threads.");
  f.section("run", run, "Where results go.");
}

void ModelConfig::describe(Fields& f) {
  f.name_in("model", "type", type, "The family of the model.");
  f.integer_or(
      "auto", "vocabulary", vocabulary, {1, 1 << 24}, "tokens",
      "Rows of the embedding table; auto takes the vocabulary of the dataset's tokenizer.");
  f.integer("d_model", d_model, {1, 1 << 16}, "features", "Width of the residual stream.");
  f.integer_or("auto", "d_kv", d_kv, {1, 1 << 12}, "features",
               "Width of one attention head; auto is d_model / heads in decoder_lm, 64 elsewhere.");
  f.integer("d_ff", d_ff, {1, 1 << 20}, "features",
            "Inner width of a feed-forward network, dense or expert.");
  f.integer("heads", heads, {1, 1 << 10}, "heads", "Attention heads per layer.");
  f.integer_or("auto", "kv_heads", kv_heads, {1, 1 << 10}, "heads",
               "Heads of keys and values, each shared by heads / kv_heads of them; auto is heads.");
  f.integer("encoder_layers", encoder_layers, {1, 1024}, "layers", "Layers of the encoder.");
  f.integer("decoder_layers", decoder_layers, {1, 1024}, "layers", "Layers of the decoder.");
  f.integer("layers", layers, {1, 1024}, "layers", "Layers of a model without encoder.");
  f.one_of("activation", activation,
           {{Activation::kRelu, "relu"},
            {Activation::kGelu, "gelu"},
            {Activation::kGeluTanh, "gelu_tanh"},
            {Activation::kSilu, "silu"},
            {Activation::kRelu2, "relu2"},
            {Activation::kReglu, "reglu"},
            {Activation::kGeglu, "geglu"},
            {Activation::kGegluTanh, "geglu_tanh"},
            {Activation::kSwiglu, "swiglu"}},
           "Between the products of a feed-forward network; gelu_tanh is gelu's approximation (T5 "
           "1.1: geglu_tanh), relu2 relu squared; reglu, geglu, geglu_tanh and swiglu (with silu) "
           "multiply it by a third product, of as many weights again as the first.");
  f.real("dropout", dropout, {0.0, 0.95}, "probability",
         "Share of elements set to 0 in training, at the places of T5; inside experts: "
         "moe.expert_dropout.");
  f.section("relative_attention", relative_attention, "T5's position bias.");
  f.real("rope_theta", rope_theta, {1.0, 1e9}, "",
         "Base of the wavelengths of rotary positions; Mixtral: 1,000,000.");
  f.integer_or("none", "sliding_window", sliding_window, {1, 1 << 24}, "tokens",
               "That a token attends to, itself among them; none: all before it.");
  f.one_of("qk_norm", qk_norm,
           {{QkNorm::kNone, "none"}, {QkNorm::kPerHead, "per_head"}, {QkNorm::kWhole, "whole"}},
           "RMSNorm of queries and keys; per_head: of each head (Qwen3); whole: of all heads "
           "together (OLMoE).");
  f.real("norm_epsilon", norm_epsilon, {1e-12, 1e-1}, "",
         "Added to the mean square inside RMSNorm's square root.");
  f.boolean("tie_embeddings", tie_embeddings,
            "Whether the output layer is the embedding table (scaled by d_model^-0.5 in "
            "switch_t5).");
  f.real("init_scale", init_scale, {1e-6, 100.0}, "ratio",
         "Scale s of the initial variance s / fan_in of feed-forward, expert and router weights.");
  f.real("init_deviation", init_deviation, {1e-6, 100.0}, "",
         "Standard deviation of all initial matrices.");
  f.inert_if(is_decoder_only(),
             {"encoder_layers", "decoder_layers", "relative_attention", "init_scale"},
             "model.type is decoder_lm");
  f.inert_if(!is_decoder_only(),
             {"kv_heads", "layers", "rope_theta", "sliding_window", "qk_norm", "init_deviation"},
             "model.type is not decoder_lm");
}

void RelativeAttentionConfig::describe(Fields& f) {
  f.integer("buckets", buckets, {4, 4096}, "buckets", "Distances that are told apart; even.");
  f.integer("max_distance", max_distance, {3, 1 << 20}, "tokens",
            "From this distance on all share the last bucket.");
}

void MoeConfig::describe(Fields& f, bool in_decoder_only) {
  f.integer("experts", experts, {1, 65'536}, "experts", "Experts in each mixture layer.");
  f.integer("shared_experts", shared_experts, {0, 256}, "experts",
            "Experts that every token goes to besides, added to the others' output: one dense "
            "network of so many times model.d_ff.");
  f.boolean("residual", residual,
            "Whether a learned two-way softmax mixes the shared experts' output with that of the "
            "mixture, rather than to add the two (PR-MoE).");
  f.real_or("auto", "expert_dropout", expert_dropout, {0.0, 0.95}, "probability",
            "Share of elements set to 0 in training inside experts, after the activation; auto is "
            "model.dropout. Fine-tuning: 0.4 beside a model.dropout of 0.1 (Fedus 2021).");
  f.integer_or(
      "auto", "group_sequences", group_sequences, {1, 1 << 24}, "sequences",
      "Sequences of a routing group, inside which capacity is shared; auto is the smallest "
      "divisor of the batch with 1,024 tokens of the shorter stack.");
  f.one_of("dispatch", dispatch,
           {{Dispatch::kAllToAll, "alltoall"},
            {Dispatch::kAllGather, "allgather"},
            {Dispatch::kHierarchical, "hierarchical"}},
           "How tokens travel to their experts and back; alltoall: straight to the rank that holds "
           "the expert; allgather: every rank gets all; hierarchical: within a node first, then "
           "between nodes. The results are the same.");
  f.integer("overlap_chunks", overlap_chunks, {1, 64}, "chunks",
            "Parts in which they travel, so that one is computed while the next is on its way.");
  f.one_of("wire_dtype", wire_dtype,
           {{WireDtype::kSame, "same"}, {WireDtype::kBFloat16, "bfloat16"}},
           "Of the rows that travel; same: as train.precision; bfloat16 rounds all of them, those "
           "too that stay on their rank.");
  f.section("capacity", capacity, "How many tokens of a routing group an expert takes.");
  f.section("losses", losses, "Auxiliary losses, summed over the mixture layers.");
  decoder_only.describe(f);
  f.section_with("encoder", "The mixtures of the encoder.", [&] { encoder.describe(f, capacity); });
  f.section_with("decoder", "The mixtures of the decoder.", [&] { decoder.describe(f, capacity); });
  f.inert_if(in_decoder_only, {"encoder", "decoder"},
             "model.type is decoder_lm, whose 'layers' and 'router' stand in moe itself");
  f.inert_if(!in_decoder_only, {"layers", "router", "pyramid"},
             "model.type is not decoder_lm: they stand in moe.encoder and moe.decoder");
  const bool none = in_decoder_only ? decoder_only.layers.is_none()
                                    : encoder.layers.is_none() && decoder.layers.is_none();
  f.inert_if(none,
             {"experts", "shared_experts", "residual", "expert_dropout", "dispatch",
              "overlap_chunks", "wire_dtype", "capacity", "losses"},
             in_decoder_only ? "'layers' is none" : "encoder and decoder have 'layers: none'");
  f.inert_if(in_decoder_only && none, {"router", "pyramid"}, "'layers' is none");
  f.inert_if(shared_experts == 0, {"residual"}, "'shared_experts' is 0");
}

void MoeStackConfig::describe(Fields& f) {
  f.layers("layers", layers,
           "Layers whose feed-forward network is a mixture: none, all, {every: n} (layers i with "
           "i % n = 1; n = 1: all) or a list counted from 0.");
  f.choice("router", "router", router, "Which experts see which token.");
  f.list("pyramid", pyramid, "Mixtures with another number of experts than moe.experts.");
}

void MoeStackConfig::describe(Fields& f, const CapacityConfig& shared) {
  describe(f);
  f.optional_section("capacity", capacity, shared, "moe.capacity",
                     "Where it differs from moe.capacity.");
  f.inert_if(layers.is_none(), {"router", "pyramid", "capacity"}, "'layers' is none");
}

void LayerExpertsConfig::describe(Fields& f) {
  f.integer("layer", layer, {0, 1023}, "", "A layer that 'layers' names, counted from 0.");
  f.integer("experts", experts, {1, 65'536}, "experts", "Its experts.");
}

int64_t MoeConfig::experts_of(const MoeStackConfig& stack, int64_t layer) const {
  for (const LayerExpertsConfig& own : stack.pyramid) {
    if (own.layer == layer) return own.experts;
  }
  return experts;
}

int64_t MoeConfig::fewest_experts(const MoeStackConfig& stack) const {
  int64_t fewest = experts;
  for (const LayerExpertsConfig& own : stack.pyramid) fewest = std::min(fewest, own.experts);
  return fewest;
}

void CapacityConfig::describe(Fields& f) {
  f.real("train_factor", train_factor, {0.1, 64.0}, "ratio",
         "Room per expert over the mean number of tokens per expert, in training.");
  f.real("eval_factor", eval_factor, {0.1, 64.0}, "ratio", "The same in evaluation.");
  f.integer("min_tokens", min_tokens, {0, 1 << 20}, "tokens", "Room per expert at least.");
  f.one_of("rounding", rounding, {{Rounding::kCeil, "ceil"}, {Rounding::kFloor, "floor"}},
           "Of factor * tokens / experts; floor is Mesh-TensorFlow's.");
  f.integer_or("none", "tokens", tokens, {0, 1 << 30}, "tokens",
               "Room per expert outright, in training and evaluation; 0 drops every token.");
  f.boolean("padding_takes_capacity", padding_takes_capacity,
            "Whether padding takes room like a token, as in Hugging Face.");
  f.one_of("overflow", overflow,
           {{Overflow::kDrop, "drop"},
            {Overflow::kReroute, "reroute"},
            {Overflow::kDropless, "dropless"}},
           "What happens to a token without room; drop: the layer adds nothing to it; reroute: it "
           "goes to the next expert by score that has room; dropless: there is always room.");
  f.integer_or(
      "none", "max_tokens_per_round", max_tokens_per_round, {64, 1 << 30}, "tokens",
      "That a rank takes from all ranks at once, to bound its memory: more come in several "
      "rounds, and backward sends them again; none: in one round.");
  f.one_of("priority", priority,
           {{Priority::kPosition, "position"},
            {Priority::kProbability, "probability"},
            {Priority::kRandom, "random"}},
           "Who gets the room; position: the first tokens of the routing group; probability: those "
           "of the highest gate weight, not in decoders; random: anyone, in evaluation by "
           "position.");
  f.inert_if(tokens.has_value(), {"train_factor", "eval_factor", "min_tokens", "rounding"},
             "'tokens' sets the room outright");
  f.inert_if(overflow == Overflow::kDropless,
             {"train_factor", "eval_factor", "min_tokens", "rounding", "tokens",
              "padding_takes_capacity", "priority"},
             "'overflow' is dropless");
  f.inert_if(overflow != Overflow::kDropless, {"max_tokens_per_round"},
             "'overflow' is not dropless");
}

void MoeLossesConfig::describe(Fields& f) {
  f.section("load_balance", load_balance, "Keeps the load of the experts even (Fedus 2021).");
  f.section("router_z", router_z, "Keeps the router's logits small (Zoph 2022).");
  f.section("importance", importance,
            "Squared variation of the experts' summed gate weights (Shazeer 2017).");
  f.section("load", load,
            "Squared variation of the experts' expected load under noise (Shazeer 2017).");
}

void LoadBalanceConfig::describe(Fields& f) {
  f.real("coef", coef, {0.0, 100.0}, "ratio", "Strength; the balanced value of the loss.");
  f.one_of("scope", scope, {{Scope::kGroup, "group"}, {Scope::kGlobal, "global"}},
           "Over what load and probability are averaged before they are multiplied; group: a "
           "routing group; global: the global batch, over all ranks and micro-batches.");
  f.boolean("two_pass", two_pass,
            "Whether scope global may run the forward pass twice: with several micro-batches the "
            "first one counts, its routing decisions are replayed in the second.");
  f.inert_if(coef == 0, {"scope", "two_pass"}, "'coef' is 0");
  f.inert_if(scope == Scope::kGroup, {"two_pass"}, "'scope' is group");
}

void RouterZConfig::describe(Fields& f) {
  f.real("coef", coef, {0.0, 100.0}, "ratio", "Strength; 0 is off, ST-MoE uses 0.001.");
}

void ImportanceConfig::describe(Fields& f) {
  f.real("coef", coef, {0.0, 100.0}, "ratio", "Strength; 0 is off, Shazeer 2017 uses 0.1.");
}

void LoadConfig::describe(Fields& f) {
  f.real("coef", coef, {0.0, 100.0}, "ratio", "Strength; 0 is off, Shazeer 2017 uses 0.1.");
}

const char* name_of(DataTask task) {
  switch (task) {
    case DataTask::kSpanCorruption:
      return "span_corruption";
    case DataTask::kTextToText:
      return "text_to_text";
    case DataTask::kCausal:
      return "causal";
  }
  return "?";
}

static void describe_task(Fields& f, DataTask& task) {
  f.one_of("task", task,
           {{DataTask::kSpanCorruption, name_of(DataTask::kSpanCorruption)},
            {DataTask::kTextToText, name_of(DataTask::kTextToText)},
            {DataTask::kCausal, name_of(DataTask::kCausal)}},
           "span_corruption: spans are cut out of running text and have to be filled in; "
           "text_to_text: pairs of inputs and targets; causal: running text, each token predicts "
           "the next; for models without an encoder.");
}

void DataConfig::describe(Fields& f) {
  f.text("dir", dir, "Folder of the built dataset: tokenizer, token files, their index.");
  describe_task(f, task);
  f.integer("length", length, {2, 1 << 20}, "tokens",
            "Of a row of the causal task: documents, closed with end-of-text, are cut to rows; "
            "they don't see each other.");
  f.integer("inputs_length", inputs_length, {3, 1 << 16}, "tokens",
            "Longest input of the encoder, or prompt where there is none, end-of-text included.");
  f.integer_or("auto", "targets_length", targets_length, {2, 1 << 16}, "tokens",
               "Longest target of the decoder; auto is what span corruption makes of the longest "
               "text that fits in inputs_length, and inputs_length for text_to_text.");
  f.boolean("packing", packing,
            "Whether a training sequence holds as many examples as fit, which don't see each "
            "other.");
  f.section("corruption", corruption, "Span corruption: what the model has to fill in.");
  f.optional_section("vocabulary", vocabulary, VocabularyConfig(), "",
                     "The ids of sources in the format ids; such a dataset has no tokenizer.");
  f.section("tokenizer", tokenizer,
            "The SentencePiece unigram model that `data build` trains or takes.");
  f.real("validation_share", validation_share, {0.0, 0.5}, "share",
         "Of the documents, held out for validation.");
  f.list("sources", sources, "What `data build` reads.");
  f.list("mixture", mixture,
         "Built datasets that training draws from side by side, each in its own order; instead of "
         "dir.");
  f.inert_if(!uses(DataTask::kSpanCorruption), {"corruption"}, "no task is span_corruption");
  f.inert_if(!uses(DataTask::kTextToText), {"packing"},
             "no task is text_to_text: those of running text fill a sequence already");
  f.inert_if(!uses(DataTask::kCausal), {"length"}, "no task is causal");
  f.inert_if(uses(DataTask::kCausal), {"inputs_length", "targets_length"},
             "the task is causal: its rows have a 'length'");
  f.inert_if(vocabulary.has_value(), {"tokenizer"}, "'vocabulary' says that the sources hold ids");
  f.inert_if(!mixture.empty(),
             {"dir", "task", "vocabulary", "tokenizer", "validation_share", "sources"},
             "'mixture' is given: its datasets have configs of their own");
}

bool DataConfig::uses(DataTask wanted) const {
  if (mixture.empty()) return task == wanted;
  return std::ranges::any_of(mixture,
                             [&](const MixtureConfig& entry) { return entry.task == wanted; });
}

void MixtureConfig::describe(Fields& f) {
  f.text("dir", dir, "Folder of a built dataset; all must have the same tokenizer or vocabulary.");
  f.real("weight", weight, {1e-6, 1e6}, "",
         "Its share of the training sequences, over the sum of all weights; to 1 in 4,096.");
  describe_task(f, task);
}

void VocabularyConfig::describe(Fields& f) {
  f.integer("size", size, {0, 1 << 24}, "tokens", "Every id lies below; must be stated.");
  f.integer_or("none", "pad", pad, {0, 1 << 24}, "",
               "The id of padding, which begins what the decoder reads; in no text.");
  f.integer_or("none", "eos", eos, {0, 1 << 24}, "",
               "The id that is put behind inputs and targets; none: nothing is.");
  f.integer_or("none", "first_sentinel", first_sentinel, {0, 1 << 24}, "",
               "The id of the first sentinel of span corruption; the next ones descend from it.");
  f.integer("sentinels", sentinels, {1, 1 << 16}, "tokens", "How many sentinels there are.");
  f.inert_if(!first_sentinel.has_value(), {"sentinels"}, "'first_sentinel' is none");
}

void CorruptionConfig::describe(Fields& f) {
  f.real("rate", rate, {0.01, 0.9}, "share", "Of the tokens, replaced by sentinels.");
  f.real("mean_span", mean_span, {1.0, 1000.0}, "tokens", "Mean length of a replaced span.");
}

void TokenizerConfig::describe(Fields& f) {
  f.text("model", model,
         "A SentencePiece model, or a dataset whose tokenizer is taken; empty: one is trained.");
  f.integer("vocabulary", vocabulary, {384, 1 << 20}, "tokens",
            "With the 100 sentinels and padding; a multiple of 128.");
  f.integer("training_lines", training_lines, {1, 10'000'000}, "lines",
            "Lines of text that it is trained on at most.");
  f.real("character_coverage", character_coverage, {0.9, 1.0}, "share",
         "Of the characters, kept as pieces; the rest become bytes or <unk>.");
  f.inert_if(!model.empty(), {"vocabulary", "training_lines", "character_coverage"},
             "'model' gives a finished tokenizer");
}

void SourceConfig::describe(Fields& f) {
  f.text("label", label, "Names the kind of text, such as its language; losses are shown by it.");
  f.text("path", path, "A file, or a folder that is read with all below it.");
  f.one_of("format", format,
           {{Format::kText, "text"},
            {Format::kGzip, "gzip"},
            {Format::kMan, "man"},
            {Format::kJsonl, "jsonl"},
            {Format::kIds, "ids"}},
           "text: plain UTF-8; gzip: the same, compressed; man: manual pages, roff; jsonl: a JSON "
           "object with text on each line; ids: with lists of token ids; the last three compressed "
           "or not.");
  f.text("text_key", text_key,
         "Where a line has its text; auto is 'text' in jsonl and 'ids' in ids.");
  f.text("inputs_key", inputs_key, "Where a line has its inputs, for text_to_text.");
  f.text("targets_key", targets_key, "Where a line has its targets, for text_to_text.");
  f.text("label_key", label_key, "Where a line has its label; empty: all have 'label'.");
  f.inert_if(!has_lines(), {"text_key", "inputs_key", "targets_key", "label_key"},
             "'format' is not jsonl or ids");
  f.inert_if(!label_key.empty(), {"label"}, "'label_key' gives each line its own");
}

void TrainConfig::describe(Fields& f) {
  f.integer("steps", steps, {1, 1 << 30}, "steps", "Updates of the weights.");
  f.integer("batch_sequences", batch_sequences, {1, 1 << 24}, "sequences",
            "Of one update, over all ranks and micro-batches: the global batch.");
  f.integer("micro_batches", micro_batches, {1, 1 << 16}, "micro-batches",
            "Parts of the global batch that are computed one after the other to save memory.");
  f.one_of("recompute", recompute, {{Recompute::kNone, "none"}, {Recompute::kBlocks, "blocks"}},
           "What backward computes again instead of keeping it; blocks: of each block only its "
           "input and routing decisions are kept, for about a third more work.");
  f.one_of(
      "precision", precision,
      {{Precision::kFloat32, "float32"},
       {Precision::kBFloat16, "bfloat16"},
       {Precision::kFloat64, "float64"}},
      "Of activations and products; bfloat16 keeps float32 weights, router, norms, softmax and "
      "loss; float64 is for the reference device.");
  f.one_of("reduction", reduction, {{Reduction::kFast, "fast"}, {Reduction::kOrdered, "ordered"}},
           "How gradients and losses are summed; ordered: as integers, so that every layout gives "
           "the same bits, for more work and twice the gradient memory.");
  f.real("label_smoothing", label_smoothing, {0.0, 0.9}, "share",
         "Of each target, spread evenly over the vocabulary in training; reported losses are "
         "without it.");
  f.real("output_z_loss", output_z_loss, {0.0, 1.0}, "ratio",
         "Strength of the z-loss on the output logits, log(Z)^2 per target; T5 uses 0.0001.");
  f.real_or("none", "clip_norm", clip_norm, {1e-12, 1e12}, "",
            "Largest norm of the whole gradient; larger ones are scaled down to it.");
  f.integer_or("none", "evaluate_every", evaluate_every, {1, 1 << 30}, "steps",
               "Between evaluations on the validation set; none: only at the end.");
  f.integer("evaluation_sequences", evaluation_sequences, {1, 1 << 24}, "sequences",
            "Of the validation set, the same ones at each evaluation.");
  f.integer("log_every", log_every, {1, 1 << 30}, "steps", "Between lines on the console.");
  f.one_of("on_nonfinite", on_nonfinite,
           {{OnNonfinite::kStop, "stop"}, {OnNonfinite::kSkip, "skip"}},
           "When loss or gradient isn't finite: stop the run, or skip the update.");
}

void CheckpointConfig::describe(Fields& f) {
  f.integer_or("none", "every", every, {1, 1 << 30}, "steps",
               "Between checkpoints; none: only at the end.");
  f.integer("keep", keep, {1, 10'000}, "checkpoints",
            "The newest ones kept; older ones are removed.");
  f.integer_or("none", "keep_every", keep_every, {1, 1 << 30}, "steps",
               "Checkpoints whose step is a multiple of it are never removed.");
  f.boolean("async", async,
            "Whether training goes on while a checkpoint is written: each rank copies what it "
            "writes, which takes as much memory again as its share of weights and optimizer "
            "state.");
  f.boolean("fallback", fallback,
            "Whether a run whose newest checkpoint is damaged goes on from the one before, with a "
            "warning; false: that is an error.");
  f.texts("partial", partial,
          "With --from: tensors that may be missing there, be there in addition or have another "
          "shape, by name; '*' stands for anything.");
  f.inert_if(!every.has_value(), {"keep_every", "async"}, "'every' is none");
}

void ParallelConfig::describe(Fields& f) {
  f.integer_or("auto", "expert", expert, {1, 65'536}, "ranks",
               "Ranks that share the experts out among them; auto is all ranks of the job.");
  f.integer("expert_tensor", expert_tensor, {1, 1024}, "ranks",
            "Ranks of such a group that hold the same experts, each an equal slice of their "
            "d_ff.");
  f.integer_or("auto", "ranks_per_node", ranks_per_node, {1, 65'536}, "ranks",
               "Consecutive ranks that moe.dispatch: hierarchical takes for one node; auto: those "
               "on one host.");
  f.integer_or("auto", "threads", threads, {1, 4096}, "threads",
               "Of each rank; auto shares the machine's cores out among its ranks.");
}

void RunConfig::describe(Fields& f) {
  f.text("dir", dir, "Folder that holds the runs' folders.");
  f.boolean("tensorboard", tensorboard, "Writes TensorBoard event files into the run's folder.");
}

}  // namespace switchyard
