"""From a drafter's folder to a model folder: its layers and its target's embeddings, put together once in the cache."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from importlib.resources import files as resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from hierdraft.engines.trimmed import TRIMMED
from hierdraft.errors import ModelError
from hierdraft.models import files
from hierdraft.models.drafter_files import CONFIG, KEPT, WEIGHTS, Shared, read_config, read_head, read_loops, read_own
from hierdraft.models.pull import MANIFEST

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "drafters"
"""Below the cache folder: where composed drafters lie."""

ABOUT = "about.json"
_FORM = 1
_TRIMMED = "-trimmed"
_ROWS = 1 << 14
_LAYERS = "model.layers."


def shipped() -> dict[str, Path]:
    """The drafters that come with hierdraft, by name."""
    folder = Path(str(resources("hierdraft.data"))) / "drafters"
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_dir()} if folder.is_dir() else {}


def shipped_models() -> list[str]:
    """The names of those that are models too, put together with their targets: heads are none."""
    return [name for name, folder in shipped().items() if read_head(folder) is None]


def composed(folder: Path, target: Path, cache_dir: Path, *, trimmed: bool = False) -> Path:
    """The model folder of a drafter and its target, made where that was not done yet; two processes take turns.

    target   the transformers folder of the model whose embeddings it shares
    trimmed  only with the output rows that it was trained with, which is faster, and takes who knows their ids

    Raises ModelError for a damaged drafter or another target, CacheError, MissingDependencyError.
    """
    files.require_packages(("torch", "transformers"))
    config, shared = _repeated(folder)
    parent = cache_dir.expanduser() / FOLDER
    with files.disk_errors(parent):
        made = parent / f"{folder.name[:80]}-{key_of(folder, target)}{_TRIMMED if trimmed else ''}"
        parent.mkdir(parents=True, exist_ok=True)
        with FileLock(parent / f".{made.name}.lock"):
            if not files.is_whole(made):
                _compose(folder, config, shared, target, made, trimmed=trimmed)
    return made


def _repeated(folder: Path) -> tuple[dict[str, Any], Shared]:
    """`read_config`, of a model that has the layers as often as they are gone through. Raises ModelError."""
    config, shared = read_config(folder)
    count, loops = config.get("num_hidden_layers"), read_loops(folder)
    return {**config, "num_hidden_layers": count * loops if isinstance(count, int) else count}, shared


def write_about(made: Path, folder: Path, target: Path) -> None:
    """Tell in a composed folder what it is made of."""
    about = {"drafter": str(folder.resolve()), "target": str(target.resolve())}
    (made / ABOUT).write_text(json.dumps(about), encoding="utf-8")


def made_of(made: Path) -> tuple[str, bool]:
    """What a folder in the cache was put together of, and whether it would be used now."""
    try:
        about = json.loads((made / ABOUT).read_text(encoding="utf-8"))
        folder, target = Path(about["drafter"]), Path(about["target"])
        return f"{folder}, with {target.name}", made.name.removesuffix(_TRIMMED).endswith(f"-{key_of(folder, target)}")
    except (OSError, ValueError, KeyError, TypeError):
        return "of an earlier version", False


def key_of(folder: Path, target: Path) -> str:
    """A name that changes with what the drafter's files hold, and with the files of its target. Raises OSError."""
    found = hashlib.sha256(str(_FORM).encode())
    for name in (CONFIG, WEIGHTS, KEPT):
        found.update(files.sha256_file(folder / name).encode() if (folder / name).is_file() else b"-")
    for file in sorted(target.iterdir()):
        if file.is_file():
            about = file.stat()
            found.update(repr((str(file.resolve()), about.st_size, about.st_mtime_ns)).encode())
    return found.hexdigest()[:16]


def _compose(folder: Path, config: dict[str, Any], shared: Shared, target: Path, made: Path, *, trimmed: bool) -> None:
    """Writes `made`, complete or not at all."""
    from safetensors.torch import save_file

    for leftover in made.parent.glob(f".{made.name}.tmp-*"):
        files.remove(leftover)
    tensors = _tensors(folder, config, shared, target)
    size = sum(one.numel() * one.element_size() for one in tensors.values())
    files.require_space(made.parent, size, files.free_bytes(made.parent))
    temporary = made.with_name(f".{made.name}.tmp-{os.getpid()}")
    try:
        temporary.mkdir()
        for file in target.iterdir():  # the tokenizer and what goes with it
            own = file.name in (CONFIG, MANIFEST) or file.name.endswith(".index.json")
            if not own and file.suffix in (".json", ".jinja", ".txt", ".model"):
                shutil.copyfile(file, temporary / file.name)
        tied = {"tie_word_embeddings": "lm_head.weight" not in tensors}
        (temporary / CONFIG).write_text(json.dumps({**config, **tied}, indent=2), encoding="utf-8")
        save_file(tensors, temporary / WEIGHTS, metadata={"format": "pt"})
        if (folder / KEPT).is_file():
            shutil.copyfile(folder / KEPT, temporary / (TRIMMED if trimmed else KEPT))
        write_about(temporary, folder, target)
        files.sync_folder(temporary)
        files.replace_folder(temporary, made, made.with_name(f".{made.name}.tmp-old-{os.getpid()}"))
    finally:
        files.remove(temporary)


def _tensors(folder: Path, config: dict[str, Any], shared: Shared, target: Path) -> dict[str, Tensor]:
    """All weights of the composed model. Output rows that the drafter was not trained with are zero, as in training."""
    import torch

    own, kept = read_own(folder)
    found = _looped({name: torch.from_numpy(values) for name, values in own.items()}, read_loops(folder))
    table = tensor_of(target, shared.input)
    rows = table if shared.output == shared.input else tensor_of(target, shared.output)
    if table is None or rows is None or digest(table, rows) != shared.sha256:
        raise ModelError(
            f"The drafter in {folder} shares the embeddings of {shared.target}, which are not those in {target}: "
            "train it for this model."
        )
    wanted = (config.get("vocab_size"), config.get("hidden_size"))
    if tuple(table.shape) != wanted or (kept is not None and int(kept[-1]) >= len(rows)):
        raise ModelError(f"The drafter in {folder} is damaged (its sizes are not its target's): train it again.")
    found["model.embed_tokens.weight"] = table
    if kept is not None:
        places = torch.from_numpy(kept).long()
        found["lm_head.weight"] = torch.zeros_like(rows)
        found["lm_head.weight"][places] = rows[places]
    elif rows is not table:
        found["lm_head.weight"] = rows
    _check_names(folder, config, found)
    return found


def _looped(own: dict[str, Tensor], loops: int) -> dict[str, Tensor]:
    """The weights of a model that has the layers so many times, each a copy."""
    numbers = {int(name.split(".")[2]) for name in own if name.startswith(_LAYERS) and name.split(".")[2].isdecimal()}
    if loops == 1 or not numbers:
        return own
    count = 1 + max(numbers)
    found: dict[str, Tensor] = {}
    for name, values in own.items():
        if not name.startswith(_LAYERS):
            found[name] = values
            continue
        _, _, number, rest = name.split(".", 3)
        for loop in range(loops):
            found[f"{_LAYERS}{int(number) + loop * count}.{rest}"] = values.clone()
    return found


def _check_names(folder: Path, config: dict[str, Any], found: dict[str, Tensor]) -> None:
    """Raises ModelError unless these are the weights of such a model: transformers would make up what is missing."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    try:
        with torch.device("meta"):
            model = LlamaForCausalLM(LlamaConfig(**config))
        wanted = {name: tuple(one.shape) for name, one in model.state_dict().items()}
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError, AttributeError) as error:
        raise ModelError(f"The drafter in {folder} is damaged ({error}): restore or train it again.") from error
    wanted = {name: shape for name, shape in wanted.items() if name in found or name != "lm_head.weight"}
    wrong = sorted(set(wanted) ^ set(found)) or [name for name in found if tuple(found[name].shape) != wanted[name]]
    if wrong:
        raise ModelError(f"The drafter in {folder} is damaged ({wrong[0]} does not fit): restore or train it again.")


def tensor_of(folder: Path, name: str) -> Tensor | None:
    """A tensor of a transformers folder, None where it has none of that name. Raises ModelError."""
    for opened in _opened(folder):
        if name in opened.keys():  # noqa: SIM118 - not a dictionary
            found: Tensor = opened.get_tensor(name)
            return found
    return None


def tensors_of(folder: Path) -> dict[str, Tensor]:
    """All tensors of a transformers folder. Raises ModelError."""
    return {
        str(name): opened.get_tensor(name)
        for opened in _opened(folder)
        for name in opened.keys()  # noqa: SIM118 - not a dictionary
    }


def names_of(folder: Path, shape: tuple[int, ...]) -> list[str]:
    """The names of a transformers folder's tensors of a shape. Raises ModelError."""
    return [
        str(name)
        for opened in _opened(folder)
        for name in opened.keys()  # noqa: SIM118 - not a dictionary
        if tuple(opened.get_slice(name).get_shape()) == shape
    ]


def _opened(folder: Path) -> Iterator[Any]:
    """The safetensors files of a folder, one after another, mapped."""
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as opened:
                yield opened
        except SafetensorError as error:
            raise ModelError(f"{path} is damaged ({error}): restore or download that model again.") from error


def digest(table: Tensor, rows: Tensor) -> str:
    """SHA-256 of embeddings [V, H] and of output rows [V, H], once where they are the same, as float32 values."""
    found = hashlib.sha256()
    for one in (table,) if rows is table else (table, rows):
        for start in range(0, len(one), _ROWS):
            found.update(one[start : start + _ROWS].float().contiguous().numpy().tobytes())
    return found.hexdigest()
