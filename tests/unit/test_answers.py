"""A model answers prompts, many at a time: what plain decoding says, kept and continued after a stop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hierdraft.corpus import answers
from hierdraft.corpus.answers import Asked, answer_prompts, own_prompts, read_prompts
from hierdraft.corpus.chats import Conversation
from hierdraft.corpus.kept import unpack_top
from hierdraft.corpus.records import read_records
from hierdraft.corpus.streams import Reading
from hierdraft.engines.hf.engine import HFEngine
from hierdraft.errors import CorpusError, UsageError
from hierdraft.language_model import LanguageModel
from tests.lossless.tiny import VOCABULARY, tiny

PROMPTS = ["a", "bc", "some longer text", "d" * 30, "another one"]


class Letters:
    """A tokenizer with few enough ids for the tiny models."""

    chat_template = None
    pad_token_id = None
    eos_token_id = 0
    all_special_ids: tuple[int, ...] = ()
    all_special_tokens: tuple[str, ...] = ()
    clean_up_tokenization_spaces = False
    added_tokens_decoder: tuple[int, ...] = ()

    def __len__(self) -> int:
        return VOCABULARY

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [3 + ord(letter) % (VOCABULARY - 3) for letter in text]}

    def decode(self, ids: list[int], skip_special_tokens: bool = True, **_: Any) -> str:
        return "".join(chr(97 + token % 26) for token in ids if token > 5)


def asked_for(*questions: str) -> Conversation:
    return Conversation("f, line 1", [{"role": "user", "content": question} for question in questions])


def model_of(**options: Any) -> LanguageModel:
    found = tiny("llama", dtype=torch.float64)
    found.generation_config.eos_token_id = [5, 0]
    return LanguageModel(HFEngine(found, threads=1), Letters(), "tiny", **options)


def run(
    kept: Path, *, chats: Sequence[Conversation] | None = None, reading: Reading | None = None, batch: int = 2,
    **asked: Any,
) -> tuple[list[list[int]], list[tuple[int, int]]]:  # fmt: skip
    told: list[tuple[int, int]] = []
    with closing(model_of(max_requests=batch)) as model:
        said = answer_prompts(
            model, chats or [asked_for(prompt) for prompt in PROMPTS], kept, reading or Reading(),
            Asked(12, **{"waiting": 2 * batch, **asked}), lambda *done: told.append(done),
        )  # fmt: skip
    return [ids.tolist() for ids in said], told


def test_answers_are_those_of_plain_greedy_decoding(tmp_path: Path) -> None:
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
    real, calls = answers.keep, []

    def stopping(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(answers, "keep", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(kept)
    with kept.open("a") as file:
        file.write('{"key": "torn')  # a kill in the middle of a line
    said, told = run(kept)
    assert said == whole
    assert told[0] == (2, 5)
    assert len(calls) == 3 + 3
    assert run(kept)[1][-1] == (5, 5)
    assert len(calls) == 3 + 3
    assert len(kept.read_text().splitlines()) == 5


def test_samples_differ_by_seed_and_number_and_can_be_had_again(tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"
    warm = {"temperature": 1.5, "samples": 3}
    first, told = run(kept, **warm)
    assert told[-1] == (15, 15)
    assert len({tuple(one) for one in first[:3]}) == 3
    assert run(kept, **warm)[0] == first
    assert run(tmp_path / "again.jsonl", **warm, batch=5)[0] == first, "neighbours and order change nothing"
    assert run(tmp_path / "plain.jsonl", **warm, method="none")[0] == first
    assert run(kept, **warm, seed=1)[0] != first
    assert run(kept)[0] == run(tmp_path / "greedy.jsonl")[0]
    assert len(kept.read_text().splitlines()) == 15 + 15 + 5
    row = json.loads(kept.read_text().splitlines()[0])
    with closing(model_of()) as model:
        drawn = {name: row[name] for name in ("temperature", "seed")}
        assert model.generate(row["prompt_ids"], max_new_tokens=12, **drawn).token_ids == row["output_ids"]


def test_the_likeliest_ids_stand_beside_an_answer(tmp_path: Path) -> None:
    """Against the model's own log probabilities; answers kept without them are made again."""
    kept = tmp_path / "kept.jsonl"
    said, _ = run(kept)
    assert run(kept, logprobs=4)[0] == said
    assert run(kept, logprobs=3)[0] == said
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [("top" in row) for row in rows] == [False] * 5 + [True] * 5
    model = tiny("llama", dtype=torch.float64)
    for row in rows[5:]:
        found = unpack_top(row, "here", VOCABULARY)
        assert found is not None
        ids = torch.tensor([row["prompt_ids"] + row["output_ids"]])
        scores = model(ids).logits[0, len(row["prompt_ids"]) - 1 : -1].log_softmax(-1)
        best = scores.topk(4)
        assert found[0].tolist() == best.indices.tolist()
        assert np.allclose(found[1], best.values.detach().numpy(), rtol=2e-3)
    for change in ({"k": 3}, {"ids": "?"}, {"logprobs": None}):
        with pytest.raises(CorpusError, match="here: 'top' does not hold the likeliest ids"):
            unpack_top({**rows[5], "top": {**rows[5]["top"], **change}}, "here", VOCABULARY)
    with pytest.raises(CorpusError, match="here: 'top' has an id outside the vocabulary of 2"):
        unpack_top(rows[5], "here", 2)


def test_turns_are_answered_one_after_another_and_asked_once(tmp_path: Path) -> None:
    """The model's own answer, or the recorded one, stands before the next question; equal prompts are answered once."""
    kept = tmp_path / "kept.jsonl"
    single, _ = run(kept, chats=[asked_for("a")])
    recorded = Conversation("f, line 2", [*asked_for("a").messages, {"role": "assistant", "content": "no"}])
    recorded.messages += asked_for("bc").messages
    said, told = run(kept, chats=[asked_for("a", "bc"), asked_for("a"), recorded])
    assert told[0] == (3, 5)
    assert told[-1] == (5, 5)
    assert said[0] == said[2] == said[3] == single[0]
    own = Letters().decode(single[0][1:], skip_special_tokens=True)
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    prompts = ["a", f"a\n\n{own}\n\nbc", "a\n\nno\n\nbc"]
    assert sorted(row["prompt_ids"] for row in rows) == sorted(Letters()(text)["input_ids"] for text in prompts)
    again, told = run(kept, chats=[asked_for("a", "bc"), asked_for("a"), recorded])
    assert again == said
    assert told[-1] == (5, 5)
    assert len(kept.read_text().splitlines()) == 3


def test_a_prompt_that_the_model_cannot_hold_is_a_sentence_or_left_out(tmp_path: Path) -> None:
    kept, long = tmp_path / "kept.jsonl", asked_for("a" * 100_000)
    with pytest.raises(CorpusError, match="f, line 1: 100000 tokens and 12 more are longer than the model's context"):
        run(kept, chats=[long])
    reading = Reading(skip_bad=True)
    assert len(run(kept, chats=[long, asked_for("a")], reading=reading)[0]) == 1
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
    assert [chat.messages for chat in read_prompts(path, Reading())] == [
        asked_for(prompt).messages for prompt in PROMPTS
    ]
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


class Turns(Letters):
    """With a chat template."""

    chat_template = "of its own"

    def apply_chat_template(self, messages: Any, **_: Any) -> str:
        return "".join(f"<{message['role']}>{message['content']}." for message in messages) + "<assistant>"


def made_up(kept: Path, count: int, seed: int = 0, tokenizer: Any = None, answer: int = 9) -> list[Conversation]:
    found = tiny("llama", dtype=torch.float64)
    found.generation_config.eos_token_id = [5, 0]
    with closing(LanguageModel(HFEngine(found, threads=1), tokenizer or Turns(), "tiny", max_requests=3)) as model:
        return own_prompts(model, count, kept, Reading(), Asked(answer, seed=seed), lambda *_: None)


def test_the_model_makes_up_what_users_ask(tmp_path: Path) -> None:
    """As it would be drawn where a user's first words stand, each with a seed of its own; kept and continued."""
    found = made_up(tmp_path / "p.jsonl", 12)
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert len(rows) == 12
    assert len({row["seed"] for row in rows}) == 12
    begin = Turns()("<user>")["input_ids"]
    with closing(model_of()) as model:
        for row in rows:
            assert row["prompt_ids"] == begin
            assert row["temperature"] == 1.0
            again = model.generate(begin, max_new_tokens=9, temperature=1.0, seed=row["seed"], method="none")
            assert again.token_ids == row["output_ids"]
    texts = [chat.messages[0]["content"] for chat in found]
    assert [chat.messages[0]["role"] for chat in found] == ["user"] * len(found)
    assert len(set(texts)) == len(texts) > 3
    said = {Letters().decode(row["output_ids"]).strip() for row in rows}
    assert set(texts) == said - {""}
    half = made_up(tmp_path / "half.jsonl", 5)
    whole = made_up(tmp_path / "half.jsonl", 12)
    assert [chat.messages for chat in whole] == [chat.messages for chat in found]
    assert [chat.messages for chat in half] == [chat.messages for chat in found][: len(half)]
    assert [chat.messages for chat in made_up(tmp_path / "other.jsonl", 12, seed=1)] != [
        chat.messages for chat in found
    ]


def test_without_a_template_it_cannot_make_up_prompts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no chat template"):
        made_up(tmp_path / "p.jsonl", 2, tokenizer=Letters())
    assert not (tmp_path / "p.jsonl").exists()


def test_what_leaves_no_room_for_an_answer_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made_up(tmp_path / "p.jsonl", 40)
    rest = len(Turns()("<user>.<assistant>")["input_ids"]) + 9
    most = max(len(chat.messages[0]["content"]) for chat in whole) - 1
    original = HFEngine.__init__

    def short(self: Any, *given: Any, **more: Any) -> None:
        original(self, *given, **more)
        self.max_length = rest + most

    monkeypatch.setattr(HFEngine, "__init__", short)
    found = made_up(tmp_path / "p.jsonl", 40)
    assert [chat.messages for chat in found] == [
        chat.messages for chat in whole if len(chat.messages[0]["content"]) <= most
    ]
    assert 0 < len(found) < len(whole)
    with pytest.raises(UsageError, match="do not fit into the model's context"):
        made_up(tmp_path / "q.jsonl", 2, answer=200)
