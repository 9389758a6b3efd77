#include "report/tensorboard_sink.h"

#include <chrono>
#include <numeric>

#include "tensorboard.pb.h"

namespace switchyard {

namespace {

tensorboard::Event event_at(int64_t step) {
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  tensorboard::Event event;
  event.set_wall_time(now.count());
  event.set_step(step);
  return event;
}

void add_scalar(tensorboard::Event& event, const std::string& tag, double value) {
  tensorboard::Summary::Value* entry = event.mutable_summary()->add_value();
  entry->set_tag(tag);
  entry->set_simple_value(static_cast<float>(value));
}

// One bucket for each expert, from e - 1/2 to e + 1/2, that holds the tokens which chose it.
void add_load(tensorboard::Event& event, const std::string& tag, const std::vector<int64_t>& load) {
  tensorboard::Summary::Value* entry = event.mutable_summary()->add_value();
  entry->set_tag(tag);
  tensorboard::HistogramProto* histogram = entry->mutable_histo();
  histogram->set_min(-0.5);
  histogram->set_max(static_cast<double>(load.size()) - 0.5);
  double tokens = 0, sum = 0, squares = 0;
  for (size_t e = 0; e < load.size(); ++e) {
    const auto expert = static_cast<double>(e), count = static_cast<double>(load[e]);
    histogram->add_bucket_limit(expert + 0.5);
    histogram->add_bucket(count);
    tokens += count;
    sum += count * expert;
    squares += count * expert * expert;
  }
  histogram->set_num(tokens);
  histogram->set_sum(sum);
  histogram->set_sum_squares(squares);
}

void add_text(tensorboard::Event& event, const std::string& tag, const std::string& markdown) {
  tensorboard::Summary::Value* entry = event.mutable_summary()->add_value();
  entry->set_tag(tag);
  entry->mutable_metadata()->mutable_plugin_data()->set_plugin_name("text");
  tensorboard::TensorProto* tensor = entry->mutable_tensor();
  tensor->set_dtype(tensorboard::DT_STRING);
  tensor->mutable_tensor_shape()->add_dim()->set_size(1);
  tensor->add_string_val(markdown);
}

void add_layer(tensorboard::Event& event, const LayerRecord& layer) {
  add_scalar(event, "max_over_mean_load/" + layer.name, layer.max_over_mean_load);
  add_scalar(event, "load_variation/" + layer.name, layer.load_variation);
  add_scalar(event, "dead_experts/" + layer.name, static_cast<double>(layer.dead_experts));
  add_scalar(event, "layer_dropped_share/" + layer.name, layer.dropped_share);
  add_scalar(event, "router_entropy/" + layer.name, layer.router_entropy);
  add_load(event, "expert_load/" + layer.name, layer.load);
}

}  // namespace

void TensorboardSink::start(const StartRecord& record) {
  file_ = std::make_unique<EventFile>(options_.folder);
  tensorboard::Event version = event_at(0);
  version.set_file_version("brain.Event:2");
  file_->write(version.SerializeAsString());
  tensorboard::Event session = event_at(record.step + 1);
  session.mutable_session_log()->set_status(tensorboard::SessionLog::START);
  file_->write(session.SerializeAsString());
  tensorboard::Event config = event_at(record.step);
  add_text(config, "config", "```yaml\n" + options_.config_text + "\n```\n");
  file_->write(config.SerializeAsString());
}

void TensorboardSink::step(const StepRecord& record) {
  tensorboard::Event event = event_at(record.step);
  add_scalar(event, "train/loss", record.loss);
  add_scalar(event, "train/load_balance", record.load_balance);
  add_scalar(event, "train/router_z", record.router_z);
  add_scalar(event, "train/importance", record.importance);
  add_scalar(event, "train/load_loss", record.load_loss);
  add_scalar(event, "train/output_z", record.output_z);
  add_scalar(event, "train/learning_rate", record.learning_rate);
  add_scalar(event, "train/gradient_norm", record.gradient_norm);
  add_scalar(event, "train/dropped_share", record.dropped_share);
  add_scalar(event, "speed/seconds", record.seconds);
  if (record.seconds > 0) {
    add_scalar(event, "speed/tokens_per_second",
               static_cast<double>(record.tokens) / record.seconds);
    add_scalar(event, "speed/flops_per_second", static_cast<double>(record.flops) / record.seconds);
  }
  if (record.step % options_.every == 0 || record.step == options_.total_steps) {
    for (const LayerRecord& layer : record.layers) add_layer(event, layer);
  }
  file_->write(event.SerializeAsString());
}

void TensorboardSink::evaluation(const EvaluationRecord& record) {
  tensorboard::Event event = event_at(record.step);
  add_scalar(event, "validation/loss", record.loss);
  add_scalar(event, "validation/unigram_entropy", record.unigram_entropy);
  add_scalar(event, "validation/dropped_share", record.dropped_share);
  for (const LabelRecord& label : record.labels) {
    if (label.target_tokens > 0) add_scalar(event, "validation_loss/" + label.name, label.loss);
  }
  file_->write(event.SerializeAsString());
}

}  // namespace switchyard
