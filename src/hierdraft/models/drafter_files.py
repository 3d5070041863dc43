"""A drafter's folder as it is stored: layers of its own, and which target's embeddings belong to them.

    config.json         a plain Llama configuration, and under `hierdraft` the target and its embeddings
    model.safetensors   the layers and the final norm: float16, or int8 with a float32 scale for each row (`NAME.scale`)
    kept.safetensors    `ids` int32[K], rising: the output rows that it was trained with; without the file, all of them
    training.json       how it was made, and what it is worth on documents it was not trained on

Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from hierdraft.errors import ModelError
from hierdraft.models import files
from hierdraft.scoring import Among
from hierdraft.tree import Int32

CONFIG, WEIGHTS, KEPT, TRAINING = "config.json", "model.safetensors", "kept.safetensors", "training.json"
ABOUT = "hierdraft"
"""Key of config.json under which the target stands."""

FORM = 1
FORMS = ("float16", "int8")
AMONG: dict[str, Among] = {"parallel": "above", "block": "all", "coral": "none"}
"""Heads that say several tokens in one call, and which other rows of the call a row sees."""

EXIT = "exit"
"""Exits of the target, which are no head: they draft in the target itself."""

HEADS = ("eagle3", "koala", *AMONG, EXIT)
MOST_OFFSETS, MOST_LOOPS = 64, 64
_SCALE = ".scale"

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Shared:
    """Which rows of a target a drafter has no copy of.

    target   a model's name, or its folder
    input    name of its table of embeddings in its safetensors files
    output   name of its output rows; the same where it shares them
    sha256   of the values of both, see `drafters.digest`
    """

    target: str
    input: str
    output: str
    sha256: str


@dataclass(frozen=True)
class Head:
    """What a drafter is that reads hidden states of its target.

    kind     one of HEADS
    states   the layers that they come out of
    offsets  tokens that it says in one call
    """

    kind: str
    states: tuple[int, ...]
    offsets: int = 1


def is_drafter(folder: Path) -> bool:
    """Whether a folder holds a drafter's own layers and no whole model."""
    try:
        return ABOUT in files.read_json(folder / CONFIG)
    except ModelError:  # no model folder at all, or a damaged one: whoever needs it whole says so
        return False


def config_of(plain: Mapping[str, Any], shared: Shared, head: Head | None = None, loops: int = 1) -> dict[str, Any]:
    """What config.json holds; `loops`: how many times the layers are gone through."""
    more = asdict(head) if head is not None else {"loops": loops} if loops > 1 else {}
    return {**plain, ABOUT: {"form": FORM, **asdict(shared), **more}}


def read_config(folder: Path) -> tuple[dict[str, Any], Shared]:
    """The plain Llama configuration, and what the drafter shares. Raises ModelError with one sentence."""
    config = files.read_json(folder / CONFIG)
    about = config.pop(ABOUT, None)
    fields = ("target", "input", "output", "sha256")
    if not isinstance(about, dict) or not all(isinstance(about.get(name), str) and about[name] for name in fields):
        raise ModelError(f"{folder / CONFIG} does not say which model the drafter is for: it is damaged.")
    if about.get("form") != FORM:
        raise ModelError(f"The drafter in {folder} was written by another version of hierdraft: train it again.")
    return config, Shared(**{name: about[name] for name in fields})


def read_loops(folder: Path) -> int:
    """How many times a drafter's layers are gone through. Raises ModelError."""
    about = files.read_json(folder / CONFIG).get(ABOUT)
    loops = about.get("loops", 1) if isinstance(about, dict) else 1
    if type(loops) is not int or not 1 <= loops <= MOST_LOOPS:
        raise ModelError(f"{folder / CONFIG} does not say how often the layers are gone through: it is damaged.")
    return loops


def read_head(folder: Path) -> Head | None:
    """What a drafter's folder says of a head; None: it is a model of its own. Raises ModelError."""
    about = files.read_json(folder / CONFIG).get(ABOUT)
    if not isinstance(about, dict) or "kind" not in about:
        return None
    kind, states = about["kind"], about.get("states")
    if kind not in HEADS:
        raise ModelError(
            f"The head in {folder} is of the kind {kind!r}, which this version of hierdraft does not know."
        )
    if not (isinstance(states, list) and states and all(type(one) is int and one >= 0 for one in states)):
        raise ModelError(f"{folder / CONFIG} does not say which hidden states the head reads: it is damaged.")
    offsets = about.get("offsets", 1)
    if type(offsets) is not int or not (1 < offsets <= MOST_OFFSETS if kind in AMONG else offsets == 1):
        raise ModelError(f"{folder / CONFIG} does not say how many tokens the head says in one call: it is damaged.")
    return Head(kind, tuple(states), offsets)


def packed(own: Mapping[str, Float32], form: str) -> dict[str, NDArray[Any]]:
    """Weights as model.safetensors holds them; vectors stay float32. `form`: one of FORMS."""
    stored: dict[str, NDArray[Any]] = {}
    for name, values in own.items():
        if values.ndim == 1:
            stored[name] = values.astype(np.float32)
        elif form == "float16":
            stored[name] = values.astype(np.float16)
        else:
            scale = np.maximum(np.abs(values).max(axis=1), np.finfo(np.float32).tiny).astype(np.float32) / np.float32(
                127
            )
            stored[name] = np.rint(values / scale[:, None]).astype(np.int8)
            stored[name + _SCALE] = scale
    return stored


def unpacked(stored: Mapping[str, NDArray[Any]]) -> dict[str, Float32]:
    """The weights that `packed` stored. Raises ValueError where a scale is missing."""
    own: dict[str, Float32] = {}
    for name, values in stored.items():
        if name.endswith(_SCALE):
            continue
        wide = values.astype(np.float32)
        if values.dtype == np.int8:
            if name + _SCALE not in stored:
                raise ValueError(f"{name} has no scale")
            wide *= stored[name + _SCALE].astype(np.float32)[:, None]
        own[name] = wide
    return own


def read_own(folder: Path) -> tuple[dict[str, Float32], Int32 | None]:
    """The layers and the norm in float32, and which output rows count, None: all. Raises ModelError."""
    try:
        own = unpacked(load_file(folder / WEIGHTS))
        kept = load_file(folder / KEPT)["ids"] if (folder / KEPT).is_file() else None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ModelError(f"The drafter in {folder} is damaged ({short(error)}): restore or train it again.") from error
    if kept is not None and not _rising(kept):
        raise ModelError(f"The drafter in {folder} is damaged ({KEPT} holds no rising ids): restore or train it again.")
    return own, kept


def short(error: Exception) -> str:
    """An error in a few words."""
    return " ".join(str(error).split())[:120].rstrip(".") or type(error).__name__


def _rising(ids: NDArray[Any]) -> bool:
    """Whether these are ids int32[K], K > 0, that rise from 0 or more."""
    if ids.dtype != np.int32 or ids.ndim != 1 or not len(ids) or ids[0] < 0:
        return False
    return bool((np.diff(ids.astype(np.int64)) > 0).all())
