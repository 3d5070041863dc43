"""A model answers prompts in batches: what single greedy decoding says, kept and continued after a stop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from hierdraft.corpus import answers
from hierdraft.corpus.answers import answer_prompts, read_prompts
from hierdraft.corpus.chats import Conversation
from hierdraft.corpus.records import read_records
from hierdraft.corpus.streams import Reading
from hierdraft.errors import CorpusError
from tests.lossless.tiny import VOCABULARY, tiny

PROMPTS = ["a", "bc", "some longer text", "d" * 30, "another one"]


class Letters:
    """A tokenizer with few enough ids for the tiny models."""

    chat_template = None
    pad_token_id = None
    eos_token_id = 0

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [3 + ord(letter) % (VOCABULARY - 3) for letter in text]}

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return "".join(chr(97 + token % 26) for token in ids if token > 5)


def asked(*questions: str) -> Conversation:
    return Conversation("f, line 1", [{"role": "user", "content": question} for question in questions])


def run(
    kept: Path, *, batch: int = 2, chats: Sequence[Conversation] | None = None, reading: Reading | None = None
) -> tuple[list[list[int]], list[tuple[int, int]]]:
    model = tiny("llama", dtype=torch.float64)
    model.generation_config.eos_token_id = [5, 0]
    told: list[tuple[int, int]] = []
    said = answer_prompts(
        model, Letters(), chats or [asked(prompt) for prompt in PROMPTS], kept, reading or Reading(),
        most=12, batch=batch, report=lambda *done: told.append(done),
    )  # fmt: skip
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


def test_turns_are_answered_one_after_another_and_asked_once(tmp_path: Path) -> None:
    """The model's own answer, or the recorded one, stands before the next question; equal prompts are answered once."""
    kept = tmp_path / "kept.jsonl"
    single, _ = run(kept, chats=[asked("a")])
    recorded = Conversation("f, line 2", [*asked("a").messages, {"role": "assistant", "content": "no"}])
    recorded.messages += asked("bc").messages
    said, told = run(kept, chats=[asked("a", "bc"), asked("a"), recorded])
    assert told[0] == (3, 5)
    assert told[-1] == (5, 5)
    assert said[0] == said[2] == said[3] == single[0]
    own = Letters().decode(single[0][1:], skip_special_tokens=True)
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    prompts = ["a", f"a\n\n{own}\n\nbc", "a\n\nno\n\nbc"]
    assert sorted(row["prompt_ids"] for row in rows) == sorted(Letters()(text)["input_ids"] for text in prompts)
    again, told = run(kept, chats=[asked("a", "bc"), asked("a"), recorded])
    assert again == said
    assert told[-1] == (5, 5)
    assert len(kept.read_text().splitlines()) == 3


def test_a_prompt_that_the_model_cannot_hold_is_a_sentence_or_left_out(tmp_path: Path) -> None:
    kept, long = tmp_path / "kept.jsonl", asked("a" * 100_000)
    with pytest.raises(CorpusError, match="f, line 1: 100000 tokens and 12 more are longer than the model's context"):
        run(kept, chats=[long])
    reading = Reading(skip_bad=True)
    assert len(run(kept, chats=[long, asked("a")], reading=reading)[0]) == 1
    assert len(reading.skipped) == 1


def test_another_file_in_the_place_of_kept_answers_is_refused(tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"
    kept.write_text('{"output_ids": [1]}\n')
    with pytest.raises(CorpusError, match="line 1: not an answer of an earlier run: move the file away"):
        run(kept)


def test_kept_answers_are_records(tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"
    said, _ = run(kept)
    rows = list(read_records(kept, VOCABULARY))
    assert sorted(row["prompt_ids"][-8:] + row["output_ids"] for row in rows) == sorted(said)


def test_prompts_are_read_or_refused_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    assert [chat.messages for chat in read_prompts(path, Reading())] == [asked(prompt).messages for prompt in PROMPTS]
    path.write_text('{"turns": ["a", "b"], "question_id": 1, "choices": [{"turns": ["x", "y"]}]}')
    assert [message["content"] for message in read_prompts(path, Reading())[0].messages] == ["a", "x", "b"]
    for text, message in (
        ('{"prompt": " "}', "line 1: a conversation without any text"),
        ("{}", "line 1: no form of conversation that is known"),
        ('{"text": "x"}', "line 1: no question of a user"),
        ("", "no prompts"),
    ):
        path.write_text(text)
        with pytest.raises(CorpusError, match=message):
            read_prompts(path, Reading())
