"""Why two runs differ: at the first differing token of an answer, was it a tie of the target's, or a bug of our own?

The text before the difference is fed to the target again, by teacher forcing: one row at a time, as plain decoding
does, several rows at a time, as verification does, and in float32. How far the engine's own logits move between
those passes is its noise at that place. The difference is a tie if each of the two tokens is chosen in one of those
passes, or would be with every logit moved by no more than the noise; then neither run is more right than the other.

Passes of several rows go through what a bug of our own would be in, so their noise is believed only as far as float32
vouches for it: rounding cannot move logits much further than plain decoding's own are from the exact ones.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierdraft.bench.provenance import brief
from hierdraft.bench.runs import Run
from hierdraft.engines.measure import forward
from hierdraft.errors import UsageError
from hierdraft.protocols import Engine
from hierdraft.tree import DraftTree
from hierdraft.verify.noise import gumbel
from hierdraft.verify.sampling import Sampler, Sampling

ROWS = (1, 2, 4, 8, 16, 32, 64)
"""How many rows a pass of the re-scoring has. The first is plain decoding."""

BESIDE = ((2, 1), (2, 3), (3, 2), (4, 4), (5, 1), (8, 16))
"""Rows that count, and useless ones before them in the same pass, as where an accepted branch comes after others."""

MORE = 24
"""Passes of random shapes after these, as long as they do not explain a difference: some noise is rare."""

FAR = 4.0
"""Noise of this many times plain decoding's own distance from float32 is still rounding."""

_LEADERS = 16

Scores = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place where an answer of one run parts from the other's.

    position     how many output tokens are equal before it
    tokens       what each run has there, None where it has ended
    kind         `tie` or `bug`
    margin       between the two tokens' processed scores (noise of the draw included) in the one-row pass
    margin_exact the same in float32, None where that is what the engine computes in
    noise        furthest that a leading logit moved between the engine's own passes
    error        furthest that a leading logit of the one-row pass is from float32's, None where that is what the
                 engine computes in
    reason       one sentence
    """

    id: str
    position: int
    tokens: tuple[int | None, int | None]
    kind: str
    margin: float | None
    margin_exact: float | None
    noise: float | None
    error: float | None
    reason: str


@dataclass
class Audit:
    """All differences between two runs, and what was compared: tokens that are equal, plus one per difference."""

    answers: int = 0
    tokens: int = 0
    differences: list[Difference] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def count(self, kind: str) -> int:
        """How many differences are of a kind."""
        return sum(one.kind == kind for one in self.differences)

    def as_dict(self) -> dict[str, Any]:
        """The fields of `hierdraft bench audit --json`."""
        return {
            "answers": self.answers,
            "tokens": self.tokens,
            "ties": self.count("tie"),
            "bugs": self.count("bug"),
            "missing": self.missing,
            "differences": [asdict(one) for one in self.differences],
        }


def first_difference(one: Sequence[int], other: Sequence[int]) -> int | None:
    """How many tokens are equal before the first difference, None where there is none."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return None if len(one) == len(other) else min(len(one), len(other))


def audit(one: Run, other: Run, engine: Engine | None, exact: Engine | None) -> Audit:
    """Compare two runs answer by answer.

    engine  the one that both were made with; None will do where nothing differs
    exact   the same model in float32, None where `engine` computes in float32 already

    Raises UsageError where the runs do not answer the same prompts in the same way.
    """
    check_comparable(one, other)
    found = Audit(missing=sorted(set(one.records) ^ set(other.records)))
    for name in [name for name in one.records if name in other.records]:
        a, b = one.records[name], other.records[name]
        found.answers += 1
        place = first_difference(a["output_ids"], b["output_ids"])
        found.tokens += len(a["output_ids"]) if place is None else place + 1
        if place is not None and engine is None:
            raise UsageError(f"The runs differ in {name!r}: the model is needed to say why.")
        if place is not None and engine is not None:
            _check_ids(name, [*a["prompt_ids"], *a["output_ids"], *b["output_ids"]], engine.vocab_size)
            tokens = tuple(said[place] if place < len(said) else None for said in (a["output_ids"], b["output_ids"]))
            sampling = one.sampling(a)
            said = a["output_ids"][:place]
            found.differences.append(explain(name, a["prompt_ids"], said, tokens, sampling, engine, exact))
    return found


def check_comparable(one: Run, other: Run) -> None:
    """Raise UsageError unless two runs answer the same prompts in the same way."""
    if not one.records and not other.records:
        raise UsageError("The runs cannot be compared: neither holds an answer.")
    for name in ("model", "engine", "dtype", "sampling"):
        a, b = one.settings.get(name), other.settings.get(name)
        if a != b:
            raise UsageError(f"The runs cannot be compared: {name} is {brief(a)} in one and {brief(b)} in the other.")
    for name in [name for name in one.records if name in other.records]:
        a, b = one.records[name], other.records[name]
        if a["prompt_ids"] != b["prompt_ids"] or a.get("seed") != b.get("seed"):
            raise UsageError(f"The runs cannot be compared: {name!r} has another prompt or seed in each.")


def _check_ids(name: str, ids: Sequence[int], vocab_size: int) -> None:
    if min(ids) < 0 or max(ids) >= vocab_size:
        raise UsageError(
            f"The record {name!r} has ids outside the vocabulary of {vocab_size}: was it made with this model?"
        )


def explain(
    name: str,
    prompt: Sequence[int],
    said: Sequence[int],
    tokens: tuple[int | None, ...],
    sampling: Sampling,
    engine: Engine,
    exact: Engine | None,
) -> Difference:
    """Re-score the place after `said` (output tokens that are equal) and judge."""
    a, b = tokens
    if a is None or b is None:
        reason = "one answer ends where the other continues"
        return Difference(name, len(said), (a, b), "bug", None, None, None, None, reason)
    prefix = np.array([*prompt, *said], dtype=np.int32)
    passes = [in_passes(engine, prompt, said, rows) for rows in ROWS]
    passes += [in_passes(engine, prompt, said, rows, useless) for rows, useless in BESIDE]
    plain = passes[0]
    leaders = np.union1d(np.argsort(plain)[-_LEADERS:], [a, b])
    judge = _Judge(sampling, prefix, len(prompt))
    noise, likely = _within(passes, leaders, judge, (a, b))
    for seed in range(0 if engine.exact or len(likely) == 2 else MORE):
        passes.append(_fed(engine, prompt, said, _random_shapes(seed)))
        noise, likely = _within(passes, leaders, judge, (a, b))
        if len(likely) == 2:
            break
    margin = judge.margin(plain, a, b)
    precise = error = None
    if exact is not None:
        truth = in_passes(exact, prompt, said, len(prefix))
        precise, error = judge.margin(truth, a, b), float(np.abs(truth - plain)[leaders].max())
    kind, reason = _verdict(noise, error, likely)
    return Difference(name, len(said), (a, b), kind, margin, precise, noise, error, reason)


def _verdict(noise: float, error: float | None, likely: list[int]) -> tuple[str, str]:
    """Kind and reason."""
    if len(likely) < 2 or noise == 0.0:
        only = "neither token" if not likely else f"only token {likely[0]}"
        return "bug", f"{only} can be chosen here within the noise"
    if error is not None and noise > FAR * error:
        return "bug", "the engine's own passes are further apart than rounding explains"
    return "tie", "both tokens are within the noise of the engine's own passes"


def _within(
    passes: Sequence[Scores], leaders: NDArray[np.int64], judge: _Judge, tokens: tuple[int, int]
) -> tuple[float, list[int]]:
    """The noise between passes, the first of which is plain decoding, and which tokens can be chosen within it."""
    plain = passes[0]
    noise = max(float(np.abs(scores - plain)[leaders].max()) for scores in passes)
    moved = [*passes, *(found for token in tokens for by in (-noise, noise) for found in _moved(plain, token, by))]
    chosen = {judge.choice(scores) for scores in moved}
    return noise, [token for token in tokens if token in chosen]


def in_passes(engine: Engine, prompt: Sequence[int], said: Sequence[int], rows: int, useless: int = 0) -> Scores:
    """float[V]: the logits after `said`, with its tokens fed in passes of `rows` rows after the prompt's prefill.

    useless   rows in every pass that are the first branch, none of them kept: what counts is the second
    """
    return _fed(engine, prompt, said, repeat((rows, useless)))


def _random_shapes(seed: int) -> Iterator[tuple[int, int]]:
    """Rows that count and useless ones, another number in every pass."""
    chance = random.Random(seed)
    while True:
        yield chance.randint(2, 8), chance.randint(1, 12)


def _fed(engine: Engine, prompt: Sequence[int], said: Sequence[int], shapes: Iterator[tuple[int, int]]) -> Scores:
    with closing(engine.open(reuse=None)) as sequence:
        logits = forward(engine, sequence, prompt)
        row = start = 0
        while start < len(said):
            rows, useless = next(shapes)
            part = list(said[start : start + rows])
            parents = [*[-1] * useless, *([-1] if len(part) > 1 else []), *range(useless, useless + len(part) - 2)]
            tree = DraftTree.build([*[part[0]] * useless, *part[1:]], parents)
            logits = forward(engine, sequence, part[:1], tree)
            row = useless + len(part) - 1 if len(part) > 1 else 0
            sequence.commit(list(range(useless, useless + len(part) - 1)))
            start += rows
        return engine.values(logits, row)


def _moved(scores: Scores, token: int, by: float) -> tuple[Scores, Scores]:
    """What noise can do at worst: one token against all others, and all likelier tokens against it and the rest.

    The second decides whether a token is among the likeliest that a filter keeps; tokens that can overtake it count
    as likelier.
    """
    alone = scores.copy()
    alone[token] += 2.0 * by
    likelier = scores > scores[token] - max(0.0, 2.0 * by)
    likelier[token] = False
    return alone, scores + np.where(likelier, by, -by).astype(scores.dtype)


class _Judge:
    """What would be chosen, and how clearly, from some raw scores at one place of a text."""

    def __init__(self, sampling: Sampling, prefix: NDArray[np.int32], prompt_length: int) -> None:
        seed = sampling.seed if sampling.draws else None
        applied = [*sampling.penalties(prompt_length), *sampling.filters()]
        self._sampler = Sampler(lambda logits, _row: logits.copy(), applied, seed)
        self._prefix = prefix
        self._noise = None if seed is None else (seed, len(prefix))

    def choice(self, scores: Scores) -> int:
        """The token."""
        return self._sampler.choose(self._sampler.scores(scores, 0, self._prefix), len(self._prefix))

    def margin(self, scores: Scores, a: int, b: int) -> float | None:
        """How far apart two tokens are, the draw's noise included; None where one of them is filtered out."""
        found = self._sampler.scores(scores, 0, self._prefix).astype(np.float64)
        if self._noise is not None:
            found = found + gumbel(*self._noise, len(found))
        gap = abs(float(found[a] - found[b]))
        return gap if np.isfinite(gap) else None
