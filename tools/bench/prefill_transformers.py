"""Prompts through transformers on a model of random weights, to compare prefill_bench with in the same run.

eager: the model as generate calls it, with its dynamic cache and PyTorch's scaled_dot_product_attention; compiled: the
same through torch.compile. Batch 1, all of the prompt at once, logits of the last token alone.
    prefill_transformers.py [8b|1b|4b] [tokens]...
"""

import statistics
import sys
import time

import torch
from transformers_models import random_model

name = sys.argv[1] if len(sys.argv) > 1 else "8b"
lengths = [int(each) for each in sys.argv[2:]] or [2048, 8192]
model = random_model(name)


@torch.inference_mode()
def seconds(forward, tokens, rounds=5):
    prompt = torch.randint(0, model.config.vocab_size, (1, tokens), device="cuda")
    taken = []
    for round in range(rounds + 2):
        torch.cuda.synchronize()
        start = time.perf_counter()
        forward(prompt, use_cache=True, logits_to_keep=1).logits.float().cpu()
        if round >= 2:
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


@torch.inference_mode()
def product_rate(side=8192, calls=8):
    a, b = (torch.randn(side, side, device="cuda") for _ in range(2))
    taken = []
    for _ in range(11):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            a @ b.T
        torch.cuda.synchronize()
        taken.append((time.perf_counter() - start) / calls)
    return 2 * side**3 / statistics.median(taken[2:])


print(f"bf16 product of 8192 cubed: {product_rate() / 1e12:.0f} TFLOP/s")
for tokens in lengths:
    print(f"| {name} | {tokens} | transformers, eager | {seconds(model, tokens) * 1e3:.1f} ms |", flush=True)
compiled = torch.compile(model)
for tokens in lengths:
    print(f"| {name} | {tokens} | transformers, compiled | {seconds(compiled, tokens) * 1e3:.1f} ms |", flush=True)
