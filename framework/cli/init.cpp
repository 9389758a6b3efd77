#include <fmt/core.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "base/errors.h"
#include "cli/verbs.h"
#include "config/suggest.h"

namespace switchyard {

static constexpr const char* kStart =
    R"(# A small Switch Transformer on your own text; whatever isn't here is at its default.
#   switchyard data build {0}              text to token files, once
#   mpirun -np 2 switchyard train {0}      or without mpirun: one rank
#   switchyard eval {0}
# `switchyard help KEY` explains a key, `switchyard config show {0} --origin` shows all of them.
# For completion in an editor write the schema, `switchyard config schema > switchyard.schema.json`,
# and make this the first line: `# yaml-language-server: $schema=switchyard.schema.json`.

data:
  dir: data/text          # where `data build` puts the token files
  sources:                # a file is one document; a folder is read with all below it
    - {{label: text, path: text}}     # losses and expert loads are shown by label
  tokenizer: {{vocabulary: 2048}}     # a multiple of 128; larger for more text
  validation_share: 0.05  # of the documents, never trained on

model:
  d_model: 128            # the width: what to raise first, with d_ff at four times as much
  d_ff: 512
  tie_embeddings: false   # an output layer of its own learns faster in short runs

moe:
  experts: 8              # every second layer is a mixture; each token goes to one expert of it
  group_sequences: 8      # sequences that share out the experts' room: enough groups for all ranks
  capacity: {{train_factor: 1.25}}    # room per expert; raise it if many tokens are dropped

train:
  steps: 1000
  batch_sequences: 32     # over all ranks, however many there are

checkpoint:
  every: 200              # steps; the same command goes on from the newest one

schedule:                 # rises over warmup_steps, then falls along a cosine
  learning_rate: 0.003    # the peak; lower it if the loss jumps
  warmup_steps: 100
)";

// Throws ConfigError if something stands at `path` already.
static void write_new_file(const std::string& path, const std::string& text) {
  std::FILE* file = std::fopen(path.c_str(), "wx");
  if (file == nullptr && errno == EEXIST)
    throw ConfigError("there is already a file of that name", printable(path),
                      "give another one: switchyard init FILE");
  bool written = file != nullptr && std::fputs(text.c_str(), file) >= 0;
  if (file != nullptr) written = std::fclose(file) == 0 && written;
  if (!written)
    throw SpaceError("cannot write the config: " + std::generic_category().message(errno),
                     printable(path), "is the folder there, and writable?");
}

void add_init(CommandLine& line) {
  auto path = std::make_shared<std::string>();
  line.verb("init", "Write a config to start from, with comments")
      .optional_positional("FILE", *path, "Where to; it must not exist yet (switchyard.yaml)")
      .example("switchyard init my.yaml")
      .runs([path] {
        if (path->empty()) *path = "switchyard.yaml";
        const std::string name = printable(*path);
        write_new_file(*path, fmt::format(kStart, name));
        fmt::print(
            "wrote {0}. Put your text under text/ or name it in data.sources, then:\n"
            "  switchyard data build {0}\n  switchyard train {0}\n",
            name);
      });
}

}  // namespace switchyard
