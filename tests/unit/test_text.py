"""Text as it streams, and stop strings that straddle tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hierdraft.errors import UsageError
from hierdraft.text import StopStrings, TextStream, VisibleText, encode_prompt
from tests.unit.byte_tokenizer import Bytes

TOKENIZER = Bytes()
TEXTS = st.text(alphabet="ab €λ\n😀", max_size=20)


@given(TEXTS)
def test_streamed_text_is_the_decoded_text(text: str) -> None:
    stream = TextStream(TOKENIZER)
    pieces = [stream.push(token) for token in [*TOKENIZER(text)["input_ids"], 256]]
    assert "".join(pieces) + stream.flush() == text == stream.text
    assert "\ufffd" not in "".join(pieces)


def test_an_unfinished_character_is_shown_at_the_end() -> None:
    stream = TextStream(TOKENIZER)
    ids = TOKENIZER("a€")["input_ids"]
    assert [stream.push(token) for token in ids[:-1]] == ["a", "", ""]
    assert stream.flush() == TOKENIZER.decode(ids[:-1])[1:]


@given(TEXTS, st.lists(st.text(alphabet="ab €", min_size=1, max_size=4), max_size=3))
def test_stop_strings_end_at_the_token_that_completes_them(text: str, strings: list[str]) -> None:
    stop = StopStrings(TOKENIZER, strings)
    visible = VisibleText(TOKENIZER, strings)
    ids = TOKENIZER(text)["input_ids"]
    shown, ended = "", None
    for count in range(1, len(ids) + 1):
        reason = stop.check(np.array(ids[:count], dtype=np.int32), 0)
        shown += "".join(piece for piece, _ in visible.push(ids[count - 1], 1))
        if reason:
            ended = count
            break
    shown += "".join(piece for piece, _ in visible.finish(stop.cut_at))
    starts = [text.find(string) for string in strings if string in text]
    if ended is None:
        assert not starts
        assert shown == text
    else:
        said = TOKENIZER.decode(ids[:ended])
        assert any(said.endswith(string) for string in strings)
        assert shown == said[: stop.cut_at]
        assert not any(string in shown for string in strings)
        assert not any(string in TOKENIZER.decode(ids[: ended - 1]) for string in strings)


@given(TEXTS, st.lists(st.text(alphabet="ab €", min_size=1, max_size=4), min_size=1, max_size=3))
def test_nothing_that_could_become_a_stop_string_is_shown(text: str, strings: list[str]) -> None:
    visible = VisibleText(TOKENIZER, strings)
    shown = said = ""
    for token in TOKENIZER(text)["input_ids"]:
        shown += "".join(piece for piece, _ in visible.push(token, 1))
        said = visible._stream.text
        held = said[len(shown) :]
        assert said.startswith(shown)
        assert held == "" or any(string.startswith(held) for string in strings)


def test_pieces_keep_their_level_when_split() -> None:
    visible = VisibleText(TOKENIZER, ["bX"])
    first = visible.push(TOKENIZER("a")["input_ids"][0], 1)
    held = visible.push(TOKENIZER("b")["input_ids"][0], 2)
    released = visible.push(TOKENIZER("c")["input_ids"][0], 3)
    assert (first, held, released) == ([("a", 1)], [], [("b", 2), ("c", 3)])


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
