"""Recorded output at a real model's pace: acceptance from the record, time from forwards of random weights.

What a forward costs depends on the shape of a model and not on what its weights say, and what is accepted is in the
record. Together they tell how fast a method would have been on that machine, without anybody's weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Lfm2Config, LlamaConfig, Qwen3_5TextConfig

from hierdraft.engines.hf.engine import HFEngine
from hierdraft.engines.hf.lean import make_lean
from hierdraft.engines.replay import ReplayEngine, ReplaySequence
from hierdraft.errors import UsageError
from hierdraft.protocols import EngineSequence, Offers, Part, Scored
from hierdraft.tree import Int32

SHAPES: dict[str, dict[str, Any]] = {
    "llama-7b": {
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    },
    "llama-1b": {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "llama-68m": {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 2, "num_attention_heads": 12,
    },
    "lfm2-350m": {
        "hidden_size": 1024, "intermediate_size": 6656, "num_hidden_layers": 16, "num_attention_heads": 16,
        "num_key_value_heads": 8, "full_attn_idxs": [2, 5, 8, 10, 12, 14], "vocab_size": 65_536,
    },
    "qwen3.5-0.8b": {
        "hidden_size": 1024, "intermediate_size": 3584, "num_hidden_layers": 24, "num_attention_heads": 8,
        "num_key_value_heads": 2, "head_dim": 256, "linear_num_key_heads": 16, "linear_num_value_heads": 16,
        "vocab_size": 248_320, "tie_word_embeddings": True,
    },
}  # fmt: skip
"""Shapes of known models; the vocabulary is theirs or 32,000 ids, or what the records need."""

_CONFIGS: dict[str, type] = {"lfm2-350m": Lfm2Config, "qwen3.5-0.8b": Qwen3_5TextConfig}

_VOCAB = 32_000
_POSITIONS = 16_384


def random_engine(shape: str, device: str | None = None, least_vocab: int = 0, **changes: Any) -> HFEngine:
    """A model of that shape with random weights: bfloat16 on CUDA, float32 on a CPU, its step costs measured.

    least_vocab   room for ids below this, if the shape's own vocabulary is smaller
    changes       of the shape, named as in its configuration (`LlamaConfig` and others)

    Raises UsageError for an unknown shape or a device that cannot be used.
    """
    if shape not in SHAPES:
        raise UsageError(f"There is no shape {shape!r}: choose one of {', '.join(SHAPES)}.")
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = torch.bfloat16 if place.startswith("cuda") else torch.float32
    vocab = max(least_vocab, SHAPES[shape].get("vocab_size", _VOCAB))
    sizes = {**SHAPES[shape], "vocab_size": vocab, "max_position_embeddings": _POSITIONS, **changes}
    try:
        with torch.device(place):
            config = _CONFIGS.get(shape, LlamaConfig)(**sizes)
            model = AutoModelForCausalLM.from_config(config, dtype=kind).eval()
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"The device {place!r} cannot be used ({str(error).splitlines()[0]}).") from error
    make_lean(model)
    engine = HFEngine(model)
    engine.measure_costs()
    return engine


class TimedSequence(ReplaySequence):
    """A record, and `runs`, the text that the model has beside it."""

    def __init__(self, engine: TimedReplay, output: Int32, runs: EngineSequence) -> None:
        super().__init__(engine, output)
        self.runs = runs

    def commit(self, path: Sequence[int]) -> None:
        """Keep the accepted rows in both; what the model has to score again, the loop has to tell again."""
        self.runs.commit(path)
        super().commit(path)
        self.length = self.runs.length

    def close(self) -> None:
        """Close both."""
        self.runs.close()
        super().close()


class TimedReplay(ReplayEngine):
    """A `ReplayEngine` that also runs every forward on a model whose answers are not looked at."""

    def __init__(self, runner: HFEngine) -> None:
        """`runner`: the model; records must not have ids beyond its vocabulary."""
        super().__init__(runner.vocab_size)
        self.runner = runner
        self.offers = Offers(trees=runner.offers.trees, scores=False)
        self.max_length = runner.max_length

    def open(self, ids: Sequence[int] | Int32 = (), *, reuse: str | None = "default") -> TimedSequence:
        """A record, and a text of the model's."""
        return TimedSequence(self, self.output(), self.runner.open(ids, reuse=reuse))

    def forward(self, parts: Sequence[Part]) -> list[Scored]:
        """Wait for the model's choices, and return the records'."""
        ran = [replace(part, sequence=part.sequence.runs) for part in parts if isinstance(part.sequence, TimedSequence)]
        for scored in self.runner.forward(ran):
            self.runner.choices(scored.logits)
        return super().forward(parts)

    def cost(self, rows: int, plain: int = 1) -> float:
        """The model's."""
        return self.runner.cost(rows, plain)

    def record(self, rows: int, seconds: float, plain: int = 1) -> None:
        """The model's."""
        self.runner.record(rows, seconds, plain)

    @property
    def about(self) -> dict[str, Any]:
        """What ran: device, number type, and the cost of some sizes in milliseconds."""
        model = self.runner.model
        name = torch.cuda.get_device_name() if model.device.type == "cuda" else "CPU"
        costs = {str(rows): round(1e3 * self.cost(rows), 3) for rows in (1, 2, 4, 8, 16, 32, 64)}
        return {"device": name, "dtype": str(model.dtype).removeprefix("torch."), "forward_ms": costs}
