"""Makes switch_full/, the whole-model goldens: logits, losses, routing, gradients, masks, shifts.

Run: python make_switch_model.py   (versions: requirements.txt). Everything it states it asserts.
"""

import numpy as np
import torch
from torch.nn.functional import one_hot
from transformers import SwitchTransformersConfig, SwitchTransformersForConditionalGeneration

from golden_io import (TRANSFORMERS, fill_weights, float64_arithmetic, hf, record_routing,
                       routing_margin, save_checkpoint, sparse_layers, write_json, write_tensors)

SEED = 0
FOLDER = "switch_full"
CAPACITY, ROOMY = 2, 12  # per sequence and expert; 12 is the encoder's length, so it never binds
LEAST_MARGIN = 1e-3

CONFIG = dict(
    vocab_size=61, d_model=24, d_kv=10, d_ff=40, num_heads=3, num_layers=4, num_decoder_layers=3,
    num_sparse_encoder_layers=2, num_sparse_decoder_layers=3, encoder_sparse_step=2,
    decoder_sparse_step=2, num_experts=5, expert_capacity=CAPACITY, router_jitter_noise=0.0,
    relative_attention_num_buckets=12, relative_attention_max_distance=20, dropout_rate=0.1,
    layer_norm_epsilon=1e-6, router_z_loss_coef=0.001, router_aux_loss_coef=0.01,
    dense_act_fn="relu", feed_forward_proj="relu", is_gated_act=False, num_selected_experts=1,
    router_type="tokens_masked", tie_word_embeddings=True, decoder_start_token_id=0)


def make_model(tied):
    config = SwitchTransformersConfig(**{**CONFIG, "tie_word_embeddings": tied})
    config._attn_implementation = "eager"
    model = SwitchTransformersForConditionalGeneration(config).eval()
    fill_weights(model, SEED)
    return model


def make_batch():
    """Three sequences: whole, padded at the right, padded at the left; targets end in -100."""
    random = np.random.RandomState(SEED + 1)
    input_ids = torch.tensor(random.randint(2, CONFIG["vocab_size"], (3, 12)))
    labels = torch.tensor(random.randint(2, CONFIG["vocab_size"], (3, 7)))
    attention_mask = torch.ones(3, 12, dtype=torch.long)
    attention_mask[1, 8:] = 0
    attention_mask[2, :4] = 0
    input_ids[attention_mask == 0] = 0
    labels[0, 6] = 1
    labels[1, 4:] = torch.tensor([1, -100, -100])
    labels[2, 2:4] = torch.tensor([-100, 0])  # ignored in the middle; and a pad that is NOT ignored
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def set_capacity(model, capacity):
    for stack in (model.encoder, model.decoder):
        for _, mlp in sparse_layers(stack):
            mlp.router.expert_capacity = capacity


def run(model, batch, **changes):
    """One forward with everything recorded; asserts that no routing decision is near a tie.

    The second forward is there for the plain cross entropy: with output_router_logits, which is on
    unless told otherwise, the loss that transformers returns contains the router terms.
    """
    arguments = {**batch, **changes}
    with torch.no_grad(), record_routing(model) as seen:
        output = model(**arguments, output_router_logits=True, output_hidden_states=True)
        plain = model(**arguments, output_router_logits=False)
    assert routing_margin(seen) > LEAST_MARGIN, routing_margin(seen)
    assert torch.equal(output.logits, plain.logits)
    return output, plain.loss, seen


def losses_of_layer(logits, mask):
    """The paper's load balance (eq. 4-6, one sequence = one group) and the router z-loss, float64.

    Before any drop; "real" leaves padding out of f, P and the means, "all" counts every position.
    """
    logits = logits.double()
    experts = logits.shape[-1]
    result = {}
    for name, weight in (("real", mask.double()), ("all", torch.ones(mask.shape).double())):
        share = weight / weight.sum(1, keepdim=True)
        f = (one_hot(logits.argmax(-1), experts) * share[..., None]).sum(1)
        p = (torch.softmax(logits, -1) * share[..., None]).sum(1)
        log_z = torch.logsumexp(logits, -1) ** 2
        result[f"load_balance_{name}"] = (experts * (f * p).sum(-1)).mean()
        result[f"router_z_{name}_tokens"] = (log_z * weight).sum() / weight.sum()
        result[f"router_z_{name}_groups"] = (log_z * share).sum(1).mean()
    return result


def stack_masks(batch):
    return {"encoder": batch["attention_mask"], "decoder": torch.ones_like(batch["labels"])}


def routing_facts(seen, batch):
    """Per sparse layer: what was dropped and the losses; asserts that the golden can tell."""
    facts = {}
    for side, mask in stack_masks(batch).items():
        for name in [n for n in seen if n.startswith(side) and n.endswith("router.chosen")]:
            layer = name.removesuffix(".router.chosen")
            kept, chosen = seen[f"{layer}.router.kept"], seen[name]
            hits = one_hot(chosen, CONFIG["num_experts"])
            unpadded = hits * mask[..., None]
            kept_without_pads = (unpadded * (unpadded.cumsum(1) <= CAPACITY)).sum(-1)
            per_expert = (hits * kept[..., None]).sum(1)
            dropped = kept == 0
            assert dropped.any(1).all() and per_expert.max() == CAPACITY
            assert (hits.sum((0, 1)) > 0).sum() >= 4, "fewer than four experts are used"
            assert seen[f"{layer}.moe.output"][dropped].abs().max() == 0
            if side == "encoder":
                assert ((kept_without_pads != kept) & (mask == 1)).any(), "pads displace nothing"
            losses = losses_of_layer(seen[f"{layer}.router.logits"], mask)
            facts[layer] = {
                "dropped_per_sequence": dropped.sum(1).tolist(),
                "tokens_per_expert_before_drops": hits.sum((0, 1)).tolist(),
                "tokens_per_expert_kept": per_expert.sum(0).tolist(),
                **{key: value.item() for key, value in losses.items()}}
    return facts


def write_full(model, batch):
    output, loss, seen = run(model, batch)
    shifted = model._shift_right(batch["labels"])
    explicit, _, _ = run(model, batch, decoder_input_ids=shifted)
    assert torch.equal(explicit.logits, output.logits)
    tensors = {**batch, "decoder_input_ids": shifted, "logits": output.logits,
               "encoder.last_hidden_state": output.encoder_last_hidden_state, **seen}
    for side in ("encoder", "decoder"):
        states = getattr(output, f"{side}_hidden_states")
        for i, state in enumerate(states[:-1]):
            tensors[f"{side}.hidden.{i}"] = state
    tensors["decoder.last_hidden_state"] = states[-1]
    shapes = write_tensors(f"{FOLDER}/golden.safetensors", tensors)
    with float64_arithmetic(model):
        exact, exact_loss, _ = run(model, batch)
    error = (exact.logits - output.logits.double()).abs().max().item()
    assert error < 2e-5 * exact.logits.abs().max().item()
    write_json(f"{FOLDER}/golden.json", {
        "made_by": "make_switch_model.py", "transformers": TRANSFORMERS, "seed": SEED,
        "loss": loss.item(), "loss_float64": exact_loss.item(),
        "hf_loss_with_router_terms": output.loss.item(),
        "hf_encoder_z_loss": output.encoder_z_loss.item(),
        "hf_encoder_aux_loss": output.encoder_aux_loss.item(),
        "hf_decoder_z_loss": output.decoder_z_loss.item(),
        "hf_decoder_aux_loss": output.decoder_aux_loss.item(),
        "smallest_routing_margin": routing_margin(seen),
        "largest_logit": output.logits.abs().max().item(),
        "float32_error_of_logits": error,
        "layers": routing_facts(seen, batch), "shapes": shapes})
    return output


def gradients(model, batch, objective):
    """d(objective)/d(weight) for every parameter, from a float64 run; zeros where none flows."""
    with float64_arithmetic(model):
        model.zero_grad()
        with record_routing(model) as seen:
            output = model(**batch, output_router_logits=False)
        value = objective(output, seen)
        value.backward()
        result = {name: (p.grad if p.grad is not None else torch.zeros_like(p)).clone()
                  for name, p in model.named_parameters()}
        check_directional_derivative(model, batch, objective, result)
        model.zero_grad()
    return value.item(), result


def check_directional_derivative(model, batch, objective, grads):
    """Central difference along one random direction, routing unchanged, in float64."""
    random = np.random.RandomState(SEED + 2)
    direction = {n: torch.tensor(random.standard_normal(tuple(g.shape))) for n, g in grads.items()}
    expected = sum((grads[n] * direction[n]).sum().item() for n in grads)
    values = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter += step * direction[name]
            with record_routing(model) as seen:
                output = model(**batch, output_router_logits=False)
                values.append(objective(output, seen).item())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter += 1e-6 * direction[name]
    measured = (values[0] - values[1]) / 2e-6
    assert abs(measured - expected) < 1e-5 * max(1.0, abs(expected)), (measured, expected)


def load_balance_objective(batch):
    def objective(_, seen):
        total = 0.0
        for side, mask in stack_masks(batch).items():
            for name in [n for n in seen if n.startswith(side) and n.endswith("router.logits")]:
                total = total + losses_of_layer(seen[name], mask)["load_balance_real"]
        return total
    return objective


def cross_entropy_objective(output, _):
    return output.loss


def write_gradients(model, batch):
    loss, grads = gradients(model, batch, cross_entropy_objective)
    balance, balance_grads = gradients(model, batch, load_balance_objective(batch))
    model.zero_grad()
    model(**batch, output_router_logits=False).loss.backward()
    error = max((p.grad.double() - grads[n]).abs().max().item() / grads[n].abs().max().item()
                for n, p in model.named_parameters() if p.grad is not None)
    model.zero_grad()
    assert error < 1e-4, error
    kept = [n for n in balance_grads if "classifier" in n or "norm" in n or n == "shared.weight"
            or n.endswith("q.weight") or n.endswith("relative_attention_bias.weight")]
    idle = [n for n in grads if grads[n].abs().max() == 0]
    tensors = {f"grad.{n}": g for n, g in grads.items()}
    tensors.update({f"grad_load_balance.{n}": balance_grads[n] for n in kept})
    write_tensors(f"{FOLDER}/gradients.safetensors", tensors)
    write_json(f"{FOLDER}/gradients.json", {
        "made_by": "make_switch_model.py", "transformers": TRANSFORMERS, "seed": SEED,
        "loss_float64": loss, "load_balance_float64": balance,
        "largest_relative_error_of_a_float32_backward": error,
        "weights_without_gradient_from_loss": idle})


def write_untied(tied_model, batch):
    model = make_model(tied=False)
    own_head = model.lm_head.weight.detach().clone()
    with torch.no_grad():  # lm_head's own draw shifted the others': take the tied model's
        for name, parameter in tied_model.named_parameters():
            model.get_parameter(name).copy_(parameter)
        model.encoder.embed_tokens.weight = model.shared.weight
        model.decoder.embed_tokens.weight = model.shared.weight
    own, own_loss, _ = run(model, batch)
    loss, grads = gradients(model, batch, cross_entropy_objective)
    with torch.no_grad():
        model.lm_head.weight.copy_(model.shared.weight)
    shared, _, _ = run(model, batch)
    tied, _, _ = run(tied_model, batch)
    ratio = CONFIG["d_model"] ** -0.5
    assert (tied.logits - ratio * shared.logits).abs().max() < 1e-5
    chosen = ["lm_head.weight", "shared.weight", "decoder.final_layer_norm.weight",
              "encoder.block.1.layer.1.mlp.router.classifier.weight"]
    shapes = write_tensors(f"{FOLDER}/untied.safetensors", {
        "lm_head.weight": own_head, "logits": own.logits,
        "logits_with_shared_as_lm_head": shared.logits, "logits_tied": tied.logits,
        **{f"grad.{name}": grads[name] for name in chosen}})
    write_json(f"{FOLDER}/untied.json", {
        "made_by": "make_switch_model.py", "transformers": TRANSFORMERS, "seed": SEED,
        "loss": own_loss.item(), "loss_float64": loss, "tied_over_untied": ratio, "shapes": shapes})


def write_masks(model, batch):
    """Label shift, causality, pads under a roomy and a binding capacity, a sequence of pads."""
    labels, shifted = batch["labels"], model._shift_right(batch["labels"])
    assert (labels == -100).any() and (shifted[:, 0] == 0).all() and (shifted >= 0).all()
    base, _, _ = run(model, batch)
    future = shifted.clone()
    future[:, 4:] = (future[:, 4:] + 17) % 59 + 2
    changed, _, _ = run(model, {**batch, "labels": None}, decoder_input_ids=future)
    assert (changed.logits[:, :4] - base.logits[:, :4]).abs().max() < 1e-5
    assert (changed.logits[:, 4:] - base.logits[:, 4:]).abs().max() > 0.1
    pads = batch["input_ids"].clone()
    padded = batch["attention_mask"] == 0
    pads[padded] = torch.tensor(np.random.RandomState(SEED + 3).randint(2, 61, int(padded.sum())))
    tight, _, _ = run(model, batch, input_ids=pads)
    assert (tight.logits - base.logits).abs().max() > 1e-3, "the changed pads displaced nothing"
    set_capacity(model, ROOMY)
    roomy, _, roomy_seen = run(model, batch)
    roomy_pads, _, _ = run(model, batch, input_ids=pads)
    set_capacity(model, CAPACITY)
    assert all(v.min() == 1 for n, v in roomy_seen.items() if n.endswith(".kept"))
    assert (roomy_pads.logits - roomy.logits).abs().max() < 1e-5
    hollow = batch["attention_mask"].clone()
    hollow[1] = 0
    empty, _, empty_seen = run(model, batch, attention_mask=hollow)
    tensors = {
        "labels": labels, "shifted": shifted, "future.decoder_input_ids": future,
        "future.logits": changed.logits, "pads.input_ids": pads, "pads.logits": tight.logits,
        "roomy.logits": roomy.logits, "roomy_pads.logits": roomy_pads.logits,
        "all_pad.attention_mask": hollow, "all_pad.logits": empty.logits,
        "all_pad.encoder.last_hidden_state": empty.encoder_last_hidden_state}
    tensors.update({f"all_pad.{n}": v for n, v in empty_seen.items()
                    if n.endswith((".chosen", ".kept"))})
    shapes = write_tensors(f"{FOLDER}/masks.safetensors", tensors)
    write_json(f"{FOLDER}/masks.json", {
        "made_by": "make_switch_model.py", "transformers": TRANSFORMERS, "seed": SEED,
        "future_changed_from_position": 4, "roomy_capacity": ROOMY, "capacity": CAPACITY,
        "pads_change_of_logits_binding": (tight.logits - base.logits).abs().max().item(),
        "pads_change_of_logits_roomy": (roomy_pads.logits - roomy.logits).abs().max().item(),
        "all_pad_sequence": 1, "shapes": shapes})


def main():
    model, batch = make_model(tied=True), make_batch()
    save_checkpoint(model, FOLDER)
    write_full(model, batch)
    write_gradients(model, batch)
    write_untied(model, batch)
    write_masks(model, batch)


if __name__ == "__main__":
    main()
