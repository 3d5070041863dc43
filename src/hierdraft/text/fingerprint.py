"""When two tokenizers are the same: their ids mean the same."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """64 hex digits that two tokenizers share if their ids mean the same: vocabulary, merges, special ids.

    `tokenizer`: a transformers tokenizer, fast or slow.
    """
    parts = _slow_parts(tokenizer) if getattr(tokenizer, "_tokenizer", None) is None else _parts(tokenizer._tokenizer)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _parts(fast: Any) -> dict[str, Any]:
    whole = json.loads(fast.to_str())
    model = whole["model"]
    return {
        "type": model.get("type"),
        "vocab": model.get("vocab"),
        "merges": [" ".join(pair) if isinstance(pair, list) else pair for pair in model.get("merges") or []],
        "added": sorted([token["id"], token["content"], token["special"]] for token in whole["added_tokens"]),
    }


def _slow_parts(tokenizer: Any) -> dict[str, Any]:
    """A tokenizer in pure Python keeps its merges where it likes; its class says how ids become text."""
    return {
        "type": type(tokenizer).__name__,
        "vocab": tokenizer.get_vocab(),
        "added": sorted(
            [token, added.content, added.special] for token, added in tokenizer.added_tokens_decoder.items()
        ),
    }
