"""The OpenVINO engine: the same tree verification, without torch between the steps of a forward. CPU only.

Keys and values lie in our own blocks, which OpenVINO's paged attention reads and writes (`Blocks`), or in variables of
the graph where a model has sliding windows (`Variables`).
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.choices import number_type
from hierdraft.engines.costs import StepCosts
from hierdraft.engines.measure import CHECK, attends_as_told, measured_costs
from hierdraft.engines.openvino.files import Facts, graph_file
from hierdraft.engines.openvino.paged import Blocks, paged
from hierdraft.engines.openvino.runtime import openvino
from hierdraft.engines.openvino.treerows import depth_first
from hierdraft.engines.openvino.variables import Variables
from hierdraft.engines.topids import top_ids
from hierdraft.errors import UnsupportedModelError, UsageError
from hierdraft.tree import DraftTree, Int32

Logits = NDArray[np.float32]

SIZES = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Rows that forwards have. OpenVINO prepares every kernel anew when their number changes, which takes a third of a
step, so a forward gets useless rows beside those that count where that is cheaper than another number of rows."""

_SHARE = 0.6
"""How much of a change's cost is laid on the step that makes it; those that follow have the benefit too."""

_PART = 2048


class OpenVINOEngine:
    """An `Engine` over a graph that `models/graphs.py` made. One request at a time.

    Logits are a view of the graph's own memory: they hold until the next forward.
    """

    def __init__(self, folder: Path, dtype: str = "float32", threads: int | None = None) -> None:
        """Compile the graph and check, with a tiny tree, that it attends as told, where that was not done before.

        dtype     `float32`; `float16`: weights of half the size, computed with in float32; `bfloat16`: computed with
                  in bfloat16; `int8`: weights of a quarter of the size
        threads   None: OpenVINO's own choice

        Raises ModelError, UnsupportedModelError, or UsageError for a number type that this CPU does not have.
        """
        facts = Facts.read(folder)
        self.architecture, self.vocab_size, self.windows = facts.architecture, facts.vocab_size, facts.windows
        self.max_length, self.bounded, self.eos_ids = facts.max_length, facts.bounded, facts.eos_ids
        self.name, self.dtype, self.device = "openvino", dtype, "cpu"
        self.exact = number_type(dtype).exact
        self.costs = StepCosts()
        self.fingerprint = _fingerprint(folder, dtype, threads)
        self._cache = _cache(folder, _options(dtype, threads), facts.windows)
        self._sizes = tuple(size for size in SIZES if size >= self._cache.least)
        self._rows = 0
        self._places = np.zeros(1, dtype=np.int64)
        self._prices: list[float] = []
        self._changed = False
        checked = folder / f"checked-{self.fingerprint}-{CHECK}"
        if not checked.exists():
            if not self._follows_masks():
                raise UnsupportedModelError(
                    f"{self.architecture} does not follow an explicit mask as an OpenVINO graph."
                )
            with suppress(OSError):
                checked.touch()

    def _follows_masks(self) -> bool:
        try:
            return attends_as_told(self)
        except Exception as error:  # a kernel that cannot do it raises anything
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise UnsupportedModelError(f"{self.architecture} does not run as an OpenVINO graph ({reason}).") from error

    @property
    def threads(self) -> int:
        """CPU threads that a forward uses."""
        return self._cache.threads

    @property
    def length(self) -> int:
        """Positions committed."""
        return self._cache.length

    def prefill(self, ids: Sequence[int] | Int32, rows: int = 1) -> Logits:
        """Score the prompt from an empty cache; logits[rows, V] of its last positions."""
        self._cache.clear()
        tokens = np.asarray(ids, dtype=np.int64)
        scored = min(len(tokens), max(rows, self._sizes[0]))
        last = len(tokens) - scored
        start = 0
        while len(tokens) - start > _PART and last > start:  # all rows at once could need too much memory
            part = min(_PART, last - start)
            self._score(tokens[start : start + part], np.array([part - 1]))
            start += part
        logits = self._score(tokens[start:], np.arange(last - start, len(tokens) - start))
        return logits[scored - max(rows, 1) :]

    def _score(self, tokens: NDArray[np.int64], wanted: NDArray[np.int64]) -> Logits:
        """Rows that continue the text."""
        where = np.arange(self.length, self.length + len(tokens))
        logits = self._run(tokens, where, None, wanted)
        self._cache.keep(range(len(tokens)))
        return logits

    def forward(self, last: int, tree: DraftTree) -> Logits:
        """Score `last` and every node in one pass; logits[1+n, V].

        The rows go depth first: then those of the likeliest path lie as they would without the others, and are scored
        in the same arithmetic, to the last bit.
        """
        count = len(tree) + 1
        rows = self._rows_for(count)
        self._places, depths, seen = np.arange(rows), np.zeros(rows, dtype=np.int64), np.eye(rows, dtype=bool)
        depth_first(tree.parents, self._places[:count], depths, seen)
        tokens = np.zeros(rows, dtype=np.int64)
        tokens[0], tokens[self._places[1:count]] = last, tree.tokens
        self._changed = rows != self._rows
        return self._run(tokens, depths + self.length, seen, self._places)[:count]

    def _rows_for(self, count: int) -> int:
        """How many rows a forward has that needs `count`."""
        least = self._sizes[0]
        if not self.costs.known or count > self._sizes[-1] or (count <= least and self.costs.must_be_plain):
            return max(count, least)
        return self._cheapest(self.costs.change)[bisect_left(self._sizes, count)][1]

    def _cheapest(self, change: float) -> list[tuple[float, int]]:
        """For each size, the cheapest forward with that many rows or more: (seconds, rows).

        change   seconds that another number of rows than before costs
        """
        found = [(math.inf, 0)]
        for size in reversed(self._sizes):
            found.append(min(found[-1], (self.costs.seconds(size) + (change if size != self._rows else 0.0), size)))
        return found[:0:-1]

    def _run(
        self, tokens: NDArray[np.int64], where: NDArray[np.int64], seen: NDArray[np.bool_] | None,
        wanted: NDArray[np.int64],
    ) -> Logits:  # fmt: skip
        logits = self._cache.score(tokens, where, seen, wanted)
        self._rows = len(tokens)
        self._prices = []
        return logits

    def commit(self, path: Sequence[int]) -> None:
        """Keep row 0 and the rows of the accepted nodes."""
        self._cache.keep(self._places[[0, *(node + 1 for node in path)]].tolist())

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` positions."""
        self._cache.rewind(length)

    def cached(self) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """Keys and values of every layer, float[1, heads, length, dim]."""
        return self._cache.cached()

    def choices(self, logits: Logits) -> Int32:
        """The highest logit per row, the lowest id among equals."""
        highest: Int32 = logits.argmax(axis=1).astype(np.int32)
        return highest

    def values(self, logits: Logits, row: int) -> NDArray[Any]:
        """One row, copied."""
        return np.array(logits[row])

    def top_ids(self, logits: Logits, k: int) -> Int32:
        """The ids of the k highest logits per row, best first."""
        return top_ids(logits, len(logits), k)

    def cost(self, rows: int) -> float:
        """Seconds of a forward of `rows` rows now; 0.0 before `measure_costs`."""
        if self.costs.must_be_plain:
            return self.costs(rows)
        if rows > SIZES[-1]:
            return self.costs(rows) + _SHARE * self.costs.change
        if not self._prices:
            found = self._cheapest(_SHARE * self.costs.change)
            self._prices = [found[bisect_left(self._sizes, count)][0] for count in range(SIZES[-1] + 1)]
        return self._prices[rows]

    def record(self, rows: int, seconds: float) -> None:  # noqa: ARG002 - the useless rows cost as much
        """Follow the running engine's own timings."""
        if self._changed:
            self.costs.record_change(self._rows, seconds)
        else:
            self.costs.record(self._rows, seconds)
        self._prices = []

    def measure_costs(self, stored: Path | None = None, context: int = 256) -> StepCosts:
        """See `measured_costs`, whose figures are used from now on."""
        self.costs = StepCosts()  # forwards with as many rows as asked for
        self.costs = measured_costs(self, stored, context, self._sizes, again=True)
        self._prices = []
        return self.costs


def _options(dtype: str, threads: int | None) -> dict[str, Any]:
    """What a graph is compiled with. Raises UsageError."""
    has_bfloat16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if dtype == "bfloat16" and not has_bfloat16:
        raise UsageError("This CPU does not compute in bfloat16: use float16, whose weights are as small.")
    half = dtype == "bfloat16" or (dtype == "int8" and has_bfloat16)
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
        "KV_CACHE_PRECISION": "bf16" if half else "f32",
        **({} if half else {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}),  # else rows would depend on how many there are
        **({} if threads is None else {"INFERENCE_NUM_THREADS": threads}),
    }


def _cache(folder: Path, options: dict[str, Any], windows: Sequence[int | None]) -> Blocks | Variables:
    """The compiled graph, in the cache that suits it. Raises UnsupportedModelError."""
    core = openvino.Core()
    try:
        graph = core.read_model(graph_file(folder))
        if any(windows):
            return Variables(core.compile_model(graph, "CPU", options), windows)
        return Blocks(core.compile_model(paged(graph), "CPU", options))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UnsupportedModelError(f"OpenVINO cannot compile {folder} ({reason}).") from error


def _fingerprint(folder: Path, dtype: str, threads: int | None) -> str:
    """Identifies what a step does and costs: graph (whose name knows model and versions), number type, threads, CPU."""
    processor = openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")
    return hashlib.sha256(f"{folder.name}\n{dtype}\n{threads}\n{processor}".encode()).hexdigest()[:24]
