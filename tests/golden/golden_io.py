"""What the golden makers share: seeded weights, hooks, and the writing of tensors and facts.

Not part of the build or of the tests; README.md says how to run the makers. Pinned versions are in
requirements.txt; transformers 5.x is not an oracle for this model (its router never drops a token
and it applies the position bias in block 0 only), so other versions are refused here.
"""

import contextlib
import json
import pathlib

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file
from transformers.models.switch_transformers import modeling_switch_transformers as hf

HERE = pathlib.Path(__file__).resolve().parent
TRANSFORMERS = "4.57.6"

if transformers.__version__ != TRANSFORMERS:
    raise SystemExit(f"transformers {TRANSFORMERS} is the oracle, found {transformers.__version__}")
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)


def write_tensors(path, tensors):
    """Writes float tensors as float32 and integer or boolean ones as int32."""
    arrays = {}
    for name, value in tensors.items():
        array = np.asarray(value.detach() if isinstance(value, torch.Tensor) else value)
        dtype = np.float32 if array.dtype.kind == "f" else np.int32
        array = np.ascontiguousarray(array.astype(dtype))
        if dtype == np.float32 and not np.isfinite(array).all():
            raise AssertionError(f"{name} is not finite")
        arrays[name] = array
    path = HERE / path
    path.parent.mkdir(exist_ok=True)
    save_file(arrays, str(path), metadata={"format": "pt"})
    path.chmod(0o644)
    return {name: list(array.shape) for name, array in arrays.items()}


def write_json(path, facts):
    """Writes facts with one key a line, so that a changed golden shows as a readable diff."""
    path = HERE / path
    path.parent.mkdir(exist_ok=True)
    body = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in facts.items())
    path.write_text("{\n" + body + "\n}\n")


def fill_weights(model, seed):
    """Gives every parameter a random value, in name order; nothing stays at a default.

    Scales keep hidden states of order one; norm weights are uniform in [0.5, 1.5].
    """
    config = model.config
    inner = config.num_heads * config.d_kv
    random = np.random.RandomState(seed)
    for name, parameter in sorted(model.named_parameters()):
        shape = tuple(parameter.shape)
        if name.endswith("norm.weight"):
            value = random.uniform(0.5, 1.5, shape)
        else:
            value = random.standard_normal(shape) * weight_scale(name, config, inner)
        parameter.data = torch.tensor(value.astype(np.float32))
    model.tie_weights()


def weight_scale(name, config, inner):
    scales = {
        "q.weight": 1.5 * (config.d_model * config.d_kv) ** -0.5,
        "k.weight": config.d_model**-0.5,
        "v.weight": config.d_model**-0.5,
        "o.weight": inner**-0.5,
        "relative_attention_bias.weight": 0.7,
        "wi.weight": 1.3 * config.d_model**-0.5,
        "wi_0.weight": 1.3 * config.d_model**-0.5,
        "wi_1.weight": 1.3 * config.d_model**-0.5,
        "wo.weight": 1.3 * config.d_ff**-0.5,
        "classifier.weight": 0.35,
        "lm_head.weight": 0.3,
        "shared.weight": 1.0,
    }
    return next(scale for suffix, scale in scales.items() if ("." + name).endswith("." + suffix))


def sparse_layers(stack):
    """The (block index, sparse MLP) pairs of an encoder or decoder stack."""
    pairs = [(i, block.layer[-1].mlp) for i, block in enumerate(stack.block)]
    return [(i, mlp) for i, mlp in pairs if isinstance(mlp, hf.SwitchTransformersSparseMLP)]


@contextlib.contextmanager
def record_routing(model):
    """Yields a dict that fills, per forward, with "encoder.1.moe.input" and the like."""
    seen, handles = {}, []

    def listen(prefix, mlp):
        def after_router(_, __, output):
            one_hot, gate, logits = output
            seen[f"{prefix}.router.logits"] = logits
            seen[f"{prefix}.router.gate"] = gate.squeeze(-1)
            seen[f"{prefix}.router.chosen"] = logits.argmax(-1)
            seen[f"{prefix}.router.kept"] = one_hot.sum(-1)

        def after_mlp(_, args, output):
            seen[f"{prefix}.moe.input"] = args[0]
            seen[f"{prefix}.moe.output"] = output[0]

        handles.append(mlp.router.register_forward_hook(after_router))
        handles.append(mlp.register_forward_hook(after_mlp))

    for side in ("encoder", "decoder"):
        for index, mlp in sparse_layers(getattr(model, side)) if hasattr(model, side) else ():
            listen(f"{side}.{index}", mlp)
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def routing_margin(seen):
    """The smallest difference between the two best router probabilities of any token."""
    margins = []
    for name, logits in seen.items():
        if name.endswith(".router.logits"):
            best = torch.softmax(logits.double(), -1).topk(2, dim=-1).values
            margins.append((best[..., 0] - best[..., 1]).min().item())
    return min(margins)


@contextlib.contextmanager
def float64_arithmetic(model):
    """Runs the model wholly in float64: also norms, softmax, router, which HF pins to float32."""
    norm_forward = hf.SwitchTransformersLayerNorm.forward
    to_float = torch.Tensor.float

    def norm_in_float64(self, x):
        variance = x.pow(2).mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(variance + self.variance_epsilon))

    routers = [m for m in model.modules() if isinstance(m, hf.SwitchTransformersTop1Router)]
    model.double()
    for router in routers:
        router.dtype = torch.float64
    hf.SwitchTransformersLayerNorm.forward = norm_in_float64
    torch.Tensor.float = lambda self: self if self.dtype == torch.float64 else to_float(self)
    try:
        yield
    finally:
        torch.Tensor.float = to_float
        hf.SwitchTransformersLayerNorm.forward = norm_forward
        for router in routers:
            router.dtype = torch.float32
        model.float()


def save_checkpoint(model, folder):
    """Writes config.json and model.safetensors as transformers itself does, and nothing else."""
    path = HERE / folder
    model.save_pretrained(str(path), safe_serialization=True)
    (path / "generation_config.json").unlink(missing_ok=True)
    (path / "model.safetensors").chmod(0o644)
