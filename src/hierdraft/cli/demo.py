"""`hierdraft generate --demo`: one built-in prompt of each kind, decoded plainly and with drafts."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING, Any

import typer

from hierdraft.bench.datasets import builtin_prompts
from hierdraft.cli.render import colour_of, legend, shows_colours, stdout_console
from hierdraft.errors import DemoDiffersError

if TYPE_CHECKING:
    from hierdraft.generation import LanguageModel
    from hierdraft.stream import Generation


def run_demo(model: LanguageModel, method: str, options: dict[str, Any], *, as_json: bool) -> None:
    """Decode the first prompt of each kind both ways, print both, and say whether they are the same.

    Raises DemoDiffersError if any pair differs in the number type whose promise is `exact`.
    """
    first: dict[str, dict[str, str]] = {}
    for row in builtin_prompts():
        first.setdefault(row["kind"], row)
    model.generate("Hello", method=method, max_new_tokens=8)
    model.generate("Hello", method="none", max_new_tokens=8)
    console = stdout_console()
    records = []
    levels: set[str] = set()
    for kind, row in first.items():
        plain = model.generate(row["prompt"], method="none", **options)
        drafted = model.generate(row["prompt"], method=method, **options)
        levels.update(drafted.levels)
        records.append(_record(kind, plain, drafted))
        if not as_json:
            _show(console, model, row, plain, drafted)
    same = all(r["identical"] for r in records)
    middle = statistics.median(r["speedup"] for r in records)
    if as_json:
        typer.echo(json.dumps({"identical": same, "median_speedup": round(middle, 3), "prompts": records}))
    else:
        if shows_colours(console):
            console.print(legend(levels))
        for r in records:
            console.print(
                f"{r['kind']:<20} {r['new_tokens']:>4} tokens  accepted length {r['accepted_length']:.2f}  "
                f"speed-up {r['speedup']:.2f}x  {'identical' if r['identical'] else 'DIFFERENT'}"
            )
        console.print(f"median speed-up {middle:.2f}x, all {len(records)} outputs identical: {'yes' if same else 'NO'}")
    if not same and model.engine.exact:
        raise DemoDiffersError(
            "Drafted and plain output differ, which must never happen in this number type: please report it."
        )


def _record(kind: str, plain: Generation, drafted: Generation) -> dict[str, Any]:
    return {
        "kind": kind,
        "new_tokens": len(drafted.token_ids),
        "accepted_length": round(drafted.accepted_length, 3),
        "draft_forwards": drafted.draft_forwards,
        "speedup": round(plain.seconds / drafted.seconds, 3),
        "identical": plain.token_ids == drafted.token_ids,
    }


def _show(console: Any, model: LanguageModel, row: dict[str, str], plain: Generation, drafted: Generation) -> None:
    from rich.text import Text

    from hierdraft.levels import TARGET, code_of, level_name
    from hierdraft.text import VisibleText

    console.rule(f"{row['kind']}")
    console.print(Text(row["prompt"] if len(row["prompt"]) < 400 else row["prompt"][:397] + "...", style="dim"))
    console.print(Text("\nplain decoding: ", style="bold").append(plain.text, style="not bold"))
    line = Text("\nwith drafts:    ", style="bold")
    visible = VisibleText(model.tokenizer)
    for token, level in zip(drafted.token_ids, drafted.levels, strict=True):
        code = TARGET if level == "target" else code_of(level)
        for text, found in visible.push(token, code):
            style = colour_of(level_name(found))
            line.append(text, style=f"not bold {style}".strip())
    console.print(line)
