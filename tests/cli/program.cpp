#include "cli/program.h"

#include <gtest/gtest.h>
#include <pty.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "base/random.h"
#include "base/timer.h"

namespace switchyard::test {

namespace {

constexpr const char* kConfig = R"(name: small
device: cpu
model:
  d_model: 16
  d_kv: 8
  d_ff: 24
  heads: 2
  encoder_layers: 2
  decoder_layers: 2
  dropout: 0.0
moe:
  experts: 4
  group_sequences: 2
  encoder: {layers: {every: 2}, router: {type: switch}}
  decoder: {layers: {every: 2}, router: {type: switch}}
data:
  dir: dataset
  inputs_length: 32
  tokenizer: {vocabulary: 384}
  validation_share: 0.2
  sources:
    - {label: north, path: text/north}
    - {label: south, path: text/south}
train:
  steps: 6
  batch_sequences: 8
  evaluate_every: 3
  evaluation_sequences: 16
  log_every: 1
checkpoint: {every: 3}
parallel: {threads: 1}
schedule: {type: constant, learning_rate: 0.003}
)";

// Made-up words, the same every time; each language has letters of its own.
std::string text_of(const std::string& letters, uint32_t document) {
  const RandomKey key{.seed = 5};
  uint32_t drawn = 0;
  const auto below = [&](size_t count) {
    return static_cast<size_t>(random_uniform(key, document, 0, drawn++) *
                               static_cast<float>(count));
  };
  std::string text;
  for (int line = 0; line < 40; ++line) {
    for (int word = 0; word < 9; ++word) {
      for (size_t letter = 0; letter < 2 + below(4); ++letter)
        text += letters[below(letters.size())];
      text += word == 8 ? ".\n" : " ";
    }
  }
  return text;
}

std::string read_file(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

}  // namespace

Program::Program() {
  std::filesystem::create_directories(path("text/north"));
  std::filesystem::create_directories(path("text/south"));
  for (uint32_t i = 0; i < 20; ++i) {
    const std::string name = "page" + std::to_string(i) + ".txt";
    write("text/north/" + name, text_of("abcdefghik", i));
    write("text/south/" + name, text_of("lmnopqrstu", 100 + i));
  }
  write("small.yaml", kConfig);
}

Outcome Program::run(const std::string& arguments) const {
  return shell("$SWITCHYARD " + arguments);
}

Outcome Program::shell(const std::string& line) const {
  const Timer timer;
  const std::string command = "cd '" + directory_.path().string() + "' && export SWITCHYARD='" +
                              SWITCHYARD_PROGRAM + "' && { " + line + "; } > out 2> err";
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read("out"), read("err"), timer.seconds()};
}

Outcome Program::on_terminal(const std::string& line, int columns) const {
  const Timer timer;
  const std::string command = "cd '" + directory_.path().string() + "' && export SWITCHYARD='" +
                              SWITCHYARD_PROGRAM + "' && " + line;
  winsize size{};
  size.ws_col = static_cast<unsigned short>(columns);
  size.ws_row = 24;
  int terminal = -1;
  const pid_t child = ::forkpty(&terminal, nullptr, nullptr, &size);
  if (child == 0) {
    ::setenv("TERM", "xterm", 1);
    ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    ::_exit(127);
  }
  Outcome outcome;
  char buffer[4096];
  // Reading fails once nobody has the other end any more.
  for (ssize_t got; (got = ::read(terminal, buffer, sizeof buffer)) > 0;) {
    outcome.out.append(buffer, static_cast<size_t>(got));
  }
  ::close(terminal);
  int status = 0;
  ::waitpid(child, &status, 0);
  outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  outcome.seconds = timer.seconds();
  return outcome;
}

void Program::build_dataset() const {
  const Outcome outcome = run("data build small.yaml");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
}

void Program::write(const std::string& name, const std::string& text) const {
  std::ofstream(path(name), std::ios::binary) << text;
}

std::string Program::read(const std::string& name) const { return read_file(path(name)); }

void Program::write_config_with(const std::string& name, const std::string& what,
                                const std::string& by) const {
  std::string config = kConfig;
  const size_t at = config.find(what);
  ASSERT_NE(at, std::string::npos) << what;
  write(name, config.replace(at, what.size(), by));
}

std::vector<nlohmann::json> Program::metrics() const {
  std::vector<nlohmann::json> lines;
  std::istringstream text(read("runs/small/metrics.jsonl"));
  for (std::string line; std::getline(text, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

std::vector<double> Program::losses() const {
  std::vector<double> values;
  for (const nlohmann::json& line : metrics()) {
    if (line.contains("loss")) values.push_back(line["loss"]);
  }
  return values;
}

}  // namespace switchyard::test
