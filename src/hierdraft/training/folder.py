"""The folder of a drafter: what is written into it, and what may be there before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.numpy import save

from hierdraft.databases.disk import SharedDisk, write_file
from hierdraft.errors import TrainingError
from hierdraft.models.drafter_files import AMONG, CONFIG, EXIT, KEPT, TRAINING, WEIGHTS, Float32, packed
from hierdraft.training.checkpoint import NAME, identity_of
from hierdraft.training.documents import Source
from hierdraft.tree import Int32

CARD = "README.md"
_COPIES = 7
"""Times the weights in float32 that the folder takes at most: two checkpoints of three each, and what comes of them."""


def check_folder(folder: Path, identity: str, needed: int) -> bool:
    """Whether the folder has a checkpoint of this training; makes it where it is not there.

    needed   bytes of the trained weights in float32

    Raises TrainingError where it has one of another training, or other files, and where there is no room.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = sorted(path.name for path in folder.iterdir() if not path.name.endswith(".tmp"))
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise TrainingError(f"{folder} cannot be used ({error.strerror or error}): choose another --out.") from error
    if NAME in there:
        if identity_of(folder) != identity:
            raise TrainingError(
                f"{folder} holds another training (other settings, data or target): choose another --out, or remove "
                f"{NAME} to begin anew."
            )
    elif there and set(there) - {CARD, CONFIG, KEPT, TRAINING, WEIGHTS}:
        raise TrainingError(f"{folder} holds other files ({there[0]}): choose a new folder for --out.")
    elif there:
        raise TrainingError(f"{folder} holds a drafter and no {NAME} to continue from: choose another --out.")
    if free < _COPIES * needed:
        raise TrainingError(
            f"Not enough room at {folder}: {_COPIES * needed / 1e6:,.0f} MB needed, {free / 1e6:,.0f} MB free."
        )
    return NAME in there


def write_drafter(
    folder: Path, config: dict[str, Any], own: dict[str, Float32], kept: Int32 | None, form: str, record: dict[str, Any]
) -> int:  # fmt: skip
    """Write all but the checkpoint, config.json last: before it, this is no drafter. Returns bytes of the weights.

    Raises TrainingError.
    """
    weights = save(packed(own, form), {"format": "pt"})
    parts: dict[str, bytes] = {WEIGHTS: weights}
    if kept is not None:
        parts[KEPT] = save({"ids": kept})
    parts[TRAINING] = json.dumps(record, indent=2).encode()
    parts[CARD] = card(record).encode()
    parts[CONFIG] = json.dumps(config, indent=2).encode()
    for name, data in parts.items():
        try:
            write_file(SharedDisk(), folder / name, [data])
        except OSError as error:
            raise TrainingError(f"{folder / name} cannot be written ({error.strerror or error}): make room.") from error
    return len(weights) + len(parts.get(KEPT, b""))


def told(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """The files of data as training.json has them."""
    return [asdict(one) for one in sources]


def card(record: dict[str, Any]) -> str:
    """The model card, from what training.json holds."""
    held, settings, documents = record["held_out"], record["settings"], record["documents"]
    agreement = [
        f"| {depth} | {found['top1']:.3f} | {found['top3']:.3f} | {found['top8']:.3f} |"
        for depth, found in held["agreement"].items()
    ]
    data = [
        f"- `{one['name']}` ({one['kind']}): {one['documents']:,} documents, {one['tokens']:,} tokens to learn"
        + (f"; {one['origin']}" if one["origin"] else "")
        + (f"; licence: {one['licence']}" if one["licence"] else "")
        for one in record["data"]
    ]
    states = ", ".join(map(str, record.get("states", ())))
    return (_HEAD_CARD if "kind" in settings else _CARD).format(
        **{**record, "licence": record["licence"] or "not stated", "data": "\n".join(data), "states": states},
        layers=settings["layers"], weights=settings["weights"], minutes=record["seconds"] / 60,
        learned=documents["training"], held=documents["held_out"], agreement="\n".join(agreement),
        held_loss=held["loss"], held_tokens=held["tokens"], held_documents=held["documents"], chains=held["chains"],
        accepted_length=held["accepted_length"], kind=settings.get("kind"), ahead=_ahead(settings),
    )  # fmt: skip


def _ahead(settings: dict[str, Any]) -> str:
    """How a head says more than one token."""
    steps = settings.get("unrolled")
    if settings.get("kind") == EXIT:
        return "says the next token after each of them: exits for the method early-exit"
    if settings.get("kind") in AMONG:
        return f"says {steps} tokens in one call"
    return f"goes on with its own, for which it was trained {steps} steps ahead"


_ABOUT = """\
# A drafter for {target}

{layers} Llama layers ({parameters:,} weights, {weights}) between the embeddings and the output rows of {target}, which
are not in this folder and did not change; {rows:,} of {vocab_size:,} output rows are used. hierdraft puts the two
together: `--draft` takes this folder. It drafts for {target}, which checks every token, and is no use by itself.

"""

_HEAD_ABOUT = """\
# A head for {target}

A head of the kind {kind} ({parameters:,} weights, {weights}): it reads hidden states of {target} behind its layers
{states}, and {ahead}. Embeddings and output rows are those of {target}, which are
not in this folder and did not change; {rows:,} of {vocab_size:,} output rows are used. hierdraft puts the two
together: `--draft` takes this folder. It drafts for {target}, which checks every token, and is no use by itself.

"""

_MADE = """\
Licence: {licence}; that of the target holds for its embeddings.

## Data

{data}

Held out by document: {held:,}, trained on: {learned:,}.

## Training

`{command}`

{steps:,} steps over {tokens:,} tokens in {minutes:.1f} minutes, begun as {init}; last loss {loss:.3f}.

## On held-out documents

Loss {held_loss:.3f} over {held_tokens:,} tokens of {held_documents:,} documents. How often the target's own token is
among the drafter's likeliest 1, 3 and 8, in {chains:,} chains of its own drafts:

| depth | 1 | 3 | 8 |
| --- | --- | --- | --- |
{agreement}

Accepted length of such a chain: {accepted_length:.2f} tokens per forward of the target.
"""

_CARD, _HEAD_CARD = _ABOUT + _MADE, _HEAD_ABOUT + _MADE
