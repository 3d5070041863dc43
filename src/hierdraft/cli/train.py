"""`hierdraft train`: small models that draft for a target."""

from __future__ import annotations

import json
import logging
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hierdraft.cli import complete, options
from hierdraft.cli.stopping import Stopped, unhurried
from hierdraft.errors import UsageError
from hierdraft.training import TRAINING

if TYPE_CHECKING:
    from hierdraft.training.settings import Training

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Train small models that draft for a target.")


@app.callback()
def train() -> None:
    """Train small models that draft for a target."""


Out = Annotated[Path, typer.Option(help="The drafter's folder; one with a checkpoint is continued.")]
More = Annotated[list[Path] | None, typer.Argument(help="More files for --data.", show_default=False)]
Data = Annotated[
    list[Path] | None,
    typer.Option(help="Packs, answers of --generate, chat logs, text; default: the pack that comes with the model."),
]
Epochs = Annotated[float | None, typer.Option(help="End after so many times all of the data.")]
Minutes = Annotated[float | None, typer.Option(help="End after so many minutes of training.")]
Steps = Annotated[int | None, typer.Option(help="End after so many steps.")]
Rows = Annotated[int, typer.Option(min=0, help="Output rows: the most frequent ids of the data; 0: all.")]
Distill = Annotated[float, typer.Option(help="Share of the loss on the target's likeliest ids, if kept.")]
Logprobs = Annotated[
    int, typer.Option(min=0, max=64, help="Ask the target for so many likeliest ids where the data has none.")
]
Sampled = Annotated[
    int, typer.Option(min=0, help="Output rows that stand for all that a step does not ask for; 0: all are computed.")
]
Window = Annotated[int, typer.Option(min=16, max=8192, help="Most tokens that are trained together.")]
Batch = Annotated[int, typer.Option(min=1, help="Windows per step.")]
LearningRate = Annotated[float, typer.Option(help="At its highest.")]
HeldOut = Annotated[float, typer.Option(help="Share of the documents to measure on.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the first weights, the split and the order.")]
Weights = Annotated[str, typer.Option(help="Of the stored layers: float16 or int8.")]
Dtype = Annotated[
    str,
    typer.Option(
        help="Of matrix products: float32, or bfloat16, which is faster on processors made for it.",
        autocompletion=complete.dtypes_of_training,
    ),
]
Every = Annotated[float, typer.Option(min=0.0, help="Time between two checkpoints.")]
Licence = Annotated[str, typer.Option(help="The drafter's licence, for its card.")]


@app.command("drafter")
def drafter(
    out: Out,
    model: options.Target,
    more: More = None,
    data: Data = None,
    epochs: Epochs = None,
    minutes: Minutes = None,
    steps: Steps = None,
    layers: Annotated[int, typer.Option(min=1, max=64, help="Layers of its own.")] = 2,
    loops: Annotated[int, typer.Option(min=1, max=64, help="Times that they are gone through.")] = 1,
    init: Annotated[
        str | None, typer.Option(help="layers (copies of the target's first and last), layers:0,29, or random.")
    ] = None,
    rows: Rows = 16384,
    distill: Distill = 0.5,
    logprobs: Logprobs = 0,
    sampled: Sampled = 512,
    window: Window = 512,
    batch: Batch = 4,
    learning_rate: LearningRate = 1e-3,
    held_out: HeldOut = 0.03,
    seed: Seed = 0,
    weights: Weights = "float16",
    dtype: Dtype = "float32",
    checkpoint_seconds: Every = 60.0,
    threads: options.Threads = None,
    licence: Licence = "",
    as_json: options.AsJson = False,
) -> None:
    """Train a drafter for a model: a few layers between the model's own embeddings, from what the model says.

    Stopped or killed, the same command continues. Without --epochs, --minutes or --steps: three epochs. The folder that
    comes of it drafts: hierdraft generate --draft FOLDER.

    Examples:

      hierdraft train drafter --model smollm2-135m --minutes 30 --out tiny

      hierdraft train drafter --model ./my-model --data said.safetensors.answers.jsonl --epochs 5 --out my-drafter
    """
    from hierdraft.training.settings import Training

    training = Training(
        layers, init, rows, distill, window, batch, learning_rate, held_out, seed, weights, logprobs, sampled, loops,
        dtype,
    )  # fmt: skip
    _run(
        training, (epochs, minutes, steps), [*(data or []), *(more or [])], model=model, out=out, licence=licence,
        every=checkpoint_seconds, threads=threads, as_json=as_json,
    )  # fmt: skip


@app.command("head")
def head(
    out: Out,
    model: options.Target,
    more: More = None,
    data: Data = None,
    kind: Annotated[str, typer.Option(help="eagle3, koala, parallel, block, coral or exit.")] = "eagle3",
    states: Annotated[
        str | None, typer.Option(help="Layers of the target that it reads, such as 2,15,27 (the default for 30).")
    ] = None,
    layers: Annotated[
        int | None, typer.Option(min=1, max=8, help="Layers of its own; default: 2 for koala and block, else 1.")
    ] = None,
    unrolled: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Steps ahead that it is trained for; default: 4, for block heads 6."),
    ] = None,
    adversarial: Annotated[
        float | None, typer.Option(help="Weight of a critic's word in the loss; default: 0.1 for koala, else 0.")
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="A trained head to begin with: a folder or name.", autocompletion=complete.drafts)
    ] = None,
    epochs: Epochs = None,
    minutes: Minutes = None,
    steps: Steps = None,
    rows: Rows = 16384,
    distill: Distill = 0.5,
    logprobs: Logprobs = 8,
    sampled: Sampled = 512,
    window: Window = 512,
    batch: Batch = 4,
    learning_rate: LearningRate = 2e-3,
    held_out: HeldOut = 0.03,
    seed: Seed = 0,
    weights: Weights = "float16",
    dtype: Dtype = "float32",
    checkpoint_seconds: Every = 60.0,
    threads: options.Threads = None,
    licence: Licence = "",
    as_json: options.AsJson = False,
) -> None:
    """Train a head for a model: it drafts from the model's own hidden states, and is trained on what the model says.

    The model reads the data first; what it thought is kept in the cache folder, about 4 KB a token for a model of the
    size of SmolLM2. Stopped or killed, the same command continues.

    Examples:

      hierdraft train head --model smollm2-135m --minutes 60 --out eagle
    """
    from hierdraft.training.settings import KINDS, HeadTraining

    usual = KINDS.get(kind, KINDS["eagle3"])
    training = HeadTraining(
        usual.layers if layers is None else layers, init, rows, distill, window, batch, learning_rate, held_out, seed,
        weights, logprobs, sampled, 1, dtype, kind, _layers(states), usual.unrolled if unrolled is None else unrolled,
        usual.adversarial if adversarial is None else adversarial,
    )  # fmt: skip
    _run(
        training, (epochs, minutes, steps), [*(data or []), *(more or [])], model=model, out=out, licence=licence,
        every=checkpoint_seconds, threads=threads, as_json=as_json,
    )  # fmt: skip


def _layers(given: str | None) -> tuple[int, ...]:
    """Raises UsageError for what is no list of numbers."""
    words = given.split(",") if given is not None else []
    if not all(word.strip().isdecimal() for word in words):
        raise UsageError(f"--states must be numbers of layers such as 2,15,27, not {given!r}.")
    return tuple(map(int, words))


def _run(
    training: Training, ends: tuple[float | None, float | None, int | None], data: list[Path], *, model: str, out: Path,
    licence: str, every: float, threads: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Train to one of the ends (epochs, minutes, steps), and tell what came of it."""
    from hierdraft.settings import load_settings
    from hierdraft.training.settings import Limits
    from hierdraft.training.train import Ears, Job, train_drafter

    settings = load_settings(threads=threads)
    limits = Limits(*ends) if ends != (None, None, None) else Limits(epochs=3.0)
    job = Job(model, _data(model, data), out, training, limits, _command(), licence, every, settings.threads)
    with _heard() as signals, _bars(signals) as stages:
        ears = Ears(stages, logging.getLogger(__name__).info, lambda: signals.number > 0)
        found = train_drafter(job, settings.cache_dir, ears)
    if found is None:
        raise Stopped(signals.number)
    _tell(found, out, as_json=as_json)


def _data(model: str, given: list[Path]) -> list[Path]:
    """The files to learn from. Raises UsageError where there are none."""
    if given:
        return given
    from hierdraft.holdings import embedded_pack
    from hierdraft.models.named import known_as

    own = embedded_pack(known_as(model))
    if own is None:
        raise UsageError(f"No pack comes with {model}: give --data, for example answers of db build --generate.")
    return [own]


def _command() -> str:
    """How the command was given, with the names of files but not where they lie."""
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    return shlex.join(["hierdraft", *words])


class _Signals:
    """What came: while it is trained, the first signal ends that with a checkpoint; at other times it ends all at once.

    number   of the signal, 0 for none
    gentle   whether it is trained
    """

    def __init__(self) -> None:
        self.number = 0
        self.gentle = False

    def hear(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Handle a signal. Raises Stopped."""
        again, self.number = self.number > 0, number
        if again or not self.gentle:
            raise Stopped(number)


@contextmanager
def _heard() -> Iterator[_Signals]:
    """Within the block signals are heard so; nothing is heard outside the main thread."""
    signals = _Signals()
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    with unhurried():
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in names if hasattr(signal, name)):
                if signal.getsignal(number) != signal.SIG_IGN:
                    signal.signal(number, signals.hear)
        yield signals


@contextmanager
def _bars(signals: _Signals) -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Makes a progress bar for each stage, one at a time."""
    from hierdraft.progress import counting

    with ExitStack() as shown:

        def begin(title: str) -> Callable[[int, int], None]:
            shown.close()
            signals.gentle = title == TRAINING
            return shown.enter_context(counting(title))

        yield begin


def _tell(found: dict[str, Any], out: Path, *, as_json: bool) -> None:
    size = sum(path.stat().st_size for path in out.glob("*.safetensors") if not path.name.startswith("checkpoint"))
    if as_json:
        typer.echo(json.dumps({"path": str(out), "bytes": size, **found}))
        return
    held = found["held_out"]
    first = held["agreement"]["1"]
    typer.echo(
        f"{out}: {found['steps']:,} steps, {found['tokens']:,} tokens, {found['tokens_per_second']:,.0f} tokens per "
        f"second, {size / 1e6:.1f} MB"
    )
    typer.echo(
        f"held out: loss {held['loss']:.3f}; the target's token is the first in {first['top1']:.3f}, among three in "
        f"{first['top3']:.3f}, among eight in {first['top8']:.3f}; chains of six: {held['accepted_length']:.2f} tokens "
        "per forward"
    )
