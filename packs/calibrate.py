"""Learn what comes with hierdraft as the default calibration: what each kind of evidence is worth before any use.

python packs/calibrate.py [--out FOLDER]
python packs/calibrate.py --draft smollm2-tiny --data records.jsonl [--out FOLDER]

First in replay: the answers of the pack that comes with smollm2-135m are cut into three parts, which take turns as
the model level, the statistics level, and the requests; every third request gets a damaged copy of its own answer as
the reference. Then with real forwards of the model, for the recycled level. No benchmark is involved.

With a small model beside it, it goes on from the default, and makes the file of those who draft with one. `--data` is
what that model was trained on (`smollm2_records.py`): asked are the prompts that were held out of it.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
from smollm2_prompts import prompts

import hierdraft
from hierdraft.databases.levels import LEAD, Databases
from hierdraft.databases.pack import Pack, PackInfo, join
from hierdraft.databases.suffixsort import build
from hierdraft.decoding.loop import Options, decode
from hierdraft.drafting.budget import FixedBudget
from hierdraft.drafting.hierarchy.calibration import Calibration, file_of
from hierdraft.drafting.hierarchy.method import HierarchyMethod
from hierdraft.engines.replay import ReplayEngine
from hierdraft.holdings import embedded_pack
from hierdraft.language_model import LanguageModel
from hierdraft.models.load import open_beside
from hierdraft.protocols import Setup
from hierdraft.text import encode_prompt
from hierdraft.training.documents import read_documents, split
from hierdraft.training.settings import Training
from hierdraft.tree import Int32

MODEL = "smollm2-135m"
NODES = 60
PARTS = 3
REAL = 120
REAL_TOKENS = 96
REAL_NODES = 28


def damaged(ids: list[int], chance: random.Random, vocab: int) -> list[int]:
    """A copy in which about every fifteenth token was replaced, removed, or got a neighbour."""
    copy: list[int] = []
    for token in ids:
        kind = chance.randrange(45)
        copy += [[chance.randrange(vocab)], [], [token, chance.randrange(vocab)]][kind] if kind < 3 else [token]
    return copy


def in_replay(calibration: Calibration, documents: list[Int32], asked: list[list[int]], vocab: int) -> None:
    """Three passes over the answers."""
    chance = random.Random(0)
    engine = ReplayEngine(vocab)
    for part in range(PARTS):
        packs = []
        for shift, level in ((1, "model"), (2, "statistics")):
            index = build(join(documents[(part + shift) % PARTS :: PARTS]), vocab)
            packs.append(Pack(Path(level), PackInfo(level, vocab), index))  # type: ignore[arg-type]
        method = HierarchyMethod(calibration="none")
        method.calibration = calibration
        method.attach(Setup(Databases(packs), engine.offers, vocab))
        for number, (document, prompt) in enumerate(zip(documents[part::PARTS], asked[part::PARTS], strict=True)):
            output = document[LEAD:].tolist()
            engine.play(output)
            reference = [np.array(damaged(output, chance, vocab), dtype=np.int32)] if number % 3 == 0 else []
            options = Options(len(output), FixedBudget(NODES), reference=reference)
            steps = sum(1 for _ in decode(engine, method, prompt, options))
            if number % 100 == 0:
                print(f"part {part}, answer {number}: {len(output)} tokens in {steps} steps", flush=True)
        method.close()


def with_forwards(model: LanguageModel, method: HierarchyMethod, said: list[Int32], asked: Iterable[list[int]]) -> None:
    """Answers to these prompts, with what was said before as the only pack."""
    engine = model.engine
    info = PackInfo("model", engine.vocab_size)
    pack = Pack(Path("said"), info, build(join(said), engine.vocab_size))  # type: ignore[arg-type]
    told = engine.offers, engine.vocab_size, model.databases.tokenizer, partial(open_beside, target=engine)
    method.attach(Setup(Databases([pack]), *told))
    for number, prompt in enumerate(asked):
        steps = [*decode(engine, method, prompt, Options(REAL_TOKENS, FixedBudget(REAL_NODES)))][1:]
        length = sum(len(step.tokens) for step in steps) / max(1, len(steps))
        print(f"real answer {number}: accepted length {length:.2f}", flush=True)
    method.close()


def from_nothing(model: LanguageModel, path: Path) -> Calibration:
    """The default."""
    asked = [encode_prompt(model.tokenizer, text, chat=True) for _, text in dict.fromkeys(prompts())]
    documents = [*Pack.open(path).documents()][: len(asked)]  # what follows are answers in conversations
    method = HierarchyMethod(calibration="none")
    in_replay(method.calibration, documents, asked, model.engine.vocab_size)
    chosen = random.Random(1).sample(range(1, len(asked), 2), REAL)  # not those of the model level
    with_forwards(model, method, documents[::2], [asked[number] for number in chosen])
    return method.calibration


def with_draft(model: LanguageModel, data: Path, draft: str) -> Calibration:
    """The default, and what a small model's opinions are worth after prompts that were held out of its training."""
    documents, _ = read_documents([data], model.tokenizer, model.engine.vocab_size)
    learned, held_out = split(documents, Training.held_out, Training.seed)
    method = HierarchyMethod(calibration="none", draft=draft, ask="always")
    method.calibration.read_default()
    said = [one.ids[max(0, one.start - LEAD) :] for one in learned]
    with_forwards(model, method, said, [one.ids[: one.start].tolist() for one in held_out])
    return method.calibration


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--draft")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("src/hierdraft/data"))
    arguments = parser.parse_args()
    path = embedded_pack(MODEL)
    if path is None:
        raise SystemExit("The pack is missing: make pack.")
    if bool(arguments.draft) != bool(arguments.data):
        parser.error("--draft and --data belong together")
    model = hierdraft.load(MODEL, packs=[], learn=False)
    data, draft = arguments.data, arguments.draft
    calibration = with_draft(model, data, draft) if draft else from_nothing(model, path)
    calibration.write(file_of(arguments.out / "calibration.safetensors", calibration.levels))


if __name__ == "__main__":
    main()
