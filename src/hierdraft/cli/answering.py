"""`hierdraft db build --generate` and `--own-prompts`: a model answers prompts, drafted and many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hierdraft.cli.beforehand import check
from hierdraft.errors import UsageError
from hierdraft.progress import counting

if TYPE_CHECKING:
    from hierdraft.corpus.streams import Reading
    from hierdraft.databases.pack import PackInfo
    from hierdraft.language_model import LanguageModel
    from hierdraft.tree import Int32


@dataclass(frozen=True)
class Wanted:
    """What is asked for, as options of the command say it; see `corpus.answers.Asked`."""

    most: int
    batch: int
    temperature: float | None
    seed: int
    samples: int
    logprobs: int

    def check(self, *, own: bool) -> None:
        """Raises UsageError for what does not go together; `own`: the prompts, of which --seed is then too."""
        if not self.temperature and (self.samples > 1 or (self.seed and not own)):
            raise UsageError("Greedy answers to a prompt are all the same: --samples and --seed go with --temperature.")


def answered(
    info: PackInfo, chosen: Mapping[str, Any], prompts: list[Path] | int, out: Path, wanted: Wanted, reading: Reading
) -> tuple[PackInfo, Iterator[Int32]]:
    """What the pack is for, and its documents: the answers, kept in a file beside `out` as they come.

    chosen   settings from the command line, None where they were not given
    prompts  files; or how many the model makes up, which are kept in another file beside `out`

    Raises UsageError, and what loading the model and `answer_prompts` raise.
    """
    from hierdraft import __version__
    from hierdraft.arguments import sampling_of
    from hierdraft.corpus.answers import Asked, answer_prompts, own_prompts, read_prompts
    from hierdraft.settings import load_settings
    from hierdraft.text import tokenizer_fingerprint

    if info.level != "model" or chosen["model"] is None:
        raise UsageError("--generate and --own-prompts need --model, and make a pack of --level model.")
    wanted.check(own=isinstance(prompts, int))
    sampling_of({"temperature": wanted.temperature}, vocab_size=1)
    chats = [] if isinstance(prompts, int) else [chat for path in prompts for chat in read_prompts(path, reading)]
    settings = load_settings(max_requests=wanted.batch, **chosen)
    asked = Asked(
        wanted.most, wanted.temperature or 0.0, wanted.seed, wanted.samples, wanted.logprobs, settings.method,
        waiting=2 * wanted.batch,
    )  # fmt: skip
    kept = out.with_name(out.name + ".answers.jsonl")
    with closing(_load(settings)) as model:
        tokenizer = model.tokenizer
        info = replace(
            info, vocab_size=len(tokenizer), tokenizer=tokenizer_fingerprint(tokenizer), model=settings.model,
            builder=f"hierdraft {__version__}",
        )  # fmt: skip
        if isinstance(prompts, int):
            made_up = out.with_name(out.name + ".prompts.jsonl")
            with counting("making up prompts") as report:
                chats = own_prompts(model, prompts, made_up, reading, asked, report)
        with counting("answering") as report:
            return info, iter(answer_prompts(model, chats, kept, reading, asked, report))


def _load(settings: Any) -> LanguageModel:
    """The model; what it says is drafted from while it answers, and not kept for others. Raises as `load` does."""
    from hierdraft.databases.namespace import Namespaces
    from hierdraft.databases.pack import PackInfo
    from hierdraft.databases.store import StoreOptions
    from hierdraft.generation import load

    check([settings.method], settings)
    model = load(
        settings.model, engine=settings.engine, dtype=settings.dtype, threads=settings.threads,
        exact=settings.exact, learn=False, max_requests=settings.max_requests,
    )  # fmt: skip
    info = PackInfo("model", model.engine.vocab_size, model.databases.tokenizer, model=settings.model)
    model.databases.namespaces = Namespaces(None, info, StoreOptions("none"))
    return model
