"""The training loop."""

import functools
import json
import math
import multiprocessing
import time

import torch
import torch.nn.functional as F

from compose import compose, patches
from exam import evaluate, right_rows
from export import check, save
from model import forward, head, text_layer, vision_block
from optimizer import Optimizer
from pages import Pages, Stream, collate
from settings import PREFIX, SIZES, config
from weights import Weights

REPORT_STEPS = 250


class Trainer:
    """One training step, its layers compiled once for all page sizes and lengths."""

    def __init__(self, weights):
        self.optimizer = Optimizer(weights)
        self.P, self.leaves = weights.leaves(self.optimizer.low)
        self.compiled = {f: torch.compile(f) for f in (vision_block, text_layer)}

    def run(self, f, x, cos, sin, *w):
        for tensor, dim in ((x, 1), (cos, 0), (sin, 0)):
            torch._dynamo.maybe_mark_dynamic(tensor, dim)
        return self.compiled[f](x, cos, sin, *w)

    def step(self, batch, lr):
        """One step (lr None: none is taken); returns what is needed to report on it, all still on the GPU."""
        batch = {key: value.cuda(non_blocking=True) for key, value in batch.items()}
        x = patches(compose(batch), torch.bfloat16)
        block = functools.partial(self.run, vision_block)
        layer = functools.partial(self.run, text_layer)
        h = forward(self.P, x, batch["tail"], tuple(batch["mask"].shape[1:]), block, layer)
        logits = head(self.P, h.flatten(0, 1).index_select(0, batch["where"]))
        loss = F.cross_entropy(logits, batch["target"])
        grads = torch.autograd.grad(loss, self.leaves)
        if lr is not None:
            self.optimizer.step(grads, lr)
        return loss.detach(), logits.detach(), batch, h.shape[1]

    def warm_up(self, assets, rows):
        pages = Pages(assets, "warm-up")
        for hw in SIZES[::3]:
            batch = collate([pages.page(hw) for _ in range(rows)], pages.mask, "mask")
            times = []
            for _ in range(6):
                now = time.time()
                self.step(batch, None)
                torch.cuda.synchronize()
                times.append(round((time.time() - now) * 1000, 1))
            length = len(PREFIX) + hw[0] * hw[1] // 1024 + batch["tail"].shape[1]
            print("warm-up, pages of", hw, "length", length, "ms:", *times, flush=True)


def level_at(p, continued):
    """Difficulty at the part p of the time: the whole distribution from 40 % on."""
    return 1.0 if continued else min(1.0, max(0.0, (p - 0.02) / 0.38))


def rate_at(p, steps, highest):
    """Learning rate: 500 steps up, flat until 35 % of the time, then a cosine down to 1 %."""
    rise = min(1.0, (steps + 1) / 500)
    fall = 1.0 if p < 0.35 else 0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * (p - 0.35) / 0.65))
    return highest * rise * fall


def load(init):
    from transformers import Qwen3VLForConditionalGeneration

    if init:
        model = Qwen3VLForConditionalGeneration.from_pretrained(init, dtype=torch.float32)
    else:
        model = Qwen3VLForConditionalGeneration(config())
    return model.cuda().eval()


def train(a):
    began = time.time()
    level = multiprocessing.Value("d", 1.0 if a.init else 0.0, lock=False)
    stream = Stream(a.assets, a.batch, level, a.seed)
    loader = torch.utils.data.DataLoader(
        stream, batch_size=None, num_workers=a.workers, prefetch_factor=4, pin_memory=True
    )
    data = iter(loader)
    torch.manual_seed(0)
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cuda.enable_flash_sdp(False)  # memory-efficient attention it is
    torch._dynamo.config.suppress_errors = True
    model = load(a.init)
    weights = Weights(model.state_dict(), "cuda")
    print("parameters", weights.flat.numel(), flush=True)
    check(model, weights, a.assets)
    del model
    trainer = Trainer(weights)
    trainer.warm_up(a.assets, a.batch)

    save(weights.state(), a.out)
    start = saved = last = time.time()
    print(f"ready after {start - began:.0f} s", flush=True)
    steps = 0
    waited = total = 0.0
    optimizer = trainer.optimizer
    while (now := time.time()) - start < a.seconds:
        p = (now - start) / a.seconds
        level.value = level_at(p, bool(a.init))
        lr = rate_at(p, steps, a.lr)
        batch = next(data)
        waited += time.time() - now
        loss, logits, batch, length = trainer.step(batch, lr)
        total = total + loss
        steps += 1
        if steps % REPORT_STEPS == 0:
            right = right_rows(logits, batch, length).float().mean().item()
            now = time.time()
            line = {
                "s": round(now - start, 1),
                "step": steps,
                "loss": round(total.item() / REPORT_STEPS, 4),
                "right": round(right, 3),
                "level": round(level.value, 3),
                "lr": round(lr, 6),
                "norm": round(optimizer.norm.item(), 3),
                "ms": round((now - last) * 1000 / REPORT_STEPS, 2),
                "waited_ms": round(waited * 1000 / REPORT_STEPS, 2),
                "skipped": int(optimizer.skipped.item()),
            }
            print(json.dumps(line), flush=True)
            last = now
            waited = total = 0.0
        if time.time() - saved > a.save_every:
            save(weights.state(), a.out)
            saved = time.time()

    report = {
        "steps": steps,
        "batch": a.batch,
        "pages": steps * a.batch,
        "seconds": round(time.time() - start),
        "setup_seconds": round(start - began),
        "skipped_steps": int(optimizer.skipped.item()),
        "continued": bool(a.init),
        "torch": torch.__version__,
    }
    save(weights.state(), a.out)
    del data
    report["exact_match"] = evaluate(weights, a.assets, a.workers)
    with open(f"{a.out}/report.json", "w") as file:
        json.dump(report, file, indent=2)
    for exam, tasks in report["exact_match"].items():
        for task, (right, of) in tasks.items():
            print(f"{exam:24} {task:32} {right:5} of {of:5} {right / of:7.2%}")
    print(f"done after {time.time() - began:.0f} s", flush=True)
