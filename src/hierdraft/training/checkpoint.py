"""A training on disk: weights, what the optimiser holds, and how far it is. Written whole or not at all."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from hierdraft.databases.disk import SharedDisk, write_file
from hierdraft.errors import TrainingError

NAME = "checkpoint.safetensors"

_CHUNK = 1 << 22
_OF = {"exp_avg": "mean.", "exp_avg_sq": "square."}


@dataclass
class State:
    """How far a training is. The order of windows follows from the seed and the number of steps.

    steps, seconds   so far; `tokens`: of documents, those without a loss too
    curve            a row for each report: steps, tokens, seconds, and the loss per token since the one before
    resumed          at which steps it was taken up again
    """

    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)
    resumed: list[int] = field(default_factory=list)


def write_checkpoint(
    folder: Path, identity: str, body: torch.nn.Module, optimizer: torch.optim.Optimizer, state: State
) -> None:
    """Replace the folder's checkpoint. Raises TrainingError where there is no room; then the one before stays."""
    tensors: dict[str, Tensor] = {}
    for name, one in body.named_parameters():
        tensors[f"weight.{name}"] = one.detach()
        for key, prefix in _OF.items():
            if one in optimizer.state:
                tensors[prefix + name] = optimizer.state[one][key]
    about = {"identity": identity, "state": json.dumps(asdict(state))}
    data = memoryview(save(tensors, about))
    chunks = (data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK))
    try:
        write_file(SharedDisk(), folder / NAME, chunks)
    except OSError as error:
        raise TrainingError(f"{folder / NAME} cannot be written ({error.strerror or error}): make room.") from error


def identity_of(folder: Path) -> str:
    """What the folder's checkpoint belongs to. Raises TrainingError for one that cannot be read."""
    return _about(folder)["identity"]


def _about(folder: Path) -> dict[str, str]:
    try:
        with safe_open(folder / NAME, framework="pt") as opened:
            about: dict[str, str] = opened.metadata() or {}
        if {"identity", "state"} <= set(about):
            return about
        reason = "it says nothing of a training"
    except (OSError, SafetensorError) as error:
        reason = str(error)
    raise TrainingError(f"{folder / NAME} cannot be used ({reason}): remove it to begin anew.")


def read_checkpoint(folder: Path, body: torch.nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """Put weights and optimiser where they were, and return how far that was. Raises TrainingError."""
    try:
        state = State(**json.loads(_about(folder)["state"]))
        with safe_open(folder / NAME, framework="pt") as opened, torch.no_grad():
            for name, one in body.named_parameters():
                one.copy_(opened.get_tensor(f"weight.{name}"))
                if state.steps:
                    held: dict[str, Any] = {key: opened.get_tensor(prefix + name) for key, prefix in _OF.items()}
                    optimizer.state[one] = {"step": torch.tensor(float(state.steps)), **held}
    except (OSError, SafetensorError, ValueError, TypeError, RuntimeError) as error:
        raise TrainingError(f"{folder / NAME} cannot be used ({error}): remove it to begin anew.") from error
    return state
