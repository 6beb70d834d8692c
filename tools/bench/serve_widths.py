#!/usr/bin/env python3
"""What a cluster on GPUs gives its users at several degrees of tensor parallelism: time to launch, to the first token and
for each further one, through the command.

The folder is one of tools/parity's, of random weights in a published shape. Prefill and decode ranks share the GPUs.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, f"{ROOT}/tools/parity")

import torch  # noqa: E402
from families import FAMILIES  # noqa: E402
from parity import write_folder  # noqa: E402

QUESTION = "What is the tallest mountain on Earth, and who climbed it first?"


def spec_of(folder, width):
    pools = {"front": {"role": "front"}}
    for role in ("prefill", "decode"):
        pools[role] = {"role": role, "tensor_parallel": width, "device": "cuda:0"}
    return {
        "troupe": 1,
        "name": "widths",
        "model": {"path": folder, "dtype": "bf16"},
        "device": "cuda",
        "pools": pools,
        "limits": {"kv_tokens_max": 8192, "in_flight_max": 1},  # a batch of one
        "timeouts": {"start_ms": 300000},
    }


def milliseconds(text):
    value, unit = re.fullmatch(r"([\d.]+) (us|ms|s)", text.strip()).groups()
    return float(value) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


def serve(troupe, spec, asked, tokens):
    """Of one cluster, in ms: its launch, the phases before a first token, one further token."""
    done = subprocess.run(
        [troupe, "run", spec, "--pages", asked, "--max-tokens", str(tokens), "--json"], capture_output=True, text=True
    )
    if done.returncode != 0:
        sys.exit(f"troupe run {spec}: {done.stderr.strip()}")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    timed = [answer for answer in answers if answer["tokens"] > tokens // 2]
    if not timed:
        sys.exit("no answer was long enough to time its tokens")
    each = sorted(answer["phases_ms"]["decode"] / (answer["tokens"] - 1) for answer in timed)
    # Of the fastest first token: where its time went, without the wait for the answer before.
    first = min(
        ({phase: ms for phase, ms in answer["phases_ms"].items() if phase not in ("queue", "decode")} for answer in timed),
        key=lambda phases: sum(phases.values()),
    )
    told = subprocess.run([troupe, "run", spec, "--prompt", "a", "--max-tokens", "2"], capture_output=True, text=True)
    launch = milliseconds(re.search(r"^launch ([\d.]+ \w+),", told.stderr, re.MULTILINE).group(1))
    return launch, first, each[len(each) // 2]


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--troupe", default=f"{ROOT}/build/release/troupe", help="the command")
    parser.add_argument("--family", default="qwen3", choices=FAMILIES)
    parser.add_argument("--widths", nargs="+", type=int, default=[1, 2, 4], help="degrees of tensor parallelism")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--answers", type=int, default=5, help="one after another")
    parser.add_argument("--work", default="/tmp/troupe-widths", help="where the folder is written, and removed again")
    args = parser.parse_args()

    os.makedirs(args.work, exist_ok=True)
    folder = f"{args.work}/{args.family}"
    write_folder(args.family, True, torch.bfloat16, folder)
    torch.cuda.empty_cache()
    print("width  launch  first token  a token  against width", args.widths[0])
    base = None
    for width in args.widths:
        spec = f"{args.work}/spec.json"
        with open(spec, "w") as file:
            json.dump(spec_of(folder, width), file)
        asked = f"{args.work}/pages.json"
        with open(asked, "w") as file:
            json.dump([{"prompt": f"{QUESTION} {i}"} for i in range(args.answers)], file)
        launch, first, each = serve(args.troupe, spec, asked, args.tokens)
        base = base or each
        spent = ", ".join(f"{phase} {ms:.1f}" for phase, ms in first.items())
        print(
            f"{width:5}  {launch:4.0f} ms  {sum(first.values()):8.1f} ms  {each:.3f} ms  {base / each:.2f} times  ({spent})",
            flush=True,
        )
    shutil.rmtree(args.work)


if __name__ == "__main__":
    main()
