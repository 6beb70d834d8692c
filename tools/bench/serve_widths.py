#!/usr/bin/env python3
"""What a cluster on GPUs gives its users at several degrees of tensor parallelism: time to launch, to the first token and
for each further one, through the command.

The folder is one of tools/parity's, of random weights in a published shape. Prefill and decode ranks share GPUs where there are not
enough for both.
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
from parity import spec_of, write_folder  # noqa: E402

QUESTION = "What is the tallest mountain on Earth, and who climbed it first?"


def milliseconds(text):
    value, unit = re.fullmatch(r"([\d.]+) (us|ms|s)", text.strip()).groups()
    return float(value) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


def run(troupe, work, tokens, *more):
    done = subprocess.run(
        [troupe, "run", f"{work}/spec.json", "--max-tokens", str(tokens), *more], capture_output=True, text=True
    )
    if done.returncode != 0:
        sys.exit(f"troupe run {work}/spec.json: {done.stderr.strip()}")
    return done


def took(part, told):
    """What the command says of its launch, or of all answers."""
    return milliseconds(re.search(rf"\b{part} ([\d.]+ \w+),", told.stderr).group(1))


def ask(troupe, work, spec, in_flight, questions, tokens):
    """The answers to so many questions, so many of them at once."""
    spec["limits"]["in_flight_max"] = in_flight
    spec["limits"]["batch_max"] = in_flight
    with open(f"{work}/spec.json", "w") as file:
        json.dump(spec, file)
    with open(f"{work}/pages.json", "w") as file:
        json.dump([{"prompt": f"{QUESTION} {i}"} for i in range(questions)], file)
    done = run(troupe, work, tokens, "--pages", f"{work}/pages.json", "--json")
    return [json.loads(line) for line in done.stdout.splitlines()]


def serve(troupe, work, spec, questions, tokens):
    """Of one cluster, in ms: its launch, the phases before each first token, one further token."""
    answers = ask(troupe, work, spec, 1, questions, tokens)
    timed = [answer for answer in answers if answer["tokens"] > tokens // 2]
    if not timed:
        sys.exit("no answer was long enough to time its tokens")
    each = sorted(answer["phases_ms"]["decode"] / (answer["tokens"] - 1) for answer in timed)
    # Without the wait for the answer before.
    firsts = [
        {phase: ms for phase, ms in answer["phases_ms"].items() if phase not in ("queue", "decode")} for answer in answers
    ]
    launch = took("launch", run(troupe, work, 2, "--prompt", "a"))
    return launch, firsts, each[len(each) // 2]


def serve_together(troupe, work, spec, together, tokens):
    """Tokens a second of twice as many questions as are served at once, all asked at the beginning."""
    answers = ask(troupe, work, spec, together, 2 * together, tokens)
    again = run(troupe, work, tokens, "--pages", f"{work}/pages.json")
    return 1e3 * sum(answer["tokens"] for answer in answers) / took("answers", again)


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--troupe", default=f"{ROOT}/build/release/troupe", help="the command")
    parser.add_argument("--family", default="qwen3", choices=FAMILIES)
    parser.add_argument("--widths", nargs="+", type=int, default=[1, 2, 4], help="degrees of tensor parallelism")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--answers", type=int, default=5, help="one after another")
    parser.add_argument("--together", type=int, default=32, help="questions served at once, in a second measurement")
    parser.add_argument("--work", default="/tmp/troupe-widths", help="where the folder is written, and removed again")
    args = parser.parse_args()

    os.makedirs(args.work, exist_ok=True)
    folder = f"{args.work}/{args.family}"
    write_folder(args.family, True, torch.bfloat16, folder)
    torch.cuda.empty_cache()
    print(f"width   launch  first token, later ones    a token  {args.together} together  against width", args.widths[0])
    base = None
    for width in args.widths:
        spec = spec_of(folder, args.family, "bf16", width, 512 * args.together)
        launch, firsts, each = serve(args.troupe, args.work, spec, args.answers, args.tokens)
        rate = serve_together(args.troupe, args.work, spec, args.together, args.tokens)
        base = base or each
        best = min(firsts, key=lambda phases: sum(phases.values()))
        spent = ", ".join(f"{phase} {ms:.1f}" for phase, ms in best.items())
        print(
            f"{width:5}  {launch:4.0f} ms  {sum(firsts[0].values()):8.1f} ms  {sum(best.values()):6.1f} ms  {each:.3f} ms"
            f"  {rate:7.0f} tokens/s  {base / each:.2f} times  ({spent})",
            flush=True,
        )
    shutil.rmtree(args.work)


if __name__ == "__main__":
    main()
