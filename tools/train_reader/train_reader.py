"""Train `reader`, a tiny Qwen3-VL-architecture model that reads rendered text, and export it in Hugging Face layout.

    train_reader.py train --seconds 900 --assets DIR --out DIR [--init DIR]
    train_reader.py references --model DIR --assets DIR --out DIR

DIR of --assets holds words.txt (one lower-case word a line) and *.ttf fonts; matplotlib's DejaVu fonts are added.
`train` writes config.json, generation_config.json, preprocessor_config.json, tokenizer.json, tokenizer_config.json,
model.safetensors (bf16, rewritten every --save-every seconds) and report.json (exact match on fresh pages).
`references` runs transformers' own unpatched forward in float32 on twelve fixed pages and writes what it computed.
Everything is trained on pages rendered here; no data set is read, and no weights unless --init names a folder that
`train` wrote. Needs one CUDA GPU, torch >= 2.6 and a transformers with Qwen3-VL.

How it is made fast: the pages are rendered as coverage masks by worker processes, and coloured, rotated, blurred,
compressed and made noisy on the GPU; the layers are written as functions of their weights, so that torch.compile
compiles one decoder layer and one vision block for all of them; weights are bf16 copies of flat float32 masters; and
the optimizer step (Muon for the matrices inside the layers, Adam for the rest) is one CUDA graph.
"""

import argparse

from references import references
from train import train


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train")
    training.set_defaults(run=train)
    referencing = commands.add_parser("references")
    referencing.set_defaults(run=references)
    for command in (training, referencing):
        command.add_argument("--assets", required=True)
        command.add_argument("--out", required=True)
    referencing.add_argument("--model", required=True, help="a folder that train wrote")
    training.add_argument(
        "--seconds",
        type=float,
        default=900,
        help="of training; setting up and evaluating come on top, about a minute and a half",
    )
    training.add_argument(
        "--init", help="continue from the weights in this folder, on the whole distribution at once"
    )
    training.add_argument("--seed", type=int, default=1, help="of the pages")
    training.add_argument("--batch", type=int, default=384)
    training.add_argument("--lr", type=float, default=3e-3)
    training.add_argument("--workers", type=int, default=15)
    training.add_argument("--save-every", type=float, default=60)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
