"""What nvcc says of every kernel: compiles the .cu files for each architecture with -Xptxas -v. What
was compiled before is taken from a cache, as long as neither the file nor what it includes changed."""

import concurrent.futures
import dataclasses
import hashlib
import json
import pathlib
import re
import subprocess

ARCHITECTURES = ("80", "90a")
FOLDERS = ("backends/cuda", "collectives/nccl")
FLAGS = ["-std=c++20", "-O3", "-Xptxas", "-v"]
for name in ARCHITECTURES:
    FLAGS += ["-gencode", f"arch=compute_{name},code=sm_{name}"]


@dataclasses.dataclass(frozen=True)
class Facts:
    file: str
    kernel: str  # demangled, without namespaces and parameters
    architecture: str
    registers: int
    shared_bytes: int  # static
    spill_bytes: int  # stores and loads
    stack_bytes: int


def sources(framework: pathlib.Path) -> list[pathlib.Path]:
    return sorted(file for folder in FOLDERS for file in (framework / folder).glob("*.cu"))


def included(file: pathlib.Path, framework: pathlib.Path, seen: dict[pathlib.Path, str]) -> None:
    """Adds the file and the framework's headers that it includes, with their text."""
    if file in seen or not file.exists():
        return
    seen[file] = file.read_text()
    for name in re.findall(r'^#include "(.*)"', seen[file], re.MULTILINE):
        included(framework / name, framework, seen)


def cache_key(file: pathlib.Path, framework: pathlib.Path, version: str) -> str:
    texts: dict[pathlib.Path, str] = {}
    included(file, framework, texts)
    digest = hashlib.sha256(" ".join([version, *FLAGS]).encode())
    for path in sorted(texts):
        code = re.sub(r"//.*|\s+", " ", texts[path])  # comments and layout change nothing
        digest.update(f"{path.relative_to(framework)}\0{code}\0".encode())
    return digest.hexdigest()[:32]


def short_name(demangled: str) -> str:
    """switchyard::(anonymous namespace)::f<float, 4>(int) as f<float, 4>."""
    name = demangled.replace("(anonymous namespace)::", "").replace("__nv_bfloat16", "bfloat16")
    name = re.sub(r"\b(switchyard|cuda)::", "", name).removeprefix("void ")
    depth = 0
    for i, letter in enumerate(name):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            return name[:i].replace("> >", ">>")
    return name


def parse(output: str) -> list[dict]:
    """ptxas's report: for each kernel its name, its stack and spills, its registers and memory."""
    facts, current = [], {}
    for line in output.splitlines():
        if match := re.search(r"Compiling entry function '(\w+)' for 'sm_(\w+)'", line):
            current = {"kernel": match[1], "architecture": match[2]}
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes", line):
            current |= {"stack_bytes": int(match[1]), "spill_bytes": int(match[2]) + int(match[3])}
        elif "kernel" in current and (match := re.search(r"Used (\d+) registers", line)):
            shared = re.search(r"(\d+) bytes smem", line)
            current |= {"registers": int(match[1]), "shared_bytes": int(shared[1]) if shared else 0}
            facts.append(current)
            current = {}
    return facts


def facts_of(file: pathlib.Path, framework: pathlib.Path, nvcc: str, version: str,
             cache: pathlib.Path) -> list[dict]:
    kept = cache / f"{file.stem}-{cache_key(file, framework, version)}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    done = subprocess.run([nvcc, *FLAGS, "-I", framework, "-c", file, "-o", "/dev/null"],
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"nvcc fails on {file}:\n{done.stderr[-4000:]}")
    facts = parse(done.stdout + done.stderr)
    names = subprocess.run(["c++filt"], input="\n".join(fact["kernel"] for fact in facts),
                           capture_output=True, text=True, check=True).stdout.splitlines()
    for fact, name in zip(facts, names):
        fact["kernel"] = short_name(name)
        fact["file"] = file.name
    cache.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(facts))
    return facts


def all_facts(framework: pathlib.Path, nvcc: str, cache: pathlib.Path, jobs: int) -> list[Facts]:
    version = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        of_files = pool.map(lambda file: facts_of(file, framework, nvcc, version, cache),
                            sources(framework))
        return [Facts(**fact) for facts in of_files for fact in facts]
