"""Text as it streams, and stop strings wherever token borders lie, with every kind of tokenizer."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierdraft.errors import UsageError
from hierdraft.text import StopStrings, TextStream, VisibleText, encode_prompt, token_texts, tokenizer_fingerprint
from hierdraft.text.decoders import WindowPieces
from tests.unit.byte_tokenizer import Bytes
from tests.unit.tokenizer_kinds import KINDS

TOKENIZER = Bytes()
LINES = (
    "naïve café — Straße", "Привет, мир", "שלום עולם", "مرحبا بالعالم",
    "नमस्ते दुनिया", "こんにちは世界", "안녕하세요", "สวัสดี",
    "👩‍👩‍👧 🇺🇳 e\u0301", "a\tb  c\n\n d", "the cat isn't . the ' s ! don't ",
    "<think> </s> <|im_end|>", "   ", ". . ' ' '",
)  # fmt: skip
IDS = st.lists(st.integers(0, 1 << 16), max_size=40)


@functools.cache
def kind(name: str) -> Any:
    return KINDS[name]()


def known(tokenizer: Any, numbers: list[int], *, beyond: int = 0) -> list[int]:
    return [number % (len(tokenizer) + beyond) for number in numbers]


def decoded(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode([token for token in ids if token < len(tokenizer)], skip_special_tokens=True)
    return text


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("line", LINES)
def test_texts_of_any_script_stream_to_what_the_tokenizer_makes_of_the_whole(name: str, line: str) -> None:
    tokenizer = kind(name)
    ids = tokenizer.encode(line, add_special_tokens=False)
    assert "".join(token_texts(tokenizer, ids)) == decoded(tokenizer, ids)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=60, deadline=None)
@given(numbers=IDS, few=st.integers(1, 40), first=st.integers(0, 400))
def test_any_ids_stream_to_what_the_tokenizer_makes_of_the_whole(
    name: str, numbers: list[int], few: int, first: int
) -> None:
    """`few` ids from `first` on: neighbours that belong together, as bytes do, come in a row."""
    tokenizer = kind(name)
    ids = known(tokenizer, [first + number % few for number in numbers], beyond=3)
    whole, said, stream = decoded(tokenizer, ids), "", TextStream(tokenizer)
    for token in ids:
        said += stream.push(token)
        assert whole.startswith(said)
    assert said + stream.flush() == whole


@pytest.mark.parametrize("name", ["byte level", "byte fallback", "byte fallback without prefix", "metaspace", "words"])
def test_complete_words_are_shown_at_once(name: str) -> None:
    """Streaming is not waiting: a token that ends a character is shown with it, and none is held for the next."""
    tokenizer, stream = kind(name), TextStream(kind(name))
    ids = tokenizer.encode("the cat ate the other hat", add_special_tokens=False)
    said = ""
    for count, token in enumerate(ids, start=1):
        said += stream.push(token)
        assert said == decoded(tokenizer, ids[:count])


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("first", [0, 3, 100, 220, 290])
def test_streams_decode_every_id_a_few_times_at_most(name: str, first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, work = kind(name), 0
    stream = TextStream(tokenizer)
    if isinstance(stream._pieces, WindowPieces):
        plain = stream._pieces._decode

        def counting(ids: list[int]) -> str:
            nonlocal work
            work += len(ids)
            return plain(ids)

        monkeypatch.setattr(stream._pieces, "_decode", counting)
    for token in known(tokenizer, [first + n % 2 for n in range(1500)]):
        stream.push(token)
        stream.open()
    assert work < 1500 * 80


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=60, deadline=None)
@given(data=st.data(), numbers=IDS, few=st.integers(1, 40), first=st.integers(0, 400))
def test_a_stop_string_ends_the_answer_with_the_token_that_completes_it(
    name: str, data: st.DataObject, numbers: list[int], few: int, first: int
) -> None:
    """What is shown is the text cut before it, wherever it begins and ends within the tokens."""
    tokenizer = kind(name)
    ids = known(tokenizer, [first + number % few for number in numbers])
    lines = st.sampled_from(LINES).map(lambda line: tokenizer.encode(line, add_special_tokens=False))
    ids += data.draw(st.one_of(st.just([]), lines))
    text = decoded(tokenizer, ids)
    starts = data.draw(st.lists(st.integers(0, max(0, len(text) - 1)), min_size=1, max_size=2))
    strings = [string for start in starts if (string := text[start : start + data.draw(st.integers(1, 5))])]
    strings = [string for string in strings if "\ufffd" not in string] or ["never there"]
    views = [decoded(tokenizer, ids[:count]) for count in range(1, len(ids) + 1)]
    # what an unfinished character will be is not known yet
    places = [[p for s in strings if (p := view.rstrip("\ufffd").find(s)) >= 0] for view in views]
    ended = next((count for count, found in enumerate(places, start=1) if found), None)
    shown, count = answer(tokenizer, ids, strings)
    assert count == ended
    assert shown == (text if ended is None else views[ended - 1][: min(places[ended - 1])])


def answer(tokenizer: Any, ids: list[int], strings: list[str]) -> tuple[str, int | None]:
    """What is shown of an answer, and after how many tokens it ends. Tokens come in steps, as drafts are accepted."""
    stop = StopStrings(tokenizer, strings)
    visible = VisibleText(tokenizer, stop)
    shown, ended = "", None
    for start in range(0, len(ids), 3):
        step = ids[start : start + 3]
        for count in range(1, len(step) + 1):
            if stop.check(np.array(ids[: start + count], dtype=np.int32), 0):
                ended = start + count
                step = step[:count]
                break
        for token in step:
            shown += "".join(piece for piece, _ in visible.push(token, 1))
        if ended:
            break
    return shown + "".join(piece for piece, _ in visible.finish()), ended


@pytest.mark.parametrize("name", ["byte level", "byte fallback", "slow bytes"])
@pytest.mark.parametrize("string", ["世", "界!", "é", "😀", "e 世界", "!<end>", "<end>", "<end>+2", "é<end>", "t"])
def test_stop_strings_in_other_scripts_and_with_special_tokens(name: str, string: str) -> None:
    tokenizer = kind(name)
    special = {"byte level": "<|im_end|>", "byte fallback": "</s>", "slow bytes": "</s>"}[name]
    ids = tokenizer.encode(f"cafe 世界! 😀 é{special}\nthe 世界!{special}\n", add_special_tokens=False)
    raw = tokenizer.decode(ids)
    string = string.replace("<end>", special).replace("+2", raw[raw.index(special) + len(special) :][:2])
    shown, ended = answer(tokenizer, ids, [string, "never in there"])
    assert shown == raw[: raw.index(string)].replace(special, "")
    assert ended is not None
    assert string in tokenizer.decode(ids[:ended])
    assert string not in tokenizer.decode(ids[: ended - 1]).rstrip("\ufffd")


def test_a_special_token_that_is_spelled_out_stops_too() -> None:
    tokenizer = kind("byte level")
    spelled = [token for letter in "ok<|im_end|>no" for token in tokenizer.encode(letter, add_special_tokens=False)]
    assert answer(tokenizer, spelled, ["<|im_end|>"]) == ("ok", 12)


@given(st.text(alphabet="ab €", max_size=20), st.lists(st.text(alphabet="ab €", min_size=1, max_size=4), min_size=1))
def test_nothing_that_could_become_a_stop_string_is_shown(text: str, strings: list[str]) -> None:
    stop = StopStrings(TOKENIZER, strings)
    visible = VisibleText(TOKENIZER, stop)
    stream = TextStream(TOKENIZER)
    shown = said = ""
    ids = TOKENIZER(text)["input_ids"]
    for count, token in enumerate(ids, start=1):
        ended = stop.check(np.array(ids[:count], dtype=np.int32), 0)
        shown += "".join(piece for piece, _ in visible.push(token, 1))
        said += stream.push(token)
        held = said[len(shown) :]
        assert said.startswith(shown)
        assert held == "" or any(string.startswith(held) or held.startswith(string) for string in strings)
        if ended:
            break


def test_pieces_keep_their_level_when_split() -> None:
    stop = StopStrings(TOKENIZER, ["bX"])
    visible = VisibleText(TOKENIZER, stop)
    found = []
    ids = TOKENIZER("abcbX")["input_ids"]
    for count, token in enumerate(ids, start=1):
        stop.check(np.array(ids[:count], dtype=np.int32), 0)
        found.append(visible.push(token, count))
    assert found == [[("a", 1)], [], [("b", 2), ("c", 3)], [], []]
    assert visible.finish() == []


def test_an_unfinished_character_is_shown_at_the_end() -> None:
    stream = TextStream(TOKENIZER)
    ids = TOKENIZER("a€")["input_ids"]
    assert [stream.push(token) for token in ids[:-1]] == ["a", "", ""]
    assert stream.flush() == TOKENIZER.decode(ids[:-1])[1:]
    assert token_texts(TOKENIZER, ids[:-1]) == ["a", "", "\ufffd"]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_a_fingerprint_of_its_own(name: str) -> None:
    marks = [tokenizer_fingerprint(kind(other)) for other in KINDS]
    mine = tokenizer_fingerprint(kind(name))
    assert mine == tokenizer_fingerprint(KINDS[name]())
    # how text is cleaned or decoded does not change what ids mean
    alike = {"word pieces", "word pieces, not cleaned"}, {"byte level", "mixed"}, {
        "slow byte level", "slow byte level, cleaned",
    }, {"byte fallback", "byte fallback without prefix"}  # fmt: skip
    assert marks.count(mine) == (2 if any(name in group for group in alike) else 1)


def test_prompts() -> None:
    assert encode_prompt(TOKENIZER, "ab", chat=True) == TOKENIZER("ab")["input_ids"]
    chatty = Bytes()
    chatty.chat_template = "something"
    assert encode_prompt(chatty, "ab", chat=True) == [256, *TOKENIZER("ab")["input_ids"]]
    assert encode_prompt(chatty, "ab", chat=False) == TOKENIZER("ab")["input_ids"]
    for empty in ("", "  \n"):
        with pytest.raises(UsageError, match="empty"):
            encode_prompt(TOKENIZER, empty, chat=True)
    with pytest.raises(UsageError, match="stop string"):
        StopStrings(TOKENIZER, [""])
