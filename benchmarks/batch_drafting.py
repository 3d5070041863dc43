"""What a step of drafting costs a serving engine, with texts of 2,000 tokens and more in its rows.

    python benchmarks/batch_drafting.py [--pack python.safetensors] [--rows 1 4 16 64]

The texts are answers of the pack that comes with smollm2-135m, which then holds every word of them; for `other texts`
half of it is the pack and the texts are from the other half. `--pack` adds a statistics level.
benchmarks/batch-drafting.json is the result.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import machine, quantiles, write
from hierdraft.databases.levels import Databases
from hierdraft.databases.pack import Pack, PackInfo, write_pack
from hierdraft.databases.suffixarray import END
from hierdraft.databases.suffixsort import build
from hierdraft.drafting.budget import BatchBudget
from hierdraft.drafting.hierarchy.batch import BatchDrafter
from hierdraft.holdings import embedded_pack

CONTEXT = 2000
DEPTH = 8
STEPS = 300


def measure(packs: list[Pack], text: Any, rows: int, threads: int) -> dict[str, Any]:
    """Microseconds of one step, everything that `propose` does included."""
    chance = random.Random(0)
    drafter = BatchDrafter(DEPTH, Databases(packs), threads=threads, budget=BatchBudget())
    starts = [chance.randrange(len(text) - CONTEXT - 4 * STEPS) for _ in range(rows)]
    ids = np.zeros((rows, CONTEXT + 4 * STEPS), dtype=np.int32)
    for row, start in zip(ids, starts, strict=True):
        row[:] = text[start : start + len(row)]
    lengths = np.full(rows, CONTEXT, dtype=np.int64)
    room = np.full(rows, 10_000)

    def costs(first: int, last: int) -> NDArray[np.float64]:
        """Seconds of steps of first..last tokens, of which the first `rows` are not drafted."""
        return 0.02 + 8e-6 * (np.arange(first, last + 1) - rows)

    fresh = np.ones(rows, dtype=np.int64)
    seconds, tokens, accepted = list[float](), 0, 0
    for _ in range(STEPS):
        before = drafter.counts.seconds
        drafts = drafter.propose(ids, lengths, fresh, room, costs)
        seconds.append(drafter.counts.seconds - before)
        tokens += sum(map(len, drafts))
        fresh = np.array([1 + taken(ids[row], int(lengths[row]), draft) for row, draft in enumerate(drafts)])
        accepted += int(fresh.sum()) - rows
        lengths += fresh
        if int(lengths.max()) + DEPTH + 1 >= ids.shape[1]:
            break
    drafter.close()
    steps = len(seconds) * rows
    return {
        "us": quantiles(seconds[20:]), "tokens_a_row": round(tokens / steps, 2),
        "accepted_a_row": round(accepted / steps, 2),
    }  # fmt: skip


def halves(pack: Pack, folder: Path) -> tuple[Pack, Any]:
    """The first half of a pack's documents as a pack, and the tokens of the others."""
    tokens = pack.index.tokens
    middle = int(np.flatnonzero(tokens[: len(tokens) // 2] == END)[-1]) + 1
    index = build(np.ascontiguousarray(tokens[:middle]), pack.info.vocab_size)
    half = write_pack(folder / "half.safetensors", index, PackInfo("model", pack.info.vocab_size))
    return half, tokens[middle:][tokens[middle:] != END]


def taken(row: Any, length: int, draft: list[int]) -> int:
    """How many drafted tokens the text continues with."""
    return next((i for i, token in enumerate(draft) if row[length + i] != token), len(draft))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 16, 64])
    args = parser.parse_args()
    path = embedded_pack("smollm2-135m")
    if path is None:
        raise SystemExit("the pack that comes with smollm2-135m is missing")
    own = Pack.open(path)
    text = own.index.tokens[own.index.tokens != END]
    with TemporaryDirectory() as folder:
        half, others = halves(own, Path(folder))
        levels = {
            "context": ([], text), "context and model, texts it holds": ([own], text),
            "context and model, other texts": ([half], others),
        }  # fmt: skip
        if args.pack:
            levels["context, model and statistics, other texts"] = ([half, Pack.open(args.pack)], others)
        result = {
            name: {
                str(rows): {str(threads): measure(packs, text, rows, threads) for threads in (1, 2)}
                for rows in args.rows
            }
            for name, (packs, text) in levels.items()
        }
    for name, found in result.items():
        print(name, found)
    write("batch-drafting", {"machine": machine(), "context": CONTEXT, "depth": DEPTH, "levels": result})


if __name__ == "__main__":
    main()
