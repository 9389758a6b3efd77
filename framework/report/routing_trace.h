// Which tokens and labels each expert takes: the choices of an evaluation's tokens, before drops,
// by token id and by label. Kept in one safetensors file, so that any tool can read it
// (docs/reference/metrics.md).
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "report/metric_sink.h"

namespace switchyard {

struct RoutingTrace {
  struct Cell {
    int32_t token = 0, expert = 0;
    int64_t count = 0;
  };
  struct Layer {
    std::string name;  // "encoder.block.1.moe"
    int64_t experts = 0;
    std::vector<std::vector<int64_t>> load_by_label;  // [labels][experts]
    std::vector<Cell> cells;                          // with a count above 0, by token, expert
  };
  // A token that an expert takes more often than others do.
  struct TellingToken {
    int32_t token = 0;
    int64_t count = 0;      // of the expert's choices
    double preference = 0;  // its share of the expert's choices over its share of all: 1 is none
  };

  int64_t step = 0;
  std::vector<std::string> labels;
  std::map<int32_t, std::string> pieces;  // of the tokens that occur, as a report shows them
  std::vector<Layer> layers;

  // The expert's tokens whose presence tells most of it (count * ln preference), at most `most`.
  std::vector<TellingToken> telling_tokens(const Layer& layer, int64_t expert, size_t most) const;
  // "the", or "17" for a token without a piece.
  std::string name_of(int32_t token) const;
};

inline constexpr const char* kRoutingTraceFile = "routing.safetensors";

// Of a record whose layers counted tokens.
//   piece  how a report shows a token; empty where there is no tokenizer
RoutingTrace routing_trace_of(const EvaluationRecord& record,
                              const std::function<std::string(int32_t)>& piece);

// In place of what was there, whole or not at all. Throws as write_safetensors does.
void write_routing_trace(const std::filesystem::path& path, const RoutingTrace& trace);
// Throws CheckpointError for a file that is damaged or something else.
RoutingTrace read_routing_trace(const std::filesystem::path& path);

// Keeps the trace of a run's last evaluation in its folder.
class RoutingTraceSink : public MetricSink {
 public:
  //   piece  see routing_trace_of
  RoutingTraceSink(std::filesystem::path path, std::function<std::string(int32_t)> piece)
      : path_(std::move(path)), piece_(std::move(piece)) {}
  void step(const StepRecord&) override {}
  void evaluation(const EvaluationRecord& record) override {
    write_routing_trace(path_, routing_trace_of(record, piece_));
  }

 private:
  std::filesystem::path path_;
  std::function<std::string(int32_t)> piece_;
};

// A block of lines for each layer: each expert's load, favourite label and most telling tokens.
//   layer  only that one; empty: all. Throws ConfigError if there is none of that name.
std::string routing_table(const RoutingTrace& trace, const std::string& layer, size_t tokens);

}  // namespace switchyard
