"""A graph with paged attention, and what it is given: rows of many sequences, one behind the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.engines.openvino.downloaded import with_wanted_rows
from hierdraft.engines.openvino.files import BEAM, IDS, MASK, POSITIONS, ROWS
from hierdraft.engines.openvino.rows import Rows
from hierdraft.engines.openvino.runtime import openvino, ops, paged_attention_transformation

_NAMES = {IDS: "input_ids", POSITIONS: "position_ids", MASK: "attention_mask", BEAM: "beam_idx"}
"""Inputs as the transformation expects them to be called."""

_ATTENDING, _PLACES = "attending", "places"

_NOTHING, _FIRST = np.empty(0, dtype=np.uint8), np.zeros(1, dtype=np.int64)

LEAST = 2
"""Rows below which most kernels take other ways: from two rows on, each is scored in the same arithmetic, to the last
bit, however many there are, of whatever sequences. So a call has so many at least, and a single row of a sequence comes
twice to the attention and to the output layer, which costs little: everything else sees it once. Some kernels for
bfloat16 need more: see `margin.fewest_scored_alike`."""


def paged(graph: Any) -> Any:
    """The graph with paged attention in the place of its variables. Raises RuntimeError if that cannot be."""
    ours = False
    for given in graph.inputs:
        name = _NAMES.get(given.get_any_name())
        if name is not None:
            given.get_tensor().set_names({name})
            given.get_node().set_friendly_name(name)
        ours = ours or given.get_any_name() == ROWS
    paged_attention_transformation(graph, allow_qq_bias=True)
    return _with_rows_of_attention(graph if ours else with_wanted_rows(graph))


def _with_rows_of_attention(graph: Any) -> Any:
    """The graph with two inputs more, so that its attention can have other rows than everything else has.

    `attending`, int64[T']: which row each row of the attention is; `places`, int64[T]: where each row is among these.
    """
    attending, places = (ops.parameter([-1], openvino.Type.i64) for _ in range(2))
    attending.output(0).set_names({_ATTENDING})
    places.output(0).set_names({_PLACES})
    axis = ops.constant(0, openvino.Type.i64)
    for op in graph.get_ordered_ops():
        if op.get_type_name() == "PagedAttentionExtension":
            for number in range(3):  # queries, keys, values
                op.input(number).replace_source_output(ops.gather(op.input_value(number), attending, axis).output(0))
            users = list(op.output(0).get_target_inputs())
            found = ops.gather(op.output(0), places, axis).output(0)
            for user in users:
                user.replace_source_output(found)
    graph.add_parameters([attending, places])
    graph.validate_nodes_and_infer_types()
    return graph


def inputs(given: Sequence[Rows], size: int, block: int, least: int = LEAST) -> dict[str, NDArray[Any]]:
    """What the graph is given for these rows, by the names of its inputs.

    Useless rows of a sequence are its last one again, for the attention alone.

    size   rows that the call has: those beyond the sequences' own attend to nothing and are nobody's
    block  tokens in a block of the sequences' tables
    least  rows that are scored
    """
    own = [rows.text + len(rows.places) for rows in given]
    all_rows = [len(rows.tokens) for rows in given]
    begins, attention_begins = _begins(own), _begins(all_rows)
    tokens, where, places = np.zeros((3, size), dtype=np.int64)
    attending = np.empty(attention_begins[-1], dtype=np.int64)
    for rows, count, begin, first in zip(given, own, begins.tolist(), attention_begins.tolist(), strict=False):
        end = begin + count
        tokens[begin:end], where[begin:end] = rows.tokens[:count], rows.where[:count]
        places[begin:end] = np.arange(first, first + count)
        attending[first : first + count] = np.arange(begin, end)
        attending[first + count : first + len(rows.tokens)] = end - 1
    wanted = np.concatenate([rows.wanted + begin for rows, begin in zip(given, begins.tolist(), strict=False)])
    past = np.array([rows.sequence.length for rows in given], dtype=np.int32)
    blocks = -(-(past + all_rows) // block)
    tables = [rows.sequence.table[:count] for rows, count in zip(given, blocks.tolist(), strict=True)]
    bias = [_NOTHING if rows.seen is None else rows.seen.reshape(-1).view(np.uint8) for rows in given]
    return {
        _NAMES[IDS]: tokens,
        _NAMES[POSITIONS]: where,
        ROWS: np.resize(wanted, least) if 0 < len(wanted) < least else wanted if len(wanted) else _FIRST,
        _ATTENDING: attending,
        _PLACES: places,
        "past_lens": past,
        "subsequence_begins": attention_begins,
        "block_indices": np.concatenate([np.array(table, dtype=np.int32) for table in tables]),
        "block_indices_begins": _begins([len(table) for table in tables]),
        "qq_bias": np.concatenate(bias),
        "qq_bias_begins": _begins([len(part) for part in bias]),
        "max_context_len": np.array((past + all_rows).max(), dtype=np.int32),
    }


def _begins(counts: Sequence[int]) -> NDArray[np.int32]:
    """int32[n+1]: where each of n parts begins, and the last one ends."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
