"""What packs are worth by their size and kind, and what foreign ones cost: accepted length in replay, 28 nodes.

    python benchmarks/packs.py --questions question.jsonl [--chat answers.jsonl]

The target's own greedy answers to every second question of Spec-Bench are decoded once and then replayed with:

- parts of the pack that comes with the model, from none of it to all: `sizes`
- a statistics level made with `db build --chat` from answers that another model gave to the other questions: `chat`
- either of them beside none, two and four packs that have nothing to do with the questions: Python's library, C++
  headers, type stubs, tables and texts of the packages in this environment: `foreign`

Replay is exact for what is drafted from text; the recycled level takes no part. No time is measured.
"""

from __future__ import annotations

import argparse
import json
import sysconfig
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import hierdraft
from common import ROOT, machine, write
from hierdraft.bench.datasets import load_questions, spread
from hierdraft.bench.replay import compare
from hierdraft.cli.db_build import load_tokenizer
from hierdraft.corpus.chats import read_chats
from hierdraft.corpus.files import find_files, read_texts
from hierdraft.corpus.records import Record, read_records
from hierdraft.corpus.rendering import documents_of
from hierdraft.corpus.streams import Reading
from hierdraft.corpus.tokens import tokenize
from hierdraft.databases.pack import Pack, PackInfo, join
from hierdraft.databases.suffixsort import build
from hierdraft.holdings import embedded_pack
from hierdraft.text import encode_prompt
from hierdraft.tree import Int32

MODEL = "smollm2-135m"
METHODS = ("hierarchy", "hd", "suffix")
NODES = 28
SHARES = (0.0, 0.1, 0.3, 0.6, 1.0)
FOREIGN = {
    "Python's library": "*.py",
    "C++ headers": "*.h",
    "type stubs": "*.pyi",
    "tables and texts": "*.[ct][sx][vt]",
}
MOST = 1_000_000
FREQUENT = 100_000


def answers(work: Path, questions: str, limit: int, tokens: int) -> list[Record]:
    """Greedy answers to first turns, decoded where they are not there yet."""
    path = work / f"answers-{limit}-{tokens}.jsonl"
    if not path.exists():
        model = hierdraft.load(MODEL, dtype="float32", packs=[], learn=False, generation_config=False)
        even = [one for one in load_questions(f"spec-bench:{questions}") if int(one.id) % 2 == 0]
        lines = []
        for question in spread(even, limit):
            ids = encode_prompt(model.tokenizer, question.turns[0], chat=True)
            said = model.generate(ids, method="hierarchy", max_new_tokens=tokens).token_ids
            lines.append(json.dumps({"prompt_ids": list(ids), "output_ids": said, "task": question.task}) + "\n")
            print(question.id, len(said), flush=True)
        path.write_text("".join(lines))
    return list(read_records(path, None))


def in_memory(name: str, level: str, documents: Sequence[Int32], vocab: int) -> Pack:
    size = sum(map(len, documents))
    return Pack(
        Path(name), PackInfo(level, vocab, tokens=size, documents=len(documents)), build(join(documents), vocab)
    )


def foreign(tokenizer: Any, vocab: int) -> list[Pack]:
    """Packs of what the folders of this environment hold, at most `MOST` tokens each."""
    packs = []
    for name, glob in FOREIGN.items():
        folder = Path(sysconfig.get_path("stdlib" if glob == "*.py" else "purelib"))
        files = find_files([folder], [glob], ["test", *(["site-packages"] if glob == "*.py" else [])])
        documents, size = [], 0
        for document in tokenize(tokenizer, _texts(files)):
            documents.append(document)
            size += len(document)
            if size >= MOST:
                break
        packs.append(in_memory(name, "statistics", documents, vocab))
        print(name, packs[-1].info.tokens, "tokens", flush=True)
    return packs


def _texts(files: Sequence[Path]) -> Iterator[str]:
    for pieces in read_texts(files, Reading(skip_bad=True)):
        yield "".join(pieces)


def conversations(path: Path, tokenizer: Any, vocab: int) -> Pack:
    """A statistics level of chat logs, as `db build --level statistics --chat` makes it."""
    reading = Reading()
    documents = list(tokenize(tokenizer, documents_of(tokenizer, read_chats([path], reading), "all", reading)))
    return in_memory("conversations", "statistics", documents, vocab)


def scored(records: Sequence[Record], packs: Sequence[Pack], vocab: int) -> dict[str, Any]:
    found = compare(records, METHODS, packs, vocab, NODES)
    lengths = {method: round(score.accepted_length(), 4) for method, score in found.items()}
    print({pack.path.name: pack.info.tokens for pack in packs}, lengths, flush=True)
    return lengths


def once(documents: Sequence[Int32]) -> float:
    """Share of the most frequent 5-grams that stand in one document only."""
    counts: Counter[bytes] = Counter()
    for document in documents:
        rows = np.lib.stride_tricks.sliding_window_view(np.ascontiguousarray(document), 5) if len(document) > 4 else ()
        counts.update({row.tobytes() for row in rows})
    top = [count for _, count in counts.most_common(FREQUENT)]
    return round(sum(count == 1 for count in top) / len(top), 4)


def by_size(records: Sequence[Record], own: Sequence[Int32], vocab: int) -> list[dict[str, Any]]:
    """Evenly chosen parts of the model's own answers."""
    rows = []
    for share in SHARES:
        count = round(share * len(own))
        part = [own[number * len(own) // count] for number in range(count)]
        packs = [in_memory("model", "model", part, vocab)] if part else []
        rows.append({"tokens": sum(map(len, part)), "accepted_length": scored(records, packs, vocab)})
        if part:
            rows[-1] |= {"documents": len(part), "frequent_once": once(part)}
    return rows


def beside(records: Sequence[Record], matching: Pack, others: Sequence[Pack], vocab: int) -> dict[str, Any]:
    """One pack that fits, beside none, two and four that do not."""
    return {str(count): scored(records, [matching, *others[:count]], vocab) for count in (0, 2, 4)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--questions", required=True)
    parser.add_argument("--chat", type=Path, help="answers of another model to the questions with odd numbers")
    parser.add_argument("--limit", type=int, default=12, help="questions of each task")
    parser.add_argument("--tokens", type=int, default=128)
    args = parser.parse_args()
    work = ROOT / "build" / "packs"
    work.mkdir(parents=True, exist_ok=True)
    records = answers(work, args.questions, args.limit, args.tokens)
    tokenizer = load_tokenizer(MODEL)
    path = embedded_pack(MODEL)
    if path is None:
        raise SystemExit("The pack is missing: make pack.")
    pack = Pack.open(path)
    vocab = pack.info.vocab_size
    own = list(pack.documents())
    record: dict[str, Any] = {
        "machine": machine(),
        "settings": {"questions": "Spec-Bench, even numbers, first turns", "answers": len(records), "nodes": NODES},
        "bytes": path.stat().st_size,
        "sizes": by_size(records, own, vocab),
    }
    others = foreign(tokenizer, vocab)
    record["foreign"] = {one.path.name: one.info.tokens for one in others}
    record["beside_model"] = beside(records, in_memory("model", "model", own, vocab), others, vocab)
    record["only_foreign"] = scored(records, others, vocab)
    if args.chat is not None:
        chat = conversations(args.chat, tokenizer, vocab)
        record["chat_tokens"] = chat.info.tokens
        record["beside_chat"] = beside(records, chat, others, vocab)
    write("packs", record)


if __name__ == "__main__":
    main()
