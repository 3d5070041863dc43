"""A drafting method of one's own: it only has to propose trees, the loop takes care of the rest.

python examples/own_drafter.py
"""

from __future__ import annotations

import hierdraft
from hierdraft.drafting.plain import PlainMethod
from hierdraft.protocols import Budget
from hierdraft.tree import DraftTree, Int32


class LastMatch(PlainMethod):
    """Copies what followed the last occurrence of the two newest tokens. It keeps nothing of a request."""

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        """A chain of at most ten tokens."""
        ids = tokens.tolist()
        for start in range(len(ids) - 3, -1, -1):
            if ids[start : start + 2] == ids[-2:]:
                return DraftTree.chain(ids[start + 2 : start + 2 + min(10, budget.depth, budget.nodes)])
        return DraftTree.empty()


model = hierdraft.load("smollm2-135m")
prompt = "Name three fruits. Then name the same three fruits again."
for method in ("none", LastMatch(), "hierarchy"):
    run = model.generate(prompt, method=method, max_new_tokens=60, budget=10)
    name = method if isinstance(method, str) else type(method).__name__
    print(f"{name:<10} accepted length {run.accepted_length:.2f}: {run.text!r}")
