"""When two tokenizers are the same: their ids mean the same."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """64 hex digits that two tokenizers share if their ids mean the same: vocabulary, merges, special ids.

    `tokenizer`: a fast transformers tokenizer.
    """
    whole = json.loads(tokenizer._tokenizer.to_str())
    model = whole["model"]
    parts = {
        "type": model.get("type"),
        "vocab": model.get("vocab"),
        "merges": [" ".join(pair) if isinstance(pair, list) else pair for pair in model.get("merges") or []],
        "added": sorted([token["id"], token["content"], token["special"]] for token in whole["added_tokens"]),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
