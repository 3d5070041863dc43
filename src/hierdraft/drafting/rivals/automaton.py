"""A suffix automaton that grows token by token (Blumer et al. 1985), with counts and first places.

A state stands for the strings that end at the same places of the text; their number of occurrences is `count`, the
earliest place after one is `first`. It finds the longest suffix that occurred before in constant time per token.
"""

from __future__ import annotations

SEPARATOR = -1
"""A token that ends a text: nothing is matched or drafted across it."""


class SuffixAutomaton:
    """State 0 is the empty string. Transitions, suffix links and lengths are lists by state."""

    def __init__(self) -> None:
        self.text: list[int] = []
        self.next: list[dict[int, int]] = [{}]
        self.link = [-1]
        self.length = [0]
        self.count = [0]
        self.first = [0]
        self.last = 0

    def extend(self, token: int) -> None:
        """Append one token. Amortised constant time but for the counts, which take a step per suffix link."""
        self.text.append(token)
        new = self._state({}, -1, self.length[self.last] + 1, 0, len(self.text))
        at = self.last
        while at >= 0 and token not in self.next[at]:
            self.next[at][token] = new
            at = self.link[at]
        self.link[new] = 0 if at < 0 else self._split(at, token)
        self.last = new
        at = new
        while at > 0:
            self.count[at] += 1
            at = self.link[at]

    def _split(self, at: int, token: int) -> int:
        """The state of exactly the string of `at` and `token`, cloned off a longer one where there is none yet."""
        old = self.next[at][token]
        if self.length[old] == self.length[at] + 1:
            return old
        clone = self._state(dict(self.next[old]), self.link[old], self.length[at] + 1, self.count[old], self.first[old])
        self.link[old] = clone
        while at >= 0 and self.next[at].get(token) == old:
            self.next[at][token] = clone
            at = self.link[at]
        return clone

    def _state(self, following: dict[int, int], link: int, length: int, count: int, first: int) -> int:
        self.next.append(following)
        self.link.append(link)
        self.length.append(length)
        self.count.append(count)
        self.first.append(first)
        return len(self.next) - 1

    def follow(self, state: int, matched: int, token: int) -> tuple[int, int]:
        """The longest suffix of (a string of `matched` tokens at `state`) and `token` that occurs: state and length."""
        state = self.holding(state, matched)
        while state > 0 and token not in self.next[state]:
            state = self.link[state]
            matched = self.length[state]
        if token == SEPARATOR or token not in self.next[state]:
            return 0, 0
        return self.next[state][token], matched + 1

    def holding(self, state: int, matched: int) -> int:
        """The state of a string of `matched` tokens that was at `state` before other text came, which splits states."""
        while state > 0 and matched <= self.length[self.link[state]]:
            state = self.link[state]
        return state

    @property
    def before(self) -> tuple[int, int]:
        """The longest suffix of the text that occurred before: its state and length; (0, 0) for none."""
        state = max(self.link[self.last], 0)
        return state, self.length[state]
