"""Which blocks of a pool belong to whom: counted by use, known by what they hold, the longest unused taken first."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np

from hierdraft.tree import Int32


class Blocks:
    """Numbers of blocks; what lies in them is the pool's.

    A block that is full of text is known by that text and all before it, and serves every sequence of its namespace
    that begins alike. It is never written to. One that nobody uses stays known until its room is needed.
    """

    def __init__(self, size: int) -> None:
        """`size`: tokens in a block."""
        self._size = size
        self._users: list[int] = []
        self._keys: list[bytes | None] = []
        self._empty: list[int] = []
        self._known: dict[bytes, int] = {}
        self._unused: OrderedDict[int, None] = OrderedDict()

    @property
    def count(self) -> int:
        """Blocks in all."""
        return len(self._users)

    @property
    def empty(self) -> int:
        """Blocks that hold nothing that is known."""
        return len(self._empty)

    @property
    def free(self) -> int:
        """Blocks that nobody uses."""
        return len(self._empty) + len(self._unused)

    def add(self, more: int) -> None:
        """`more` empty blocks with the next numbers."""
        self._empty += range(self.count + more - 1, self.count - 1, -1)
        self._users += [0] * more
        self._keys += [None] * more

    def missing(self, table: Sequence[int], length: int) -> int:
        """How many blocks a table lacks to hold `length` tokens."""
        return max(0, -(-length // self._size) - len(table))

    def own(self, table: list[int], start: int, stop: int) -> list[tuple[int, int]]:
        """Make `table` long enough for `stop` tokens, and free to be written to from token `start` on.

        Returns pairs (old, new): blocks whose content has to be copied, since others read them.
        """
        table += [self._take() for _ in range(self.missing(table, stop))]
        copies = []
        for place in range(start // self._size, -(-stop // self._size)):
            block = table[place]
            if self._users[block] == 1:
                self._forget(block)
                continue
            table[place] = self._take()
            self._users[block] -= 1
            copies.append((block, table[place]))
        return copies

    def share(self, table: Sequence[int]) -> list[int]:
        """The same blocks in another table."""
        for block in table:
            self._users[block] += 1
        return [*table]

    def _take(self) -> int:
        """A block for one user: an empty one, or the one that was unused for longest."""
        if self._empty:
            block = self._empty.pop()
        else:
            block, _ = self._unused.popitem(last=False)
            self._forget(block)
        self._users[block] = 1
        return block

    def _forget(self, block: int) -> None:
        key = self._keys[block]
        if key is not None:
            del self._known[key]
            self._keys[block] = None

    def release(self, table: list[int]) -> None:
        """Nobody reads these through this table any more; it is emptied, its last block the first to be taken."""
        while table:
            block = table.pop()
            self._users[block] -= 1
            if self._users[block] == 0:
                if self._keys[block] is None:
                    self._empty.append(block)
                else:
                    self._unused[block] = None

    def remember(
        self, ids: Sequence[int], table: Sequence[int], namespace: str, keys: list[bytes], *, again: bool = False
    ) -> None:
        """The full ones of these blocks hold `ids`, which somebody in this namespace has written.

        keys    of as many of the first blocks as were remembered before; those of the others are made, once, and added
        again   offer all of them: what stood for the same text may have been let go of meanwhile
        """
        first = len(keys)
        keys += self._keys_after(keys[-1] if keys else _root(namespace), ids[first * self._size :])
        for place in range(0 if again else first, len(keys)):
            block, key = table[place], keys[place]
            if self._keys[block] is None and key not in self._known:
                self._keys[block] = key
                self._known[key] = block

    def shared(self, ids: Sequence[int] | Int32, namespace: str) -> tuple[list[int], list[bytes]]:
        """A table of the blocks known in this namespace that `ids` begins with, now used once more; and their keys."""
        table: list[int] = []
        keys: list[bytes] = []
        for key in self._keys_after(_root(namespace), ids):
            block = self._known.get(key)
            if block is None:
                break
            self._users[block] += 1
            self._unused.pop(block, None)
            table.append(block)
            keys.append(key)
        return table, keys

    def _keys_after(self, key: bytes, ids: Sequence[int] | Int32) -> Iterator[bytes]:
        """A key for each full block of `ids`, which stand after a block that has this one."""
        whole = np.asarray(ids, dtype=np.int32)
        for start in range(0, len(whole) - self._size + 1, self._size):
            key = key_after(key, whole[start : start + self._size])
            yield key


def key_after(key: bytes, tokens: Int32) -> bytes:
    """The key of a block of tokens: of these, of all before them and of the namespace, whose key is given."""
    return hashlib.blake2b(key + tokens.tobytes(), digest_size=16).digest()


def _root(namespace: str) -> bytes:
    """What stands for a namespace before the first block."""
    return hashlib.blake2b(namespace.encode(), digest_size=16).digest()
