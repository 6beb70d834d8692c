"""What transformers computes for fixed pages: the golden files of the tests."""

import io
import json
import os

import torch
from PIL import Image

from export import hf_inputs
from pages import Pages
from settings import prompt_tail

# (set, size, lines, task, plain?): the page is the first of its own seeded series that has them.
CASES = [
    ("golden", (64, 256), 1, "Read the", 1),
    ("golden", (64, 384), 1, "Read the", 0),
    ("golden", (96, 256), 2, "Read the", 1),
    ("golden", (96, 320), 2, "What color", 0),
    ("golden", (128, 256), 3, "Read the", 0),
    ("golden", (128, 384), 4, "Read line", 0),
    ("golden", (160, 320), 4, "Read the", 0),
    ("golden", (192, 320), 3, "How many words", 0),
    ("heldout", (64, 256), 1, "Read the", 1),
    ("heldout", (96, 320), 2, "Read the", 0),
    ("heldout", (128, 384), 3, "Read the", 0),
    ("heldout", (192, 320), 4, "How many lines", 0),
]


def find_page(assets, index):
    """The pages' source and the page of case `index`."""
    _, hw, lines, task, plain = CASES[index]
    pages = Pages(assets, f"reference {index}")
    candidates = (pages.page(hw, 1.0, plain and lines) for _ in range(100000))
    return pages, next(p for p in candidates if len(p["lines"]) == lines and p["question"].startswith(task))


def compute(model, name, page, image):
    """What the tests compare with: the case's entry, and its tensors."""
    args = hf_inputs(torch.from_numpy(image).cuda(), prompt_tail(page["question"]))
    ids, grid = args["input_ids"], args["image_grid_thw"]
    positions, delta = model.model.get_rope_index(
        ids,
        mm_token_type_ids=args["mm_token_type_ids"],
        image_grid_thw=grid,
        attention_mask=args["attention_mask"],
    )
    seen = model.model.visual(args["pixel_values"], grid_thw=grid)
    logits = model(**args).logits[0, -1]
    made = model.generate(**args, max_new_tokens=64, do_sample=False)[0, ids.shape[1] :].tolist()
    text = bytes(t for t in made if t < 256).decode(errors="replace")
    case = {
        "name": name,
        "height": page["hw"][0],
        "width": page["hw"][1],
        "prompt": page["question"],
        "expected": page["answer"],
        "generated_text": text,
        "right": text == page["answer"],
        "input_ids": ids[0].tolist(),
        "image_grid_thw": grid[0].tolist(),
        "position_ids": positions.squeeze(1).tolist(),
        "rope_delta": int(delta.item()),
        "generated_ids": made,
        "font": os.path.basename(page["font"][0]),
        "font_size": page["font"][1],
        "color": page["color"],
        "background": page["bg"],
        "lines": page["lines"],
        "rotation_blur_noise_jpeg": page["aug"],
    }
    named = [("image_embeds", seen.pooler_output), ("logits", logits)]
    named += [(f"deepstack_{level}", rows) for level, rows in enumerate(seen.deepstack_features)]
    return case, {f"{name}.{key}": value.float().cpu().contiguous() for key, value in named}


@torch.no_grad()
def references(a):
    from safetensors.torch import save_file
    from transformers import Qwen3VLForConditionalGeneration

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    model = Qwen3VLForConditionalGeneration.from_pretrained(a.model, dtype=torch.float32).cuda().eval()
    sets = {}
    for index, (which, *_) in enumerate(CASES):
        name = f"{which}-{sum(case[0] == which for case in CASES[:index]):02d}"
        pages, page = find_page(a.assets, index)
        image = pages.image(page)
        case, values = compute(model, name, page, image)
        png = io.BytesIO()
        Image.fromarray(image).save(png, "PNG")
        cases, tensors, pngs = sets.setdefault(which, ([], {}, {}))
        cases.append(case)
        tensors.update(values)
        pngs[name] = png.getvalue()
        print(name, repr(case["expected"]), repr(case["generated_text"]), flush=True)
    for which, (cases, tensors, pngs) in sets.items():
        folder = f"{a.out}/{which}"
        os.makedirs(folder, exist_ok=True)
        save_file(tensors, f"{folder}/tensors.safetensors")
        with open(f"{folder}/cases.json", "w") as file:
            json.dump(cases, file, indent=1)
        for name, png in pngs.items():
            with open(f"{folder}/{name}.png", "wb") as file:
                file.write(png)
