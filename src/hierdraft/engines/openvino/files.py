"""What lies in the folder of a converted model: the graph, the names of its inputs, and the facts about the model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hierdraft.errors import ModelError

IDS, POSITIONS, MASK, SLIDING_MASK, ROWS, BEAM = "ids", "positions", "mask", "sliding_mask", "rows", "beam"
FEATURES = "features"
"""Inputs: int64[1, T], int64[1, T], float32[1, 1, T, S + T] twice, int64[R], int32[1], which is 0, float32[1, T, F].

Only a model that has both full and sliding layers has the second mask; only heads have features.
"""

FACTS, _GRAPH = "facts.json", "graph.xml"


@dataclass(frozen=True)
class Facts:
    """What the engine has to know of a model besides its graph; see `HFEngine` for the fields' meaning.

    weights  the number type of a graph that is run as it was found; "" for those that were made here
    graph    its file, where it lies elsewhere than in the folder of these facts
    features see `Offers`
    """

    architecture: str
    vocab_size: int
    max_length: int
    bounded: bool
    eos_ids: tuple[int, ...]
    windows: tuple[int | None, ...]
    weights: str = ""
    graph: str = ""
    features: int = 0

    @classmethod
    def read(cls, folder: Path) -> Facts:
        """Those of a folder that `prepare` returned. Raises ModelError."""
        try:
            stored = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            del stored["bytes"]
            return cls.of(stored)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"The converted model in {folder} is damaged: delete that folder.") from error

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Facts:
        """From JSON. Raises KeyError, TypeError, ValueError."""
        lists = {name: tuple(stored[name]) for name in ("eos_ids", "windows")}
        facts = cls(**{**stored, **lists})
        sizes = [facts.vocab_size, facts.max_length, *(window for window in facts.windows if window is not None)]
        if not all(type(size) is int and size > 0 for size in sizes):
            raise ValueError("sizes are whole numbers above 0")
        if not all(type(token) is int for token in facts.eos_ids):
            raise ValueError("ids are whole numbers")
        if not (isinstance(facts.weights, str) and isinstance(facts.graph, str)):
            raise TypeError("names are texts")
        return facts


def graph_file(folder: Path, facts: Facts | None = None) -> Path:
    """Where the graph itself lies."""
    return Path(facts.graph) if facts is not None and facts.graph else folder / _GRAPH
