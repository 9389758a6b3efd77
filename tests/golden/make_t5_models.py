"""Makes t5/, goldens of the dense T5: the first version (ReLU, tied) and version 1.1 (gated GELU).

Run: python make_t5_models.py   (versions: requirements.txt). Everything it states it asserts.
"""

import numpy as np
import torch
from transformers import T5Config, T5ForConditionalGeneration

from golden_io import TRANSFORMERS, fill_weights, save_checkpoint, write_json, write_tensors

FOLDER = "t5"
INPUTS, TARGETS = 9, 6

# The heads together are wider than the model, the stacks differ in depth, epsilon is not T5's.
SHARED = dict(vocab_size=47, d_model=20, d_kv=8, d_ff=28, num_heads=3, num_layers=3,
              num_decoder_layers=2, relative_attention_num_buckets=12,
              relative_attention_max_distance=20, dropout_rate=0.1, layer_norm_epsilon=1e-5,
              decoder_start_token_id=0)
MODELS = {
    "relu": dict(feed_forward_proj="relu", tie_word_embeddings=True),
    "gated_gelu": dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
}
SEEDS = {"relu": 20, "gated_gelu": 21}


def make_model(name):
    config = T5Config(**SHARED, **MODELS[name])
    config._attn_implementation = "eager"
    model = T5ForConditionalGeneration(config).eval()
    fill_weights(model, SEEDS[name])
    return model


def make_batch(seed=22, vocabulary=SHARED["vocab_size"]):
    """Three sequences: whole, padded at the right, padded at the left; targets end in -100."""
    random = np.random.RandomState(seed)
    input_ids = torch.tensor(random.randint(2, vocabulary, (3, INPUTS)))
    labels = torch.tensor(random.randint(2, vocabulary, (3, TARGETS)))
    attention_mask = torch.ones(3, INPUTS, dtype=torch.long)
    attention_mask[1, 6:] = 0
    attention_mask[2, :3] = 0
    input_ids[attention_mask == 0] = 0
    labels[0, -1] = 1
    labels[1, 3:] = torch.tensor([1, -100, -100])
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def networks(model):
    return [block.layer[-1].DenseReluDense
            for stack in (model.encoder, model.decoder) for block in stack.block]


def logits_with(model, batch, activation):
    """With another activation function in every feed-forward network."""
    own = networks(model)[0].act
    for network in networks(model):
        network.act = activation
    with torch.no_grad():
        logits = model(**batch).logits
    for network in networks(model):
        network.act = own
    return logits


def write_golden(name):
    model = make_model(name)
    batch = make_batch()
    with torch.no_grad():
        output = model(**batch)
    decoder_input_ids = model._shift_right(batch["labels"])
    mask = torch.ones(3, TARGETS, dtype=torch.long)
    mask[0, :2] = 0  # hidden from later ones; causality alone would not hide it
    mask[1, 4:] = 0
    with torch.no_grad():
        masked = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"],
                       decoder_input_ids=decoder_input_ids, decoder_attention_mask=mask)
    change = (masked.logits - output.logits)[0, 2:].abs().max().item()
    assert change > 0.01, "the decoder's mask makes no difference"
    facts = {"made_by": "make_t5_models.py", "transformers": TRANSFORMERS, "seed": SEEDS[name],
             "loss": output.loss.item(), "largest_logit": output.logits.abs().max().item(),
             "change_by_the_decoders_mask": change}
    if name == "gated_gelu":
        assert model.config.dense_act_fn == "gelu_new" and model.config.is_gated_act
        exact = logits_with(model, batch, torch.nn.GELU())
        tanh = logits_with(model, batch, torch.nn.GELU(approximate="tanh"))
        assert (tanh - output.logits).abs().max() < 1e-5 * facts["largest_logit"]
        facts["change_if_gelu_were_exact"] = (exact - output.logits).abs().max().item()
        assert facts["change_if_gelu_were_exact"] > 1e-4 * facts["largest_logit"]
    folder = f"{FOLDER}/{name}"
    save_checkpoint(model, folder)
    facts["shapes"] = write_tensors(f"{folder}/golden.safetensors", {
        **batch, "decoder_input_ids": decoder_input_ids, "logits": output.logits,
        "encoder.last_hidden_state": output.encoder_last_hidden_state,
        "masked.decoder_attention_mask": mask, "masked.logits": masked.logits})
    write_json(f"{folder}/golden.json", facts)


if __name__ == "__main__":
    for model_name in MODELS:
        write_golden(model_name)
