"""A GGUF file's own tokenizer, as the tokenizers library has it: pieces, merges and the way a text is cut into words.

A file names the cut (`tokenizer.ggml.pre`) instead of describing it; the expressions below are what the models behind
those names are published with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hierdraft.errors import UnsupportedModelError

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

_CUTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("default", "gpt-2", "phi-2", "mpt", "olmo", "jais", "granite-docling"), (_GPT2,)),
    **dict.fromkeys(("llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral", "smaug-bpe"), (_LLAMA3,)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2", "megrez"), (_QWEN2,)),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell"), (r"\p{N}", _GPT2)),
}
"""Expressions by name, applied one after another: what they match becomes a word of its own."""

_WHOLE_WORDS_FIRST = {"llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral"}
"""Cuts of models in which a word that is a piece as a whole is not put together from merges."""

_UNKNOWN, _CONTROL, _GIVEN = 2, 3, 4
_SPACE = "\u2581"
_NAMES = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def tokenizer_json(about: Mapping[str, Any]) -> str:
    """What `tokenizer.json` would hold. Raises UnsupportedModelError for a tokenizer of another kind.

    about   the file's metadata, by their keys
    """
    tokens = _tokens(about)
    kind = about.get("tokenizer.ggml.model")
    if kind == "gpt2":
        tokenizer = _byte_level(about, tokens)
    elif kind == "llama":
        tokenizer = _sentencepiece(about, tokens)
    else:
        raise UnsupportedModelError(f"Tokenizers of the kind {kind!r} are not read from GGUF files.")
    _add_tokens(tokenizer, about, tokens)
    _add_ends(tokenizer, about, tokens)
    return str(tokenizer.to_str())


def tokenizer_config(about: Mapping[str, Any]) -> dict[str, Any]:
    """What `tokenizer_config.json` would hold: special tokens and chat templates."""
    tokens = _tokens(about)
    found: dict[str, Any] = {"clean_up_tokenization_spaces": False}
    for name, key in _NAMES.items():
        token = about.get(f"tokenizer.ggml.{key}_token_id")
        if token is not None and 0 <= int(token) < len(tokens):
            found[name] = tokens[int(token)]
    template = about.get("tokenizer.chat_template")
    more = {name: about.get(f"tokenizer.chat_template.{name}") for name in about.get("tokenizer.chat_templates", ())}
    if any(more.values()):
        named = {"default": template, **more}
        found["chat_template"] = [{"name": name, "template": text} for name, text in named.items() if text]
    elif template:
        found["chat_template"] = template
    return found


def end_ids(about: Mapping[str, Any]) -> list[int]:
    """Ids after which answers end: of the text, of a turn, of a message to a tool."""
    keys = ("eos", "eot", "eom")
    found = [about.get(f"tokenizer.ggml.{key}_token_id") for key in keys]
    return list(dict.fromkeys(int(token) for token in found if token is not None))


def _tokens(about: Mapping[str, Any]) -> Sequence[str]:
    tokens = about.get("tokenizer.ggml.tokens")
    if not tokens:
        raise UnsupportedModelError("This GGUF file has no tokenizer.")
    return list(tokens)


def _vocabulary(tokens: Sequence[str]) -> dict[str, int]:
    """Ids of pieces; of pieces that are written twice the first."""
    found: dict[str, int] = {}
    for place, token in enumerate(tokens):
        found.setdefault(token, place)
    return found


def _byte_level(about: Mapping[str, Any], tokens: Sequence[str]) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    cut = str(about.get("tokenizer.ggml.pre", "default"))
    if cut not in _CUTS:
        raise UnsupportedModelError(f"This GGUF file cuts its texts as {cut!r} does, which is not known here.")
    merges = [tuple(line.split(" ", 1)) for line in about.get("tokenizer.ggml.merges", ())]
    model = models.BPE(
        vocab=_vocabulary(tokens), merges=merges, fuse_unk=False, ignore_merges=cut in _WHOLE_WORDS_FIRST
    )
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        *(pre_tokenizers.Split(Regex(expression), "isolated") for expression in _CUTS[cut]),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(about: Mapping[str, Any], tokens: Sequence[str]) -> Any:
    """Pieces with scores: the pair whose piece has the best score is merged first."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    vocabulary = _vocabulary(tokens)
    scores = about.get("tokenizer.ggml.scores", ())
    if len(scores) != len(tokens):
        raise UnsupportedModelError("This GGUF file has no score for each of its tokens.")
    types = about.get("tokenizer.ggml.token_type", ())
    unknown = next((tokens[place] for place, kind in enumerate(types) if kind == _UNKNOWN), None)
    model = models.BPE(
        vocab=vocabulary, merges=_merges(vocabulary, scores), unk_token=unknown, fuse_unk=True, byte_fallback=True
    )
    tokenizer = Tokenizer(model)
    front = bool(about.get("tokenizer.ggml.add_space_prefix", True))
    steps = [normalizers.Prepend(_SPACE)] if front else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", _SPACE)])
    strip = [decoders.Strip(" ", 1, 0)] if front else []
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip,
    ])  # fmt: skip
    return tokenizer


def _merges(vocabulary: Mapping[str, int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """Every way to put a piece together from two, best pieces first; of one piece, in the order of its parts' ids."""
    found = []
    for piece, place in vocabulary.items():
        pairs = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        known = [(vocabulary[left], vocabulary[right], left, right) for left, right in pairs
                 if left in vocabulary and right in vocabulary]  # fmt: skip
        found += [(-float(scores[place]), place, left, right) for _, _, left, right in sorted(known)]
    return [(left, right) for _, _, left, right in sorted(found, key=lambda one: one[:2])]


def _add_tokens(tokenizer: Any, about: Mapping[str, Any], tokens: Sequence[str]) -> None:
    """Tokens that are found in a text as they stand: marks of a conversation, which are special, and others."""
    from tokenizers import AddedToken

    types = list(about.get("tokenizer.ggml.token_type", ()))
    marks = {about.get(f"tokenizer.ggml.{key}_token_id") for key in ("bos", "eos", "eot", "eom", "unknown", "padding")}
    for place, token in enumerate(tokens):
        kind = types[place] if place < len(types) else 1
        if not token or (kind not in (_CONTROL, _GIVEN, _UNKNOWN) and place not in marks):
            continue
        special = kind != _GIVEN
        added = AddedToken(token, special=special, normalized=False)
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)([added])


def _add_ends(tokenizer: Any, about: Mapping[str, Any], tokens: Sequence[str]) -> None:
    """What every text is given in front and at its end."""
    from tokenizers import processors

    sentencepiece = about.get("tokenizer.ggml.model") == "llama"
    adds = {
        "bos": bool(about.get("tokenizer.ggml.add_bos_token", sentencepiece)),
        "eos": bool(about.get("tokenizer.ggml.add_eos_token", False)),
    }
    ids = {key: about.get(f"tokenizer.ggml.{key}_token_id") for key, wanted in adds.items() if wanted}
    there = {key: int(place) for key, place in ids.items() if place is not None}
    steps: list[Any] = [] if sentencepiece else [processors.ByteLevel(trim_offsets=False)]
    if there:
        front, after = ([tokens[there[key]]] if key in there else [] for key in ("bos", "eos"))
        steps.append(processors.TemplateProcessing(
            single=[*front, "$A", *after], pair=[*front, "$A", *after, *front, "$B", *after],
            special_tokens=[(tokens[place], place) for place in there.values()],
        ))  # fmt: skip
    if steps:
        tokenizer.post_processor = processors.Sequence(steps)
