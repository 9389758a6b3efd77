// Small tables of choices: two routers, an optimizer and two schedules that only tests know, so
// that config/ is tested without what it must not depend on.
#pragma once

#include "base/errors.h"
#include "config/config.h"
#include "config/fields.h"

namespace switchyard {

struct TestSwitch : OptionsOf<TestSwitch> {
  double jitter = 0.01;
  void describe(Fields& f) override {
    f.real("jitter", jitter, {0.0, 0.5}, "ratio", "Noise on the gate's input.");
  }
};

struct TestTopK : OptionsOf<TestTopK> {
  int64_t k = 2;
  bool normalize = true;
  void describe(Fields& f) override {
    f.integer("k", k, {1, 64}, "experts", "Experts per token.");
    f.boolean("normalize", normalize, "Whether weights sum to 1.");
  }
};

struct TestAdam : OptionsOf<TestAdam> {
  double beta1 = 0.9;
  void describe(Fields& f) override { f.real("beta1", beta1, {0.0, 0.9999}, "", "First decay."); }
};

struct TestSchedule : OptionsOf<TestSchedule> {
  double learning_rate = 1e-3;
  int64_t warmup_steps = 0;
  void describe(Fields& f) override {
    f.real("learning_rate", learning_rate, {1e-12, 10.0}, "", "The peak.");
    f.integer("warmup_steps", warmup_steps, {0, 1 << 30}, "steps", "Of the rise.");
  }
};

inline void check_test_schedule(const Options& options, const Config& config,
                                const std::string& path) {
  if (dynamic_cast<const TestSchedule&>(options).warmup_steps > config.train.steps)
    throw ConfigError(path + ".warmup_steps is beyond the end",
                      config.origins.of({path + ".warmup_steps"}), "shorten it");
}

inline const ChoiceTables& test_tables() {
  static const ChoiceTables tables({
      {"model",
       {{"switch_t5", "Encoder-decoder.", {}, {}}, {"decoder_lm", "Decoder alone.", {}, {}}}},
      {"router",
       {{"switch", "The best expert.", [] { return std::make_unique<TestSwitch>(); }, {}},
        {"top_k", "The K best.", [] { return std::make_unique<TestTopK>(); }, {}}}},
      {"optimizer", {{"adamw", "Adam.", [] { return std::make_unique<TestAdam>(); }, {}}}},
      {"schedule",
       {{"linear_warmup_cosine", "Up, then down.", [] { return std::make_unique<TestSchedule>(); },
         check_test_schedule},
        {"constant", "One rate.", [] { return std::make_unique<TestSchedule>(); }, {}}}},
  });
  return tables;
}

}  // namespace switchyard
