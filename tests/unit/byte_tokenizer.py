"""A byte-level tokenizer without merges, so that every character outside ASCII is several tokens."""

from __future__ import annotations

from typing import Any


class Bytes:
    """Stands in for a fast transformers tokenizer: 256 bytes and one end-of-sequence id, 256."""

    chat_template: str | None = None

    def __init__(self) -> None:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers

        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        self._tokenizer = Tokenizer(models.BPE({"<eos>": 256, **{c: i for i, c in enumerate(alphabet)}}, []))
        self._tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._tokenizer.decoder = decoders.ByteLevel()
        self._tokenizer.add_special_tokens(["<eos>"])

    def __len__(self) -> int:
        return 257

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": self._tokenizer.encode(text).ids}

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)
        return text

    def apply_chat_template(self, turns: list[dict[str, str]], **_: Any) -> list[int]:
        return [256, *self(turns[0]["content"])["input_ids"]]
