"""Decode steps of transformers on a model of random weights, to compare decode_bench with in the same run.

eager: the model as it is called by generate, with its dynamic cache; compiled: its static cache, the forward through
torch.compile(mode="reduce-overhead"), as transformers' documentation has it. Greedy, batch 1 unless said.
    decode_transformers.py [8b|1b|4b] [batch] [context]
"""

import statistics
import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM, StaticCache

name = sys.argv[1] if len(sys.argv) > 1 else "8b"
batch = int(sys.argv[2]) if len(sys.argv) > 2 else 1
context = int(sys.argv[3]) if len(sys.argv) > 3 else 1024
common = dict(num_attention_heads=32, num_key_value_heads=8, max_position_embeddings=40960)
if name == "8b":
    kind, config = Qwen3ForCausalLM, Qwen3Config(
        vocab_size=151936, hidden_size=4096, num_hidden_layers=36, intermediate_size=12288, head_dim=128,
        rope_theta=1e6, **common)
elif name == "4b":
    kind, config = Qwen3ForCausalLM, Qwen3Config(
        vocab_size=151936, hidden_size=2560, num_hidden_layers=36, intermediate_size=9728, head_dim=128,
        rope_theta=1e6, tie_word_embeddings=True, **common)
else:
    kind, config = LlamaForCausalLM, LlamaConfig(
        vocab_size=128256, hidden_size=2048, num_hidden_layers=16, intermediate_size=8192, head_dim=64,
        rope_theta=5e5, tie_word_embeddings=True, **common)

torch.manual_seed(0)
torch.set_default_dtype(torch.bfloat16)
began = time.time()
with torch.device("cuda"):
    model = kind(config)
model = model.cuda().eval()
prompt = torch.randint(0, config.vocab_size, (batch, context), device="cuda")
print(f"{name}: model made in {time.time() - began:.1f} s", flush=True)


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
