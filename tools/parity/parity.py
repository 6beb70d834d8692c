#!/usr/bin/env python3
"""Writes random-weight folders with transformers and compares what it generates from them with what troupe does.

Needs a GPU, PyTorch and transformers; the answers of all layouts of a family are compared with one reference.
In f32 the ids must be equal. In bf16 two programs round differently, and a greedy choice between near ties differs with it.
So the ids of both are judged by the same weights in f32: how far the logit of each id lies behind the best after the same
ids before it. Troupe's worst may be at most --tie, or --slack times the worst of transformers' own run in bf16.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time

import torch
from families import FAMILIES, config_of

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
READER = f"{ROOT}/deploy/models/reader"
GOLDEN = f"{ROOT}/tests/golden"
QUESTIONS = ("What is the tallest mountain on Earth, and who climbed it first?", "Read the text.", "a")


def model_class(family):
    import transformers

    return {
        "llama": transformers.LlamaForCausalLM,
        "qwen3": transformers.Qwen3ForCausalLM,
        "qwen2": transformers.Qwen2ForCausalLM,
        "qwen3_vl": transformers.Qwen3VLForConditionalGeneration,
    }[family]


def spread(model, seed):
    """Weights that neither die out nor blow up through the layers, and norms that are not all one."""
    generator = torch.Generator(device="cuda").manual_seed(seed)
    for name, value in model.named_parameters():
        if value.dim() > 1:
            fan_in = value[0].numel()
            value.normal_(0.0, 1.0 if "embed" in name else 1.5 * fan_in**-0.5, generator=generator)
        elif name.endswith("bias"):
            value.normal_(0.0, 0.1, generator=generator)
        else:
            value.normal_(1.0, 0.1, generator=generator)


def write_folder(family, large, dtype, folder):
    torch.set_default_dtype(dtype)
    with torch.device("cuda"):
        model = model_class(family)(config_of(family, large)).eval()
    torch.set_default_dtype(torch.float32)
    spread(model, seed=FAMILIES.index(family) + 1)
    model.generation_config.eos_token_id = 258
    model.generation_config.pad_token_id = 256
    model.save_pretrained(folder)
    names = ["tokenizer.json", "tokenizer_config.json"]
    if family == "qwen3_vl":
        names.append("preprocessor_config.json")
    for name in names:
        shutil.copy(f"{READER}/{name}", folder)
    return model


def inputs_of(family, folder):
    """Of each question: the page (or none), and what transformers takes."""
    from transformers import AutoTokenizer

    if family != "qwen3_vl":
        words = AutoTokenizer.from_pretrained(folder)
        for question in QUESTIONS:
            text = words.apply_chat_template(
                [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
            )
            ids = torch.tensor([words(text, add_special_tokens=False).input_ids], device="cuda")
            yield None, question, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return
    from PIL import Image
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(folder)
    for case in json.load(open(f"{GOLDEN}/cases.json"))[:3]:
        page = f"{GOLDEN}/{case['name']}.png"
        pixels = processor(images=[Image.open(page).convert("RGB")], return_tensors="pt").to("cuda")
        ids = torch.tensor([case["input_ids"]], device="cuda")
        kinds = (ids == 261).int()
        yield page, case["prompt"], {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": kinds,
            "pixel_values": pixels["pixel_values"],
            "image_grid_thw": pixels["image_grid_thw"],
        }


def generate(model, given, tokens):
    made = model.generate(**given, max_new_tokens=tokens, do_sample=False)
    return made[0, given["input_ids"].shape[1] :].tolist()


def first_difference(want, got):
    """Nothing, or where `got` leaves `want`."""
    if got == want:
        return None
    at = next((i for i, pair in enumerate(zip(want, got)) if pair[0] != pair[1]), min(len(want), len(got)))
    return f"differs from token {at}: {want[at : at + 4]} became {got[at : at + 4]}"


def furthest_behind(model, given, ids):
    """How far the least likely of `ids` lies behind the best, in standard deviations of its row of logits."""
    prompt = given["input_ids"]
    whole = torch.cat([prompt, torch.tensor([ids], device="cuda")], dim=1)
    more = dict(given, input_ids=whole, attention_mask=torch.ones_like(whole))
    if "mm_token_type_ids" in given:
        more["mm_token_type_ids"] = (whole == 261).int()
    logits = model(**more).logits[0, prompt.shape[1] - 1 : -1].float()
    chosen = logits.gather(1, torch.tensor(ids, device="cuda")[:, None])[:, 0]
    return ((logits.max(dim=1).values - chosen) / logits.std(dim=1)).max().item()


def spec_of(folder, family, dtype, width, tokens_max):
    pools = {"front": {"role": "front"}}
    if family == "qwen3_vl":
        pools["encode"] = {"role": "encode", "device": "cuda:0"}
    for index, role in enumerate(("prefill", "decode")):
        first = index * width if torch.cuda.device_count() >= 2 * width else 0
        pools[role] = {"role": role, "tensor_parallel": width, "device": f"cuda:{first}"}
    return {
        "troupe": 1,
        "name": "parity",
        "model": {"path": folder, "dtype": dtype},
        "device": "cuda",
        "pools": pools,
        "limits": {"kv_tokens_max": tokens_max},
        "timeouts": {"start_ms": 300000},
    }


def ask(troupe, spec, questions, tokens, work):
    """What troupe answers, by question, and how long the launch took."""
    with open(f"{work}/spec.json", "w") as file:
        json.dump(spec, file)
    with open(f"{work}/pages.json", "w") as file:
        json.dump([({"image": page} if page else {}) | {"prompt": text} for page, text in questions], file)
    began = time.monotonic()
    done = subprocess.run(
        [troupe, "run", f"{work}/spec.json", "--pages", f"{work}/pages.json", "--max-tokens", str(tokens), "--json"],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        return None, done.stderr.strip()
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    by_question = {(answer.get("image") or None, answer["prompt"]): answer["token_ids"] for answer in answers}
    return by_question, f"{time.monotonic() - began:.1f} s"


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--troupe", default=f"{ROOT}/build/release/troupe", help="the command")
    parser.add_argument("--families", nargs="+", default=FAMILIES, choices=FAMILIES)
    parser.add_argument("--large", action="store_true", help="published shapes (16 GB a folder) instead of small ones")
    parser.add_argument("--dtype", default="f32", choices=("f32", "bf16"))
    parser.add_argument("--widths", nargs="+", type=int, default=[1, 2, 4], help="degrees of tensor parallelism")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--tie", type=float, default=0.05, help="in standard deviations of a row of logits")
    parser.add_argument("--slack", type=float, default=1.5, help="of bf16 against transformers' own")
    parser.add_argument("--work", default="/tmp/troupe-parity", help="where folders are written, and removed again")
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    dtype = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    failed = 0
    for family in args.families:
        folder = f"{args.work}/{family}"
        os.makedirs(folder, exist_ok=True)
        model = write_folder(family, args.large, dtype, folder)
        cases = [(page, text, given, generate(model, given, args.tokens)) for page, text, given in inputs_of(family, folder)]
        exact = args.dtype == "f32"
        if not exact:
            model.float()
            own = max(furthest_behind(model, given, want) for _, _, given, want in cases)
        for width in args.widths:
            spec = spec_of(folder, family, args.dtype, width, 2048)
            answers, told = ask(args.troupe, spec, [case[:2] for case in cases], args.tokens, args.work)
            verdict = "same ids" if exact else ""
            problems = [] if answers else [told]
            if answers and exact:
                found = [(text, first_difference(want, answers[(page, text)])) for page, text, _, want in cases]
                problems = [f"{text!r} {what}" for text, what in found if what]
            elif answers:
                ours = max(furthest_behind(model, given, answers[(page, text)]) for page, text, given, _ in cases)
                verdict = f"at most {ours:.3f} deviations behind f32's best, transformers in bf16 {own:.3f}"
                problems = [verdict] if ours > max(args.tie, args.slack * own) else []
            failed += bool(problems)
            outcome = f"FAILED: {'; '.join(problems)}" if problems else f"{verdict}  ({told})"
            print(f"{family:9} {args.dtype} tp{width}  {outcome}", flush=True)
        del model
        torch.cuda.empty_cache()
        shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
