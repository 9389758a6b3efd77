"""What nvcc says of every kernel: reads the reports that the build keeps beside the object files
(cmake/keep_ptxas_report.sh)."""

import dataclasses
import pathlib
import re
import subprocess

ARCHITECTURES = ("80", "90a")
FOLDERS = ("backends/cuda", "collectives/nccl")


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


def facts_of(report: pathlib.Path) -> list[Facts]:
    facts = [fact for fact in parse(report.read_text()) if fact["architecture"] in ARCHITECTURES]
    names = subprocess.run(["c++filt"], input="\n".join(fact["kernel"] for fact in facts),
                           capture_output=True, text=True, check=True).stdout.splitlines()
    file = report.name.removesuffix(".o.ptxas")
    return [Facts(**fact | {"kernel": short_name(name), "file": file})
            for fact, name in zip(facts, names)]


def all_facts(framework: pathlib.Path, reports: pathlib.Path) -> list[Facts]:
    """Of every .cu file of the framework; one without a report ends the program."""
    found = {report.name.removesuffix(".o.ptxas"): report for report in reports.rglob("*.cu.o.ptxas")}
    missing = [file.name for file in sources(framework) if file.name not in found]
    if missing:
        raise SystemExit(f"no report of {', '.join(missing)} under {reports}: build switchyard_cuda")
    return [fact for file in sources(framework) for fact in facts_of(found[file.name])]
