"""A model answers prompts in batches: what single greedy decoding says, kept and gone on with after a stop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hierdraft.corpus import answers
from hierdraft.corpus.answers import answer_prompts, read_prompts
from hierdraft.errors import CorpusError
from tests.lossless.tiny import VOCABULARY, tiny

PROMPTS = ["a", "bc", "some longer text", "d" * 30, "another one"]


class Letters:
    """A tokenizer with few enough ids for the tiny models."""

    chat_template = None
    pad_token_id = None
    eos_token_id = 0

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [3 + ord(letter) % (VOCABULARY - 3) for letter in text]}


def run(kept: Path, *, batch: int = 2, prompts: list[str] = PROMPTS) -> tuple[list[list[int]], list[tuple[int, int]]]:
    model = tiny("llama", dtype=torch.float64)
    model.generation_config.eos_token_id = [5, 0]
    told: list[tuple[int, int]] = []
    said = answer_prompts(model, Letters(), prompts, kept, most=12, batch=batch, report=lambda *done: told.append(done))
    return [ids.tolist() for ids in said], told


def test_batches_say_what_single_prompts_say(tmp_path: Path) -> None:
    model = tiny("llama", dtype=torch.float64)
    model.generation_config.eos_token_id = [5, 0]
    said, told = run(tmp_path / "kept.jsonl")
    for prompt, answer in zip(PROMPTS, said, strict=True):
        ids = Letters()(prompt)["input_ids"]
        alone = model.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False, pad_token_id=0)[0].tolist()
        assert answer == ids[-8:] + alone[len(ids) :]
    assert told[0] == (0, 5)
    assert told[-1] == (5, 5)


def test_it_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = run(tmp_path / "whole.jsonl")
    kept = tmp_path / "kept.jsonl"
    real, calls = answers._generate, []

    def stopping(*arguments: object) -> list[list[int]]:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(answers, "_generate", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(kept)
    with kept.open("a") as file:
        file.write('{"key": "torn')  # a kill in the middle of a line
    said, told = run(kept)
    assert said == whole
    assert told[0] == (2, 5)
    assert len(calls) == 4
    assert run(kept)[1] == [(5, 5)]
    assert len(kept.read_text().splitlines()) == 5


def test_prompts_are_read_or_refused_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    assert read_prompts(path) == PROMPTS
    for text, message in (('{"prompt": " "}', "line 1: a row needs a text"), ("{}", "line 1"), ("", "no prompts")):
        path.write_text(text)
        with pytest.raises(CorpusError, match=message):
            read_prompts(path)
