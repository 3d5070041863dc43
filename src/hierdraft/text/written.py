"""A tokenizer as its files describe it, read without transformers: `tokenizer.json` and what lies beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hierdraft.errors import ModelError

BACKEND = "tokenizer.json"
_CONFIG, _MAP = "tokenizer_config.json", "special_tokens_map.json"
_TEMPLATE, _TEMPLATES, _OLD_TEMPLATE = "chat_template.jinja", "additional_chat_templates", "chat_template.json"
_SPECIAL = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
)  # fmt: skip
_MORE = ("additional_special_tokens", "extra_special_tokens")


def backend_of(folder: Path) -> Any:
    """The tokenizers library's own object, without truncation and padding. Raises ModelError."""
    from tokenizers import Tokenizer

    file = folder / BACKEND
    if not file.is_file():
        raise ModelError(f"{folder} has no {BACKEND}: put the model's own tokenizer there.")
    try:
        backend = Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises nothing narrower for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"The tokenizer in {file} cannot be read ({reason}).") from error
    backend.no_truncation()
    backend.no_padding()
    return backend


def facts_of(folder: Path, backend: Any) -> dict[str, Any]:
    """What `StoredTokenizer` needs to know besides: special tokens and chat templates. Raises ModelError."""
    config = {**_object(folder / _MAP), **_object(folder / _CONFIG)}
    named = {name: _text(config.get(name)) for name in _SPECIAL if config.get(name) is not None}
    more = [_text(token) for name in _MORE for token in _listed(config.get(name))]
    ids = {token: backend.token_to_id(token) for token in (*named.values(), *more)}
    known = [token for token in ids if ids[token] is not None]

    def id_of(name: str) -> int | None:
        return ids.get(named[name]) if name in named else None

    return {
        "chat_template": _templates(folder, config),
        "special_tokens_map": {name: token for name, token in named.items() if ids[token] is not None},
        "all_special_tokens": known,
        "all_special_ids": [ids[token] for token in known],
        "eos_token": named.get("eos_token"),
        "eos_token_id": id_of("eos_token"),
        "pad_token_id": id_of("pad_token"),
        "clean_up_tokenization_spaces": bool(config.get("clean_up_tokenization_spaces", False)),
    }


def _object(file: Path) -> dict[str, Any]:
    """The JSON object in a file, an empty one where there is no file. Raises ModelError."""
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read as JSON ({error}).") from error
    if not isinstance(found, dict):
        raise ModelError(f"{file} holds no JSON object.")
    return found


def _text(token: Any) -> str:
    return str(token["content"] if isinstance(token, Mapping) and "content" in token else token)


def _listed(tokens: Any) -> list[Any]:
    if isinstance(tokens, Mapping):  # by names of their own
        return list(tokens.values())
    return list(tokens) if isinstance(tokens, list | tuple) else []


def _templates(folder: Path, config: Mapping[str, Any]) -> str | dict[str, str] | None:
    """One template, several by name, or none: files of their own win over what the configuration holds."""
    found: dict[str, str] = {}
    written = config.get("chat_template", _object(folder / _OLD_TEMPLATE).get("chat_template"))
    if isinstance(written, str):
        found["default"] = written
    elif isinstance(written, list):
        found = {str(one["name"]): str(one["template"]) for one in written}
    try:
        if (folder / _TEMPLATE).is_file():
            found = {"default": (folder / _TEMPLATE).read_text(encoding="utf-8")}
        for file in sorted((folder / _TEMPLATES).glob("*.jinja")):
            found[file.stem] = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ModelError(f"A chat template in {folder} cannot be read ({error}).") from error
    if list(found) == ["default"]:
        return found["default"]
    return found or None
