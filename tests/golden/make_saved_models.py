"""Makes saved/, small models as transformers saves them in half precision, sharded and mixed.

Run: python make_saved_models.py   (versions: requirements.txt). Everything it states it asserts.
"""

import json
import shutil

import torch
from safetensors import safe_open
from transformers import (MixtralForCausalLM, OlmoeForCausalLM, Qwen3MoeConfig,
                          Qwen3MoeForCausalLM, SwitchTransformersConfig,
                          SwitchTransformersForConditionalGeneration, T5ForConditionalGeneration)

import golden_io
import make_decoder_models
import make_t5_models
from golden_io import HERE, TRANSFORMERS, record_routing, write_json, write_tensors
from make_decoder_models import SHARED as DECODER

FOLDER = "saved"
LEAST_MARGIN = 1e-4

SWITCH = dict(
    vocab_size=37, d_model=20, d_kv=8, d_ff=16, num_heads=2, num_layers=2, num_decoder_layers=2,
    num_sparse_encoder_layers=1, num_sparse_decoder_layers=1, encoder_sparse_step=2,
    decoder_sparse_step=2, num_experts=3, expert_capacity=3, router_jitter_noise=0.0,
    relative_attention_num_buckets=12, relative_attention_max_distance=20,
    layer_norm_epsilon=1e-6, dense_act_fn="relu", feed_forward_proj="relu", is_gated_act=False,
    tie_word_embeddings=True, decoder_start_token_id=0)
# The last block is dense; both kinds of network have one width.
QWEN3 = dict(**{**DECODER, "num_hidden_layers": 3}, head_dim=8, intermediate_size=18,
             moe_intermediate_size=18, rms_norm_eps=1e-6, rope_theta=1e6, num_experts=7,
             num_experts_per_tok=3, norm_topk_prob=True, decoder_sparse_step=1,
             mlp_only_layers=[2], tie_word_embeddings=True)

MODELS = {
    "mixtral_bfloat16": dict(
        family=MixtralForCausalLM, config=make_decoder_models.MODELS["mixtral"][1], seed=30,
        dtype=torch.bfloat16, shard="20KB"),
    "olmoe_float16": dict(
        family=OlmoeForCausalLM, config=make_decoder_models.MODELS["olmoe"][1], seed=51,
        dtype=torch.float16),
    "qwen3_moe_bfloat16": dict(
        family=Qwen3MoeForCausalLM, config=Qwen3MoeConfig(**QWEN3), seed=52,
        dtype=torch.bfloat16),
    "switch_bfloat16": dict(
        family=SwitchTransformersForConditionalGeneration,
        config=SwitchTransformersConfig(**SWITCH), seed=33, dtype=torch.bfloat16, shard="8KB"),
    # Loaded in float16, T5 keeps its wo in float32, and saves it so.
    "t5_float16": dict(
        family=T5ForConditionalGeneration, config=make_t5_models.make_model("relu").config,
        seed=34, dtype=torch.float16, mixed=True),
}


def stored_dtypes(path):
    """Each tensor's dtype, and how many files hold them."""
    dtypes, files = {}, sorted(path.glob("*.safetensors"))
    for file in files:
        with safe_open(str(file), "pt") as tensors:
            for name in tensors.keys():
                assert name not in dtypes
                dtypes[name] = tensors.get_slice(name).get_dtype()
    return dtypes, len(files)


def save(name):
    """Writes the model as transformers saves it."""
    made = MODELS[name]
    made["config"]._attn_implementation = "eager"
    model = made["family"](made["config"]).eval()
    is_decoder = not made["config"].is_encoder_decoder
    (make_decoder_models if is_decoder else golden_io).fill_weights(model, made["seed"])
    path = HERE / FOLDER / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    if made.get("mixed"):
        model.save_pretrained(str(path))
        model = made["family"].from_pretrained(str(path), dtype=made["dtype"])
    else:
        model = model.to(made["dtype"])
    model.save_pretrained(str(path), max_shard_size=made.get("shard", "5GB"))
    (path / "generation_config.json").unlink(missing_ok=True)
    for file in path.iterdir():
        file.chmod(0o644)
    return path


def check_files(name, path):
    """What lies there is what the name says."""
    made = MODELS[name]
    half = "BF16" if made["dtype"] == torch.bfloat16 else "F16"
    dtypes, files = stored_dtypes(path)
    if made.get("mixed"):
        assert {tensor for tensor, dtype in dtypes.items() if dtype == "F32"} == {
            tensor for tensor in dtypes if tensor.endswith("wo.weight")}
        assert set(dtypes.values()) == {half, "F32"}
    else:
        assert set(dtypes.values()) == {half}
    index = path / "model.safetensors.index.json"
    assert index.exists() == ("shard" in made)
    if index.exists():
        assert files >= 3 and set(json.loads(index.read_text())["weight_map"]) == set(dtypes)
    return {"files": files, "tensors": len(dtypes)}


def load(name, path, dtype):
    """With every key in its place."""
    model, info = MODELS[name]["family"].from_pretrained(
        str(path), dtype=dtype, attn_implementation="eager", output_loading_info=True)
    assert not any(info.values()), info
    return model.eval()


def make_batch(name):
    config = MODELS[name]["config"]
    if not config.is_encoder_decoder:
        return make_decoder_models.make_batches(config.vocab_size)[0]
    batch = make_t5_models.make_batch(23, config.vocab_size)
    labels = batch.pop("labels")
    ids = torch.zeros_like(labels)
    ids[:, 1:] = labels[:, :-1].clamp(min=0)
    return {**batch, "decoder_input_ids": ids}


def run(name, model, batch):
    """Logits, and of each mixture the choices, best first."""
    if name.startswith("t5"):
        with torch.no_grad():
            return model(**batch).logits, {}
    if name.startswith("switch"):
        with torch.no_grad(), record_routing(model) as seen:
            logits = model(**batch).logits
        assert golden_io.routing_margin(seen) > LEAST_MARGIN, golden_io.routing_margin(seen)
        kept = torch.cat([seen[key].flatten() for key in seen if key.endswith("kept")])
        assert (kept == 0).any(), "capacity does not bind"
        return logits, {key: value for key, value in seen.items()
                        if key.endswith(("chosen", "kept"))}
    top_k = MODELS[name]["config"].num_experts_per_tok
    mixtures = {i: layer for i, layer in enumerate(model.model.layers)
                if hasattr(layer, "block_sparse_moe") or hasattr(layer.mlp, "gate")}
    seen, handles = {}, []
    for i, layer in mixtures.items():
        gate = layer.block_sparse_moe.gate if hasattr(layer, "block_sparse_moe") else layer.mlp.gate
        handles.append(gate.register_forward_hook(
            lambda _, __, output, i=i: seen.__setitem__(i, output.float())))
    with torch.no_grad():
        logits = model(**batch).logits
    for handle in handles:
        handle.remove()
    shape = (*batch["input_ids"].shape, -1)
    choices = {}
    for i, scores in seen.items():
        best = torch.softmax(scores.double(), -1).topk(top_k + 1, dim=-1)
        margin = (best.values[..., :-1] - best.values[..., 1:]).min().item()
        assert model.dtype != torch.float32 or margin > LEAST_MARGIN, margin
        choices[f"{i}.router.chosen"] = best.indices[..., :top_k].reshape(shape)
    return logits, choices


def real_positions(name, batch):
    """Those whose logits mean something: decoder-only models route padding too."""
    if MODELS[name]["config"].is_encoder_decoder:
        return torch.ones_like(batch["decoder_input_ids"], dtype=torch.bool)
    return batch["attention_mask"] == 1


def make(name):
    path = save(name)
    facts = {"made_by": "make_saved_models.py", "transformers": TRANSFORMERS,
             "seed": MODELS[name]["seed"], **check_files(name, path)}
    batch = make_batch(name)
    logits, choices = run(name, load(name, path, torch.float32), batch)
    facts["largest_logit"] = logits.abs().max().item()
    tensors = {**batch, "logits": logits, **choices}
    if MODELS[name]["dtype"] == torch.bfloat16:
        rounded, own = run(name, load(name, path, torch.bfloat16), batch)
        real = real_positions(name, batch)
        facts["change_by_computing_in_bfloat16"] = (
            (rounded.float() - logits)[real].abs().max().item())
        for key, value in own.items():
            if key.endswith("chosen") and not key.startswith("encoder"):
                assert torch.equal(value[real], choices[key][real]), f"{name}: {key} in bfloat16"
        tensors["bfloat16.logits"] = rounded.float()
    facts["shapes"] = write_tensors(f"{FOLDER}/{name}/golden.safetensors", tensors)
    write_json(f"{FOLDER}/{name}/golden.json", facts)
    size = sum(file.stat().st_size for file in path.iterdir())
    assert size < 100_000, size


if __name__ == "__main__":
    for model_name in MODELS:
        make(model_name)
