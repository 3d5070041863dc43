"""What the proposer shows of itself: counters beside vLLM's own, and a line in the log.

vLLM's counters of drafts and accepted tokens stay its own. These add where drafts come from. They appear at vLLM's
/metrics where PROMETHEUS_MULTIPROC_DIR is set before it starts, because drafting happens in another process than the
server; without it they are in the log only.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Any

from hierdraft.levels import registered

if TYPE_CHECKING:
    from hierdraft.drafting.hierarchy.batch import BatchDrafter

EVERY = 10.0
"""Seconds between two updates."""

_log = logging.getLogger("vllm.hierdraft")


class Exported:
    """Brings a drafter's counts to Prometheus, if its client is installed, and to the log."""

    def __init__(self, drafter: BatchDrafter) -> None:
        """Nothing is shown before the first `EVERY` seconds."""
        self._drafter = drafter
        self._next = monotonic() + EVERY
        self._shown: dict[tuple[str, str], float] = {}
        self._counters = _counters()

    def update(self) -> None:
        """Show what is new, if it is time."""
        if monotonic() >= self._next:
            self._next = monotonic() + EVERY
            self.show()

    def show(self) -> None:
        """Show what is new."""
        counts = self._drafter.counts
        now = {("seconds", ""): counts.seconds, ("steps", ""): float(counts.steps)}
        for code, level in registered().items():
            now["proposed", level.name] = float(counts.proposed[code])
            now["accepted", level.name] = float(counts.accepted[code])
        new = {key: value - self._shown.get(key, 0.0) for key, value in now.items()}
        self._shown = now
        for (what, name), value in new.items():
            counter = self._counters.get(what)
            if counter is not None and value > 0:
                (counter.labels(level=name) if name else counter).inc(value)
        if new["steps", ""]:
            drafted = ", ".join(
                f"{level.name} {new['accepted', level.name]:.0f} of {new['proposed', level.name]:.0f}"
                for level in registered().values()
                if new["proposed", level.name]
            )
            each = 1e6 * new["seconds", ""] / new["steps", ""]
            _log.info("drafted tokens accepted: %s; drafting %.0f us a step", drafted or "none drafted", each)


def _counters() -> dict[str, Any]:
    try:
        from prometheus_client import REGISTRY, Counter
    except ImportError:
        return {}
    names = {
        "proposed": ("hierdraft_proposed_tokens", "Drafted tokens sent to be verified, by level.", ["level"]),
        "accepted": ("hierdraft_accepted_tokens", "Drafted tokens that were accepted, by level.", ["level"]),
        "seconds": ("hierdraft_drafting_seconds", "Seconds spent drafting.", []),
        "steps": ("hierdraft_steps", "Steps that drafts were asked for.", []),
    }
    known = getattr(REGISTRY, "_names_to_collectors", {})
    return {what: known.get(name) or Counter(name, text, labels) for what, (name, text, labels) in names.items()}
