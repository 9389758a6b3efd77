#!/usr/bin/env python3
"""Compares a run's TensorBoard files with its metrics.jsonl, as a reader that shares no code with
the writer: records taken apart by hand, checksums by python3-crc32c. TensorBoard's field numbers
are written below.

Usage: read_events.py RUN LOG_EVERY TOTAL_STEPS
Prints "files F records R scalars S histograms H torn T"; exits with 1 at the first difference.
"""
import glob
import json
import os
import struct
import sys

import crc32c


def masked(data):
    crc = crc32c.crc32c(data)
    return (((crc >> 15) | (crc << 17 & 0xFFFFFFFF)) + 0xA282EAD8) & 0xFFFFFFFF


def records(path):
    """The whole records of a file, and the bytes of one that was cut short."""
    data = open(path, "rb").read()
    found, at = [], 0
    while len(data) - at >= 12:
        (length,) = struct.unpack_from("<Q", data, at)
        (crc,) = struct.unpack_from("<I", data, at + 8)
        assert crc == masked(data[at:at + 8]), f"{path}: length at {at}"
        if len(data) - at < length + 16:
            break
        body = data[at + 12:at + 12 + length]
        (crc,) = struct.unpack_from("<I", data, at + 12 + length)
        assert crc == masked(body), f"{path}: data at {at}"
        found.append(body)
        at += length + 16
    return found, len(data) - at


def fields(message):
    """Protobuf's wire format: {number: [value, ...]}."""
    at, found = 0, {}

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = varint()
        kind = key & 7
        if kind == 0:
            value = varint()
        elif kind == 1:
            (value,), at = struct.unpack_from("<d", message, at), at + 8
        elif kind == 2:
            length = varint()
            value, at = message[at:at + length], at + length
        elif kind == 5:
            (value,), at = struct.unpack_from("<f", message, at), at + 4
        else:
            raise AssertionError(f"wire type {kind}")
        found.setdefault(key >> 3, []).append(value)
    return found


def doubles(packed):
    return [value for (value,) in struct.iter_unpack("<d", packed)]


def read(folder):
    """{(tag, step): value} as TensorBoard merges the files of a run, and counts."""
    values, texts = {}, {}
    count = {"files": 0, "records": 0, "torn": 0}
    for path in sorted(glob.glob(os.path.join(folder, "events.out.tfevents.*")),
                       key=os.path.getmtime):
        found, rest = records(path)
        count["files"] += 1
        count["records"] += len(found)
        count["torn"] += rest > 0
        for number, body in enumerate(found):
            event = fields(body)
            step = event.get(2, [0])[0]
            assert event[1][0] > 1.6e9, "wall time"
            if number == 0:
                assert event[3] == [b"brain.Event:2"], event
            if 7 in event:  # session_log
                assert fields(event[7][0])[1] == [1]  # START
                values = {key: value for key, value in values.items() if key[1] < step}
            for summary in event.get(5, []):
                for value in map(fields, fields(summary).get(1, [])):
                    tag = value[1][0].decode()
                    if 2 in value:
                        here = value[2][0]
                    elif 5 in value:
                        here = fields(value[5][0])
                    else:
                        plugin = fields(fields(value[9][0])[1][0])[1][0]
                        tensor = fields(value[8][0])
                        assert plugin == b"text" and tensor[1] == [7], "a string for the text plugin"
                        texts[tag] = tensor[8][0].decode()
                        continue
                    assert (tag, step) not in values, f"{tag} stands twice at step {step}"
                    values[tag, step] = here
    return values, texts, count


def float32(number):
    return struct.unpack("<f", struct.pack("<f", number))[0]


def expected_scalars(line, with_layers):
    if "validation.loss" in line:
        for name in ("loss", "unigram_entropy", "dropped_share"):
            yield f"validation/{name}", line[f"validation.{name}"]
        for label, of_label in line["validation.labels"].items():
            if of_label["target_tokens"] > 0:
                yield f"validation_loss/{label}", of_label["loss"]
        return
    for name in ("loss", "load_balance", "router_z", "importance", "load_loss", "output_z",
                 "learning_rate", "gradient_norm", "dropped_share"):
        yield f"train/{name}", line[name]
    yield "speed/seconds", line["seconds"]
    yield "speed/tokens_per_second", line["tokens"] / line["seconds"]
    yield "speed/flops_per_second", line["flops"] / line["seconds"]
    for layer in line["moe"] if with_layers else []:
        for name in ("max_over_mean_load", "load_variation", "dead_experts", "router_entropy"):
            yield f"{name}/{layer['name']}", layer[name]
        yield f"layer_dropped_share/{layer['name']}", layer["dropped_share"]


def compare(run, log_every, total_steps):
    values, texts, count = read(os.path.join(run, "tensorboard"))
    assert "experts:" in texts["config"], "the config's text"
    with open(os.path.join(run, "metrics.jsonl"), encoding="utf-8") as metrics:
        lines = [json.loads(line) for line in metrics if line.endswith("\n")]
    scalars = histograms = 0
    last = max(step for tag, step in values)
    for line in lines:
        if "step" not in line:
            continue  # a process starts
        step = line["step"]
        evaluates = "validation.loss" in line
        if step > last or (evaluates and ("validation/loss", step) not in values):
            assert line in lines[-2:], line
            continue  # killed after one file's line, before the other's
        with_layers = step % log_every == 0 or step == total_steps
        for tag, value in expected_scalars(line, with_layers):
            seen = values.pop((tag, step))
            assert seen == float32(value), f"{tag} at step {step}: {seen}, not {value}"
            scalars += 1
        for layer in line.get("moe", []) if with_layers else []:
            seen = values.pop((f"expert_load/{layer['name']}", step))
            load = layer["load"]
            assert doubles(seen[7][0]) == load, (seen, load)
            assert doubles(seen[6][0]) == [e + 0.5 for e in range(len(load))]
            assert seen[1] == [-0.5] and seen[2] == [len(load) - 0.5] and seen[3] == [sum(load)]
            assert seen.get(4, [0]) == [sum(e * n for e, n in enumerate(load))]
            assert seen.get(5, [0]) == [sum(e * e * n for e, n in enumerate(load))]
            histograms += 1
    assert not values, f"not in metrics.jsonl: {list(values)[:5]}"
    print("files {files} records {records}".format(**count),
          f"scalars {scalars} histograms {histograms} torn {count['torn']}")


if __name__ == "__main__":
    try:
        compare(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    except (AssertionError, KeyError) as error:
        sys.exit(f"different: {error!r}")
