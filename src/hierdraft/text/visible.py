"""Text as it streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hierdraft.text.decoders import BytePieces, Cleaner, as_byte, pieces_of


class TextStream:
    """Token ids in, text out as soon as it is certain; special tokens are left out.

    All pieces together are what the tokenizer makes of all ids at once (`decode(ids, skip_special_tokens=True)`).
    """

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer`: a transformers tokenizer, fast or slow."""
        self._special = special_tokens(tokenizer)
        self._known = _knows(tokenizer)
        self._pieces = pieces_of(tokenizer)
        self._cleaner = Cleaner(tokenizer.clean_up_tokenization) if _cleans(tokenizer) else None

    def push(self, token: int) -> str:
        """The text that `token` completes; "" while a character is unfinished."""
        if token in self._special or not self._known(token):
            return ""
        piece = self._pieces.push(token)
        return self._cleaner.push(piece) if self._cleaner else piece

    def open(self) -> str:
        """How the text would continue if it ended here, without an unfinished character."""
        rest = self._pieces.open()
        return self._cleaner.open(rest) if self._cleaner else rest

    def flush(self) -> str:
        """At the end: the rest, an unfinished character as the tokenizer shows it."""
        rest = self._pieces.flush()
        return self._cleaner.flush(rest) if self._cleaner else rest


def token_texts(tokenizer: Any, tokens: Sequence[int]) -> list[str]:
    """What each token adds to the text; one that ends within a character adds nothing, the next one all of it."""
    stream = TextStream(tokenizer)
    found = [stream.push(token) for token in tokens]
    if found:
        found[-1] += stream.flush()
    return found


def bytes_of(tokenizer: Any) -> Callable[[int], bytes]:
    """What each id stands for by itself, special ones too: bytes, since it may be less than a character."""
    pieces = pieces_of(tokenizer)
    if isinstance(pieces, BytePieces):
        return pieces.bytes_of
    fast = getattr(tokenizer, "_tokenizer", None)
    name = fast.id_to_token if fast is not None else tokenizer.convert_ids_to_tokens

    def found(token: int) -> bytes:
        piece = name(token) or ""
        byte = as_byte(piece)
        if byte is not None:
            return bytes([byte])
        text: str = tokenizer.decode([token], skip_special_tokens=False)
        return (f" {text}" if piece.startswith("\u2581") and not text.startswith(" ") else text).encode()

    return found


def special_tokens(tokenizer: Any) -> dict[int, str]:
    """The tokens that are not shown: id -> how they are written."""
    fast = getattr(tokenizer, "_tokenizer", None)
    if fast is not None and hasattr(fast, "get_added_tokens_decoder"):
        return {token: added.content for token, added in fast.get_added_tokens_decoder().items() if added.special}
    return dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))


def _knows(tokenizer: Any) -> Callable[[int], bool]:
    """Whether the tokenizer has text for an id: a model's vocabulary may be larger."""
    fast = getattr(tokenizer, "_tokenizer", None)
    if fast is not None:
        return lambda token: fast.id_to_token(token) is not None
    size, added = len(tokenizer), frozenset(tokenizer.added_tokens_decoder)
    return lambda token: token < size or token in added


def _cleans(tokenizer: Any) -> bool:
    """Whether the tokenizer takes out spaces before punctuation; transformers leaves BPE tokenizers alone."""
    if not getattr(tokenizer, "clean_up_tokenization_spaces", False):
        return False
    fast = getattr(tokenizer, "_tokenizer", None)
    forced = getattr(tokenizer, "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", False)
    return fast is None or type(fast.model).__name__ != "BPE" or bool(forced)
