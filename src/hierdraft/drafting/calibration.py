"""What the drafter has learned about its own look-ups: how much each kind of evidence is worth.

It holds no text. Cells count how often their candidates were the target's choice at a position on the target's own
path, and start from a prior; the weights of `evidence.py` follow the gradient. Weights of single tokens are kept per
namespace and in memory only, because what a tenant often says is the tenant's.
"""

from __future__ import annotations

import os
import warnings
from collections import OrderedDict
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from hierdraft.drafting.cells import CELLS, prior
from hierdraft.drafting.evidence import TOKENS, Evidence, Weights, initial_weights, teach_all, worth_of
from hierdraft.errors import DraftWarning

FORMAT = "hierdraft-calibration-1"
NAMESPACES = 8
"""Namespaces whose token weights are kept, the most recently used ones."""

_WEIGHT = 6.0
_MOST = 200.0


class Calibration:
    """Counters of cells, weights of looks: shared by all requests of a drafter."""

    def __init__(self) -> None:
        """Start from the prior."""
        self.tried = np.full(CELLS, _WEIGHT)
        self.accepted = prior() * _WEIGHT
        self._evidence = np.empty(CELLS, dtype=np.float32)
        self._mixing = initial_weights()
        self._tokens: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        _weigh(self.tried, self.accepted, self._evidence)

    def weights(self, namespace: str) -> Weights:
        """The weights as they now are and will be: they go on learning in place."""
        if namespace not in self._tokens:
            self._tokens[namespace] = np.zeros(TOKENS + 1, dtype=np.float32)
        self._tokens.move_to_end(namespace)
        if len(self._tokens) > NAMESPACES:
            self._tokens.popitem(last=False)
        return Weights(self._evidence, **self._mixing, token=self._tokens[namespace])

    def learn(self, evidence: Evidence, weights: Weights, rows: NDArray[np.int64], choices: NDArray[np.int32]) -> None:
        """What the target chose at rows on its own path; rows that were not expanded teach nothing."""
        teach_all(evidence, weights, self.tried, self.accepted, rows, choices)

    def save(self, path: Path) -> None:
        """Store what was learned; where that cannot be done, warn."""
        try:
            self.write(path)
        except OSError as error:
            warnings.warn(f"The calibration is not stored: {error}.", DraftWarning, stacklevel=3)

    def write(self, path: Path) -> None:
        """Store what was learned, complete or not at all. Raises OSError."""
        arrays = {"tried": self.tried, "accepted": self.accepted, **self._mixing}
        data = save(arrays, metadata={"format": FORMAT})
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, path)

    def read(self, path: Path) -> bool:
        """Go on from a file that `write` made; one that is not usable is left alone with a warning."""
        try:
            stored = load(path.read_bytes())
        except FileNotFoundError:
            return False
        except (OSError, SafetensorError, ValueError) as error:
            return _refuse(path, str(error))
        own = {"tried": self.tried, "accepted": self.accepted, **self._mixing}
        if {name: array.shape for name, array in stored.items()} != {name: array.shape for name, array in own.items()}:
            return _refuse(path, "it was made by another version")
        if not all(np.isfinite(array).all() for array in stored.values()):
            return _refuse(path, "it holds numbers that are not finite")
        if not ((stored["tried"] > 0) & (stored["accepted"] >= 0) & (stored["accepted"] <= stored["tried"])).all():
            return _refuse(path, "its counters make no sense")
        for name, array in own.items():
            array[...] = stored[name]
        keep = np.minimum(1.0, _MOST / self.tried)  # old experience must not outweigh what is seen now
        self.tried *= keep
        self.accepted *= keep
        _weigh(self.tried, self.accepted, self._evidence)
        return True

    def read_default(self) -> bool:
        """Go on from what comes with hierdraft: learned in replay of text that is part of it."""
        return self.read(Path(str(files("hierdraft.data") / "calibration.safetensors")))


def _refuse(path: Path, reason: str) -> bool:
    warnings.warn(f"The calibration {path} is not used: {reason}.", DraftWarning, stacklevel=4)
    return False


@njit(cache=True, nogil=True)
def _weigh(tried: Any, accepted: Any, evidence: Any) -> None:
    """Evidence float32[CELLS] from the counters."""
    for cell in range(len(tried)):
        evidence[cell] = worth_of(accepted[cell] / tried[cell])
