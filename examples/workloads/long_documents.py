"""Questions about long documents, as a data set for `hierdraft bench run`: any text files, their text in every prompt.

python examples/workloads/long_documents.py docs/*.md --characters 12000 > long.jsonl
hierdraft bench run --dataset long.jsonl --methods hierarchy,prompt-lookup --out runs/long
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

QUESTIONS = (
    ("summarise", "Summarise the document in ten sentences.", "Now in five bullet points."),
    ("quote", "Quote the three most important sentences word by word.", "Explain each of them in one sentence."),
    ("rewrite", "Repeat the first two paragraphs, with every abbreviation written out.", "Shorten them by half."),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--characters", type=int, default=12_000, help="of each document, from its beginning")
    args = parser.parse_args()
    for number, path in enumerate(args.files):
        text = path.read_text(encoding="utf-8")[: args.characters]
        for name, first, second in QUESTIONS:
            turns = [f"{text}\n\n---\n\n{first}", second]
            row = {"id": f"{number}-{path.stem}-{name}", "task": f"{name} a long document", "turns": turns}
            sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
