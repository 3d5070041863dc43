"""`hierdraft doctor`: what this machine and this installation can do, and whether a model can be drafted for."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hierdraft.cli import options

if TYPE_CHECKING:
    from hierdraft.settings import Settings

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
    model: options.CheckedModel = None,
    engine: options.Engine = None,
    dtype: options.Dtype = None,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Report what is in force, versions, devices and models; with --model, whether its drafts can be verified.

    Examples:

      hierdraft doctor

      hierdraft doctor --model smollm2-135m --json
    """
    report = _report({"model": model, "engine": engine, "dtype": dtype, "threads": threads}, check=model is not None)
    if as_json:
        typer.echo(json.dumps(report, default=str))
        return
    for line in _lines(report):
        typer.echo(line)


def _report(given: dict[str, Any], *, check: bool) -> dict[str, Any]:
    """Everything that is told, as data. `given`: settings from the command line; `check`: load the model too."""
    from hierdraft.cli.config import as_record
    from hierdraft.models.listed import list_models
    from hierdraft.settings import config_path, load_settings, origins

    settings = load_settings(**given)
    report: dict[str, Any] = {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
        "config": {"file": str(config_path()), "found": config_path().is_file()},
        "settings": {name: as_record(name, one) for name, one in origins(**given).items()},
        "cache_dir": str(settings.cache_dir),
        "data_dir": str(settings.data_dir),
        "models": [row for row in list_models(settings.cache_dir) if row["pulled"]],
    }
    report |= _devices()
    report["in_force"] = _in_force(settings, report)
    report["vllm"] = _vllm()
    if check:
        report["model"] = _check_model(settings)
    return report


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _vllm() -> str:
    """Whether the installed vLLM is one that drafts can be given to."""
    from hierdraft.integrations.vllm import SUPPORTED, installed, supported

    found = installed()
    if found is None:
        return f"not installed (versions from {SUPPORTED[0]} to before {SUPPORTED[1]} work)"
    name, number = found
    fits = "supported" if supported(number) else f"not supported: from {SUPPORTED[0]} to before {SUPPORTED[1]} is"
    return f"{name} {number}, {fits}"


def _devices() -> dict[str, Any]:
    try:
        import torch

        from hierdraft.engines.hf.lean import can_pack
    except ImportError as error:
        return {"torch": f"cannot be imported ({error}): pip install 'hierdraft[hf]'"}
    return {
        "threads": torch.get_num_threads(),
        "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packed_weights": {str(d).removeprefix("torch."): can_pack(d) for d in (torch.float32, torch.bfloat16)},
    }


def _check_model(settings: Any) -> dict[str, Any]:
    from hierdraft.models.load import load_engine

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
        "tree_verification": engine.offers.trees,
        "milliseconds_by_rows": {rows: round(seconds * 1e3, 2) for rows, seconds in costs.items()},
    }


def _in_force(settings: Settings, report: dict[str, Any]) -> dict[str, Any]:
    """What `auto` and unset settings come to on this machine for a model of no odd kind."""
    from hierdraft.holdings import STORE, embedded_pack

    cuda = bool(report.get("cuda"))
    openvino = not cuda and report["packages"]["openvino"] is not None
    own = embedded_pack(settings.model)
    return {
        "model": settings.model,
        "engine": settings.engine if settings.engine != "auto" else "openvino" if openvino else "hf",
        "dtype": settings.dtype if settings.dtype != "auto" else "bfloat16" if cuda else "float32",
        "threads": settings.threads,
        "packs": [_pack(path) for path in (*settings.packs, *([own] if own else []))],
        "learns": settings.learn,
        "learned": _held(settings.data_dir / STORE),
    }


def _pack(path: Path) -> dict[str, Any]:
    """A pack and, where it cannot be opened, why."""
    from hierdraft.databases.pack import Pack
    from hierdraft.errors import PackError

    try:
        info = Pack.open(path).info
    except PackError as error:
        return {"path": str(path), "problem": str(error)}
    return {"path": str(path), "level": info.level, "model": info.model, "tokens": info.tokens}


def _held(folder: Path) -> dict[str, Any]:
    """How much was learned, over all models and namespaces."""
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    namespaces = {path.parent for path in files if path.parent.parent.parent == folder}
    return {
        "folder": str(folder), "namespaces": len(namespaces), "bytes": sum(path.stat().st_size for path in files)
    }  # fmt: skip


def _lines(report: dict[str, Any]) -> Iterator[str]:
    """The report for people: a heading and what stands under it."""
    from hierdraft.cli.config import file_in_words, in_words
    from hierdraft.settings import config_path

    yield f"settings file: {file_in_words(config_path())}"
    yield from _settings_lines(report)
    yield f"models in {report['cache_dir']}: {'none' if not report['models'] else ''}".rstrip()
    for row in report["models"]:
        yield f"  {row['name']}: {row['bytes'] / 1e6:.0f} MB in {row['path']} ({row['licence']})"
    yield f"python: {report['python']} on {report['platform']}, {report['cpus']} CPUs"
    for name, number in report["packages"].items():
        yield f"  {name}: {number or 'not installed'}"
    yield f"vllm: {report['vllm']}"
    for name, title in (("torch", "torch"), ("threads", "torch threads"), ("cuda", "CUDA devices")):
        if name in report:
            yield f"{title}: {in_words(report[name])}"
    packed = [name for name, can in report.get("packed_weights", {}).items() if can]
    yield f"packed weights: {in_words(packed)}"
    for name, value in report.get("model", {}).items():
        told = [f"{rows}: {ms}" for rows, ms in value.items()] if isinstance(value, dict) else value
        yield f"{'checked model' if name == 'name' else '  ' + name.replace('_', ' ')}: {in_words(told)}"


def _settings_lines(report: dict[str, Any]) -> Iterator[str]:
    """The settings in force, where each comes from, and what `auto` stands for."""
    from hierdraft.cli.config import in_words, origin_in_words
    from hierdraft.settings import Sourced

    force = report["in_force"]
    means = {name: force[name] for name in ("engine", "dtype")}
    for name, one in report["settings"].items():
        origin = origin_in_words(name, Sourced(one["value"], one["origin"]))
        here = f", here {means[name]}" if one["value"] == "auto" and name in means else ""
        yield f"  {name}: {in_words(one['value'])}{here} ({origin})"
    yield f"packs: {'none' if not force['packs'] else ''}".rstrip()
    for pack in force["packs"]:
        told = (
            f"{pack['level']}, {pack['tokens']:,} tokens" if "problem" not in pack else f"NOT USABLE: {pack['problem']}"
        )
        yield f"  {pack['path']} ({told})"
    held = force["learned"]
    kept = f"{held['bytes'] / 1e6:.1f} MB of {held['namespaces']} namespaces in {held['folder']}"
    yield f"learning: {'on' if force['learns'] else 'off'}, {kept}"
