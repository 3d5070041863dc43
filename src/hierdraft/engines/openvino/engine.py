"""The OpenVINO engine: the same tree verification, without torch between the steps of a forward. CPU only.

Keys and values lie in our own blocks, which OpenVINO's paged attention reads and writes (`Pool`), or in variables of
the graph where a model has sliding windows (`Variables`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.choices import number_type
from hierdraft.engines.costs import StepCosts
from hierdraft.engines.measure import CHECK, attends_as_told, measured_costs
from hierdraft.engines.openvino.calls import in_calls
from hierdraft.engines.openvino.callsizes import CallSizes
from hierdraft.engines.openvino.compiled import Compiled
from hierdraft.engines.openvino.compiling import compile_graph, has_bfloat16
from hierdraft.engines.openvino.files import Facts, graph_file
from hierdraft.engines.openvino.margin import least_that_pays, promise_of
from hierdraft.engines.openvino.paged import Pool
from hierdraft.engines.openvino.pagedgraph import LEAST
from hierdraft.engines.openvino.pagedsequence import PagedSequence
from hierdraft.engines.openvino.rows import Found
from hierdraft.engines.openvino.runtime import openvino
from hierdraft.engines.openvino.variables import Variables, VariablesSequence
from hierdraft.engines.sequences import check_parts, new_rows
from hierdraft.engines.topids import top_ids
from hierdraft.errors import UnsupportedModelError, UsageError
from hierdraft.protocols import Doubt, Offers, Part, Scored
from hierdraft.tree import Int32

Logits = NDArray[np.float32]

_WAY = 4
"""Of scoring rows: with another, what was found out about costs and margins does not count any more."""


class OpenVINOEngine:
    """An `Engine` over a graph that `models/graphs.py` made. Logits are a view of the graph's own memory."""

    def __init__(
        self, folder: Path, dtype: str = "float32", threads: int | None = None, *, exact: bool | None = None
    ) -> None:
        """Compile the graph and check, with a tiny tree, that it attends as told, where that was not done before.

        dtype     `float32`; `float16`: weights of half the size, computed with in float32; `bfloat16`: computed with
                  in bfloat16; `int8`, `int4`: weights of a quarter or an eighth of the size, computed with in bfloat16
                  where the CPU can. Weights that were found as they are stay so, whatever is computed in
        threads   None: OpenVINO's own choice
        exact     promise plain decoding's ids everywhere, in a number type in which rows of other branches are rounded
                  otherwise: such rows are scored again before anything hangs on them, and their choices are believed
                  only where they lead clearly. Not with sliding windows. None: no, since that costs some speed

        Raises ModelError, UnsupportedModelError, or UsageError for a number type that this CPU does not have.
        """
        facts = Facts.read(folder)
        self.architecture, self.vocab_size, self.windows = facts.architecture, facts.vocab_size, facts.windows
        self.max_length, self.bounded, self.eos_ids = facts.max_length, facts.bounded, facts.eos_ids
        self.name, self.dtype, self.device = "openvino", dtype, "cpu"
        self.exact = number_type(dtype).exact
        self.fingerprint = _fingerprint(folder, dtype, threads, exact=bool(exact))
        options = _options(dtype, threads)
        single = not (self.exact or exact) and options["INFERENCE_PRECISION_HINT"] == "f32"
        self._cache = _cache(graph_file(folder, facts), options, facts.windows, 1 if single else LEAST)
        self.offers = _offers(self._cache)
        self._changed = False
        self._margin: float | None = None
        self.bound_rows(self._cache.least, 0)
        self._several, self.source = False, ""
        checked = folder / f"checked-{self.fingerprint}-{CHECK}"
        if not checked.exists():
            if not self._follows_masks():
                raise UnsupportedModelError(f"{self.architecture} follows no explicit mask as an OpenVINO graph.")
            with suppress(OSError):
                checked.touch()
        self._promise(folder, exact)

    def _promise(self, folder: Path, exact: bool | None) -> None:
        """Make rows plain decoding's where that was asked for; elsewhere, see that single rows cost what they must."""
        if self.exact or not exact:
            if not self.exact and self._cache.least == LEAST:
                self.bound_rows(least_that_pays(self, folder / f"least-{self.fingerprint}"), 0)
            return
        if isinstance(self._cache, Pool):
            promise = promise_of(self, folder / f"margin-{self.fingerprint}.json")
            if promise is None:
                raise UsageError(
                    f"This CPU computes {self.dtype} in one way for few rows and in another for many, so what is said "
                    "is only audited: leave out exact, or use float32."
                )
            self._margin = promise.margin
            self.bound_rows(promise.least, promise.rows)
            self._cache.plain = self.exact = True
        else:
            raise UsageError(f"{self.architecture} has sliding windows: what it says in {self.dtype} is only audited.")

    def bound_rows(self, least: int, most: int) -> None:
        """So many rows has a call of the graph from now on, `most` 0 for any number: forwards have several then.

        What forwards cost is not known any more.
        """
        self._cache.least, self._calls = least, CallSizes(least, most)
        self.offers = replace(self.offers, nodes=most - 1 if most else None)

    def _follows_masks(self) -> bool:
        try:
            return attends_as_told(self)
        except Exception as error:  # a kernel that cannot do it raises anything
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise UnsupportedModelError(f"{self.architecture} does not run as an OpenVINO graph ({reason}).") from error

    @property
    def costs(self) -> StepCosts:
        """What forwards cost; nothing is known before `measure_costs`."""
        return self._calls.costs

    @costs.setter
    def costs(self, costs: StepCosts) -> None:
        self._calls.costs = costs
        self._calls.forget()

    @property
    def threads(self) -> int:
        """CPU threads that a forward uses."""
        return self._cache.threads

    @property
    def cache_blocks(self) -> tuple[int, int]:
        """Blocks of keys and values: all, and those that hold texts which are not over."""
        blocks = self._cache.blocks if isinstance(self._cache, Pool) else None
        return (blocks.count, blocks.count - blocks.free) if blocks is not None else (0, 0)

    def open(
        self, ids: Sequence[int] | Int32 = (), *, reuse: str | None = "default"
    ) -> PagedSequence | VariablesSequence:
        """A sequence that shares the blocks of the namespace's texts that began alike, as far as they fill them."""
        return self._cache.open(self, ids, reuse)

    def forward(self, parts: Sequence[Part]) -> list[Scored]:
        """Score all parts in one pass (with sliding windows one after another, and see `bound_rows`).

        The first time that hidden states of a layer are asked for, the graph is compiled again, which takes seconds.
        """
        check_parts(self, parts)
        if self._calls.most == 0:
            return [self._scored(one) for one in self._call(parts)]
        calls = in_calls(parts, self._calls.most)
        self._several = len(calls) > 1
        found: list[list[Scored]] = [[] for _ in parts]
        for call in calls:
            scored = self._call([part for _, part in call])
            for (place, _), one in zip(call, scored, strict=True):
                if self._several:
                    one.logits = np.array(one.logits)
                found[place].append(self._scored(one))
        return [_joined(pieces) for pieces in found]

    def _call(self, parts: Sequence[Part]) -> list[Found]:
        """One call of the graph."""
        self._changed = self._calls.call(sum(map(new_rows, parts)))
        return self._cache.score(parts, self._calls.last)

    def _scored(self, found: Found) -> Scored:
        doubt = None if self._margin is None or found.plain.all() else Doubt(found.plain, self._margin)
        return Scored(found.logits, doubt, found.hidden)

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

    def cost(self, rows: int, plain: int = 1) -> float:
        """Seconds of a forward of `rows` rows now; 0.0 before `measure_costs`."""
        return self._calls.price(rows, plain)

    def record(self, rows: int, seconds: float, plain: int = 1) -> None:
        """Follow the running engine's own timings, of forwards that were one call."""
        if self._several:
            return
        follow = self.costs.record_change if self._changed else self.costs.record
        follow(self._calls.last, seconds, self._without_drafts(rows, plain))
        self._calls.forget()

    def _without_drafts(self, rows: int, plain: int) -> int:
        """How many of the rows that were scored would have been without drafts; useless ones cost as much as others."""
        return self._calls.last if rows == plain else plain

    def measure_costs(self, stored: Path | None = None, context: int = 256) -> StepCosts:
        """See `measured_costs`, whose figures are used from now on."""
        self.costs = StepCosts()  # forwards with as many rows as asked for
        self.costs = measured_costs(self, stored, context, self._calls.sizes, again=True)
        return self.costs


def _offers(cache: Pool | Variables) -> Offers:
    return Offers(extends=isinstance(cache, Pool), layers=cache.layers, features=cache.features)


def _options(dtype: str, threads: int | None) -> dict[str, Any]:
    """What a graph is compiled with. Raises UsageError."""
    offered = has_bfloat16()
    if dtype == "bfloat16" and not offered:
        raise UsageError("This CPU does not compute in bfloat16: use float16, whose weights are as small.")
    half = dtype == "bfloat16" or (dtype in ("int8", "int4") and offered)
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # else the threads of every process are bound to the same first cores
        "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
        "KV_CACHE_PRECISION": "bf16" if half else "f32",
        **({} if half else {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}),  # else rows would depend on how many there are
        **({} if threads is None else {"INFERENCE_NUM_THREADS": threads}),
    }


def _cache(file: Path, options: dict[str, Any], windows: Sequence[int | None], least: int) -> Pool | Variables:
    """The compiled graph, in the cache that suits it. Raises UnsupportedModelError.

    least  rows that a call has, see `Pool`: one where what is said is only audited and float32 is computed in, in which
           a row by itself is nearly the same
    """
    try:
        if any(windows):
            return Variables(compile_graph(openvino.Core().read_model(file), options), windows)
        return Pool(Compiled(file, options), least)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UnsupportedModelError(f"OpenVINO cannot compile {file} ({reason}).") from error


def _fingerprint(folder: Path, dtype: str, threads: int | None, *, exact: bool) -> str:
    """Identifies what a step does and costs: graph (whose name knows model and versions), number type, threads, CPU."""
    processor = openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")
    return hashlib.sha256(f"{folder.name}\n{_WAY}\n{dtype}\n{threads}\n{exact}\n{processor}".encode()).hexdigest()[:24]


def _joined(pieces: Sequence[Scored]) -> Scored:
    """The rows of a part's pieces, of which only the last can have doubtful ones."""
    if len(pieces) == 1:
        return pieces[0]
    logits, doubt = np.concatenate([piece.logits for piece in pieces]), pieces[-1].doubt
    hidden = {layer: np.concatenate([piece.hidden[layer] for piece in pieces]) for layer in pieces[-1].hidden}
    if doubt is not None:
        sure = np.ones(len(logits) - len(doubt.plain), dtype=np.bool_)
        doubt = Doubt(np.concatenate([sure, doubt.plain]), doubt.margin)
    return Scored(logits, doubt, hidden)
