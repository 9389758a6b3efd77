#!/usr/bin/env python3
"""Plants mistakes in copies of the CUDA sources, one at a time, and prints which check of the
emulation finds each: which passes on the sources as they are, and fails with the mistake. Ends with 1
if one is found by none.

  tests/cuda_emulation/mutations.py [--build build/release] [--variants plain,thread] [NAME...]

The build has test_emulated_cuda_plain and, for their columns, _address and _thread:
  cmake --preset release -DSWITCHYARD_CUDA_EMULATION="plain;address;thread"
"""

import argparse
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

from mutation_list import MUTATIONS

ROOT = pathlib.Path(__file__).resolve().parents[2]
BACKEND = ROOT / "framework/backends/cuda"
# Column, program, schedule, seed.
CHECKS = [
    ("ascending", "plain", "ascending", 0),
    ("descending", "plain", "descending", 0),
    ("priority", "plain", "priority", 1),
    ("address", "address", "ascending", 0),
    ("thread", "thread", "ascending", 0),
]


def mutated_text(mutation):
    text = (BACKEND / mutation.file).read_text()
    # Line breaks and indentation don't count: the formatter may move them.
    pattern = r"\s+".join(re.escape(word) for word in mutation.old.split())
    found = list(re.finditer(pattern, text))
    if len(found) <= mutation.nth:
        sys.exit(f"{mutation.name}: {mutation.file} no longer has {mutation.old!r}")
    at = found[mutation.nth]
    return text[: at.start()] + mutation.new + text[at.end() :]


def includes(path, header):
    """Whether a source reads a header of its folder, directly or through another one."""
    seen, left = set(), [path]
    while left:
        for name in re.findall(r'#include "backends/cuda/([^"]+)"', left.pop().read_text()):
            if name == header:
                return True
            if name not in seen and (BACKEND / name).exists():
                seen.add(name)
                left.append(BACKEND / name)
    return False


class Build:
    def __init__(self, folder):
        self.folder = folder
        self.compile_commands = json.loads((folder / "compile_commands.json").read_text())

    def program(self, variant):
        return self.folder / f"test_emulated_cuda_{variant}"

    def compile(self, source, variant, text_of, mutated, work):
        """An object of `source`, where the file `mutated` has another text."""
        library = f"switchyard_emulated_cuda_{variant}.dir"
        command = next(c for c in self.compile_commands
                       if c["file"] == str(source) and library in c["command"])
        copies = work / "backends/cuda"
        copies.mkdir(parents=True, exist_ok=True)
        (copies / mutated).write_text(text_of)
        target = work / f"{source.stem}_{variant}.o"
        words = shlex.split(command["command"])
        words[words.index("-o") + 1] = str(target)
        if source.name == mutated:
            words[words.index(str(source))] = str(copies / mutated)
        compiler = next(i for i, word in enumerate(words) if re.search(r"(c|g)\+\+[^/]*$", word))
        words.insert(compiler + 1, f"-I{work}")
        done = subprocess.run(words, cwd=command["directory"], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{source.name} as {mutated} is changed does not compile:\n{done.stderr}")
        return target

    def link(self, variant, objects, work):
        """The test program with these objects before those of its libraries."""
        program = self.program(variant).name
        lines = subprocess.run(["ninja", "-C", str(self.folder), "-t", "commands", program],
                               capture_output=True, text=True, check=True).stdout.splitlines()
        command = next(c for c in reversed(lines) if f"-o {program} " in c).split(" && ")[1]
        target = work / program
        command = command.replace(f"-o {program} ",
                                  f"-o {target} {' '.join(str(o) for o in objects)} ")
        subprocess.run(command, shell=True, cwd=self.folder, check=True)
        return target


def passes(program, tests, schedule, seed):
    environment = dict(os.environ, CUDA_EMULATION_SCHEDULE=schedule, CUDA_EMULATION_SEED=str(seed))
    try:
        run = subprocess.run([program, f"--gtest_filter={tests}", "--gtest_brief=1"],
                             env=environment, capture_output=True, text=True, errors="replace",
                             timeout=1800)
    except subprocess.TimeoutExpired:
        sys.exit(f"{pathlib.Path(program).name} {tests}: no end within half an hour, which says "
                 "nothing; run it on an idle machine")
    if "Running 0 tests" in run.stdout:
        sys.exit(f"no test is called {tests}")
    return run.returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--variants", default="plain,address,thread")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    build = Build((ROOT / arguments.build).resolve())
    checks = [check for check in CHECKS if check[1] in arguments.variants.split(",")
              and build.program(check[1]).exists()]
    chosen = [m for m in MUTATIONS if not arguments.names or m.name in arguments.names]
    print(f"{'mistake':34}{'file':22}" + "".join(f"{check[0]:12}" for check in checks))
    missed = 0
    sound = set()  # checks that pass on the sources as they are
    for mutation in chosen:
        for name, variant, schedule, seed in checks:
            if (name, mutation.tests) in sound:
                continue
            if not passes(build.program(variant), mutation.tests, schedule, seed):
                sys.exit(f"{mutation.tests} fails without a mistake under: {name}")
            sound.add((name, mutation.tests))
        text = mutated_text(mutation)
        header = mutation.file.endswith(".h")
        sources = ([s for s in sorted(BACKEND.glob("*.c*")) if includes(s, mutation.file)]
                   if header else [BACKEND / mutation.file])
        with tempfile.TemporaryDirectory() as folder:
            work = pathlib.Path(folder)
            programs = {}
            for variant in dict.fromkeys(check[1] for check in checks):
                objects = [build.compile(s, variant, text, mutation.file, work) for s in sources]
                programs[variant] = build.link(variant, objects, work)
            found = [not passes(programs[variant], mutation.tests, schedule, seed)
                     for _, variant, schedule, seed in checks]
        missed += not any(found)
        print(f"{mutation.name:34}{mutation.file:22}"
              + "".join(f"{'found' if f else '-':12}" for f in found), flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
