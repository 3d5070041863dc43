"""A conversation in the terminal: what was said, what is set, and the commands that change both."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from hierdraft.cli.messages import read_messages
from hierdraft.cli.partners import Figures, Message, Partner
from hierdraft.cli.render import colour_of, legend, times_asked
from hierdraft.databases.disk import replace_file
from hierdraft.errors import HierdraftError, OutputError, UsageError
from hierdraft.registry import make_method

HELP = """\
/system TEXT       a system message for what comes; without TEXT: none
/seed N            the seed of samples; without N: a new one each time
/temperature T     0: greedy
/method NAME       how to draft; none: plain decoding
/tokens N          most new tokens
/compare           answer the last message plainly too, and compare
/again             answer the last message once more
/save FILE         keep the conversation as JSON messages
/load FILE         continue one
/new               forget the conversation
/exit              or Ctrl-D
Ctrl-C ends an answer. A line that ends in \\ goes on; \"\"\" begins and ends a text of several lines."""


@dataclass(slots=True)
class Chat:
    """One conversation.

    options   of every answer: method, max_new_tokens, temperature, seed
    as_json   print each answer, when it is complete, as a line of JSON
    """

    partner: Partner
    answers: Console
    told: Console
    options: dict[str, Any]
    messages: list[Message] = field(default_factory=list)
    system: str | None = None
    over: bool = False
    last: Figures | None = None
    as_json: bool = False

    def take(self, line: str) -> None:
        """A message or a command. Raises HierdraftError for one that cannot be followed."""
        if not line.strip():
            return
        if line.startswith("/"):
            name, _, rest = line[1:].partition(" ")
            self._commands().get(name, self._unknown)(rest.strip())
            return
        self.messages.append({"role": "user", "content": line})
        self._answer()

    def _commands(self) -> dict[str, Callable[[str], None]]:
        return {
            "help": lambda _: self.told.print(Text(HELP)), "system": self._set_system, "seed": self._set_seed,
            "temperature": self._set_temperature, "method": self._set_method, "tokens": self._set_tokens,
            "compare": lambda _: self._compare(), "again": lambda _: self._again(), "save": self._save,
            "load": self._load, "new": lambda _: self._new(), "exit": lambda _: self._exit(),
            "quit": lambda _: self._exit(),
        }  # fmt: skip

    def _unknown(self, _: str) -> None:
        raise UsageError("There is no such command: /help shows those that there are.")

    def _exit(self) -> None:
        self.over = True

    def _new(self) -> None:
        self.messages, self.last = [], None

    def _set_system(self, text: str) -> None:
        self.system = text or None

    def _set_seed(self, text: str) -> None:
        self.options["seed"] = _number(text, int, "a whole number of at least 0", 0) if text else None

    def _set_temperature(self, text: str) -> None:
        self.options["temperature"] = _number(text, float, "a number of at least 0", 0)

    def _set_tokens(self, text: str) -> None:
        self.options["max_new_tokens"] = _number(text, int, "a whole number of at least 1", 1)

    def _set_method(self, text: str) -> None:
        make_method(text)
        self.options["method"] = text

    def _sent(self) -> list[Message]:
        first = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*first, *self.messages]

    def _answer(self) -> None:
        """Answer the last message. One that Ctrl-C ends stays as far as it came; one that fails is taken back."""
        figures, text = Figures(), ""
        try:
            text = self._shown(self.options, figures)
        except HierdraftError:
            self.messages.pop()
            raise
        self.messages.append({"role": "assistant", "content": text})
        self.last = figures

    def _shown(self, options: dict[str, Any], figures: Figures) -> str:
        """The answer, shown as it comes, and its figures."""
        said: list[str] = []
        levels: set[str] = set()
        stopped = False
        try:
            with self.partner.answer(self._sent(), options, figures) as pieces:
                for piece in pieces:
                    said.append(piece.text)
                    levels.add(piece.level)
                    if not self.as_json:
                        self.answers.print(Text(piece.text, style=colour_of(piece.level)), end="")
                        self.answers.file.flush()
        except KeyboardInterrupt:
            stopped = True
        if self.as_json:
            self._print({"text": "".join(said), **figures.as_record(), "stopped": stopped})
            return "".join(said)
        self.answers.print()
        if levels - {"target"} and not self.answers.no_color:
            self.told.print(legend(levels))
        self.told.print(Text(f"{'stopped; ' if stopped else ''}{_line(figures)}", style="dim"))
        return "".join(said)

    def _print(self, told: dict[str, Any]) -> None:
        self.answers.file.write(json.dumps(told) + "\n")
        self.answers.file.flush()

    def _again(self) -> None:
        """Take the last answer back, and answer anew."""
        before = list(self.messages)
        if before and before[-1]["role"] == "assistant":
            self.messages.pop()
        if not self.messages:
            self.messages = before
            raise UsageError("There is nothing to answer yet.")
        try:
            self._answer()
        except HierdraftError:
            self.messages = before
            raise

    def _compare(self) -> None:
        """The last answer decoded plainly, in what it says and in time."""
        if self.last is None or len(self.messages) < 2:
            raise UsageError("There is no answer to compare yet.")
        answer, drafted = self.messages.pop(), self.last
        figures = Figures()
        try:
            options = {**self.options, "method": "none", "seed": drafted.seed}
            text = self._shown({name: value for name, value in options.items() if value is not None}, figures)
        finally:
            self.messages.append(answer)
        if figures.finish is None:
            return
        ids = drafted.token_ids, figures.token_ids
        same = ids[0] == ids[1] if all(ids) else text == answer["content"]
        times = figures.seconds / drafted.seconds if drafted.seconds else 1.0
        if self.as_json:
            told = {"identical": same, "speedup": round(times, 3), "baseline_seconds": round(figures.seconds, 4)}
            self._print({"compare": told})
            return
        self.told.print(f"Plain decoding: the same; with drafts {times:.2f} times as fast." if same else
                        "Plain decoding gives another answer.")  # fmt: skip

    def _save(self, name: str) -> None:
        if not name:
            raise UsageError("Name a file: /save chat.json.")
        try:
            data = json.dumps(self._sent(), ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace")
            replace_file(Path(name).expanduser(), data)
        except (OSError, RuntimeError, ValueError) as error:
            raise OutputError(f"{name} cannot be written: {getattr(error, 'strerror', None) or error}.") from error
        self.told.print(f"{len(self.messages)} messages in {name}.")

    def _load(self, name: str) -> None:
        if not name:
            raise UsageError("Name a file: /load chat.json.")
        try:
            found = read_messages(Path(name).expanduser())
        except (RuntimeError, ValueError) as error:
            raise UsageError(f"{name} cannot be read: {error}.") from error
        self.system = None
        if found and found[0].get("role") == "system":
            self.system = str(found.pop(0).get("content"))
        self.messages, self.last = found, None
        self.told.print(f"{len(found)} messages from {name}.")


def lines(ask: Callable[[str], str]) -> Iterator[str]:
    """Messages from lines: one each, or several where a line ends in a backslash or stands between three quotes."""
    while True:
        try:
            text = ask("> ")
            if text.strip().startswith('"""'):
                text = _quoted(text.strip()[3:], ask)
            else:
                while text.endswith("\\"):
                    text = f"{text[:-1]}\n{ask('. ')}"
        except EOFError:
            return
        yield text


def _quoted(first: str, ask: Callable[[str], str]) -> str:
    found = [first]
    while not found[-1].rstrip().endswith('"""'):
        found.append(ask(". "))
    found[-1] = found[-1].rstrip()[:-3]
    return "\n".join(found).strip("\n")


def _number(text: str, kind: Callable[[str], Any], wanted: str, least: float) -> Any:
    try:
        found = kind(text)
    except ValueError:
        found = None
    if found is None or not least <= found < float("inf"):
        raise UsageError(f"This must be {wanted}, not {text!r}.")
    return found


def _line(figures: Figures) -> str:
    """What an answer took, in one line."""
    parts = []
    if figures.new_tokens is not None:
        parts.append(f"{figures.new_tokens} tokens, {figures.tokens_per_second or 0.0:.1f} a second")
    parts.append(f"{figures.seconds:.2f} s")
    if figures.accepted_length is not None:
        parts.append(f"accepted length {figures.accepted_length:.2f}")
    if figures.new_tokens and figures.levels:
        drafted = [
            f"{level} {100 * counts['accepted'] / figures.new_tokens:.0f} %"
            for level, counts in figures.levels.items() if counts["accepted"]
        ]  # fmt: skip
        parts.append("drafted by " + ", ".join(drafted) if drafted else "nothing drafted was accepted")
    if figures.draft_forwards is not None:
        parts.append(f"small model {times_asked(figures.draft_forwards)}")
    if figures.seed is not None:
        parts.append(f"seed {figures.seed}")
    return "; ".join(parts)
