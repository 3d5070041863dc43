"""The decoding loop: propose, forward, verify, cut, commit, observe. The page to read first.

What the steps are is in `request.py`, how several requests share a forward in `forwards.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hierdraft.decoding.forwards import advance
from hierdraft.decoding.guard import check_method
from hierdraft.decoding.request import Learn, Options, Running
from hierdraft.errors import ContextLengthError, UsageError
from hierdraft.protocols import Engine, Method, Step
from hierdraft.tree import Int32

__all__ = ["CHUNK", "Learn", "Options", "check_prompt", "decode"]

CHUNK = 2048
"""Most tokens of a prompt in one forward: all at once could need too much memory."""


def decode(engine: Engine, method: Method, prompt: Sequence[int] | Int32, options: Options) -> Iterator[Step]:
    """Decode one request, yielding a `Step` per target forward, the prefill's first.

    Raises UsageError for an empty prompt, ids outside the vocabulary or limit < 1, and ContextLengthError where the
    prompt leaves no room for one new token. Close the iterator to end a request early.
    """
    return _steps(open_request(engine, method, prompt, options))


def open_request(engine: Engine, method: Method, prompt: Sequence[int] | Int32, options: Options) -> Running:
    """A request that was not begun. Raises what `decode` raises."""
    ids = check_prompt(engine, prompt, options.limit, unbounded=options.unbounded)
    limit = options.limit if options.unbounded else min(options.limit, engine.max_length - len(ids))
    check_method(method, engine.offers)
    return Running(engine, method, ids, limit, options)


def _steps(request: Running) -> Iterator[Step]:
    """One request by itself."""
    request.begin()
    try:
        while request.step is None or not request.step.finish:
            advance(request.engine, [request], CHUNK, _raise)
            if request.step is not None:
                yield request.step
    finally:
        request.end()


def _raise(_: Running, error: BaseException) -> None:
    raise error


def check_prompt(engine: Engine, prompt: Sequence[int] | Int32, limit: int, *, unbounded: bool = False) -> Int32:
    """The prompt as int32[L], or the error that `decode` documents."""
    ids = np.asarray(prompt)
    if ids.ndim != 1 or ids.size == 0:
        raise UsageError("The prompt is empty: give at least one token.")
    if not np.issubdtype(ids.dtype, np.integer):
        raise UsageError(f"The prompt must hold token ids, not {ids.dtype.name} values.")
    if ids.min() < 0 or ids.max() >= engine.vocab_size:
        wrong = int(ids[(ids < 0) | (ids >= engine.vocab_size)][0])
        raise UsageError(f"Token id {wrong} of the prompt is outside the vocabulary of {engine.vocab_size}.")
    if limit < 1:
        raise UsageError(f"The number of new tokens must be at least 1, not {limit}.")
    if len(ids) >= engine.max_length and not unbounded:
        raise ContextLengthError(
            f"The prompt has {len(ids)} tokens and the model's context holds {engine.max_length}: "
            "shorten it to leave room for at least one new token."
        )
    ids = ids.astype(np.int32)
    ids.flags.writeable = False
    return ids
