#include "report/routing_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/errors.h"
#include "report/specialisation.h"
#include "safetensors/safetensors.h"

namespace switchyard {

namespace {

RoutingTrace::Layer layer_of(const LayerRecord& record) {
  RoutingTrace::Layer layer{.name = record.name,
                            .experts = static_cast<int64_t>(record.load.size()),
                            .load_by_label = record.load_by_label,
                            .cells = {}};
  for (size_t i = 0; i < record.load_by_token.size(); ++i) {
    if (record.load_by_token[i] == 0) continue;
    layer.cells.push_back({static_cast<int32_t>(i / record.load.size()),
                           static_cast<int32_t>(i % record.load.size()), record.load_by_token[i]});
  }
  return layer;
}

Tensor int64_tensor(const Shape& shape, const std::function<int64_t(int64_t)>& value) {
  Tensor tensor(DType::kInt64, shape);
  for (int64_t i = 0; i < shape.elements(); ++i) tensor.data<int64_t>()[i] = value(i);
  return tensor;
}

constexpr const char* kLabels = "/labels";
constexpr const char* kCells = "/tokens";

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& what) {
  throw CheckpointError("the routing trace " + what, path.string(),
                        "write it again: switchyard eval --trace-routing");
}

Tensor counts_in(const SafetensorsFile& file, const std::string& name, int64_t columns) {
  Tensor tensor = file.read(name);
  const bool fits = tensor.dtype() == DType::kInt64 && tensor.shape().rank() == 2 &&
                    (columns == 0 || tensor.shape()[1] == columns);
  if (!fits) refuse(file.path(), "has no counts in " + name);
  return tensor;
}

RoutingTrace::Layer read_layer(const SafetensorsFile& file, const std::string& name) {
  RoutingTrace::Layer layer{.name = name, .experts = 0, .load_by_label = {}, .cells = {}};
  const Tensor labels = counts_in(file, name + kLabels, 0);
  layer.experts = labels.shape()[1];
  for (int64_t l = 0; l < labels.shape()[0]; ++l) {
    const int64_t* row = labels.data<int64_t>() + l * layer.experts;
    layer.load_by_label.emplace_back(row, row + layer.experts);
  }
  const Tensor cells = counts_in(file, name + kCells, 3);
  for (int64_t i = 0; i < cells.shape()[0]; ++i) {
    const int64_t* cell = cells.data<int64_t>() + 3 * i;
    if (cell[0] < 0 || cell[0] > INT32_MAX || cell[1] < 0 || cell[1] >= layer.experts) {
      refuse(file.path(), "names a token or expert that can't be, in " + name);
    }
    layer.cells.push_back({static_cast<int32_t>(cell[0]), static_cast<int32_t>(cell[1]), cell[2]});
  }
  return layer;
}

void read_metadata(const SafetensorsFile& file, RoutingTrace& trace) {
  const auto found = file.metadata().find("routing");
  if (found == file.metadata().end()) refuse(file.path(), "is another kind of file");
  try {
    const auto json = nlohmann::json::parse(found->second);
    trace.step = json.at("step").get<int64_t>();
    trace.labels = json.at("labels").get<std::vector<std::string>>();
    for (const auto& [id, piece] : json.at("pieces").items()) {
      trace.pieces[std::stoi(id)] = piece.get<std::string>();
    }
  } catch (const std::exception& error) {
    refuse(file.path(), std::string("has damaged names: ") + error.what());
  }
}

std::string favourite_label(const RoutingTrace& trace, const Specialisation& found,
                            int64_t expert) {
  const int64_t label = found.labels > 1 ? found.favourite(expert) : -1;
  if (label < 0 || label >= static_cast<int64_t>(trace.labels.size())) return "";
  return fmt::format("{} x{:.1f}", trace.labels[static_cast<size_t>(label)],
                     found.preference_at(label, expert));
}

std::string layer_table(const RoutingTrace& trace, const RoutingTrace::Layer& layer,
                        size_t tokens) {
  const Specialisation found = specialisation_of(layer.load_by_label);
  std::vector<int64_t> load(static_cast<size_t>(layer.experts));
  int64_t all = 0;
  for (const RoutingTrace::Cell& cell : layer.cells) {
    load[static_cast<size_t>(cell.expert)] += cell.count;
    all += cell.count;
  }
  std::string text = fmt::format("{}: {} choices\n", layer.name, all);
  text += fmt::format("  {:>6}  {:>6}  {:<12}  {}\n", "expert", "load", "label", "tokens");
  for (int64_t e = 0; e < layer.experts; ++e) {
    const auto of_expert = static_cast<double>(load[static_cast<size_t>(e)]);
    std::string telling;
    for (const auto& token : trace.telling_tokens(layer, e, tokens)) {
      telling += fmt::format("{}{} x{:.1f}", telling.empty() ? "" : ", ",
                             trace.name_of(token.token), token.preference);
    }
    text += fmt::format("  {:>6}  {:>4.1f} %  {:<12}  {}\n", e,
                        all > 0 ? 100 * of_expert / static_cast<double>(all) : 0.0,
                        favourite_label(trace, found, e), telling);
  }
  return text;
}

}  // namespace

std::string RoutingTrace::name_of(int32_t token) const {
  const auto piece = pieces.find(token);
  return piece == pieces.end() ? std::to_string(token) : piece->second;
}

std::vector<RoutingTrace::TellingToken> RoutingTrace::telling_tokens(const Layer& layer,
                                                                     int64_t expert,
                                                                     size_t most) const {
  std::map<int32_t, int64_t> of_token;
  double all = 0, of_expert = 0;
  for (const Cell& cell : layer.cells) {
    of_token[cell.token] += cell.count;
    all += static_cast<double>(cell.count);
    if (cell.expert == expert) of_expert += static_cast<double>(cell.count);
  }
  std::vector<TellingToken> tokens;
  for (const Cell& cell : layer.cells) {
    if (cell.expert != expert) continue;
    const double share = static_cast<double>(cell.count) / of_expert;
    const double preference = share / (static_cast<double>(of_token[cell.token]) / all);
    if (preference > 1) tokens.push_back({cell.token, cell.count, preference});
  }
  const auto told = [](const TellingToken& token) {
    return static_cast<double>(token.count) * std::log(token.preference);
  };
  std::stable_sort(tokens.begin(), tokens.end(),
                   [&](const auto& a, const auto& b) { return told(a) > told(b); });
  if (tokens.size() > most) tokens.resize(most);
  return tokens;
}

RoutingTrace routing_trace_of(const EvaluationRecord& record,
                              const std::function<std::string(int32_t)>& piece) {
  RoutingTrace trace;
  trace.step = record.step;
  for (const LabelRecord& label : record.labels) trace.labels.push_back(label.name);
  for (const LayerRecord& layer : record.layers) {
    trace.layers.push_back(layer_of(layer));
    if (!piece) continue;
    for (const RoutingTrace::Cell& cell : trace.layers.back().cells) {
      if (!trace.pieces.contains(cell.token)) trace.pieces[cell.token] = piece(cell.token);
    }
  }
  return trace;
}

void write_routing_trace(const std::filesystem::path& path, const RoutingTrace& trace) {
  std::vector<Tensor> tensors;
  std::vector<std::string> names;
  for (const RoutingTrace::Layer& layer : trace.layers) {
    names.push_back(layer.name + kLabels);
    tensors.push_back(int64_tensor(
        {static_cast<int64_t>(layer.load_by_label.size()), layer.experts}, [&](int64_t i) {
          return layer.load_by_label[static_cast<size_t>(i / layer.experts)]
                                    [static_cast<size_t>(i % layer.experts)];
        }));
    names.push_back(layer.name + kCells);
    tensors.push_back(int64_tensor({static_cast<int64_t>(layer.cells.size()), 3}, [&](int64_t i) {
      const RoutingTrace::Cell& cell = layer.cells[static_cast<size_t>(i / 3)];
      return i % 3 == 0 ? cell.token : i % 3 == 1 ? cell.expert : cell.count;
    }));
  }
  std::vector<TensorToWrite> to_write;
  for (size_t i = 0; i < tensors.size(); ++i) {
    to_write.push_back(tensor_to_write(names[i], tensors[i]));
  }
  nlohmann::json about = {{"step", trace.step}, {"labels", trace.labels}};
  about["pieces"] = nlohmann::json::object();
  for (const auto& [token, piece] : trace.pieces) about["pieces"][std::to_string(token)] = piece;
  replace_safetensors(path, std::move(to_write), {{"format", "pt"}, {"routing", about.dump()}});
}

RoutingTrace read_routing_trace(const std::filesystem::path& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  RoutingTrace trace;
  read_metadata(file, trace);
  const std::string suffix = kLabels;
  std::vector<std::string> names;
  for (const StoredTensor& tensor : file.tensors()) {
    if (tensor.name.ends_with(suffix)) {
      names.push_back(tensor.name.substr(0, tensor.name.size() - suffix.size()));
    }
  }
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) trace.layers.push_back(read_layer(file, name));
  return trace;
}

std::string routing_table(const RoutingTrace& trace, const std::string& layer, size_t tokens) {
  std::string text, names;
  for (const RoutingTrace::Layer& of_trace : trace.layers) {
    names += (names.empty() ? "" : ", ") + of_trace.name;
    if (layer.empty() || of_trace.name == layer) text += layer_table(trace, of_trace, tokens);
  }
  if (text.empty()) {
    throw ConfigError("the trace has no layer '" + layer + "'", "--layer",
                      "it has: " + (names.empty() ? "none" : names));
  }
  return fmt::format(
      "choices of the validation tokens after step {}, before drops; xN: N times as "
      "often as in all\n{}",
      trace.step, text);
}

}  // namespace switchyard
