"""`LanguageModel` on the toy engine: ids, text, levels, counts and reasons agree with each other."""

from __future__ import annotations

from typing import Any

import pytest

from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import ContextLengthError, UsageError
from hierdraft.generation import LanguageModel
from hierdraft.protocols import Budget
from hierdraft.tree import DraftTree, Int32
from tests.unit.byte_tokenizer import Bytes


def model(**options: Any) -> LanguageModel:
    return LanguageModel(ToyEngine(3, 257, **{"memory": 1, **options}), Bytes(), "toy")


def test_drafted_and_plain_agree_in_everything_but_effort() -> None:
    toy = model(eos_ids=(256,))
    plain = toy.generate("hello hello", method="none", max_new_tokens=400)
    drafted = toy.generate("hello hello", max_new_tokens=400, budget=12)
    assert drafted.token_ids == plain.token_ids
    assert drafted.text == plain.text == Bytes().decode(plain.token_ids)
    assert drafted.finish == plain.finish
    assert plain.accepted_length == 1.0
    assert plain.levels == ["target"] * len(plain.token_ids)
    assert plain.by_level == {}
    assert drafted.steps < plain.steps == len(plain.token_ids) - 1
    assert drafted.accepted_length == pytest.approx((len(drafted.token_ids) - 1) / drafted.steps)


def test_counts_add_up() -> None:
    run = model().generate("aaaa", max_new_tokens=300, budget=8)
    assert len(run.levels) == len(run.token_ids) == 300
    assert run.by_level["context"]["accepted"] == run.levels.count("context") > 0
    assert run.by_level["context"]["proposed"] >= run.by_level["context"]["accepted"]
    assert set(run.levels) == {"context", "recycled", "target"}
    spent = run.prefill_seconds + run.draft_seconds + run.forward_seconds + run.rest_seconds
    assert 0 < spent <= run.seconds
    assert run.tokens_per_second == pytest.approx(300 / run.seconds)
    assert run.prompt_tokens == 4


def test_streaming_gives_the_same_text_in_pieces() -> None:
    toy = model()
    whole = toy.generate("ab", max_new_tokens=120)
    stream = toy.stream("ab", max_new_tokens=120)
    pieces = list(stream)
    assert "".join(piece.text for piece in pieces) == whole.text == stream.result.text
    assert {piece.level for piece in pieces} <= {"context", "recycled", "target"}
    assert stream.result.token_ids == whole.token_ids


def test_a_stop_string_ends_text_ids_and_stream_together() -> None:
    toy = model(memory=2)
    free = toy.generate("ab", max_new_tokens=200)
    for size in (1, 2, 3):
        string = next(free.text[i : i + size] for i in range(40, 100) if "\ufffd" not in free.text[i : i + size])
        run = toy.generate("ab", max_new_tokens=200, stop=string, budget=16)
        plain = toy.generate("ab", max_new_tokens=200, stop=[string, "never in there"], method="none")
        assert run.finish == plain.finish == "stop"
        assert run.token_ids == plain.token_ids == free.token_ids[: len(run.token_ids)]
        assert run.text == plain.text == free.text[: free.text.index(string)]
        assert len(run.levels) == len(run.token_ids)


def test_reasons_to_end() -> None:
    assert model().generate("ab", max_new_tokens=5).finish == "length"
    assert model(max_length=9).generate("ab", max_new_tokens=50).finish == "context"
    ended = model(eos_ids=tuple(range(0, 257, 5))).generate("ab", max_new_tokens=500)
    assert ended.finish == "eos"
    on = model(eos_ids=tuple(range(0, 257, 5))).generate("ab", max_new_tokens=500, ignore_eos=True)
    assert on.token_ids[: len(ended.token_ids)] == ended.token_ids
    assert len(on.token_ids) == 500


def test_ids_are_taken_as_they_are() -> None:
    toy = model()
    assert toy.generate([97, 98], max_new_tokens=9).prompt_tokens == 2
    toy.tokenizer.chat_template = "yes"
    assert toy.generate("ab", max_new_tokens=3).prompt_tokens == 3
    assert toy.generate("ab", max_new_tokens=3, chat=False).prompt_tokens == 2


@pytest.mark.parametrize(
    ("prompt", "options", "error", "words"),
    [
        ("", {}, UsageError, "empty"),
        ([], {}, UsageError, "empty"),
        ([999], {}, UsageError, "999"),
        ([-1], {}, UsageError, "-1"),
        ("a", {"max_new_tokens": 0}, UsageError, "at least 1"),
        ("a", {"method": "telepathy"}, UsageError, "telepathy"),
        ("a", {"budget": -1}, UsageError, "budget"),
        ("a", {"budget": "some"}, UsageError, "budget"),
        ("a", {"stop": [""]}, UsageError, "stop string"),
        ("a" * 64, {}, ContextLengthError, "64"),
    ],
)
def test_bad_requests(prompt: Any, options: dict[str, Any], error: type[Exception], words: str) -> None:
    toy = model(max_length=64)
    with pytest.raises(error, match=words):
        toy.stream(prompt, **options)
    assert len(toy.generate("ok", max_new_tokens=2).token_ids) == 2


def test_what_a_method_learns_outlives_the_request() -> None:
    toy = model()
    toy.generate("ab", max_new_tokens=100, budget=8)
    method = toy._method("hierarchy")
    learned = method.calibration.tried.sum()  # type: ignore[attr-defined]
    toy.generate("ab", max_new_tokens=100, budget=8)
    assert toy._method("hierarchy") is method
    assert method.calibration.tried.sum() > learned  # type: ignore[attr-defined]


def test_a_reference_is_drafted_from() -> None:
    toy = model()
    plain = toy.generate("abc", max_new_tokens=80, method="none")
    damaged = [*plain.token_ids[:30], 9, *plain.token_ids[31:50], *plain.token_ids[53:]]
    helped = toy.generate("abc", max_new_tokens=80, budget=8, reference=[damaged])
    alone = toy.generate("abc", max_new_tokens=80, budget=8)
    assert helped.token_ids == alone.token_ids == plain.token_ids
    assert helped.by_level["reference"]["accepted"] > 40
    assert helped.steps < alone.steps
    assert helped.levels[1] == "reference"  # from the beginning, before anything of it was seen
    with pytest.raises(UsageError, match="outside the vocabulary"):
        toy.generate("abc", reference=[[10**6]])


def test_every_method_has_a_budget_law_of_its_own() -> None:
    """One that promises too much must not make another's drafts look worthless."""
    model = LanguageModel(ToyEngine(1, 257, eos_ids=(256,)), Bytes(), "toy")
    for method in ("suffix", "hierarchy"):
        model.generate("abcabc", chat=False, max_new_tokens=40, method=method)
    laws = [model._law(method) for method in ("suffix", "hierarchy")]
    assert laws[0] is not laws[1]
    assert model._law("suffix") is laws[0]
    model.generate("abcabc", chat=False, max_new_tokens=40, method=Boasting())
    assert model._law(Boasting()).trust < 0.2  # type: ignore[attr-defined]
    assert [model._law(method) for method in ("suffix", "hierarchy")] == laws
    assert min(law.trust for law in laws) > 0.2  # type: ignore[attr-defined]


class Boasting(PlainMethod):
    """Sure of everything, and always wrong."""

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        return DraftTree.build([0] * 20, [-1] * 20, prob=0.99).limited(budget.depth)
