"""Makes capacity.*, mesh_routing.* and router_losses.*: one MoE layer's decisions and losses.

Run: python make_routing.py   (versions: requirements.txt). Everything it states it asserts.
"""

import math

import numpy as np
import torch
from transformers import SwitchTransformersConfig

from golden_io import TRANSFORMERS, hf, write_json, write_tensors

SEED = 20


def sparse_mlp(seed, capacity, **sizes):
    """A random sparse MLP of transformers with a classifier that the caller fills."""
    config = SwitchTransformersConfig(expert_capacity=capacity, router_jitter_noise=0.0, **sizes)
    layer = hf.SwitchTransformersSparseMLP(config).eval()
    random = np.random.RandomState(seed)
    for _, parameter in sorted(layer.named_parameters()):
        parameter.data = torch.tensor(random.standard_normal(tuple(parameter.shape)) * 0.4).float()
    return layer


# Experts that share each token's best score, in sequence order; the first of each is chosen. The
# second sequence holds three tokens for each expert: a capacity of 4 drops nothing from it, unless
# a capacity is counted across the batch, where the first sequence has filled expert 0.
TIES = [[(0,), (0, 2), (0, 1, 2, 3), (3,), (0, 3), (1, 2),
         (0,), (1,), (2, 3), (0, 1), (1, 3), (0,)],
        [(3,), (2, 3), (0, 1), (1,), (2,), (0, 2, 3),
         (1, 2, 3), (3,), (0,), (2,), (1, 3), (3,)]]


def tied_tokens(random):
    """Small whole numbers, so that every logit is exact and ties are ties on any machine."""
    x = np.zeros((2, 12, 8), np.float32)
    x[..., 4:] = random.randint(-3, 4, (2, 12, 4))
    for b, sequence in enumerate(TIES):
        for s, tied in enumerate(sequence):
            x[b, s, :4] = random.randint(-3, 2, 4)
            x[b, s, list(tied)] = random.randint(2, 4)
    return torch.tensor(x)


def write_capacity():
    layer = sparse_mlp(SEED, 2, num_experts=4, d_model=8, d_ff=12)
    x = tied_tokens(np.random.RandomState(SEED + 1))
    # A unit vector for each expert, and a row common to all: a shift that moves no decision.
    weight = torch.cat([torch.eye(4), torch.tensor([[0.25, -0.5, 0.75, 1.0]]).repeat(4, 1)], dim=1)
    layer.router.classifier.weight.data = weight
    chosen = torch.tensor([[tied[0] for tied in sequence] for sequence in TIES])
    tensors = {"input": x, "chosen": chosen, **dict(layer.named_parameters())}
    dropped, capacities = {}, [0, 1, 2, 4, 12]
    for capacity in capacities:
        layer.router.expert_capacity = capacity
        with torch.no_grad():
            one_hot, gate, logits = layer.router(x)
            output, _ = layer(x)
        kept = one_hot.sum(-1)
        assert torch.equal(logits.argmax(-1), chosen), "a tie did not go to the lower expert"
        assert torch.equal(kept, leftmost(chosen, 4, capacity))
        assert output[kept == 0].abs().sum() == 0 and (output[kept == 1] != 0).any(-1).all()
        tensors[f"kept.{capacity}"], tensors[f"output.{capacity}"] = kept, output
        dropped[str(capacity)] = (kept == 0).sum(1).tolist()
    tensors.update({"logits": logits, "gate": gate.squeeze(-1)})
    across = leftmost(chosen.reshape(1, -1), 4, 4).reshape(2, 12)
    assert dropped["4"][1] == 0 and across[1].sum() < 12
    shapes = write_tensors("capacity.safetensors", tensors)
    write_json("capacity.json", {
        "made_by": "make_routing.py", "transformers": TRANSFORMERS, "seed": SEED,
        "experts": 4, "capacities": capacities, "dropped_per_sequence": dropped, "tied": TIES,
        "kept_if_capacity_4_were_counted_across_the_batch": across.tolist(), "shapes": shapes})


def leftmost(chosen, experts, capacity):
    """By plain loops: of each row, the first `capacity` tokens of each expert."""
    kept = torch.zeros_like(chosen)
    for b, row in enumerate(chosen.tolist()):
        used = [0] * experts
        for s, expert in enumerate(row):
            kept[b, s] = int(used[expert] < capacity)
            used[expert] += 1
    return kept


def mesh_group(logits, real, capacity):
    """Mesh-TensorFlow's switch gating of one group, float64, by plain loops over its tokens.

    moe.py 1176-1309 at da90793: padding is neither dispatched nor counted against the capacity;
    positions are an exclusive running count; f and P come before any drop.
    """
    tokens, experts = logits.shape
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    chosen = p.argmax(1)
    position, kept, used = np.full(tokens, -1), np.zeros(tokens, int), np.zeros(experts, int)
    for t in range(tokens):
        if real[t]:
            position[t] = used[chosen[t]]
            kept[t] = position[t] < capacity
            used[chosen[t]] += 1
    return chosen, position, kept, p.max(1) * kept, load_balances(p, chosen, real)


def load_balances(p, chosen, real):
    """The load balance of a group in two conventions, equal where nothing is padding.

    "mesh": f and P over all positions, the product scaled by the share of real tokens.
    "real": f and P over real tokens only, 0 for a group without any.
    """
    experts = p.shape[1]
    hits = np.eye(experts)[chosen]
    mesh = experts**2 * np.mean(hits.mean(0) * p.mean(0)) * real.mean()
    if not real.any():
        return mesh, 0.0
    seen = real.astype(bool)
    return mesh, experts * np.sum(hits[seen].mean(0) * p[seen].mean(0))


def capacity_of(case, experts, length):
    tokens = case["group_sequences"] * length
    rounded = {"floor": math.floor, "ceil": math.ceil}[case["rounding"]]
    return max(case["min_tokens"], min(tokens, rounded(tokens * case["factor"] / experts)))


def balance_gradient(logits, real, group_sequences):
    """d(mean over groups of the "real" load balance)/d(logits), torch float64; f is constant."""
    x = torch.tensor(logits, requires_grad=True)
    groups = x.reshape(-1, group_sequences * x.shape[1], x.shape[2])
    mask = torch.tensor(real).reshape(groups.shape[:2]).double()
    count = mask.sum(1).clamp(min=1)[:, None]
    hits = torch.nn.functional.one_hot(groups.argmax(-1), x.shape[2]) * mask[..., None]
    p = (torch.softmax(groups, -1) * mask[..., None]).sum(1) / count
    loss = (x.shape[2] * (hits.sum(1) / count * p).sum(-1)).mean()
    loss.backward()
    return loss.item(), x.grad.numpy()


def write_mesh():
    random = np.random.RandomState(SEED + 2)
    batch, length, experts = 6, 10, 5
    logits = (1.5 * random.standard_normal((batch, length, experts))).astype(np.float32)
    logits = (logits + np.float32([0.9, 0, 0, -0.5, 0.2])).astype(np.float64)
    ragged = np.ones((batch, length), int)
    ragged[0, 7:], ragged[1, :3], ragged[3, 4:], ragged[4:] = 0, 0, 0, 0
    masks = {"whole": np.ones_like(ragged), "ragged": ragged}
    names = ("group_sequences", "factor", "rounding", "min_tokens")
    settings = [(1, 1.25, "floor", 0), (2, 1.1, "floor", 4), (2, 1.1, "ceil", 4),
                (2, 0.5, "floor", 4), (2, 0.5, "floor", 0), (3, 1.25, "floor", 4),
                (3, 1.25, "ceil", 4), (6, 1.0, "floor", 4), (1, 50.0, "floor", 4)]
    tensors, cases = {"logits": logits, **{f"mask.{n}": m for n, m in masks.items()}}, []
    best = np.sort(logits, -1)
    assert (best[..., -1] - best[..., -2]).min() > 1e-3
    for setting in settings:
        for mask_name, real in masks.items():
            case = {"name": f"case.{len(cases)}", "mask": mask_name, **dict(zip(names, setting))}
            case["capacity"] = capacity_of(case, experts, length)
            rows = case["group_sequences"]
            results = [mesh_group(logits[g:g + rows].reshape(-1, experts),
                                  real[g:g + rows].reshape(-1), case["capacity"])
                       for g in range(0, batch, rows)]
            arrays = [np.stack(a).reshape(batch, length) for a in list(zip(*results))[:4]]
            for name, array in zip(("position", "kept", "gate"), arrays[1:]):
                tensors[f"{case['name']}.{name}"] = array
            tensors["chosen"] = arrays[0]
            case["dropped"] = int(real.sum() - arrays[2].sum())
            case["load_balance_mesh"] = [float(r[4][0]) for r in results]
            case["load_balance_real"] = [float(r[4][1]) for r in results]
            loss, gradient = balance_gradient(logits, real, rows)
            assert abs(loss - np.mean(case["load_balance_real"])) < 1e-12
            case["load_balance_real_mean"] = loss
            tensors[f"{case['name']}.load_balance_gradient"] = gradient
            if mask_name == "whole":
                assert np.allclose(case["load_balance_mesh"], case["load_balance_real"])
            cases.append(case)
    assert any(c["dropped"] for c in cases)
    z = np.log(np.exp(logits).sum(-1)) ** 2
    shapes = write_tensors("mesh_routing.safetensors", tensors)
    write_json("mesh_routing.json", {
        "made_by": "make_routing.py", "seed": SEED, "experts": experts, "length": length,
        "router_z": {n: float((z * m).sum() / m.sum()) for n, m in masks.items()},
        **{case["name"]: case for case in cases}, "shapes": shapes})


# Published vectors: transformers' own router tests (test_modeling_switch_transformers.py, class
# SwitchTransformerRouterTest), which took them from the original implementation of Switch.
AUX_PROBABILITIES = [[.35490513, .60419905], [.4275843, .23061597], [.32985854, .43953657],
                     [.25099766, .27730572], [.7678207, .71474564]]
AUX_CHOSEN = [0, 1, 1, 0, 0]
AUX = 0.8741045
Z_LOGITS = [
    [[-4.2124424, 3.891939, -3.6481273, 1.8849981], [.32625437, 2.918651, .84758997, -4.556842],
     [-3.32062, 4.6977115, -.15439987, .44086337], [3.4467149, 4.3436565, -4.7224274, -4.264637],
     [-2.224406, -2.5318158, -1.3832569, 1.1891162], [-2.320062, -.44705987, 4.289819, -.00662684]],
    [[.99470854, -.6992364, .25503993, 4.2952085], [3.5937333, -3.2408535, -4.298278, 4.426601],
     [.7669008, 2.6588762, 2.4505413, 4.6051874], [.23330331, -3.0845237, .6262374, -2.9865491],
     [.7595146, -2.1099675, -4.155346, -2.8326452], [2.3771453, 1.004138, -3.1781673, .7581556]]]
Z = 13.786719
ROUTER_INPUT = [
    [[.6433916, .18188512, .02240455, .563781], [.5526401, .0958724, .34253013, .03644359],
     [.08744538, .7909105, .35205448, .53364205]],
    [[.02900076, .4168595, .5802449, .91486526], [.27414513, .14991808, .9383501, .5209162],
     [.51207185, .90618336, .7309413, .95533276]]]
ROUTER_WEIGHT = [[.02008116, -.00811031, -.03542127, .02335377],
                 [.00620062, -.00031623, .02703803, -.02971946]]
ROUTER_AUX, ROUTER_Z = 1.000308, 0.4789799


def write_router_losses():
    probabilities = torch.tensor(AUX_PROBABILITIES)
    aux = hf.load_balancing_loss_func(probabilities, torch.tensor(AUX_CHOSEN)[:, None])
    z = hf.router_z_loss_func(torch.tensor(Z_LOGITS))
    config = SwitchTransformersConfig(num_experts=2, d_model=4, expert_capacity=4)
    router = hf.SwitchTransformersTop1Router(config).eval()
    router.classifier.weight.data = torch.tensor(ROUTER_WEIGHT)
    with torch.no_grad():
        one_hot, gate, logits = router(torch.tensor(ROUTER_INPUT))
    router_aux = hf.load_balancing_loss_func(torch.softmax(logits, -1), one_hot.argmax(-1))
    router_z = hf.router_z_loss_func(logits)
    for found, published in ((aux, AUX), (z, Z), (router_aux, ROUTER_AUX), (router_z, ROUTER_Z)):
        assert abs(found.item() - published) < 1e-5, (found, published)
    assert one_hot.sum() == 6, "the published router drops nothing"
    write_json("router_losses.json", {
        "made_by": "make_routing.py", "transformers": TRANSFORMERS, "tolerance": 1e-5,
        "aux.probabilities": AUX_PROBABILITIES, "aux.chosen": AUX_CHOSEN, "aux.value": AUX,
        "z.logits": Z_LOGITS, "z.value": Z,
        "router.input": ROUTER_INPUT, "router.weight": ROUTER_WEIGHT, "router.capacity": 4,
        "router.chosen": one_hot.argmax(-1).tolist(), "router.logits": logits.tolist(),
        "router.gate": gate.squeeze(-1).tolist(),
        "router.aux_value": ROUTER_AUX, "router.z_value": ROUTER_Z})


def main():
    write_capacity()
    write_mesh()
    write_router_losses()


if __name__ == "__main__":
    main()
