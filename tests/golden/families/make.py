"""Writes the folders beside this file: small models of each family with random weights (no training, no foreign data),
and what transformers computes for them in float32 on a CPU. Usage: make.py OUT (needs torch, transformers, safetensors).
"""
import json
import os
import sys

import torch
import transformers
from safetensors.torch import save_file

TEXT = dict(hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=256, eos_token_id=7, bos_token_id=1, pad_token_id=None, rms_norm_eps=1e-5,
            attn_implementation="eager")
DEFAULT = dict(rope_type="default", rope_theta=1e6)
LLAMA3 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)
VISION = dict(depth=4, hidden_size=48, intermediate_size=72, num_heads=3, patch_size=14, spatial_merge_size=2,
              temporal_patch_size=2, out_hidden_size=48, num_position_embeddings=49, deepstack_visual_indexes=[0, 2])
HEIGHT, WIDTH = 84, 140
IMAGE, START, END = 98, 97, 99


def vision_config():
    text = dict(TEXT, head_dim=16, vocab_size=101, tie_word_embeddings=False,
                rope_parameters=dict(DEFAULT, mrope_section=[4, 2, 2], mrope_interleaved=True))
    return transformers.Qwen3VLConfig(text_config=text, vision_config=VISION, image_token_id=IMAGE, video_token_id=96,
                                      vision_start_token_id=START, vision_end_token_id=END, tie_word_embeddings=False,
                                      attn_implementation="eager")


FAMILIES = {
    "qwen3": lambda: transformers.Qwen3ForCausalLM(transformers.Qwen3Config(
        **TEXT, head_dim=16, vocab_size=101, tie_word_embeddings=True, rope_parameters=DEFAULT)),
    "qwen2": lambda: transformers.Qwen2ForCausalLM(transformers.Qwen2Config(
        **TEXT, vocab_size=102, tie_word_embeddings=False, rope_parameters=DEFAULT)),
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(
        **TEXT, vocab_size=101, tie_word_embeddings=False, rope_parameters=LLAMA3)),
    "llama_biased": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(
        **TEXT, vocab_size=100, tie_word_embeddings=False, attention_bias=True, mlp_bias=True, rope_parameters=DEFAULT)),
    "qwen3_vl": lambda: transformers.Qwen3VLForConditionalGeneration(vision_config()),
}


def randomise(model):
    """Wide enough that every part shows in the logits; rounded to bf16, as the weights are published."""
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape) * 0.15
        p.data = ((1 if "norm" in name and name.endswith("weight") else 0) + noise).bfloat16().float()


def pixels():
    """The page and its patches in merge order, as the image processor makes them when nothing is resized."""
    page = torch.randint(0, 256, (HEIGHT, WIDTH, 3), dtype=torch.uint8)
    x = (page.permute(2, 0, 1).float() / 255 - 0.5) / 0.5
    x = x.view(3, HEIGHT // 28, 2, 14, WIDTH // 28, 2, 14).permute(1, 4, 2, 5, 0, 3, 6).reshape(-1, 3, 1, 196)
    return page, x.expand(-1, 3, 2, 196).reshape(-1, 3 * 2 * 196), torch.tensor([[1, HEIGHT // 14, WIDTH // 14]])


@torch.no_grad()
def make(name, out):
    torch.manual_seed(len(name))
    model = FAMILIES[name]().float().eval()
    randomise(model)
    ids = torch.randint(8, 96, (1, 50))
    extra, tensors = {}, {}
    if name == "qwen3_vl":
        page, patches, grid = pixels()
        count = HEIGHT * WIDTH // 28 // 28
        ids[0, 5], ids[0, 6:6 + count], ids[0, 6 + count] = START, IMAGE, END
        seen = model.model.visual(patches, grid_thw=grid)
        tensors = dict(page=page, image_embeds=seen.pooler_output,
                       **{f"deepstack_{i}": d for i, d in enumerate(seen.deepstack_features)})
        extra = dict(pixel_values=patches, image_grid_thw=grid, mm_token_type_ids=(ids == IMAGE).int())
    tensors.update(ids=ids[0].int(), logits=model(input_ids=ids, **extra).logits[0])
    folder = os.path.join(out, name)
    model.to(torch.bfloat16).save_pretrained(folder)
    save_file({k: v.contiguous() for k, v in tensors.items()}, os.path.join(folder, "reference.safetensors"))
    if name == "qwen3_vl":
        json.dump(dict(size=dict(shortest_edge=784, longest_edge=32768), patch_size=14, temporal_patch_size=2,
                       merge_size=2, rescale_factor=1 / 255, image_mean=[0.5] * 3, image_std=[0.5] * 3),
                  open(os.path.join(folder, "preprocessor_config.json"), "w"), indent=1)


if __name__ == "__main__":
    for family in FAMILIES:
        make(family, sys.argv[1])
        print(family, os.listdir(os.path.join(sys.argv[1], family)), flush=True)
