"""Proposers that vLLM loads in the tests: one that says what it sees, one that breaks."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hierdraft.integrations.vllm import Proposer


class Watched(Proposer):
    """Writes after each step how many requests it knows to the file that PROBE names."""

    def propose(self, *arguments: Any, **named: Any) -> list[list[int]]:
        """As the class above."""
        drafts = super().propose(*arguments, **named)
        state = {"requests": len(self.drafter.requests), "begun": self.drafter.requests.begun}
        Path(os.environ["PROBE"]).write_text(json.dumps(state))
        return drafts


class Broken(Proposer):
    """Fails from the sixth step on."""

    def __init__(self, vllm_config: Any) -> None:
        super().__init__(vllm_config)
        working, calls = self.drafter.propose, 0

        def propose(*arguments: Any) -> list[list[int]]:
            nonlocal calls
            calls += 1
            if calls > 5:
                raise ValueError("broken on purpose")
            return working(*arguments)

        self.drafter.propose = propose  # type: ignore[method-assign]
