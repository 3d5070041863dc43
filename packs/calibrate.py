"""Learn what comes with hierdraft as the default calibration: what each kind of evidence is worth before any use.

python packs/calibrate.py [--out src/hierdraft/data/calibration.safetensors]

First in replay: the answers of the pack that comes with smollm2-135m are cut into three parts, which take turns as
the model level, the statistics level, and the requests; every third request gets a damaged copy of its own answer as
the reference. Then with real forwards of the model, for the recycled level. No benchmark is involved.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

import numpy as np
from hierdraft.drafting.hierarchy.drafter import HierarchyDrafter
from smollm2_prompts import prompts

import hierdraft
from hierdraft.databases.levels import LEAD, Databases
from hierdraft.databases.pack import Pack, PackInfo, join
from hierdraft.databases.suffixsort import build
from hierdraft.decoding.loop import Options, decode
from hierdraft.drafting.budget import FixedBudget
from hierdraft.engines.replay import ReplayEngine
from hierdraft.holdings import embedded_pack
from hierdraft.text import encode_prompt

NODES = 60
PARTS = 3
REAL = 120
REAL_TOKENS = 96


def damaged(ids: list[int], chance: random.Random, vocab: int) -> list[int]:
    """A copy in which about every fifteenth token was replaced, removed, or got a neighbour."""
    copy: list[int] = []
    for token in ids:
        kind = chance.randrange(45)
        copy += [[chance.randrange(vocab)], [], [token, chance.randrange(vocab)]][kind] if kind < 3 else [token]
    return copy


def fresh(calibration: Any) -> HierarchyDrafter:
    """A drafter that starts from the prior, or continues with a calibration."""
    drafter = HierarchyDrafter(calibration="none")
    drafter.calibration = calibration or drafter.calibration
    return drafter


def in_replay(documents: list[np.ndarray], asked: list[list[int]], vocab: int) -> Any:
    """Three passes over the answers; returns the calibration."""
    chance = random.Random(0)
    engine = ReplayEngine(vocab)
    calibration = None
    for part in range(PARTS):
        packs = []
        for shift, level in ((1, "model"), (2, "statistics")):
            index = build(join(documents[(part + shift) % PARTS :: PARTS]), vocab)
            packs.append(Pack(Path(level), PackInfo(level, vocab), index))  # type: ignore[arg-type]
        drafter = fresh(calibration)
        drafter.text_only()
        drafter.attach(Databases(packs))
        for number, (document, prompt) in enumerate(zip(documents[part::PARTS], asked[part::PARTS], strict=True)):
            output = document[LEAD:].tolist()
            engine.play(output)
            reference = [np.array(damaged(output, chance, vocab), dtype=np.int32)] if number % 3 == 0 else []
            options = Options(len(output), FixedBudget(NODES), reference=reference)
            steps = sum(1 for _ in decode(engine, drafter, prompt, options))
            if number % 100 == 0:
                print(f"part {part}, answer {number}: {len(output)} tokens in {steps} steps", flush=True)
        calibration = drafter.calibration
    return calibration


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("src/hierdraft/data/calibration.safetensors"))
    arguments = parser.parse_args()
    path = embedded_pack("smollm2-135m")
    if path is None:
        raise SystemExit("The pack is missing: make pack.")
    model = hierdraft.load("smollm2-135m", engine="hf", packs=[], learn=False)
    texts = list(dict.fromkeys(prompts()))
    asked = [encode_prompt(model.tokenizer, text, chat=True) for _, text in texts]
    documents = list(Pack.open(path).documents())[: len(asked)]  # what follows are answers in conversations
    calibration = in_replay(documents, asked, model.engine.vocab_size)
    half = build(join(documents[::2]), model.engine.vocab_size)
    drafter = fresh(calibration)
    drafter.attach(Databases([Pack(path, PackInfo("model", model.engine.vocab_size), half)]))
    for number in random.Random(1).sample(range(1, len(asked), 2), REAL):  # not those of the model level
        run = model.generate(asked[number], method=drafter, max_new_tokens=REAL_TOKENS, budget=28)
        print(f"real answer {number}: accepted length {run.accepted_length:.2f}", flush=True)
    drafter.calibration.write(arguments.out)


if __name__ == "__main__":
    main()
