"""transformers' models of published shapes with random weights in bf16 on the GPU: "8b" is Qwen3 8B, "4b" Qwen3 4B,
"1b" Llama 3.2 1B, as tools/bench/random_model.hpp has them."""

import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM


def random_model(name):
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
    print(f"{name}: model made in {time.time() - began:.1f} s", flush=True)
    return model
