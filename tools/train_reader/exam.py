"""Exact match: the share of pages whose whole answer greedy decoding would give."""

import torch

from compose import patches
from model import forward, head
from pages import Exam

# (name, batches, of a font that was never trained on?, lines at most on an undamaged page; 0: the whole distribution)
EXAMS = [
    ("plain_one_line", 16, False, 1),
    ("plain_up_to_two_lines", 16, False, 2),
    ("full_seen_fonts", 48, False, 0),
    ("full_unseen_fonts", 16, True, 0),
]


def right_rows(logits, batch, length):
    """For each row, whether every token of its answer (and the end) is the most likely one.

    Then greedy decoding would give exactly it.
    """
    wrong = (logits.argmax(-1) != batch["target"]).float()
    rows = torch.zeros(len(batch["tail"]), device=wrong.device)
    return rows.index_add_(0, batch["where"] // length, wrong) == 0


def tasks_of(question, lines):
    """The rows of the report that a page counts in."""
    tasks = [question if question[:9] != "Read line" else "Read line N."]
    if question == "Read the text.":
        tasks.append(f"Read the text. ({lines} line{'s' * (lines > 1)})")
    return tasks


@torch.no_grad()
def evaluate(weights, assets, workers):
    """{exam: {task: [right, of]}} on fresh pages finished on the CPU.

    In float32 with the weights as exported (rounded to bf16).
    """
    P, _ = weights.leaves(weights.flat.to(torch.bfloat16).float())
    report = {}
    for name, batches, unseen, plain in EXAMS:
        count = {}
        exam = Exam(assets, batches, 128, unseen, plain)
        for batch, questions, lines in torch.utils.data.DataLoader(exam, batch_size=None, num_workers=workers):
            batch = {key: value.cuda() for key, value in batch.items()}
            x = patches(batch["image"].permute(0, 3, 1, 2).float())
            h = forward(P, x, batch["tail"], tuple(batch["image"].shape[1:3]))
            right = right_rows(head(P, h.flatten(0, 1)[batch["where"]]), batch, h.shape[1]).tolist()
            for question, n, ok in zip(questions, lines, right):
                for task in tasks_of(question, n):
                    entry = count.setdefault(task, [0, 0])
                    entry[0] += ok
                    entry[1] += 1
        report[name] = {task: count[task] for task in sorted(count)}
    return report
