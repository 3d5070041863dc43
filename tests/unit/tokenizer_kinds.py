"""Small tokenizers, one for each kind that models have."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers as t
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SAMPLE = "the quick brown fox jumps over the lazy dog. \n\nIt's fine, isn't it? Привет 世界 😀\n\n. \n\n, dog\n\n" * 3
_WORDS = "▁ e t a o n i s r h l d u c m f w g y ▁the ▁a ▁cat th he in er . , ' ! ? n't 's 've \n é 世"


def byte_level() -> Any:
    """GPT-2, Llama 3, Qwen; with added tokens that are shown, and special ones that are not."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=alphabet, special_tokens=["<eos>"], show_progress=False
    )
    made.train_from_iterator([SAMPLE], trainer)
    made.add_tokens(["    ", "<think>", "été"])
    made.add_special_tokens(["<|im_end|>"])
    return t.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<eos>")


def _with_bytes() -> Any:
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"<0x{byte:02X}>": 3 + byte for byte in range(256)}}
    for word in _WORDS.split(" "):
        vocabulary.setdefault(word, len(vocabulary))
    merges = [("t", "h"), ("h", "e"), ("i", "n"), ("e", "r")]
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.add_special_tokens(["<s>", "</s>", "<unk>"])
    return made


def byte_fallback() -> Any:
    """Llama 2, Mistral: a space before the text, taken off again."""
    made = _with_bytes()
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return t.PreTrainedTokenizerFast(tokenizer_object=made)


def byte_fallback_without_prefix() -> Any:
    """Gemma."""
    made = _with_bytes()
    made.normalizer = normalizers.Replace(" ", "▁")
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return t.PreTrainedTokenizerFast(tokenizer_object=made)


def word_pieces(*, cleans: bool = True) -> Any:
    """BERT-like: pieces within a word begin with ##; transformers takes out spaces before punctuation as well."""
    words = ["[UNK]", "[CLS]", "[SEP]", "the", "cat", "##s", "##er", "is", "n", "'", "t", ".", ",", "?", "!", "##t"]
    words += ["s", "re", "ve", "m", "##ing", "世", "界", "é", "n't", "'s", "don"]
    made = Tokenizer(models.WordPiece({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece("##", cleanup=False)
    made.add_special_tokens(["[CLS]", "[SEP]"])
    return t.PreTrainedTokenizerFast(tokenizer_object=made, clean_up_tokenization_spaces=cleans)


def metaspace() -> Any:
    """Unigram models: T5, XLM-RoBERTa."""
    pieces = [("<unk>", 0.0), *((word, -float(place)) for place, word in enumerate(_WORDS.split(" ")))]
    made = Tokenizer(models.Unigram(pieces, 0, byte_fallback=False))
    made.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always")
    made.decoder = decoders.Metaspace("▁", prepend_scheme="always")
    made.add_special_tokens(["</s>"])
    return t.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")


def word_ends() -> Any:
    """Words end in </w>, which is a space unless it stands last."""
    words = ["<unk>", "a", "b", "c</w>", "the</w>", "ab</w>", ".", ".</w>", "é</w>"]
    made = Tokenizer(models.BPE({word: place for place, word in enumerate(words)}, [], unk_token="<unk>"))
    made.decoder = decoders.BPEDecoder("</w>")
    return t.PreTrainedTokenizerFast(tokenizer_object=made)


def words() -> Any:
    """No decoder at all: tokens are joined by spaces."""
    names = ["<unk>", "the", "cat", "sat", ".", "on", "mat"]
    made = Tokenizer(models.WordLevel({word: place for place, word in enumerate(names)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return t.PreTrainedTokenizerFast(tokenizer_object=made)


def mixed() -> Any:
    """A decoder of several steps, bytes among them, that none of our own rules is made for."""
    made = byte_level()._tokenizer
    made.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("--", "—")])
    return t.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<eos>")


def slow_bytes() -> Any:
    """ByT5: pure Python, unfinished characters are left out."""
    return t.ByT5Tokenizer()


def slow_merges() -> Any:
    """CTRL: pure Python; @@ within words goes where another piece follows."""
    with tempfile.TemporaryDirectory() as folder:
        names = ["<unk>", "a@@", "b@@", "c", "the", "cat@@", "s", ".", "é"]
        files = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        files[0].write_text(json.dumps({word: place for place, word in enumerate(names)}), encoding="utf-8")
        files[1].write_text("#version: 0.2\nc a\n", encoding="utf-8")
        return t.CTRLTokenizer(str(files[0]), str(files[1]))


class SlowByteLevel(t.PythonBackend):  # type: ignore[misc]
    """GPT-2's tokenizer as it was in Python."""

    def __init__(self, **more: Any) -> None:
        self._fast = byte_level()
        self._shown = {character: byte for byte, character in enumerate(_alphabet())}
        super().__init__(eos_token="<eos>", clean_up_tokenization_spaces=more.pop("cleans", False), **more)

    @property
    def vocab_size(self) -> int:
        return len(self._fast)

    def get_vocab(self) -> dict[str, int]:
        found: dict[str, int] = self._fast.get_vocab()
        return found

    def _tokenize(self, text: str, **_: Any) -> list[str]:
        found: list[str] = self._fast.tokenize(text)
        return found

    def _convert_token_to_id(self, token: str) -> int:
        return int(self._fast.convert_tokens_to_ids(token))

    def _convert_id_to_token(self, index: int) -> str:
        return str(self._fast.convert_ids_to_tokens(index))

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        found = b"".join(bytes([self._shown[c]]) if c in self._shown else c.encode() for c in "".join(tokens))
        return found.decode("utf-8", errors="replace")


def _alphabet() -> list[str]:
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(hidden)) for byte in range(256)]


KINDS: dict[str, Callable[[], Any]] = {
    "byte level": byte_level,
    "byte fallback": byte_fallback,
    "byte fallback without prefix": byte_fallback_without_prefix,
    "word pieces": word_pieces,
    "word pieces, not cleaned": lambda: word_pieces(cleans=False),
    "metaspace": metaspace,
    "word ends": word_ends,
    "words": words,
    "mixed": mixed,
    "slow bytes": slow_bytes,
    "slow merges": slow_merges,
    "slow byte level": SlowByteLevel,
    "slow byte level, cleaned": lambda: SlowByteLevel(cleans=True),
}
