"""What a run looks like in a terminal: text coloured by level, a legend, a summary."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hierdraft.levels import level_names, level_of
from hierdraft.stream import Generation, Piece

_FILE_WIDTH = 240


def stdout_console() -> Console:
    """The console answers go to; plain and wide where stdout is no terminal, plain where NO_COLOR is set."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _FILE_WIDTH)


def stderr_console() -> Console:
    """The console everything that is not an answer goes to."""
    return Console(file=sys.stderr, highlight=False, soft_wrap=True)


def colour_of(level: str) -> str:
    """The colour of text that a level has drafted, "" for the target's own."""
    return "" if level == "target" else level_of(level).terminal


def show_stream(console: Console, pieces: Iterable[Piece]) -> None:
    """Print pieces as they come, each in its level's colour."""
    for piece in pieces:
        console.print(Text(piece.text, style=colour_of(piece.level)), end="")
        console.file.flush()
    console.print()


def shows_colours(console: Console) -> bool:
    """Whether colours reach the reader: a terminal that has them, without NO_COLOR."""
    return console.is_terminal and not console.no_color and console.color_system is not None


def legend(levels: Iterable[str]) -> Text:
    """Which colour is which level, for those that drafted something."""
    line = Text("drafted by:")
    used = set(levels)
    for level in level_names():
        if level in used:
            line.append(" ").append(f"{level}", style=colour_of(level))
    return line.append("  (uncoloured: chosen by the target itself)")


def summary(run: Generation, *, learned_before: bool = False) -> Table:
    """Where a run's tokens and time came from."""
    table = Table.grid(padding=(0, 2))
    table.add_row("tokens", f"{len(run.token_ids)} new after {run.prompt_tokens} of the prompt, ended by {run.finish}")
    table.add_row("steps", f"{run.steps} target forwards, accepted length {run.accepted_length:.2f}")
    table.add_row("speed", f"{run.tokens_per_second:.1f} tokens a second, {run.seconds:.2f} s in all")
    table.add_row(
        "time",
        f"prefill {run.prefill_seconds:.2f} s, forward {run.forward_seconds:.2f} s, "
        f"drafting {run.draft_seconds * 1e3:.1f} ms, the rest {run.rest_seconds * 1e3:.1f} ms",
    )
    for level, counts in run.by_level.items():
        table.add_row(level, f"{counts['accepted']} accepted of {counts['proposed']} proposed")
    if run.draft_forwards is not None:
        table.add_row("small model", times_asked(run.draft_forwards))
    if run.seed is not None:
        table.add_row("seed", f"{run.seed} (--seed {run.seed} gives this sample again)")
    if learned_before:
        table.add_row("note", "this answer was learned before: a new one takes longer")
    return table


def times_asked(forwards: int) -> str:
    """How often the model that drafts was asked, in words."""
    if not forwards:
        return "never asked: drafting with it did not pay"
    return f"asked {'once' if forwards == 1 else f'{forwards} times'}"
