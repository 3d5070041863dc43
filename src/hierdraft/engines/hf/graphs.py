"""Forwards of a few sizes, captured once each and replayed: on CUDA a replay takes a sixth of launching every kernel.

A part of a forward has its rows padded to one of ROWS, its text to a power of two; parts that share a call are padded
to one of TEXTS. Between two sizes a forward of a 7B model on an H200 costs 2 to 9 % more (`benchmarks/gpu.json`), and
capturing one as much as tens of replays: more sizes would not pay. What is replayed was compared once with what the
model says when it is run as always. Models that cannot be captured, or then say something else, run as always.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from hierdraft.engines.hf.anatomy import Anatomy
from hierdraft.engines.hf.check import agree
from hierdraft.engines.hf.slots import Slots, free_memory
from hierdraft.engines.hf.static import Size, StaticForward
from hierdraft.engines.hf.together import calls
from hierdraft.engines.sequences import new_rows
from hierdraft.errors import SlowerWarning
from hierdraft.protocols import Part, Scored

if TYPE_CHECKING:
    from hierdraft.engines.hf.engine import HFEngine

Replay = Callable[[], torch.Tensor]
"""Does again what was captured; the logits hold until the next replay of any."""

Capture = Callable[[Replay], Replay]
Begin = Callable[[torch.device], Capture]
"""Makes what captures; graphs that were captured by one may share memory."""

ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
TEXTS = (1, 2, 4, 8, 16)
_MOST_ROWS = 512
_NARROWEST = 512
_MOST_GRAPHS = 96
"""Most rows in a replay of several texts; the least width; and how many sizes are kept, those that were used last."""

_CALL, _COLUMNS = 400.0, 50.0
"""A replay costs as much as so many rows more in another one; so many positions of a text as much as a row. Llama-7B's
shape on an H200: 6.7 ms for a row, 0.017 ms for each more; reading and laying out a position, 0.3 us."""


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream that captures on a device: one for all engines, since libraries keep a work space for each."""
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return stream


class CudaCapture:
    """Captures CUDA graphs that share a pool of memory: of two of them, one runs when the other's results are read."""

    def __init__(self, device: torch.device) -> None:
        """Where they run."""
        self._device = device
        self._stream = _side_stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, forward: Replay) -> Replay:
        """`forward` is run, and recorded then."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device):
            usual = torch.cuda.current_stream()
            self._stream.wait_stream(usual)
            with torch.cuda.stream(self._stream):
                for _ in range(2):  # libraries make their work spaces, and choose kernels
                    forward()
            usual.wait_stream(self._stream)
            try:
                # Other threads may use the device meanwhile.
                with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                    logits = forward()
            finally:
                torch.cuda.set_stream(usual)  # a capture that fails leaves its own behind

        def replay() -> torch.Tensor:
            graph.replay()
            return logits

        return replay


class Graphs:
    """The captured forwards of one model, and the memory that its texts have for them."""

    def __init__(self, model: Any, windows: Sequence[int | None], begin: Begin = CudaCapture) -> None:
        """`windows`: see `layer_windows`."""
        device: torch.device = model.device
        self.slots = Slots((lambda: free_memory(device)) if device.type == "cuda" else (lambda: sys.maxsize))
        self.off = self.fresh = False
        self._model, self._windows, self._begin = model, windows, begin
        self._told = False
        self._forget()

    def _forget(self) -> None:
        """Begin anew, with the model and the slots as they are."""
        self._captured: dict[Size, tuple[StaticForward, Replay]] = {}
        self._capture = self._begin(self._model.device)
        self._anatomy = Anatomy(self._model)
        self._moved = self.slots.moved

    def padded(self, rows: int) -> int:
        """How many rows are run where so many are wanted."""
        return rows if self.off else next((size for size in ROWS if size >= rows), rows)

    def scored(self, engine: HFEngine, parts: Sequence[Part]) -> dict[int, Scored]:
        """By their places, what those of the parts are told that can be replayed; their rows are written.

        `fresh`: whether this took longer than it will the next time.
        """
        self.fresh = False
        found: dict[int, Scored] = {}
        if not self.off and self._able():
            places = [place for place, part in enumerate(parts) if self._has_room(part)]
            if self.slots.moved != self._moved:
                self._forget()
            for chosen in self._calls(engine, [parts[place] for place in places]):
                told = self._call(engine, [parts[places[number]] for number in chosen])
                if told is None:
                    break
                found.update(zip((places[number] for number in chosen), told, strict=True))
        return found

    def _able(self) -> bool:
        """Whether the model is as it was, or can be captured anew."""
        if not self._anatomy.same():
            self._forget()
        obstacle = self._anatomy.obstacle()
        if obstacle:
            self._tell(obstacle)
        return not obstacle and not torch.is_autocast_enabled(self._model.device.type)

    def _has_room(self, part: Part) -> bool:
        """Whether a part is of the kind that is captured, and its text lies in a slot; room for it is made."""
        cache, rows = part.sequence.cache, new_rows(part)  # type: ignore[attr-defined]
        if len(part.tokens) == 0 or part.hidden or rows > ROWS[-1] or cache not in self.slots:
            return False
        cache.reserve(rows)
        return cache in self.slots

    def _calls(self, engine: HFEngine, parts: Sequence[Part]) -> list[list[int]]:
        """Which of them share a replay."""
        if len(parts) < 2 or not engine.shares_calls():
            return [[number] for number in range(len(parts))]
        return calls(parts, price)

    def _call(self, engine: HFEngine, parts: Sequence[Part]) -> list[Scored] | None:
        """What each is told; None where the model cannot be captured."""
        size = _size(parts)
        made = self._captured.pop(size, None)
        if made is None:
            return self._first(engine, size, parts)
        self._captured[size] = made
        forward, replay = made
        forward.tell(parts)
        return _split(replay(), parts)

    def _first(self, engine: HFEngine, size: Size, parts: Sequence[Part]) -> list[Scored] | None:
        """The same for a size that is new: it is captured, and compared with what the model says as always."""
        self.fresh = True
        wanted = engine.eager(parts)
        if not any(bool(one.logits.isfinite().all(dim=-1).any()) for one in wanted):
            return wanted  # there is nothing to compare
        for part in parts:
            part.sequence.cache.drop()  # type: ignore[attr-defined]
        try:
            forward = StaticForward(self._model, self._windows, self.slots, size)
            forward.tell(parts)
            replay = self._capture(forward)
            found = _split(replay(), parts)
            right = agree(engine, [one.logits for one in found], [one.logits for one in wanted])
            reason = "" if right else "what it says then is not what it says otherwise"
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            reason = f"{type(error).__name__}: {str(error)[:120]}"
        if reason:
            self._give_up(reason, parts)
            return None
        while len(self._captured) >= _MOST_GRAPHS:
            del self._captured[next(iter(self._captured))]
        self._captured[size] = forward, replay
        return found

    def _give_up(self, reason: str, parts: Sequence[Part]) -> None:
        for part in parts:
            part.sequence.cache.drop()  # type: ignore[attr-defined]
        self.off = True
        self._captured = {}
        self._tell(reason)

    def _tell(self, reason: str) -> None:
        """Once."""
        if not self._told:
            self._told = True
            warnings.warn(
                f"The forwards of {self._model.__class__.__name__} are launched kernel by kernel, which is slower: "
                f"they cannot be captured in CUDA graphs ({reason}). The output does not depend on it.",
                SlowerWarning, stacklevel=2,
            )  # fmt: skip


def price(count: int, rows: int, width: int) -> float:
    """What a replay of so many texts costs, the longest with so many rows and positions, in rows."""
    texts, each = _least(TEXTS, count), _least(ROWS, rows)
    if texts is None or each is None or (texts > 1 and texts * each > _MOST_ROWS):
        return float("inf")
    return _CALL + texts * (each + _wide(width) / _COLUMNS)


def _size(parts: Sequence[Part]) -> Size:
    rows = max(map(new_rows, parts))
    width = max(part.sequence.length + new_rows(part) for part in parts)
    return Size(_least(TEXTS, len(parts)) or len(parts), _least(ROWS, rows) or rows, _wide(width))


def _least(sizes: Sequence[int], wanted: int) -> int | None:
    return next((size for size in sizes if size >= wanted), None)


def _wide(width: int) -> int:
    """The least power of two that is no less."""
    return max(_NARROWEST, 1 << (width - 1).bit_length())


def _split(logits: torch.Tensor, parts: Sequence[Part]) -> list[Scored]:
    """Each part's own of logits [B, T, V], copied, so that they hold as long as any; its rows are written."""
    return [*_each(logits[: len(parts), : max(map(new_rows, parts))].clone(), parts)]


def _each(logits: torch.Tensor, parts: Sequence[Part]) -> Iterator[Scored]:
    for own, part in zip(logits, parts, strict=True):
        rows = new_rows(part)
        part.sequence.cache.add(rows)  # type: ignore[attr-defined]
        yield Scored(own[rows - part.rows - len(part.tree) : rows])
