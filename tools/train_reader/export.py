"""The model folder in Hugging Face layout, and the check that transformers computes with it what we do."""

import json
import os

import torch

from compose import patches, patchify
from model import forward, head
from pages import Pages
from settings import END_OF_TEXT, IM_END, IMAGE_PAD, PREFIX, SIZES, SPECIALS, config, prompt_tail

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}"
    "{% if c.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_json(path, content):
    with open(path, "w") as file:
        json.dump(content, file, indent=2)


def save_processor(folder):
    write_json(
        f"{folder}/preprocessor_config.json",
        {
            "do_resize": True,
            "do_rescale": True,
            "do_normalize": True,
            "do_convert_rgb": True,
            "rescale_factor": 1 / 255,
            "resample": 3,
            "patch_size": 16,
            "temporal_patch_size": 2,
            "merge_size": 2,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
            "size": {"shortest_edge": 64 * 192, "longest_edge": 192 * 384},
            "image_processor_type": "Qwen2VLImageProcessorFast",
            "processor_class": "Qwen3VLProcessor",
        },
    )


def save_tokenizer(folder):
    """Byte-level BPE without merges, so that token b is byte b."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    # GPT-2's byte alphabet.
    order = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    characters = order[:]
    shifted = 0
    for byte in range(256):
        if byte not in order:
            order.append(byte)
            characters.append(256 + shifted)
            shifted += 1
    alphabet = dict(zip(order, map(chr, characters)))
    tokenizer = Tokenizer(models.BPE(vocab={alphabet[byte]: byte for byte in range(256)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIALS])
    tokenizer.save(f"{folder}/tokenizer.json")
    write_json(
        f"{folder}/tokenizer_config.json",
        {
            "tokenizer_class": "Qwen2TokenizerFast",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "model_max_length": 4096,
            "chat_template": CHAT_TEMPLATE,
        },
    )


def save(state, out):
    """Write the model folder; each file appears whole or not at all."""
    from transformers import Qwen3VLForConditionalGeneration

    new = out.rstrip("/") + ".new"
    os.makedirs(new, exist_ok=True)
    os.makedirs(out, exist_ok=True)
    model = Qwen3VLForConditionalGeneration(config())
    model.load_state_dict(state)
    model.to(torch.bfloat16)
    model.generation_config.eos_token_id = [IM_END, END_OF_TEXT]
    model.generation_config.pad_token_id = END_OF_TEXT
    model.save_pretrained(new)
    save_processor(new)
    save_tokenizer(new)
    for name in os.listdir(new):
        os.replace(f"{new}/{name}", f"{out}/{name}")
    os.rmdir(new)


def hf_inputs(u8, tail):
    """The arguments of transformers' forward or generate for one page and what follows its image."""
    pixels, grid = patchify(u8[None])
    tokens = int(grid.prod()) // 4
    ids = torch.tensor([PREFIX + [IMAGE_PAD] * tokens + tail], device=u8.device)
    return dict(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == IMAGE_PAD).int(),
        pixel_values=pixels,
        image_grid_thw=grid.to(u8.device),
    )


@torch.no_grad()
def check(model, weights, assets):
    """The functions of model.py must compute what transformers computes (float32, its own unpatched forward)."""
    pages = Pages(assets, "check")
    P, _ = weights.leaves(weights.flat)
    worst = 0.0
    for hw in SIZES[::3]:
        page = pages.page(hw)
        u8 = torch.from_numpy(pages.image(page)).cuda()
        tail = prompt_tail(page["question"]) + list(page["answer"].encode())
        expected = model(**hf_inputs(u8, tail)).logits[0].float()
        x = patches(u8[None].permute(0, 3, 1, 2).float())
        got = head(P, forward(P, x, torch.tensor([tail], device="cuda"), hw))[0]
        worst = max(worst, ((got - expected).norm() / expected.norm()).item())
    print(f"logits against transformers: relative difference {worst:.1e}", flush=True)
    assert worst < 1e-3
