"""A Llama with random weights as a graph on disk, in the forms that converted weights have: for its time alone.

What a forward costs depends on the shape of a model and the form of its weights, not on what they say. They are made
in that form at once, a matrix at a time: at no time is there more of the model in memory than its graph on disk has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.engines.openvino.files import FACTS, Facts, graph_file
from hierdraft.engines.openvino.llama import Sizes, llama_graph
from hierdraft.engines.openvino.runtime import openvino, ops

_SPREAD = 0.02
"""Standard deviation of the weights, as models begin their training."""

_GROUP = 64
_BYTES = {"float32": 4.0, "float16": 2.0, "int8": 1.0, "int4": 0.5 + 2.5 / _GROUP}
_ACROSS = {4: 16 / 12**0.5, 8: 256 / 12**0.5}
"""Standard deviation of evenly spread whole numbers of so many bits."""


class RandomWeights:
    """Random matrices, weights as `NumberType.weights` names them; those with a row for each token are int8 in int4."""

    def __init__(self, weights: str, seed: int = 0) -> None:
        self._weights = weights
        self._chance = np.random.Generator(np.random.SFC64(seed))

    def vector(self, name: str, size: int) -> Any:  # noqa: ARG002
        """Ones, as models begin."""
        return ops.constant(np.ones((1, 1, size), dtype=np.float32))

    def matrix(self, name: str, rows: int, columns: int) -> Any:
        """See `llama.Weights`."""
        if self._weights in ("float32", "float16"):
            kind = np.dtype(self._weights)
            values = self._chance.random((rows, columns), dtype=np.float32)
            values -= 0.5
            values *= _SPREAD * 12**0.5
            found = ops.constant(values.astype(kind, copy=False))
            return found if kind == np.float32 else ops.convert(found, "f32")
        per_token = name in ("embed_tokens", "lm_head")
        return self._int8(rows, columns) if self._weights == "int8" or per_token else self._int4(rows, columns)

    def _int8(self, rows: int, columns: int) -> Any:
        """With a scale and a zero point for every row."""
        points = self._some(np.array([127, 128], dtype=np.uint8), rows).reshape(rows, 1)
        numbers = self._whole(rows * columns).reshape(rows, columns)
        return ops.convert(self._scaled(ops.constant(numbers), ops.constant(points), (rows, 1), 8), "f32")

    def _int4(self, rows: int, columns: int) -> Any:
        """With a scale and a zero point for every group of weights of a row."""
        size = _GROUP if columns % _GROUP == 0 else columns
        groups = columns // size
        points = self._some(np.array([0x77, 0x78, 0x87, 0x88], dtype=np.uint8), -(-rows * groups // 2))
        numbers = _four_bits(self._whole(-(-rows * columns // 2)), [rows, groups, size])
        scaled = self._scaled(numbers, _four_bits(points, [rows, groups, 1]), (rows, groups, 1), 4)
        return ops.convert(ops.reshape(scaled, ops.constant(np.array([rows, columns])), special_zero=False), "f32")

    def _whole(self, count: int) -> NDArray[np.uint8]:
        return np.frombuffer(self._chance.bytes(count), dtype=np.uint8)

    def _some(self, of: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
        return of[self._chance.integers(0, len(of), count)]

    def _scaled(self, numbers: Any, points: Any, shape: tuple[int, ...], bits: int) -> Any:
        """(numbers - points) times a scale, in half precision: the form that kernels with small weights recognise."""
        scales = _SPREAD / _ACROSS[bits] * (0.8 + 0.4 * self._chance.random(shape, dtype=np.float32))
        moved = ops.subtract(ops.convert(numbers, "f16"), ops.convert(points, "f16"))
        return ops.multiply(moved, ops.constant(scales.astype(np.float16)))


def _four_bits(packed: NDArray[np.uint8], shape: list[int]) -> Any:
    given = openvino.Tensor(packed, openvino.Shape(shape), openvino.Type.u4)
    return openvino.op.Constant(given, shared_memory=False)  # else it reads memory that nothing holds


def size_on_disk(sizes: Sizes, weights: str) -> int:
    """Bytes of such a graph, nearly."""
    inside = sizes.layers * sum(rows * columns for rows, columns in sizes.matrices().values())
    tokens = sizes.vocab * sizes.hidden * (1 if sizes.tied else 2)
    return int(inside * _BYTES[weights] + tokens * max(1.0, _BYTES[weights]))


def write_random(given: Mapping[str, Any], weights: str, positions: int, folder: Path) -> None:
    """Write graph and facts of such a model into `folder`, for an engine.

    given      the numbers of its configuration, as `llama.Sizes` wants them
    positions  that the model knows

    Raises RuntimeError where it cannot be written.
    """
    sizes = Sizes(given)
    openvino.save_model(llama_graph(sizes, RandomWeights(weights)), graph_file(folder), compress_to_fp16=False)
    facts = Facts("LlamaForCausalLM", sizes.vocab, positions, False, (), (None,) * sizes.layers)
    (folder / FACTS).write_text(json.dumps({**asdict(facts), "bytes": {}}), encoding="utf-8")
