#!/usr/bin/env python3
"""The training step of bench/step.yaml in PyTorch, timed: for comparisons by hand.

Not part of the build or the tests. Install by hand, best in a virtual environment:
    pip install torch transformers==4.57.6
--variant hand      a Switch encoder-decoder written for speed: fused attention, fused projections,
                    experts as batched products at their capacity, as one grouped product, or one
                    after the other; its position bias learns nothing, without which PyTorch has no
                    fused attention on CPUs
--variant hugging_face  SwitchTransformersForConditionalGeneration
Both: fused AdamW, gradients clipped by their norm, load balance loss, no dropout, tokens made up.
Prints one JSON object.
"""
import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

WIDTH, INNER, HEADS, VOCABULARY, LAYERS, EXPERTS = 512, 2048, 8, 8192, 4, 8
SEQUENCES, INPUTS, TARGETS, GROUP, CAPACITY_FACTOR = 8, 256, 58, 4, 1.25


class Attention(nn.Module):
    def __init__(self, crossing=False):
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH if crossing else 3 * WIDTH, bias=False)
        self.memory = nn.Linear(WIDTH, 2 * WIDTH, bias=False) if crossing else None
        self.output = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x, bias, memory=None):
        batch, length, _ = x.shape

        def heads(y):
            return y.view(batch, -1, HEADS, WIDTH // HEADS).transpose(1, 2)

        if memory is None:
            query, key, value = self.query(x).chunk(3, dim=-1)
        else:
            query = self.query(x)
            key, value = self.memory(memory).chunk(2, dim=-1)
        if bias is not None:
            bias = bias.to(query.dtype)
        y = F.scaled_dot_product_attention(
            heads(query), heads(key), heads(value), attn_mask=bias, scale=1.0)
        return self.output(y.transpose(1, 2).reshape(batch, length, WIDTH))


class DenseFeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.wi = nn.Linear(WIDTH, INNER, bias=False)
        self.wo = nn.Linear(INNER, WIDTH, bias=False)

    def forward(self, x):
        return self.wo(F.relu(self.wi(x))), x.new_zeros((), dtype=torch.float32)


class SwitchFeedForward(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how
        self.router = nn.Linear(WIDTH, EXPERTS, bias=False)
        self.wi = nn.Parameter(torch.randn(EXPERTS, WIDTH, INNER) * WIDTH**-0.5)
        self.wo = nn.Parameter(torch.randn(EXPERTS, INNER, WIDTH) * INNER**-0.5)

    def forward(self, x):
        shape = x.shape
        groups = SEQUENCES // GROUP
        tokens = x.reshape(groups, -1, WIDTH)
        probabilities = F.linear(tokens.float(), self.router.weight.float()).softmax(-1)
        gate, expert = probabilities.max(-1)
        chosen = F.one_hot(expert, EXPERTS)
        balance = EXPERTS * (chosen.float().mean(1) * probabilities.mean(1)).sum(-1).mean()
        each = tokens.shape[1]
        capacity = -int(-CAPACITY_FACTOR * each // EXPERTS)
        place = (chosen.cumsum(1) * chosen).sum(-1) - 1
        kept = place < capacity
        flat = tokens.reshape(-1, WIDTH)
        if self.how == "batched":
            y = self.batched(flat, expert, place, kept, groups, capacity)
        else:
            y = self.sorted(flat, expert.reshape(-1), kept.reshape(-1))
        return (y * (gate * kept).reshape(-1, 1).to(y.dtype)).view(shape), 0.01 * balance

    def batched(self, x, expert, place, kept, groups, capacity):
        """Each expert's rows at its capacity; one row more takes those that are dropped."""
        group = torch.arange(groups).unsqueeze(1)
        slot = (expert * groups + group) * capacity + place
        slot = torch.where(kept, slot, EXPERTS * groups * capacity).reshape(-1)
        rows = x.new_zeros(EXPERTS * groups * capacity + 1, WIDTH).index_copy(0, slot, x)
        rows = rows[:-1].view(EXPERTS, groups * capacity, WIDTH)
        y = torch.bmm(F.relu(torch.bmm(rows, self.wi.to(x.dtype))), self.wo.to(x.dtype))
        y = torch.cat([y.reshape(-1, WIDTH), y.new_zeros(1, WIDTH)])
        return y.index_select(0, slot)

    def sorted(self, x, expert, kept):
        """Rows in order of their expert, those that are dropped behind the last."""
        expert = torch.where(kept, expert, EXPERTS)
        order = expert.argsort(stable=True)
        counts = torch.bincount(expert, minlength=EXPERTS + 1)[:EXPERTS]
        rows = x.index_select(0, order)
        sizes = counts.tolist()
        dropped = rows[sum(sizes):]
        if self.how == "grouped":
            ends = counts.cumsum(0).to(torch.int32)
            inner = F.grouped_mm(rows[:sum(sizes)], self.wi.to(x.dtype), offs=ends)
            parts = [F.grouped_mm(F.relu(inner), self.wo.to(x.dtype), offs=ends)]
        else:
            parts = [F.relu(part @ wi) @ wo for part, wi, wo
                     in zip(rows[:sum(sizes)].split(sizes), self.wi, self.wo)]
        y = torch.cat([*parts, dropped])
        return torch.zeros_like(y).index_copy(0, order, y)


class Block(nn.Module):
    def __init__(self, layer, crossing, how):
        super().__init__()
        self.attention, self.attention_norm = Attention(), nn.RMSNorm(WIDTH)
        self.crossing = Attention(crossing=True) if crossing else None
        self.crossing_norm = nn.RMSNorm(WIDTH) if crossing else None
        self.feed = SwitchFeedForward(how) if layer % 2 else DenseFeedForward()
        self.feed_norm = nn.RMSNorm(WIDTH)

    def forward(self, x, bias, memory):
        x = x + self.attention(self.attention_norm(x), bias)
        if self.crossing is not None:
            x = x + self.crossing(self.crossing_norm(x), None, memory)
        y, balance = self.feed(self.feed_norm(x))
        return x + y, balance


class HandWritten(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.encoder = nn.ModuleList([Block(i, False, how) for i in range(LAYERS)])
        self.decoder = nn.ModuleList([Block(i, True, how) for i in range(LAYERS)])
        self.norms = nn.ModuleList([nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)])
        self.register_buffer("encoder_bias", torch.randn(1, HEADS, INPUTS, INPUTS))
        causal = torch.full((TARGETS, TARGETS), float("-inf")).triu(1)
        self.register_buffer("decoder_bias", torch.randn(1, HEADS, TARGETS, TARGETS) + causal)

    def forward(self, inputs, targets):
        x, balance = self.embedding(inputs), 0.0
        for block in self.encoder:
            x, more = block(x, self.encoder_bias, None)
            balance = balance + more
        memory = self.norms[0](x)
        x = self.embedding(F.pad(targets[:, :-1], (1, 0)))
        for block in self.decoder:
            x, more = block(x, self.decoder_bias, memory)
            balance = balance + more
        logits = F.linear(self.norms[1](x) * WIDTH**-0.5, self.embedding.weight)
        return F.cross_entropy(logits.view(-1, VOCABULARY).float(), targets.view(-1)) + balance


class HuggingFace(nn.Module):
    def __init__(self):
        super().__init__()
        from transformers import SwitchTransformersConfig
        from transformers import SwitchTransformersForConditionalGeneration as Model

        self.model = Model(SwitchTransformersConfig(
            vocab_size=VOCABULARY, d_model=WIDTH, d_kv=WIDTH // HEADS, d_ff=INNER, num_heads=HEADS,
            num_layers=LAYERS, num_decoder_layers=LAYERS, num_sparse_encoder_layers=LAYERS // 2,
            num_sparse_decoder_layers=LAYERS // 2, num_experts=EXPERTS, dropout_rate=0.0,
            expert_capacity=int(CAPACITY_FACTOR * INPUTS / EXPERTS), router_aux_loss_coef=0.01,
            decoder_start_token_id=0, use_cache=False))

    def forward(self, inputs, targets):
        return self.model(input_ids=inputs, labels=targets, output_router_logits=True).loss


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--variant", choices=["hand", "hugging_face"], default="hand")
    parser.add_argument("--experts", choices=["batched", "grouped", "loop"], default="batched")
    parser.add_argument("--dtype", choices=["float32", "autocast", "bfloat16"], default="float32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    args = parser.parse_args()

    torch.manual_seed(1)
    torch.set_num_threads(args.threads)
    model = HandWritten(args.experts) if args.variant == "hand" else HuggingFace()
    if args.dtype == "bfloat16":
        model = model.to(torch.bfloat16)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    run = torch.compile(model) if args.compile else model
    inputs = torch.randint(3, VOCABULARY, (SEQUENCES, INPUTS))
    targets = torch.randint(3, VOCABULARY, (SEQUENCES, TARGETS))
    forward_backward, update = [], []
    for step in range(args.warmup + args.steps):
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=args.dtype == "autocast"):
            loss = run(inputs, targets)
        loss.backward()
        middle = time.perf_counter()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        end = time.perf_counter()
        if step >= args.warmup:
            forward_backward.append(middle - begin)
            update.append(end - middle)
    steps = [a + b for a, b in zip(forward_backward, update)]
    print(json.dumps({
        "variant": args.variant, "experts": args.experts if args.variant == "hand" else "loop",
        "dtype": args.dtype, "compiled": args.compile, "threads": args.threads,
        "loss": float(loss.detach()),
        "parameters": sum(p.numel() for p in model.parameters()),
        "forward_backward_seconds": statistics.median(forward_backward),
        "optimizer_seconds": statistics.median(update),
        "step_seconds": {"min": min(steps), "median": statistics.median(steps)}}))


main()
