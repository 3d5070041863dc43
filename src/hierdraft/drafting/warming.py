"""The compiled drafting kernels, loaded (or compiled, the first time on a machine) while an engine is made."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from hierdraft.protocols import Budget, Request, Step


@contextmanager
def warming() -> Iterator[Callable[[], None]]:
    """Kernels are loaded in a thread once what this gives is called; it must not run on while the interpreter ends."""
    thread = threading.Thread(target=warm_up, name="hierdraft-warm-up", daemon=True)

    def begin() -> None:
        if thread.ident is None:
            thread.start()

    try:
        yield begin
    except Exception:  # whatever it was: raised again once the thread has ended
        if thread.ident is not None:
            thread.join()
        raise
    begin()
    thread.join()  # but not before Ctrl-C is heard


def warm_up() -> None:
    """Load them, or compile them: a request of the default method, with all that it calls, and then two at a time."""
    from hierdraft.drafting.hierarchy.method import HierarchyMethod

    method = HierarchyMethod(calibration="none")
    prompt = np.array([1, 2, 1, 2], dtype=np.int32)
    session = method.open(Request(prompt, 4, reference=[prompt]))
    tree = session.propose(prompt, Budget(2, 2))
    rows = 1 + len(tree)
    ids = np.zeros((rows, max(1, method.wants.top_k)), dtype=np.int32)
    session.observe(Step([1], tree, [0], np.array([1, 2, 1], dtype=np.int32)[:rows], ids))
    session.finish(prompt)
    method.warm_up()
    method.close()
