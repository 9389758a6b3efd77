"""Has transformers load what `switchyard convert` writes: no key missing, none unexpected, the same logits.

Run: python check_export.py ../../build/release/switchyard [NAME...]   (versions: requirements.txt).
Leaves out the folders NAME. Writes export.json; everything it states it asserts.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from golden_io import HERE, TRANSFORMERS, write_json


def golden_models():
    """Folders with weights and a config of one of the families, in name order."""
    folders = [path.parent for path in HERE.rglob("config.json")]
    return sorted(str(path.relative_to(HERE)) for path in folders
                  if path.name not in ("encoder_bias", *sys.argv[2:]))


def convert(program, source, target, *options):
    subprocess.run([program, "convert", "--from", str(source), "--to", str(target), *options],
                   check=True, stdout=subprocess.DEVNULL)


def load(path):
    """In float32; with every key in its place."""
    config = AutoConfig.from_pretrained(path)
    family = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model, info = family.from_pretrained(path, dtype=torch.float32, attn_implementation="eager",
                                         output_loading_info=True)
    assert not any(info.values()), (path, info)
    return model.eval(), {key: len(value) for key, value in info.items()}


def logits(model):
    ids = torch.arange(24).reshape(2, 12) * 5 % (model.config.vocab_size - 3) + 3
    batch = {"input_ids": ids}
    if model.config.is_encoder_decoder:
        batch["decoder_input_ids"] = ids[:, :7]
    with torch.no_grad():
        return model(**batch).logits


def tensors(path):
    """All of the files' tensors, and their dtypes."""
    found = {}
    for file in sorted(path.glob("model*.safetensors")):
        found.update(load_file(file))
    return found


def check_round_trip(program, folder, work):
    """Theirs to ours and back: the bytes, the keys and the logits of the original."""
    ours, theirs = work / "ours", work / "theirs"
    convert(program, HERE / folder, ours)
    convert(program, ours, theirs)
    before, after = tensors(HERE / folder), tensors(theirs)
    assert before.keys() == after.keys(), folder
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype and torch.equal(tensor, after[name]), name
    original, _ = load(HERE / folder)
    exported, info = load(theirs)
    assert torch.equal(logits(original), logits(exported)), folder
    return {"model_type": exported.config.model_type, "tensors": len(after), **info,
            "largest_difference_of_logits": 0.0}


def check_upcycled(program, folder, work):
    """A dense T5 made a Switch Transformer loads whole too."""
    convert(program, HERE / folder, work / "upcycled", "--format", "huggingface", "--upcycle",
            "experts=3,router=switch")
    model, info = load(work / "upcycled")
    assert logits(model).isfinite().all()
    return {"model_type": model.config.model_type, "tensors": len(tensors(work / "upcycled")),
            **info}


def main(program):
    facts = {"made_by": "check_export.py", "transformers": TRANSFORMERS,
             "torch": torch.__version__.split("+")[0], "round_trips": {}}
    for folder in golden_models():
        with tempfile.TemporaryDirectory() as work:
            facts["round_trips"][folder] = check_round_trip(program, folder, Path(work))
            if folder == "t5/relu":
                facts["upcycled_from_t5_relu"] = check_upcycled(program, folder, Path(work))
    write_json("export.json", facts)
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).resolve()))
