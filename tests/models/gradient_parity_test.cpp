// Gradients of the whole model against transformers' backward pass in float64.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/hf_model.h"

namespace switchyard::test {
namespace {

class GradientParity : public testing::TestWithParam<Arithmetic> {
 protected:
  void SetUp() override {
    if (!GetParam().usable) GTEST_SKIP() << "not usable on this machine";
  }

  // Training without anything random: transformers' evaluation mode has a backward pass too.
  static void run_step(SingleModel& model, const HfBatch& batch, double gradient_scale) {
    LayerContext ctx = model->context(true);
    const HfBatchOnDevice on_device(batch, ctx);
    for (Weight* weight : model->model().weights()) weight->begin_step();
    model->model().forward(ctx, on_device.batch(), gradient_scale);
    model->model().backward(ctx, on_device.batch());
    model->release();
  }

  // Every gradient of ours that the file has under prefix + its name; returns how many.
  static size_t compare_gradients(SingleModel& model, const std::string& file,
                                  const std::string& prefix) {
    const GoldenTensors golden(file);
    const SafetensorsFile names = SafetensorsFile::open(golden_path(file));
    LayerContext ctx = model->context(false);
    size_t compared = 0;
    for (const NamedSlice& slice : slices_of(model->model().weights())) {
      const std::string name = prefix + hf_name(slice.name);
      if (!names.contains(name)) continue;
      ++compared;
      EXPECT_TRUE(slice.weight->gradient_written()) << name;
      expect_close(numbers_of(ctx, slice.gradient()), golden.floats(name),
                   GetParam().tolerance(1e-6, 1e-4), name);
    }
    return compared;
  }

  static size_t count_with_prefix(const std::string& file, const std::string& prefix) {
    return static_cast<size_t>(std::ranges::count_if(
        SafetensorsFile::open(golden_path(file)).tensors(),
        [&](const StoredTensor& tensor) { return tensor.name.starts_with(prefix); }));
  }

  const SafetensorsFile weights_ =
      SafetensorsFile::open(golden_path("switch_full/model.safetensors"));
  const std::string gradients_ = "switch_full/gradients.safetensors";
  const std::string untied_ = "switch_full/untied.safetensors";
  const HfBatch batch_ = HfBatch::of(GoldenTensors("switch_full/golden.safetensors"));
  const ModelOptions options_ = read_hf_config("switch_full/config.json");
};

TEST_P(GradientParity, CrossEntropy) {
  SingleModel model(GetParam(), options_);
  LayerContext ctx = model->context(false);
  load_hf_weights(ctx, model->model().weights(), weights_);
  // Twice: the second step must not see the first one's gradients.
  for (int step = 0; step < 2; ++step) {
    run_step(model, batch_, 1.0 / static_cast<double>(batch_.targets()));
  }
  EXPECT_EQ(compare_gradients(model, gradients_, "grad."), weights_.tensors().size());
  EXPECT_EQ(count_with_prefix(gradients_, "grad."), weights_.tensors().size());
}

TEST_P(GradientParity, LoadBalance) {
  ModelOptions options = options_;
  options.losses = {.load_balance = 1};
  SingleModel model(GetParam(), options);
  LayerContext ctx = model->context(false);
  load_hf_weights(ctx, model->model().weights(), weights_);
  run_step(model, batch_, 0.0);
  EXPECT_EQ(compare_gradients(model, gradients_, "grad_load_balance."),
            count_with_prefix(gradients_, "grad_load_balance."));
}

TEST_P(GradientParity, UntiedHead) {
  ModelOptions options = options_;
  options.tie_embeddings = false;
  SingleModel model(GetParam(), options);
  LayerContext ctx = model->context(false);
  std::vector<Weight*> weights = model->model().weights();
  Weight* head = weights.back();
  ASSERT_EQ(head->name(), "lm_head");
  weights.pop_back();
  load_hf_weights(ctx, weights, weights_);
  set_numbers(ctx, *head, head->master(), GoldenTensors(untied_).floats("lm_head.weight"));
  run_step(model, batch_, 1.0 / static_cast<double>(batch_.targets()));
  EXPECT_EQ(compare_gradients(model, untied_, "grad."), count_with_prefix(untied_, "grad."));
}

std::string name_of_parameter(const testing::TestParamInfo<Arithmetic>& info) {
  return info.param.name;
}
INSTANTIATE_TEST_SUITE_P(Models, GradientParity, testing::ValuesIn(arithmetics()),
                         name_of_parameter);

}  // namespace
}  // namespace switchyard::test
