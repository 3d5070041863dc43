"""The proposer under the name that configurations of vLLM written so far have; see `hierdraft.integrations.vllm`."""

from __future__ import annotations

from hierdraft.integrations.vllm import Proposer

__all__ = ["Proposer"]
