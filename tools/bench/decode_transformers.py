"""Decode steps of transformers on a model of random weights, to compare decode_bench with in the same run.

eager: the model as it is called by generate, with its dynamic cache; compiled: its static cache, the forward through
torch.compile(mode="reduce-overhead"), as transformers' documentation has it. Greedy, batch 1 unless said.
    decode_transformers.py [8b|1b|4b] [batch] [context]
"""

import statistics
import sys
import time

import torch
from transformers import StaticCache
from transformers_models import random_model

name = sys.argv[1] if len(sys.argv) > 1 else "8b"
batch = int(sys.argv[2]) if len(sys.argv) > 2 else 1
context = int(sys.argv[3]) if len(sys.argv) > 3 else 1024
model = random_model(name)
config = model.config
prompt = torch.randint(0, config.vocab_size, (batch, context), device="cuda")


@torch.inference_mode()
def eager(steps):
    out = model(prompt, use_cache=True, logits_to_keep=1)
    cache = out.past_key_values
    newest = out.logits[:, -1:].argmax(-1)
    taken = []
    for step in range(steps):
        torch.cuda.synchronize()
        start = time.perf_counter()
        out = model(newest, past_key_values=cache, use_cache=True)
        newest = out.logits[:, -1:].argmax(-1)
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[steps // 4:])


@torch.inference_mode()
def compiled(steps):
    cache = StaticCache(config=config, max_cache_len=context + 256)
    where = torch.arange(context, device="cuda")
    out = model(prompt, past_key_values=cache, cache_position=where, use_cache=True, logits_to_keep=1)
    newest = out.logits[:, -1:].argmax(-1)
    forward = torch.compile(model.forward, mode="reduce-overhead", fullgraph=True)
    position = torch.tensor([context], device="cuda")
    start = time.time()

    def step():
        nonlocal newest, position
        out = forward(newest, past_key_values=cache, cache_position=position, use_cache=True)
        newest = out.logits[:, -1:].argmax(-1).clone()
        position = position + 1

    for _ in range(8):
        step()
    torch.cuda.synchronize()
    print(f"compiled in {time.time() - start:.1f} s", flush=True)
    taken = []
    for _ in range(4):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(steps // 4):  # nothing waits for the host
            step()
        torch.cuda.synchronize()
        taken.append((time.perf_counter() - start) / (steps // 4))
    return statistics.median(taken)


print(f"| {name} | {batch} | {context} | transformers, eager | {eager(40) * 1e3:.3f} ms |", flush=True)
torch.cuda.empty_cache()
print(f"| {name} | {batch} | {context} | transformers, static cache, compiled | {compiled(80) * 1e3:.3f} ms |", flush=True)
