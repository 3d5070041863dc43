"""What the drafter has learned about its own look-ups: how much each kind of evidence is worth.

It holds no text. Cells count how often their candidates were the target's choice at a position on the target's own
path, and start from a prior; the weights of `evidence.py` follow the gradient. Weights of single tokens are kept per
namespace and in memory only, because what a tenant often says is the tenant's.

What several drafters learn at once comes together in one file: each adds what it has learned since it last read or
stored it. Drafters that ask other levels see other evidence, and have a file of their own.
"""

from __future__ import annotations

import json
import warnings
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from hierdraft.databases.disk import replace_file
from hierdraft.databases.hashchain import ORDERS
from hierdraft.drafting.hierarchy.cells import CELLS, SHARES, SKIP, SOURCES, prior
from hierdraft.drafting.hierarchy.evidence import (
    AGES,
    MASKS,
    RANKS,
    TOKENS,
    Weights,
    initial_weights,
    worth_of,
)
from hierdraft.errors import DraftWarning
from hierdraft.kernels import njit
from hierdraft.levels import asked_levels, code_of, level_names

FORMAT = "hierdraft-calibration-1"
NAMESPACES = 8
"""Namespaces whose token weights are kept, the most recently used ones."""

_FIRST = ("reference", "context", "recycled", "model", "statistics")
"""The levels of files that do not say which."""

_WEIGHT = 6.0
_MOST = 200.0


class Calibration:
    """Counters of cells, weights of looks: shared by all requests of a drafter.

    levels   those that files have parts for
    """

    def __init__(self, levels: Sequence[str] = ()) -> None:
        """Start from the prior. `levels`: further ones, beside those that are always asked."""
        self.levels = (*asked_levels(), *(level for level in levels if level not in asked_levels()))
        fresh = self._fresh()
        self.tried, self.accepted = fresh.pop("tried"), fresh.pop("accepted")
        self._mixing = fresh
        self._evidence = np.empty(CELLS, dtype=np.float32)
        self._tokens: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        _weigh(self.tried, self.accepted, self._evidence)
        self._kept = self._copy()

    @staticmethod
    def _fresh() -> dict[str, NDArray[Any]]:
        """All arrays before anything was learned."""
        return {"tried": np.full(CELLS, _WEIGHT), "accepted": prior() * _WEIGHT, **initial_weights()}

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """What files have their parts of."""
        return {"tried": self.tried, "accepted": self.accepted, **self._mixing}

    def _copy(self) -> dict[str, NDArray[Any]]:
        return {name: array.copy() for name, array in self._arrays().items()}

    def weights(self, namespace: str) -> Weights:
        """The weights as they now are and will be: they keep learning in place."""
        if namespace not in self._tokens:
            self._tokens[namespace] = np.zeros(TOKENS + 1, dtype=np.float32)
        self._tokens.move_to_end(namespace)
        if len(self._tokens) > NAMESPACES:
            self._tokens.popitem(last=False)
        return Weights(self._evidence, **self._mixing, token=self._tokens[namespace])

    def save(self, path: Path) -> None:
        """Add what was learned since the last `read` or `save` to what is stored; where that cannot be done, warn.

        A file that is not usable is replaced: `read` has warned of it.
        """
        learned = self._arrays()
        try:
            with suppress(FileNotFoundError, ValueError):
                stored = self._stored(path)
                learned = {name: stored[name] + (array - self._kept[name]) for name, array in learned.items()}
                learned["accepted"] = np.clip(learned["accepted"], 0.0, learned["tried"])
            _write(path, _narrowed(learned, self.levels), self.levels)
        except OSError as error:
            _warn(f"The calibration is not stored: {error}.")
            return
        self._kept = self._copy()

    def write(self, path: Path) -> None:
        """Store what was learned, complete or not at all, in place of what was there. Raises OSError."""
        _write(path, _narrowed(self._arrays(), self.levels), self.levels)

    def read(self, path: Path) -> bool:
        """Continue from a file that `write` made; one that is not usable is left alone with a warning."""
        try:
            stored = self._stored(path)
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            _warn(f"The calibration {path} is not used: {error}.")
            return False
        for name, array in self._arrays().items():
            array[...] = stored[name]
        _weigh(self.tried, self.accepted, self._evidence)
        self._kept = self._copy()
        return True

    def _stored(self, path: Path) -> dict[str, NDArray[Any]]:
        """What a file holds, old experience reduced. Raises OSError, and ValueError where it is not usable."""
        content = path.read_bytes()
        try:
            stored, levels = load(content), _levels_in(content)
        except SafetensorError as error:
            raise ValueError(str(error)) from error
        fresh = self._fresh()
        if _shapes(stored) != _shapes(_narrowed(fresh, levels)):
            raise ValueError("it was made by another version")
        if not all(np.isfinite(array).all() for array in stored.values()):
            raise ValueError("it holds numbers that are not finite")
        if not ((stored["tried"] > 0) & (stored["accepted"] >= 0) & (stored["accepted"] <= stored["tried"])).all():
            raise ValueError("its counters make no sense")
        keep = np.minimum(1.0, _MOST / stored["tried"])  # old experience must not outweigh what is seen now
        stored |= {"tried": stored["tried"] * keep, "accepted": stored["accepted"] * keep}
        _widen(fresh, stored, levels)
        return fresh

    def read_default(self) -> bool:
        """Continue from what comes with hierdraft, for these levels if there is one: learned from text that is ours."""
        shipped = Path(str(files("hierdraft.data") / "calibration.safetensors"))
        own = file_of(shipped, self.levels)
        return self.read(own if own.is_file() else shipped)


def file_of(path: Path, levels: Collection[str]) -> Path:
    """The file beside `path` for drafters that ask these levels; `path` itself for those that ask all databases."""
    asked = tuple(level for level in level_names() if level in levels)
    return path if asked == asked_levels() else path.with_name(f"{path.stem}.{'+'.join(asked)}{path.suffix}")


def _shapes(arrays: Mapping[str, NDArray[Any]]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def _places(levels: Sequence[str]) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Array -> a shape to see it in, and what of that belongs to these levels. The arrays have room for more."""
    codes = [code_of(level) for level in levels]
    sources = codes + [SKIP + code for code in codes]
    bits = np.array([1 << place for place in (*codes, SKIP)])
    sets = (np.arange(1 << len(bits))[:, None] >> np.arange(len(bits)) & 1) @ bits
    return {
        "tried": ((SOURCES, -1), sources), "accepted": ((SOURCES, -1), sources),
        "look": ((RANKS, SOURCES, ORDERS), (slice(None), sources)),
        "mask": ((MASKS,), sets), "mix": ((SHARES, MASKS, AGES), (slice(None), sets)),
    }  # fmt: skip


def _narrowed(arrays: Mapping[str, NDArray[Any]], levels: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The part of the arrays that belongs to some levels, as files hold it."""
    parts = {name: arrays[name].reshape(shape)[which].ravel() for name, (shape, which) in _places(levels).items()}
    return {**arrays, **parts}


def _widen(arrays: dict[str, NDArray[Any]], parts: Mapping[str, NDArray[Any]], levels: Sequence[str]) -> None:
    """Put what `_narrowed` made for these levels back in its places."""
    for name, (shape, which) in _places(levels).items():
        whole = arrays[name].reshape(shape)
        whole[which] = parts[name].reshape(whole[which].shape)
    arrays.update({name: array for name, array in parts.items() if name not in _places(())})


def _levels_in(content: bytes) -> list[str]:
    """The levels that a file has parts for. Raises ValueError."""
    length = int.from_bytes(content[:8], "little")
    named = json.loads(content[8 : 8 + length]).get("__metadata__", {}).get("levels")
    levels = list(_FIRST) if named is None else named.split(",")
    unknown = set(levels) - set(level_names())
    if unknown:
        raise ValueError(f"it knows levels that are not known here: {', '.join(sorted(unknown))}")
    return levels


def _write(path: Path, arrays: Mapping[str, NDArray[Any]], levels: Sequence[str]) -> None:
    about = {"format": FORMAT} | ({} if tuple(levels) == _FIRST else {"levels": ",".join(levels)})
    replace_file(path, save(dict(arrays), metadata=about))


def _warn(what: str) -> None:
    warnings.warn(what, DraftWarning, stacklevel=4)


@njit(nogil=True)
def _weigh(tried: Any, accepted: Any, evidence: Any) -> None:
    """Evidence float32[CELLS] from the counters."""
    for cell in range(len(tried)):
        evidence[cell] = worth_of(accepted[cell] / tried[cell])
