"""Write the answers of the pack that comes with hierdraft for smollm2-135m, each after its whole prompt, to train on.

python packs/smollm2_records.py records.jsonl [SHARE]

A pack has of each prompt only the last tokens. The answers stand in it in the order of `smollm2_prompts.py`. With a
share, such as 0.55, so many of them, evenly.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smollm2_prompts import conversations, prompts

from hierdraft.databases.levels import LEAD
from hierdraft.databases.pack import Pack
from hierdraft.engines.hf.load import load_tokenizer
from hierdraft.holdings import embedded_pack
from hierdraft.models.named import resolve
from hierdraft.settings import load_settings
from hierdraft.text import encode_prompt

MODEL = "smollm2-135m"


def records(tokenizer: Any, documents: Iterator[Any]) -> Iterator[dict[str, Any]]:
    """A line for each answer."""
    for kind, text in prompts():
        yield record(kind, encode_prompt(tokenizer, text, chat=True), next(documents))
    for kind, turns in conversations():
        history: list[tuple[str, str]] = []
        for text in turns:
            made = record(kind, encode_prompt(tokenizer, text, history, chat=True), next(documents))
            history.append((text, tokenizer.decode(made["output_ids"], skip_special_tokens=True)))
            yield made


def record(kind: str, prompt: list[int], document: Any) -> dict[str, Any]:
    """One line."""
    ids = document.tolist()
    if ids[:LEAD] != prompt[-LEAD:]:
        raise SystemExit("The pack is not of these prompts: make pack.")
    return {"task": kind, "prompt_ids": prompt, "output_ids": ids[LEAD:]}


def main() -> None:
    """Write the file."""
    path = embedded_pack(MODEL)
    if path is None:
        raise SystemExit("The pack is missing: make pack.")
    tokenizer = load_tokenizer(resolve(MODEL, load_settings().cache_dir, full=True).path)
    documents = iter(Pack.open(path).documents())
    lines = [json.dumps(one) + "\n" for one in records(tokenizer, documents)]
    if next(documents, None) is not None:
        raise SystemExit("The pack has more answers than there are prompts: make pack.")
    share = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    lines = [line for place, line in enumerate(lines) if int((place + 1) * share) > int(place * share)]
    Path(sys.argv[1]).write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
