"""SuffixDecoding (Oliaro et al., arXiv 2411.04975), with the scores and limits of its open implementation.

Two counted suffix structures: one of this request (prompt and output), one of earlier requests' output. Every length
of match is tried in both; a draft follows the most frequent continuation, its tokens' probabilities are the ratios of
counts along the path, and the draft with the highest sum of probabilities wins. A draft is at most as long as its
match, and ends where its probability falls below 0.1. Here both structures are suffix automata, which have the same
counts as suffix trees; `model` packs hold earlier output too, and their suffix arrays have these counts as well.
"""

from __future__ import annotations

import numpy as np

from hierdraft.databases.pack import Pack
from hierdraft.databases.suffixarray import narrow, runs
from hierdraft.drafting.rivals.automaton import SEPARATOR, SuffixAutomaton
from hierdraft.drafting.rivals.datastore import Datastore
from hierdraft.drafting.rivals.text import TextMethod, TextSession
from hierdraft.levels import code_of
from hierdraft.protocols import Budget, Request, Session, Step
from hierdraft.tree import DraftTree, Int32

Draft = tuple[float, list[int], list[float], int]


_CONTINUATIONS = 4096
"""Most different continuations of one match in a pack that are counted."""


class SuffixMethod(TextMethod):
    """depth: longest match and draft; factor, offset: a draft's length per token of its match, and on top; least: its
    lowest probability; kept: tokens of earlier output that are kept, the oldest half leaves when there are more."""

    uses_databases = True

    def __init__(
        self, depth: int = 64, factor: float = 1.0, offset: float = 0.0, least: float = 0.1, kept: int = 1_000_000
    ) -> None:
        super().__init__()
        self.depth, self.factor, self.offset, self.least = depth, factor, offset, least
        self._kept = kept
        self._earlier: dict[str, SuffixAutomaton] = {}

    def open(self, request: Request) -> Session:
        """Index the prompt; match its end against earlier output."""
        return _Session(self, request)

    def earlier(self, namespace: str) -> SuffixAutomaton:
        """What was said before; `add` may put another one in its place."""
        return self._earlier.setdefault(namespace, SuffixAutomaton())

    def add(self, namespace: str, output: list[int]) -> None:
        """A request has ended."""
        earlier = self.earlier(namespace)
        if len(earlier.text) + len(output) > self._kept:
            kept = earlier.text[len(earlier.text) // 2 :]
            earlier = self._earlier[namespace] = SuffixAutomaton()
            for token in kept:
                earlier.extend(token)
        for token in [*output, SEPARATOR]:
            earlier.extend(token)


class _Session(TextSession):
    """`_at`: where the text's end stands in `_seen`, which is what was said before."""

    def __init__(self, method: SuffixMethod, request: Request) -> None:
        super().__init__(request)
        self._method = method
        self._depth, self._factor, self._offset, self._least = method.depth, method.factor, method.offset, method.least
        self._store = Datastore(method.databases, request.namespace, ["model"], method.depth)
        self._own = SuffixAutomaton()
        self._seen = method.earlier(self.namespace)
        self._at = (0, 0)
        self._prompt = len(self.text)
        self._read(self.text)

    def _read(self, tokens: list[int]) -> None:
        for token in tokens:
            self._own.extend(token)
            self._at = self._seen.follow(*self._at, token)

    def observe(self, step: Step) -> None:
        """Extend both matches."""
        super().observe(step)
        self._read(step.tokens)

    def propose(self, tokens: Int32, budget: Budget) -> DraftTree:
        """The best chain of all match lengths in both structures."""
        most = min(budget.nodes, budget.depth, self._depth)
        own = self._best(self._own, *self._own.before, most, code_of("context"))
        other = self._best(self._seen, self._seen.holding(*self._at), self._at[1], most, code_of("model"))
        packed = self._best_packed(tokens, most, code_of("model"))
        score, ids, probs, level = max(own, other, packed, key=lambda draft: draft[0])
        if score <= 0.0:
            return DraftTree.empty()
        return DraftTree.build(ids, list(range(-1, len(ids) - 1)), prob=probs, level=level)

    def _best(self, automaton: SuffixAutomaton, state: int, matched: int, most: int, level: int) -> Draft:
        """The best draft over all suffixes of a match. Suffixes in one state continue alike: its longest serves all."""
        best: Draft = (0.0, [], [], level)
        while state > 0:
            size = min(matched, automaton.length[state], self._depth)
            ids, probs = self._path(automaton, state, min(most, int(self._factor * size + self._offset)))
            if sum(probs) > best[0]:
                best = (sum(probs), ids, probs, level)
            state = automaton.link[state]
        return best

    def _best_packed(self, tokens: Int32, most: int, level: int) -> Draft:
        """The best draft over all suffixes that occur in packs; as many occurrences are the same ones."""
        longest: dict[tuple[int, int], tuple[Pack, int, int, int]] = {}
        for match in self._store.matches(tokens):
            longest[id(match[0]), match[3] - match[2]] = match
        best: Draft = (0.0, [], [], level)
        for pack, size, low, high in longest.values():
            ids, probs = self._path_packed(pack, size, low, high, min(most, int(self._factor * size + self._offset)))
            if sum(probs) > best[0]:
                best = (sum(probs), ids, probs, level)
        return best

    def _path_packed(self, pack: Pack, size: int, low: int, high: int, most: int) -> tuple[list[int], list[float]]:
        """Like `_path`, after the occurrences low..high of a match of `size` tokens."""
        index, vocab = pack.index, pack.info.vocab_size
        found, counts = np.empty((2, _CONTINUATIONS), dtype=np.int32)
        ids: list[int] = []
        probs: list[float] = []
        prob = 1.0
        while len(ids) < most:
            n = runs(index.tokens, index.suffixes, low, high, size, vocab, found, counts)
            if n == 0:
                break
            best = int(counts[:n].argmax())
            prob *= float(counts[best]) / (high - low)
            if prob < self._least:
                break
            ids.append(int(found[best]))
            probs.append(prob)
            low, high = map(int, narrow(index.tokens, index.suffixes, low, high, size, ids[-1]))
            size += 1
        return ids, probs

    def _path(self, automaton: SuffixAutomaton, state: int, most: int) -> tuple[list[int], list[float]]:
        """The most frequent continuation, token by token, the earlier met among equals."""
        ids: list[int] = []
        probs: list[float] = []
        prob = 1.0
        while len(ids) < most:
            choices = [(token, found) for token, found in automaton.next[state].items() if token != SEPARATOR]
            if not choices:
                break
            token, found = max(choices, key=lambda choice: automaton.count[choice[1]])
            prob *= automaton.count[found] / automaton.count[state]
            if prob < self._least:
                break
            ids.append(token)
            probs.append(prob)
            state = found
        return ids, probs

    def finish(self, tokens: Int32) -> None:
        """Add the output to the earlier ones."""
        self._method.add(self.namespace, tokens[self._prompt :].tolist())
        super().finish(tokens)
