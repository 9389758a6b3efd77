#!/usr/bin/env python3
"""Writes docs/gpu-kernels.md, or checks that it is current: what nvcc's code for each kernel takes of
a multiprocessor, and which of a device's limits its work meets first. Fails where a kernel spills or
isn't listed in kernel_models.py.

  kernel_page.py write|check [--reports DIR] [--cxx g++] [--cuda-include DIR]

Reads what nvcc said while the plugin was built (--reports, by default the release build's).
"""

import argparse
import difflib
import pathlib
import re
import subprocess
import sys
import tempfile

from kernel_facts import ARCHITECTURES, Facts, all_facts
from kernel_models import MODELS, SIZES, Model

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "gpu-kernels.md"

# NVIDIA's data sheets: bytes a second of memory, operations a second outside tensor cores.
DEVICES = {
    "A100": {"name": "A100 80 GB (SXM)", "bytes": 2.039e12, "single": 19.5e12, "double": 9.7e12},
    "H100": {"name": "H100 80 GB (SXM)", "bytes": 3.35e12, "single": 66.9e12, "double": 33.5e12},
}

HEAD = """# The kernels of the CUDA backend

Written by `tests/cuda_static/kernel_page.py`; the test `cuda_static.kernel_page` reads what the
compiler said of the build at hand and fails where this page isn't current. Nothing here was measured on a device.

## What the compiled code takes

From `nvcc -O3 -Xptxas -v` for sm_80 (A100) and sm_90a (H100): registers of a thread, static shared
memory of a block in bytes (per architecture where they differ), bytes spilled (must be 0). Occupancy
is the share of a multiprocessor's 64 warps that fit with blocks of the given threads, by NVIDIA's
`cuda_occupancy.h`, and what limits it.
"""

MODEL_HEAD = """
## What the work meets first: a model

For each kernel: bytes that must pass through device memory for one element of its work if every
cache works, arithmetic operations counted in its source, and the rate that follows from the data
sheets, whichever limit is lower. A device stays below it, and for kernels whose elements are few the
launch counts instead. Products through cuBLAS are not kernels of ours.

- Devices: {devices}, outside tensor cores.
- Sizes: {sizes}; activations are bfloat16.
"""


def kernel_model(kernel: str) -> Model:
    """That of the instantiation, of its family, or of the template."""
    for name in (kernel, family(kernel), re.match(r"\w+", kernel)[0]):
        if name in MODELS:
            return MODELS[name]
    raise SystemExit(f"kernel_models.py doesn't list {kernel}")


def arguments_of(kernel: str) -> list[str]:
    """Those of a template: ["4", "Add<float>"] for f<4, Add<float>>."""
    inner, depth, arguments = re.sub(r"^\w+<?|>$", "", kernel), 0, [""]
    for letter in inner:
        depth += (letter == "<") - (letter == ">")
        if letter == "," and depth == 0:
            arguments.append("")
        else:
            arguments[-1] += letter
    return [argument.strip() for argument in arguments if argument.strip()]


def family(kernel: str) -> str:
    """What kernels of one model have in common: no numbers, no types of activations."""
    if kernel in MODELS:
        return kernel
    base = re.match(r"\w+", kernel)[0]
    kept = []
    for argument in arguments_of(kernel):
        is_number = re.fullmatch(r"(\((int|long)\))?-?\d+[lL]?|true|false", argument)
        is_type = re.fullmatch(r"bfloat16|float|double|uint4|(unsigned )?(int|short|long)", argument)
        if not is_number and not is_type:
            kept.append(re.sub(r"<.*", "", argument))
    return f"{base}<{', '.join(kept)}>" if kept else base


def occupancies(facts: list[Facts], cxx: str, include: str) -> list[tuple[int, str]]:
    """Blocks on a multiprocessor and what limits them, for each of the facts."""
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder) / "occupancy"
        subprocess.run([cxx, "-std=c++20", "-isystem", include,
                        pathlib.Path(__file__).parent / "occupancy.cpp", "-o", program], check=True)
        lines = []
        for fact in facts:
            model = kernel_model(fact.kernel)
            sm = fact.architecture.removesuffix("a")
            lines.append(f"{sm} {fact.registers} {fact.shared_bytes} {model.dynamic_bytes} "
                         f"{model.threads}\n")
        printed = subprocess.run([program], input="".join(lines), capture_output=True, text=True,
                                 check=True).stdout.split()
    return list(zip(map(int, printed[::2]), printed[1::2]))


def number(value: float) -> str:
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def of_both(values: list[str]) -> str:
    return values[0] if len(set(values)) == 1 else " / ".join(values)


def facts_table(facts: list[Facts], fits: list[tuple[int, str]]) -> list[str]:
    rows: dict[tuple[str, str], dict[str, tuple[Facts, tuple[int, str]]]] = {}
    for fact, fit in zip(facts, fits):
        rows.setdefault((fact.file, fact.kernel), {})[fact.architecture] = (fact, fit)
    lines, last_file = [], ""
    for (file, kernel), of_architectures in sorted(rows.items()):
        if file != last_file:
            lines += ["", f"### {file}", "",
                      "| kernel | threads | registers | shared | spilled | occupancy sm_80 | sm_90a |",
                      "|---|---|---|---|---|---|---|"]
            last_file = file
        both = [of_architectures[name] for name in ARCHITECTURES]
        threads = kernel_model(kernel).threads
        shares = [f"{blocks * threads / 2048:.0%}, {limit}" for _, (blocks, limit) in both]
        lines.append(f"| `{kernel}` | {threads} | {both[0][0].registers} / {both[1][0].registers} | "
                     f"{of_both([str(fact.shared_bytes) for fact, _ in both])} | "
                     f"{of_both([str(fact.spill_bytes) for fact, _ in both])} | "
                     f"{shares[0]} | {shares[1]} |")
    return lines


def rate(model: Model, device: dict) -> str:
    if model.chained:
        return "steps in a chain"
    memory = device["bytes"] / model.bytes
    if model.operations == 0:
        return f"{number(memory / 1e9)}, memory"
    arithmetic = device["double" if model.double else "single"] / model.operations
    if memory <= arithmetic:
        return f"{number(memory / 1e9)}, memory"
    return f"{number(arithmetic / 1e9)}, arithmetic"


def model_table(facts: list[Facts]) -> list[str]:
    devices = "; ".join(
        f"{device['name']} {device['bytes'] / 1e12:.3g} TB/s, {device['single'] / 1e12:.3g} TFLOP/s "
        f"in float32 and {device['double'] / 1e12:.3g} in float64" for device in DEVICES.values())
    names = {"E": "experts", "K": "choices of a token", "D": "width of a row", "W": "of a head",
             "N": "slots of a sequence", "M": "tokens of a group"}
    sizes = ", ".join(f"{size} {names[name]}" for name, size in SIZES.items())
    lines = MODEL_HEAD.format(devices=devices, sizes=sizes).splitlines()
    lines += ["", "| kernel | element | bytes | operations | A100, 10⁹/s | H100, 10⁹/s |",
              "|---|---|---|---|---|---|"]
    seen: dict[tuple[str, str], None] = {}
    for fact in sorted(facts, key=lambda fact: (fact.file, fact.kernel)):
        seen.setdefault((fact.file, family(fact.kernel)))
    for file, kernel in seen:
        example = next(fact.kernel for fact in facts
                       if fact.file == file and family(fact.kernel) == kernel)
        model = kernel_model(example)
        operations = number(model.operations) + (" in float64" if model.double else "")
        lines.append(f"| `{kernel}` | {model.element} | {number(model.bytes)} | {operations} | "
                     f"{rate(model, DEVICES['A100'])} | {rate(model, DEVICES['H100'])} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["write", "check"])
    parser.add_argument("--reports", type=pathlib.Path, default=ROOT / "build" / "release")
    parser.add_argument("--cxx", default="g++")
    parser.add_argument("--cuda-include", default="/usr/local/cuda/include")
    arguments = parser.parse_args()

    facts = all_facts(ROOT / "framework", arguments.reports)
    fits = occupancies(facts, arguments.cxx, arguments.cuda_include)
    page = "\n".join([HEAD.rstrip(), *facts_table(facts, fits), *model_table(facts), ""])
    spilling = [fact for fact in facts if fact.spill_bytes > 0 or fact.stack_bytes > 0]
    for fact in spilling:
        print(f"{fact.file}: {fact.kernel} spills {fact.spill_bytes} bytes and has a stack of "
              f"{fact.stack_bytes} on sm_{fact.architecture}", file=sys.stderr)
    if arguments.what == "write":
        PAGE.write_text(page)
        return 1 if spilling else 0
    kept = PAGE.read_text() if PAGE.exists() else ""
    differences = list(difflib.unified_diff(kept.splitlines(), page.splitlines(), "docs/gpu-kernels.md",
                                            "of the sources", lineterm=""))
    print("\n".join(differences[:60]))
    if differences:
        print("renew it: tests/cuda_static/kernel_page.py write", file=sys.stderr)
    return 1 if differences or spilling else 0


if __name__ == "__main__":
    sys.exit(main())
