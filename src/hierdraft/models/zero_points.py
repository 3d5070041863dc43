"""The zero points of 4-bit weights from GGUF files, as the file has them.

A group of such weights is a scale times a 4-bit number, plus a smallest value. OpenVINO GenAI keeps that value as a
zero point of 4 bits, rounded, which moves every weight of a group by up to half a step of the quantisation. Kernels
take zero points in half precision just as well, and then the weights are what the file says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.engines.openvino.runtime import openvino, ops

Half = NDArray[np.float16]

_GROUP = 32
_SUPER = 8


def restore_zero_points(graph: Path, tensors: Iterable[Any]) -> int:
    """Rewrite a graph's zero points of the groups of these tensors; returns for how many matrices that was done.

    tensors   as `gguf.GGUFReader` has them
    """
    model = openvino.Core().read_model(graph)
    known: dict[tuple[int, int], list[tuple[Half, Half]]] = {}
    for scales, points in _groups(tensors):
        known.setdefault((scales.shape[0], scales.shape[1]), []).append((scales, points))
    done = 0
    for op in model.get_ordered_ops():
        scale = _scale_after(op)
        if scale is None:
            continue
        found = _matching(scale, known.get((scale.shape[0], scale.shape[1]), []))
        if found is not None:
            op.input(1).replace_source_output(ops.constant(found[..., None]).output(0))
            done += 1
    if done:
        rewritten = graph.with_name("rewritten.xml")
        openvino.save_model(model, rewritten, compress_to_fp16=False)
        del model  # it reads the old weights
        for suffix in (".bin", ".xml"):
            rewritten.with_suffix(suffix).replace(graph.with_suffix(suffix))
    return done


def _scale_after(op: Any) -> Half | None:
    """float16[rows, groups] of the scales that follow a subtraction of 4-bit zero points; None for other nodes."""
    if op.get_type_name() != "Subtract":
        return None
    points = _constant(op.input_value(1).get_node())
    users = [target.get_node() for target in op.output(0).get_target_inputs()]
    if points is None or points.get_output_element_type(0) != openvino.Type.u4 or len(users) != 1:
        return None
    scale = _constant(users[0].input_value(1).get_node())
    if users[0].get_type_name() != "Multiply" or scale is None or len(scale.get_output_shape(0)) != 3:
        return None
    return np.array(scale.data, dtype=np.float16)[..., 0]


def _constant(node: Any) -> Any:
    """A constant, or the one that is converted here; None for other nodes."""
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    return node if node.get_type_name() == "Constant" else None


def _matching(scale: Half, known: list[tuple[Half, Half]]) -> Half | None:
    """The zero points of the matrix with these scales, its rows in this order; None where no matrix has them."""
    for scales, points in known:
        if np.array_equal(scales, scale):
            return points
        places = {row.tobytes(): place for place, row in enumerate(scales)}  # rows of queries and keys change places
        order = [places.get(row.tobytes(), -1) for row in scale]
        if min(order) >= 0:
            return points[order]
    return None


def _groups(tensors: Iterable[Any]) -> Iterator[tuple[Half, Half]]:
    """float16[rows, groups] twice for each matrix that has smallest values: scales, and zero points."""
    from gguf import GGMLQuantizationType as Kind

    for tensor in tensors:
        if tensor.tensor_type == Kind.Q4_1:
            scales, least = _plain_groups(tensor.data)
        elif tensor.tensor_type == Kind.Q4_K:
            scales, least = _grouped_groups(tensor.data)
        else:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            points = np.where(scales == 0.0, 0.0, -least / scales)
        yield scales.astype(np.float16), points.astype(np.float16)


def _plain_groups(data: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scale and smallest value of every group: a block is both, in half precision, and 16 bytes."""
    blocks = data.reshape(len(data), -1, 4 + _GROUP // 2)
    numbers = np.ascontiguousarray(blocks[..., :4]).view(np.float16).astype(np.float32)
    return numbers[..., 0], numbers[..., 1]


def _grouped_groups(data: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The same of blocks of eight groups, whose scales and smallest values are 6-bit parts of the block's own two."""
    blocks = data.reshape(len(data), -1, 4 + 12 + _SUPER * _GROUP // 2)
    whole = np.ascontiguousarray(blocks[..., :4]).view(np.float16).astype(np.float32)
    parts = blocks[..., 4:16]
    low, high, both = parts[..., :4], parts[..., 4:8], parts[..., 8:]
    scales = np.concatenate([low & 63, (both & 15) | (low >> 6) << 4], axis=-1).astype(np.float32)
    least = np.concatenate([high & 63, (both >> 4) | (high >> 6) << 4], axis=-1).astype(np.float32)
    rows = (len(data), -1)
    return (scales * whole[..., :1]).reshape(rows), -(least * whole[..., 1:]).reshape(rows)
