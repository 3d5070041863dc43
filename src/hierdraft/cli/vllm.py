"""`hierdraft vllm-config`: what to tell vLLM so that it drafts with hierdraft."""

from __future__ import annotations

import json
import shlex
from typing import Annotated, Any

import typer

from hierdraft.cli import options


def vllm_config(
    model: Annotated[str, typer.Option(help="A model's name or folder, or its name on a hub.")],
    pack: options.Packs = None,
    tokens: Annotated[int, typer.Option(min=1, max=64, help="Most drafted tokens per request and step.")] = 8,
    tenant: Annotated[
        str | None, typer.Option(help="All traffic is this one tenant's: keep what the model says, and draft from it.")
    ] = None,
) -> None:
    """Print vLLM's settings as JSON, and on stderr the command that serves with them.

    Examples:

      hierdraft vllm-config --model smollm2-135m

      hierdraft vllm-config --model owner/name --pack python.safetensors --tenant team
    """
    from hierdraft.databases.pack import Pack
    from hierdraft.engines.vllm import CLASS, read_options
    from hierdraft.models import NAMED_MODELS, model_path
    from hierdraft.settings import load_settings

    settings = load_settings()
    named = model in NAMED_MODELS
    packs = [path.resolve() for path in (settings.packs if pack is None else pack)]
    for path in packs:
        Pack.open(path)
    given = read_options({"model": model if named else None, "packs": packs, "tenant": tenant})
    options = given.model_dump(mode="json", exclude_defaults=True)
    config: dict[str, Any] = {
        "speculative_config": {"method": "custom_class", "model": CLASS, "num_speculative_tokens": tokens}
    }
    if options:
        config["additional_config"] = {"hierdraft": options}
    typer.echo(json.dumps(config))
    flags = [f"--{key.replace('_', '-')} {shlex.quote(json.dumps(value))}" for key, value in config.items()]
    place = shlex.quote(str(model_path(model, settings.cache_dir)) if named else model)
    typer.echo(f"vllm serve {place} {' '.join(flags)}", err=True)
