"""Makes encoder_bias/ (a dense 3-layer encoder: no attention scale, one shared position bias) and
buckets.json (relative position buckets).

Run: python make_encoder_bias.py   (versions: requirements.txt). Everything it states it asserts.
"""

import math

import numpy as np
import torch
from transformers import SwitchTransformersConfig, SwitchTransformersEncoderModel

from golden_io import TRANSFORMERS, fill_weights, hf, save_checkpoint, write_json, write_tensors

SEED = 10
FOLDER = "encoder_bias"
LENGTH = 100  # reaches every bucket of 32 over 128: the last one starts at distance 91

CONFIG = dict(
    vocab_size=37, d_model=12, d_kv=64, d_ff=20, num_heads=2, num_layers=3, num_decoder_layers=3,
    num_sparse_encoder_layers=0, num_sparse_decoder_layers=0, encoder_sparse_step=0,
    decoder_sparse_step=0, relative_attention_num_buckets=32, relative_attention_max_distance=128,
    layer_norm_epsilon=1e-6, dense_act_fn="relu", feed_forward_proj="relu",
    decoder_start_token_id=0)

# The first distance of each bucket, as published for 32 buckets and a largest distance of 128.
FIRST_DISTANCE = {
    True: {**{d: d for d in range(9)}, 12: 9, 16: 10, 23: 11, 32: 12, 46: 13, 64: 14, 91: 15},
    False: {**{d: d for d in range(17)}, 19: 17, 21: 18, 24: 19, 27: 20, 31: 21, 35: 22, 40: 23,
            46: 24, 52: 25, 59: 26, 67: 27, 77: 28, 87: 29, 99: 30, 113: 31}}


def encoder_states(model, batch):
    with torch.no_grad():
        output = model(**batch, output_hidden_states=True)
    return output.hidden_states


def with_attention_scale(model, batch):
    queries = [block.layer[0].SelfAttention.q.weight for block in model.encoder.block]
    with torch.no_grad():
        for weight in queries:
            weight.mul_(CONFIG["d_kv"] ** -0.5)
        states = encoder_states(model, batch)
        for weight in queries:
            weight.mul_(CONFIG["d_kv"] ** 0.5)
    return states[-1]


def with_bias_in_first_layer_only(model, batch):
    """Later blocks see the padding mask alone, as if each had to bring a bias of its own."""
    padding = 1.0 - batch["attention_mask"][:, None, None, :].float()
    mask = padding * torch.finfo(torch.float32).min

    def drop_bias(_, args, kwargs):
        return (args[0], args[1], mask, *args[3:]), kwargs

    handles = [block.register_forward_pre_hook(drop_bias, with_kwargs=True)
               for block in model.encoder.block[1:]]
    states = encoder_states(model, batch)
    for handle in handles:
        handle.remove()
    return states[-1]


def write_encoder():
    config = SwitchTransformersConfig(**CONFIG)
    config._attn_implementation = "eager"
    model = SwitchTransformersEncoderModel(config).eval()
    fill_weights(model, SEED)
    random = np.random.RandomState(SEED + 1)
    batch = {"input_ids": torch.tensor(random.randint(2, CONFIG["vocab_size"], (2, LENGTH))),
             "attention_mask": torch.ones(2, LENGTH, dtype=torch.long)}
    batch["attention_mask"][1, 61:] = 0
    batch["input_ids"][batch["attention_mask"] == 0] = 0
    states = encoder_states(model, batch)
    real = batch["attention_mask"] == 1
    scaled = (with_attention_scale(model, batch) - states[-1])[real].abs().max().item()
    unshared = (with_bias_in_first_layer_only(model, batch) - states[-1])[real].abs().max().item()
    assert scaled > 0.1 and unshared > 0.1
    bias = model.encoder.block[0].layer[0].SelfAttention.compute_bias(
        LENGTH, LENGTH, cache_position=torch.arange(LENGTH))
    save_checkpoint(model, FOLDER)
    shapes = write_tensors(f"{FOLDER}/golden.safetensors", {
        **batch, "encoder.last_hidden_state": states[-1],
        **{f"encoder.hidden.{i}": state for i, state in enumerate(states[:-1])},
        "position_bias_of_query_50": bias[0, :, 50, :]})
    write_json(f"{FOLDER}/golden.json", {
        "made_by": "make_encoder_bias.py", "transformers": TRANSFORMERS, "seed": SEED,
        "largest_value": states[-1][real].abs().max().item(),
        "change_if_scores_were_scaled": scaled,
        "change_if_only_block_0_had_the_bias": unshared, "shapes": shapes})


def buckets(distances, bidirectional, count, largest):
    bucket = hf.SwitchTransformersAttention._relative_position_bucket
    return bucket(torch.tensor(distances), bidirectional, count, largest).tolist()


def float64_bucket(relative, bidirectional, count, largest):
    """The same formula in float64: where it differs, the float32 logarithm's last bit decides."""
    side = count // 2 if bidirectional else count
    offset = side if bidirectional and relative > 0 else 0
    distance = abs(relative) if bidirectional else max(-relative, 0)
    exact = side // 2
    if distance < exact:
        return offset + distance
    logarithm = math.log(distance / exact) / math.log(largest / exact)
    return offset + min(side - 1, exact + int(logarithm * (side - exact)))


def expected_bucket(relative, bidirectional):
    if not bidirectional and relative > 0:
        return 0
    first = FIRST_DISTANCE[bidirectional]
    found = first[max(d for d in first if d <= abs(relative))]
    return found + (16 if bidirectional and relative > 0 else 0)


def write_buckets():
    distances = list(range(-200, 201))
    facts = {"made_by": "make_encoder_bias.py", "transformers": TRANSFORMERS,
             "meaning": "bucket of relative position = key - query, listed for first..last",
             "first": distances[0], "last": distances[-1]}
    for count, largest in ((32, 128), (12, 20), (8, 50)):
        for bidirectional in (True, False):
            kind = "bidirectional" if bidirectional else "unidirectional"
            table = buckets(distances, bidirectional, count, largest)
            facts[f"{kind}_{count}_{largest}"] = table
            facts[f"{kind}_{count}_{largest}_differs_in_float64"] = [
                d for d, b in zip(distances, table)
                if b != float64_bucket(d, bidirectional, count, largest)]
            if (count, largest) == (32, 128):
                assert table == [expected_bucket(d, bidirectional) for d in distances]
    write_json("buckets.json", facts)


def main():
    write_encoder()
    write_buckets()


if __name__ == "__main__":
    main()
