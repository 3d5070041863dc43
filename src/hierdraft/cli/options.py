"""Options that several commands share: what each is, and what the shell offers for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hierdraft.choices import engine_names, listed, number_types
from hierdraft.cli import complete
from hierdraft.cli.complete import BESIDE
from hierdraft.errors import UsageError

Model = Annotated[
    str | None, typer.Option(help="A named model, a GGUF file, a folder, or a hub id.", autocompletion=complete.models)
]
CheckedModel = Annotated[
    str | None,
    typer.Option(help="Check this model too: load it and measure its steps.", autocompletion=complete.models),
]
MovedModel = Annotated[
    str | None, typer.Option(help="Where the model is now, if not where the runs say.", autocompletion=complete.models)
]
AnsweringModel = Annotated[
    str | None, typer.Option(help="With --generate: the model that answers.", autocompletion=complete.models)
]
Target = Annotated[
    str,
    typer.Option("--model", help="The model to draft for: a name, a folder, a hub id.", autocompletion=complete.models),
]
ServedModel = Annotated[
    str, typer.Option(help="A model's name, folder or GGUF file, or its name on a hub.", autocompletion=complete.models)
]
Engine = Annotated[str | None, typer.Option(help=f"{listed(engine_names())}.", autocompletion=complete.engines)]
Dtype = Annotated[str | None, typer.Option(help=f"{listed(number_types())}.", autocompletion=complete.dtypes)]
Exact = Annotated[
    bool | None, typer.Option("--exact/--no-exact", help="Plain decoding's ids in bfloat16 and int8 too, or not.")
]
Threads = Annotated[int | None, typer.Option(help="CPU threads.")]
Method = Annotated[
    str | None, typer.Option(help="Drafting method; none: plain decoding.", autocompletion=complete.methods)
]
Methods = Annotated[
    str, typer.Option(help="Drafting methods, separated by commas.", autocompletion=complete.several_methods)
]
Draft = Annotated[
    str | None,
    typer.Option(
        help="A small model or a head that drafts: beside the databases, or alone with --method draft-model.",
        autocompletion=complete.drafts,
    ),
]
DraftOfMethods = Annotated[
    str | None,
    typer.Option(
        help="The small model or head of draft-model, hierarchy+draft and others.",
        autocompletion=complete.drafts,
    ),
]
Packs = Annotated[
    list[Path] | None, typer.Option(help="A pack to draft from; may be repeated.", autocompletion=complete.packs)
]
Tokenizer = Annotated[
    str | None, typer.Option(help="A model's name or folder; none for bare ids.", autocompletion=complete.models)
]
TextOf = Annotated[str | None, typer.Option(help="Show n-grams as text of this model.", autocompletion=complete.models)]
PackPath = Annotated[Path, typer.Argument(help="A pack.", autocompletion=complete.packs)]
PackPaths = Annotated[
    list[Path], typer.Argument(help="Packs of one tokenizer and level.", autocompletion=complete.packs)
]
Name = Annotated[
    str, typer.Argument(help="A name that `hierdraft models list` shows.", autocompletion=complete.named_models)
]
References = Annotated[
    list[Path] | None,
    typer.Option(help="A text that the answer may repeat: drafted from, not read by the model; may be repeated."),
]
Prompt = Annotated[
    str | None, typer.Argument(help="The prompt; - reads it from standard input, as does none with text piped in.")
]
Schema = Annotated[Path | None, typer.Option(help="A JSON schema file that the answer must follow.")]
LenientSchema = Annotated[
    bool, typer.Option("--lenient-schema", help="Check at the end what of the schema cannot be kept while decoding.")
]
SchemaFolders = Annotated[
    list[Path] | None, typer.Option("--schema-folder", help="A folder that the schema may refer to; may be repeated.")
]
Temperature = Annotated[float | None, typer.Option(help="0 (the default): greedy; above: sample.")]
TopK = Annotated[int | None, typer.Option(help="Sample from the K likeliest tokens; 0: from all.")]
TopP = Annotated[float | None, typer.Option(help="Sample from the likeliest tokens with this probability.")]
MinP = Annotated[float | None, typer.Option(help="Leave out tokens this much less likely than the likeliest.")]
RepetitionPenalty = Annotated[float | None, typer.Option(help="Above 1: avoid tokens that occurred.")]
Seed = Annotated[int | None, typer.Option(help="Same seed, same sample; shown where none is given.")]
NoGenerationConfig = Annotated[
    bool, typer.Option("--no-generation-config", help="Do not do what the model's generation_config.json says.")
]
SkipLong = Annotated[bool, typer.Option("--skip-long", help="Leave out turns that are too long for the model.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON only.")]


NEEDING = ("diffuspec", "draft-model", "early-exit", "easyspec", "tabed")
"""Methods that cannot do without a model that drafts."""


def takes_draft(method: str) -> bool:
    """Whether a method, or the one that it is made of, drafts with the model of --draft wherever it is named."""
    return method.rpartition(":of=")[2].split(":")[0] in (*NEEDING, BESIDE)


def drafting(method: str, draft: str | None) -> str:
    """A method's name with the model that drafts, where one was given; `hierarchy+draft` is a name for that.

    Raises UsageError.
    """
    from hierdraft.registry import check_name

    if draft is not None and method.split(":")[0] == "hvt" and ":of=" not in method:
        method += ":of=hierarchy"
    before, of, method = method.rpartition(":of=")
    name, *given = method.split(":")
    check_name(name, [BESIDE])
    if name == BESIDE:
        if draft is None:
            raise UsageError(f"{BESIDE} needs a model: add --draft NAME.")
        name = "hierarchy"
    if draft is None and name in NEEDING and not any(setting.startswith("draft=") for setting in given):
        raise UsageError(f"{name} needs a model: add --draft NAME.")
    if draft is None:
        return f"{before}{of}{method}"
    if name not in ("hierarchy", *NEEDING):
        others = f"{', '.join(NEEDING[:-1])} and {NEEDING[-1]}"
        raise UsageError(f"--draft goes with the methods hierarchy, {others}, and hvt of these, not with {name!r}.")
    if any(setting.startswith("draft=") for setting in given):
        raise UsageError("The model that drafts is given twice: leave out --draft, or draft= of the method.")
    if not draft or ":" in draft:
        raise UsageError(f"--draft must name a model or a folder without a colon in its name, not {draft!r}.")
    return before + of + ":".join([name, f"draft={draft}", *given])
