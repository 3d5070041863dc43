"""Decode with any engine and any drafter, and check everything that must hold of the steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hierdraft.decoding.loop import Options, decode
from hierdraft.drafting.budget import FixedBudget
from hierdraft.drafting.hierarchy.method import HierarchyMethod
from hierdraft.drafting.plain import PlainMethod
from hierdraft.levels import TARGET
from hierdraft.protocols import Engine, Method, Step
from tests.lossless.drafters import HARMLESS


def run(engine: Engine, drafter: Method, prompt: Sequence[int] | Any, options: Options) -> tuple[list[int], list[Step]]:
    """All output tokens and all steps."""
    steps = list(decode(engine, drafter, prompt, options))
    return [token for step in steps for token in step.tokens], steps


def check_steps(steps: list[Step], limit: int) -> None:
    """What holds of every run, whatever was drafted."""
    assert steps[0].prefill
    assert len(steps[0].tokens) == 1
    assert [bool(step.finish) for step in steps] == [False] * (len(steps) - 1) + [True]
    assert sum(len(step.tokens) for step in steps) <= limit
    for step in steps[1:]:
        tree = step.tree
        assert not step.prefill
        assert len(step.choices) == 1 + len(tree)
        assert len(step.tokens) - 1 <= len(step.path) <= len(step.tokens)
        assert [int(tree.tokens[node]) for node in step.path] == step.tokens[: len(step.path)]
        assert not tree.probe[step.path].any()
        parent = -1
        for node in step.path:
            assert tree.parents[node] == parent
            parent = node
        rows = [0, *(node + 1 for node in step.path)][: len(step.tokens)]
        assert step.choices[rows].tolist() == step.tokens
        assert [code == TARGET for code in step.levels] == [i >= len(step.path) for i in range(len(step.tokens))]
        assert set(step.seconds) == {"draft", "forward", "rest"}


def check_every_drafter(engine: Engine, prompt: list[int], truth: list[int], vocabulary: int) -> None:
    """Plain decoding and every harmless drafter give `truth`, which is all of the output."""
    limit = len(truth)
    assert run(engine, PlainMethod(), prompt, Options(limit))[0] == truth
    for kind in [*HARMLESS.values(), HierarchyMethod]:
        drafter = kind(vocabulary, prompt + truth, 7) if kind is not HierarchyMethod else kind()
        got, steps = run(engine, drafter, prompt, Options(limit, budget=FixedBudget(9)))
        assert got == truth, kind.__name__
        check_steps(steps, limit)


def fresh(engine: Any, ids: Sequence[int] | Any, rows: int = 1) -> Any:
    """Logits of the last `rows` of `ids`, in a sequence of their own that shares nothing."""
    return engine.open(reuse=None).prefill(ids, rows)


def opened(engine: Any) -> list[Any]:
    """The sequences that the engine opens from now on."""
    sequences: list[Any] = []
    real = engine.open

    def note(*args: Any, **more: Any) -> Any:
        sequences.append(real(*args, **more))
        return sequences[-1]

    engine.open = note
    return sequences


def kept(sequences: list[Any]) -> Any:
    """For `Options.keep`: notes the sequence and leaves it open."""

    def keep(sequence: Any) -> None:
        sequences.append(sequence)
        sequence.close = lambda: None

    return keep


def teacher_forced(engine: Engine, prompt: Sequence[int], output: Sequence[int]) -> list[int]:
    """The target's choice after the prompt and after each output token but the last, each from a fresh prefill."""
    everything = [*map(int, prompt), *map(int, output)]
    return [int(engine.choices(fresh(engine, everything[:end]))[-1]) for end in range(len(prompt), len(everything))]
