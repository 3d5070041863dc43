"""Filling the model level the paper's way: let the model answer prompts, and keep what it says.

Answers go into a JSONL file as they come, one line per prompt; started again, the prompts that have one are skipped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hierdraft.corpus.records import read_jsonl
from hierdraft.databases.levels import LEAD
from hierdraft.errors import CorpusError
from hierdraft.text import encode_prompt
from hierdraft.tree import Int32

Progress = Callable[[int, int], None]
"""Called with (done, all)."""


def read_prompts(path: Path) -> list[str]:
    """The `prompt` of every line of a JSONL file. Raises CorpusError with file and line."""
    prompts = []
    for number, row in read_jsonl(path):
        prompt = row.get("prompt")
        if not isinstance(prompt, str) or not prompt.strip():
            raise CorpusError(f"{path}, line {number}: a row needs a text under 'prompt'.")
        prompts.append(prompt)
    if not prompts:
        raise CorpusError(f"{path} holds no prompts.")
    return prompts


def answer_prompts(
    model: Any, tokenizer: Any, prompts: Sequence[str], kept: Path, *, most: int, batch: int, report: Progress
) -> list[Int32]:
    """Greedy answers of a transformers model, in the prompts' order, each behind the last tokens of its prompt.

    kept    JSONL file that answers are added to and read from
    most    tokens per answer at most
    batch   prompts per forward

    Raises CorpusError if `kept` cannot be read or written.
    """
    ids = [encode_prompt(tokenizer, prompt, chat=True) for prompt in prompts]
    keys = [hashlib.sha256(json.dumps([prompt, most]).encode()).hexdigest()[:24] for prompt in ids]
    answers = _read_kept(kept)
    waiting = sorted((i for i in range(len(ids)) if keys[i] not in answers), key=lambda i: len(ids[i]))
    report(len(ids) - len(waiting), len(ids))
    for start in range(0, len(waiting), batch):
        some = waiting[start : start + batch]
        outputs = _generate(model, tokenizer, [ids[i] for i in some], most)
        added = {keys[i]: output for i, output in zip(some, outputs, strict=True)}
        try:
            with kept.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps({"key": k, "output_ids": v}) + "\n" for k, v in added.items())
        except OSError as error:
            raise CorpusError(f"{kept} cannot be written: {error.strerror or error}.") from error
        answers.update(added)
        report(len(ids) - len(waiting) + start + len(some), len(ids))
    return [np.array(ids[i][-LEAD:] + answers[keys[i]], dtype=np.int32) for i in range(len(ids))]


def _read_kept(kept: Path) -> dict[str, list[int]]:
    """The answers of an earlier run. A last line that was not finished is cut off."""
    if not kept.exists():
        return {}
    data = kept.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with kept.open("r+b") as file:
            file.truncate(whole)
    return {str(row["key"]): [int(token) for token in row["output_ids"]] for _, row in read_jsonl(kept)}


def _generate(model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], most: int) -> list[list[int]]:
    """Greedy answers to some prompts at once, an end-of-sequence id included."""
    import torch

    width = max(map(len, prompts))
    pad = next(token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if token is not None)
    ids = torch.full((len(prompts), width), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    place = next(model.parameters()).device
    with torch.inference_mode():
        made = model.generate(
            input_ids=ids.to(place), attention_mask=mask.to(place), max_new_tokens=most, do_sample=False,
            num_beams=1, pad_token_id=pad,
        )  # fmt: skip
    ends = model.generation_config.eos_token_id
    stops = set(ends if isinstance(ends, list) else [ends])
    answers = []
    for row in made[:, width:].tolist():
        end = next((i + 1 for i, token in enumerate(row) if token in stops), len(row))
        answers.append(row[:end])
    return answers
