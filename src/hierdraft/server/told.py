"""What the extension `hierdraft` adds to answers of every API, while they come and at their end."""

from __future__ import annotations

from typing import Any

from hierdraft.levels import level_name
from hierdraft.server.answers import Answer, Delta, Words
from hierdraft.server.wire import Asked
from hierdraft.stream import Generation, Traced


def extension(asked: Asked, deltas: list[Delta], words: Words) -> dict[str, Any]:
    """Where it was asked for: pieces with their levels, tokens, steps. Empty where not."""
    if not asked.provenance:
        return {}
    found: dict[str, Any] = {
        "pieces": [[piece.text, piece.level] for delta in deltas for piece in delta.pieces],
        "tokens": [[token.id, token.level] for delta in deltas for token in delta.tokens],
    }
    if asked.trace:
        found["steps"] = [_step(step, words) for delta in deltas for step in delta.steps]
    return found


class Known:
    """What is known of an answer, for events that bear it as they come, and for the whole."""

    def __init__(self, asked: Asked, words: Words) -> None:
        self._asked, self._words = asked, words
        self._all: list[Delta] = []
        self._new: list[Delta] = []

    def take(self, delta: Delta) -> None:
        """Something has come."""
        if self._asked.provenance:
            self._all.append(delta)
            self._new.append(delta)

    def new(self) -> dict[str, Any]:
        """What no event has told of yet."""
        deltas, self._new = self._new, []
        return {"hierdraft": extension(self._asked, deltas, self._words)} if deltas else {}

    def all(self) -> dict[str, Any]:
        """All of it."""
        return {"hierdraft": extension(self._asked, self._all, self._words)} if self._all else {}


def metrics(asked: Asked, answers: list[Answer]) -> dict[str, Any]:
    """What decoding took, in the shape of vLLM's metrics of a request; empty where it was not asked for."""
    if not asked.provenance:
        return {}
    return {"metrics": {"speculative_decoding": [_decoding(answer.result) for answer in answers]}}


def prediction(asked: Asked, results: list[Generation]) -> dict[str, int]:
    """How many tokens of what was predicted are in the answers because they were drafted, and how many are not."""
    if asked.predicted is None:
        return {}
    accepted = [result.by_level.get("reference", {}).get("accepted", 0) for result in results]
    return {
        "accepted_prediction_tokens": sum(accepted),
        "rejected_prediction_tokens": sum(max(0, asked.predicted_tokens - count) for count in accepted),
    }


def _step(step: Traced, words: Words) -> dict[str, Any]:
    """The tree of one step: its nodes' texts, parents, levels and chances, and what was accepted of it."""
    tree = step.draft
    return {
        "tokens": [words.text(token) for token in step.tokens],
        "nodes": [words.text(token) for token in tree.tokens.tolist()], "parents": tree.parents.tolist(),
        "levels": [level_name(code) for code in tree.level.tolist()],
        "chances": [round(chance, 4) for chance in tree.prob.tolist()],
        "accepted": step.path, "at": round(step.at, 6),
        "seconds": {part: round(taken, 6) for part, taken in step.seconds.items()},
    }  # fmt: skip


def _decoding(result: Generation) -> dict[str, Any]:
    proposed = sum(counts["proposed"] for counts in result.by_level.values())
    accepted = sum(counts["accepted"] for counts in result.by_level.values())
    return {
        "num_drafts": result.steps, "num_draft_tokens": proposed, "num_accepted_tokens": accepted,
        "acceptance_rate": accepted / proposed if proposed else 0.0,
        "mean_acceptance_length": result.accepted_length, "by_level": result.by_level,
        "seconds": {part: getattr(result, f"{part}_seconds") for part in ("prefill", "draft", "forward", "rest")},
        "draft_error": result.draft_error, "seed": result.seed,
    }  # fmt: skip
