"""Makes decoder/, goldens of decoder-only mixtures: Mixtral, OLMoE and Qwen3-MoE.

Run: python make_decoder_models.py   (versions: requirements.txt). Everything it states it asserts.
"""

import numpy as np
import torch
from transformers import (MixtralConfig, MixtralForCausalLM, OlmoeConfig, OlmoeForCausalLM,
                          Qwen3MoeConfig, Qwen3MoeForCausalLM)
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from golden_io import HERE, TRANSFORMERS, save_checkpoint, write_json, write_tensors

FOLDER = "decoder"
LENGTH = 10
LEAST_MARGIN = 1e-4

SHARED = dict(vocab_size=61, hidden_size=24, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, hidden_act="silu", attention_dropout=0.0,
              max_position_embeddings=2048, use_cache=False, bos_token_id=1, eos_token_id=2,
              pad_token_id=0)
MODELS = {
    # The window is shorter than the sequences; heads are wider together than the model.
    "mixtral": (MixtralForCausalLM, MixtralConfig(
        **SHARED, head_dim=10, intermediate_size=28, rms_norm_eps=1e-5, rope_theta=1e6,
        sliding_window=4, num_local_experts=5, num_experts_per_tok=2, tie_word_embeddings=False)),
    "olmoe": (OlmoeForCausalLM, OlmoeConfig(
        **SHARED, intermediate_size=14, rms_norm_eps=1e-5, rope_theta=1e4, num_experts=6,
        num_experts_per_tok=3, norm_topk_prob=False, tie_word_embeddings=False, clip_qkv=None)),
    "qwen3_moe": (Qwen3MoeForCausalLM, Qwen3MoeConfig(
        **SHARED, head_dim=8, intermediate_size=20, moe_intermediate_size=18, rms_norm_eps=1e-6,
        rope_theta=1e6, num_experts=7, num_experts_per_tok=3, norm_topk_prob=True,
        decoder_sparse_step=1, mlp_only_layers=[], tie_word_embeddings=True)),
}


def fill_weights(model, seed):
    """Gives every parameter a random value, in name order; nothing stays at a default.

    The embedding is so small that the norms' epsilon of 1e-5 shows.
    """
    random = np.random.RandomState(seed)
    for name, parameter in sorted(model.named_parameters()):
        shape = tuple(parameter.shape)
        if "norm" in name:
            value = random.uniform(0.5, 1.5, shape)
        elif "embed_tokens" in name:
            value = random.standard_normal(shape) * 0.01
        elif "lm_head" in name:
            value = random.standard_normal(shape) * 0.3
        else:
            value = random.standard_normal(shape) * 1.3 * shape[1] ** -0.5
        parameter.data = torch.tensor(value.astype(np.float32))
    model.tie_weights()


def make_batches(vocabulary):
    """Three rows: at positions 0.., at positions with a leap to 1000, and padded at the left.

    And three rows of several documents, whose positions start again. Nothing is predicted from
    padding, so the third row's first token is no label.
    """
    random = np.random.RandomState(7)
    ids = torch.tensor(random.randint(3, vocabulary, (3, LENGTH)))
    mask = torch.ones(3, LENGTH, dtype=torch.long)
    mask[2, :3] = 0
    ids[mask == 0] = 0
    positions = torch.arange(LENGTH).repeat(3, 1)
    positions[1, 2:] += 1000 - 9
    positions[2] = (torch.arange(LENGTH) - 3).clamp(min=0)
    labels = torch.where(mask == 1, ids, -100)
    labels[2, 3] = -100
    packed = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 3, 4, 5, 6, 0, 1],
                           [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]])
    return ({"input_ids": ids, "attention_mask": mask, "position_ids": positions}, labels,
            {"input_ids": torch.tensor(random.randint(3, vocabulary, (3, LENGTH))),
             "position_ids": packed})


def run_documents(model, batch):
    """Logits of rows of documents, each computed alone, and each one's router's logits."""
    logits, routers = [], []
    for ids, position in zip(batch["input_ids"], batch["position_ids"]):
        starts = [i for i in range(LENGTH) if position[i] == 0]
        for begin, end in zip(starts, starts[1:] + [LENGTH]):
            alone, router = run(model, {"input_ids": ids[None, begin:end]})
            logits.append(alone[0])
            routers += router
    return torch.cat(logits).reshape(len(batch["input_ids"]), LENGTH, -1), routers


def gates(model):
    return [layer.block_sparse_moe.gate if hasattr(layer, "block_sparse_moe") else layer.mlp.gate
            for layer in model.model.layers]


def run(model, batch):
    """Logits, and of each layer the router's logits [B, S, E]."""
    seen = []
    handles = [gate.register_forward_hook(lambda _, __, output: seen.append(output))
               for gate in gates(model)]
    output = model(**batch)
    for handle in handles:
        handle.remove()
    shape = (*batch["input_ids"].shape, -1)
    return output.logits, [logits.detach().reshape(shape) for logits in seen]


def routing(logits, top_k):
    """The chosen experts, best first; asserts that no choice and no order is near a tie."""
    best = torch.softmax(logits.double(), -1).topk(top_k + 1, dim=-1)
    margin = (best.values[..., :-1] - best.values[..., 1:]).min().item()
    assert margin > LEAST_MARGIN, margin
    return best.indices[..., :top_k], margin


def make(name, seed):
    model_class, config = MODELS[name]
    config._attn_implementation = "eager"
    model = model_class(config).eval()
    fill_weights(model, seed)
    folder = f"{FOLDER}/{name}"
    (HERE / folder).mkdir(parents=True, exist_ok=True)
    save_checkpoint(model, folder)
    top_k = config.num_experts_per_tok
    experts = getattr(config, "num_local_experts", None) or config.num_experts
    batch, labels, packed = make_batches(config.vocab_size)
    logits, router = run(model, batch)
    facts = {"made_by": "make_decoder_models.py", "transformers": TRANSFORMERS, "seed": seed}
    tensors = {**batch, "labels": labels, "logits": logits}
    margins = []
    for layer, scores in enumerate(router):
        tensors[f"{layer}.router.logits"] = scores
        tensors[f"{layer}.router.chosen"], margin = routing(scores, top_k)
        margins.append(margin)
    packed_logits, packed_router = run_documents(model, packed)
    for scores in packed_router:
        margins.append(routing(scores, top_k)[1])
    tensors |= {"packed.input_ids": packed["input_ids"],
                "packed.position_ids": packed["position_ids"], "packed.logits": packed_logits}
    whole, _ = run(model, {"input_ids": packed["input_ids"]})
    assert (whole - packed_logits)[:2].abs().max() > 0.01, "it makes no difference"

    # Every label is predicted by the token before it, as transformers shifts them.
    targets = torch.full_like(labels, -100)
    targets[:, :-1] = labels[:, 1:]
    tensors["targets"] = targets
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, config.vocab_size),
                                             targets.reshape(-1), ignore_index=-100)
    own = model(**batch, labels=labels).loss
    assert abs(own.item() - loss.item()) < 1e-6
    facts |= {"loss": loss.item(), "smallest_routing_margin": min(margins),
              "largest_logit": logits.abs().max().item()}

    flat = tuple(scores.reshape(-1, experts) for scores in router)
    mask = batch["attention_mask"]
    facts["aux_per_layer"] = [
        load_balancing_loss_func((scores,), experts, top_k, mask).item() for scores in flat]
    facts["aux_pooled"] = load_balancing_loss_func(flat, experts, top_k, mask).item()
    assert abs(np.mean(facts["aux_per_layer"]) - facts["aux_pooled"]) > 1e-3
    uniform = load_balancing_loss_func((torch.zeros(700, experts),), experts, top_k)
    assert abs(uniform.item() - top_k) < 1e-5

    facts["shapes"] = write_tensors(f"{folder}/golden.safetensors", tensors)
    write_json(f"{folder}/golden.json", facts)
    loss.backward()
    write_tensors(f"{folder}/gradients.safetensors",
                  {f"grad.{key}": torch.zeros_like(parameter) if parameter.grad is None
                   else parameter.grad for key, parameter in model.named_parameters()})


if __name__ == "__main__":
    # Seeds without a routing decision near a tie.
    for model_name, weight_seed in {"mixtral": 0, "olmoe": 1, "qwen3_moe": 4}.items():
        make(model_name, weight_seed)
