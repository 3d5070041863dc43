"""Adapter folders: merged into their base model once, and kept as a model folder of their own."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

from hierdraft.errors import ModelError, UnsupportedModelError
from hierdraft.models import files
from hierdraft.processes import run_module, stop_with_parent

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

_VIRTUAL = ("ADAPTION_PROMPT", "CPT", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "PROMPT_TUNING")
"""Kinds that add tokens or keys of their own instead of changing weights."""


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no model."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").exists()


def base_of(folder: Path) -> str:
    """The name or folder of the model that an adapter was trained on.

    Raises ModelError for a damaged folder, UnsupportedModelError for an adapter that cannot become part of weights.
    """
    config = files.read_json(folder / CONFIG)
    kind, base = config.get("peft_type"), config.get("base_model_name_or_path")
    if kind in _VIRTUAL:
        raise UnsupportedModelError(
            f"The adapter in {folder} is of kind {kind}, which adds virtual tokens to the text, so drafts cannot be "
            "verified: use its plain generate()."
        )
    if not (folder / WEIGHTS).is_file():
        raise ModelError(f"{folder} has no {WEIGHTS}: save the adapter as safetensors.")
    if not isinstance(base, str) or not base:
        raise ModelError(f"{folder / CONFIG} does not name its base model: set base_model_name_or_path.")
    return base


def merged(folder: Path, base: Path, cache_dir: Path) -> Path:
    """The model folder of an adapter and its base, made where that was not done yet; two processes take turns.

    Raises ModelError, MissingDependencyError.
    """
    files.require_packages(("torch", "transformers", "peft"))
    parent = cache_dir.expanduser() / "adapters"
    with files.disk_errors(parent):
        target = parent / _key(folder, base)
        parent.mkdir(parents=True, exist_ok=True)
        with FileLock(parent / f".{target.name}.lock"):
            if not files.is_whole(target):
                _merge(folder, base, target)
    return target


def _key(folder: Path, base: Path) -> str:
    """A name that changes with the adapter, its base, and what takes part in merging them."""
    found = hashlib.sha256(repr([version(package) for package in ("peft", "torch", "transformers")]).encode())
    for file in (*sorted(folder.iterdir()), *sorted(base.iterdir())):
        if file.is_file():
            about = file.stat()
            found.update(repr((str(file.resolve()), about.st_size, about.st_mtime_ns)).encode())
    return f"{folder.name}-{found.hexdigest()[:16]}"


def _merge(folder: Path, base: Path, target: Path) -> None:
    """Writes `target`, complete or not at all."""
    for leftover in target.parent.glob(f".{target.name}.tmp-*"):
        files.remove(leftover)
    size = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    files.require_space(target.parent, size, files.free_bytes(target.parent))
    temporary = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    try:
        done = run_module("hierdraft.models.adapters", str(folder), str(base), str(temporary))
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise ModelError(
                f"The adapter in {folder} cannot be merged into {base} ({lines[-1].rstrip('.')}): check that this is "
                "the model it was trained on."
            )
        for file in (*base.iterdir(), *folder.iterdir()):  # the tokenizer and what goes with it; the adapter's wins
            own = file.name in (CONFIG, "config.json") or file.name.endswith(".index.json")
            if not own and file.suffix in (".json", ".jinja", ".txt", ".model"):
                shutil.copyfile(file, temporary / file.name)
        files.sync_folder(temporary)
        files.replace_folder(temporary, target, target.with_name(f".{target.name}.tmp-old-{os.getpid()}"))
    finally:
        files.remove(temporary)


def _save_merged(folder: str, base: str, target: str) -> None:
    """Add an adapter's changes to the weights of its base, in the base's own number type, and save the sum."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto", use_safetensors=True, trust_remote_code=False)
    joined = PeftModel.from_pretrained(model, folder).merge_and_unload(safe_merge=True)
    joined.save_pretrained(target)


if __name__ == "__main__":
    stop_with_parent()
    _save_merged(*sys.argv[1:4])
