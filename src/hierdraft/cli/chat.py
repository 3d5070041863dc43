"""`hierdraft chat`: a conversation in the terminal, coloured by the level that drafted each token."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from hierdraft.cli import options
from hierdraft.cli.beforehand import ready, tell_unused
from hierdraft.cli.stopping import unhurried
from hierdraft.errors import HierdraftError, MissingDependencyError, UsageError

_EXAMPLES = """

Examples:

  hierdraft chat

  hierdraft chat --model smollm2-135m --temperature 0.7 --seed 1

  hierdraft chat --model models/larger --method draft-model --draft models/smaller

  hierdraft chat --server http://127.0.0.1:8008 --key-file key.txt
"""


def chat(
    model: options.Model = None,
    server: Annotated[
        str | None, typer.Option(help="The address of a server that answers, in place of a model.")
    ] = None,
    key_file: Annotated[Path | None, typer.Option(help="A file with the key of the server.")] = None,
    engine: options.Engine = None,
    method: options.Method = None,
    draft: options.Draft = None,
    dtype: options.Dtype = None,
    exact: options.Exact = None,
    threads: options.Threads = None,
    pack: options.Packs = None,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    temperature: options.Temperature = None,
    seed: options.Seed = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Most new tokens of an answer.")] = None,
    no_learn: Annotated[bool, typer.Option("--no-learn", help="Neither keep nor use what was said before.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Talk with a model or a server; /help shows what can be changed, Ctrl-C ends an answer, Ctrl-D the chat."""
    from hierdraft.settings import load_settings

    settings = load_settings(
        model=model, engine=engine, method=method, dtype=dtype, exact=exact, threads=threads, packs=pack or None,
        max_new_tokens=max_new_tokens, learn=False if no_learn else None,
    )  # fmt: skip
    if key_file is not None and server is None:
        raise UsageError("--key-file goes with --server.")
    if server is None:
        tell_unused(temperature, {"seed": seed}, "--temperature or /temperature")
    method = ready(settings, draft, here=server is None)
    asked: dict[str, Any] = {"method": method}
    if "max_new_tokens" in settings.model_fields_set:
        asked["max_new_tokens"] = settings.max_new_tokens
    asked |= {name: value for name, value in {"temperature": temperature, "seed": seed}.items() if value is not None}
    with _partner(server, key_file, model, settings) as partner:
        _talk(partner, asked, system, as_json=as_json)


chat.__doc__ = (chat.__doc__ or "") + _EXAMPLES


@contextmanager
def _partner(server: str | None, key_file: Path | None, model: str | None, settings: Any) -> Iterator[Any]:
    """Who answers."""
    from hierdraft.cli.partners import Local, Remote

    if server is None:
        from hierdraft.generation import load

        with closing(load(
            settings.model, engine=settings.engine, dtype=settings.dtype, threads=settings.threads,
            exact=settings.exact, packs=settings.packs, learn=settings.learn,
        )) as loaded:  # fmt: skip
            yield Local(loaded)
        return
    try:
        key = key_file.read_text(encoding="utf-8").strip() if key_file is not None else None
    except (OSError, ValueError) as error:
        raise UsageError(f"The key in {key_file} cannot be read ({error}).") from error
    try:
        remote = Remote(server, key, model)
    except ImportError as error:
        message = f"Asking a server needs httpx2 ({error}): pip install 'hierdraft[server]'."
        raise MissingDependencyError(message) from error
    with closing(remote):
        yield remote


def _talk(partner: Any, asked: dict[str, Any], system: str | None, *, as_json: bool) -> None:
    """Until the end of the input."""
    from hierdraft.cli.render import stderr_console, stdout_console
    from hierdraft.cli.talk import Chat, lines

    told = stderr_console()
    conversation = Chat(partner, stdout_console(), told, asked, system=system, as_json=as_json)
    told.print(f"{partner.name}; /help shows the commands.")
    with unhurried():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        messages = lines(_asks())
        while not conversation.over:
            try:
                line = next(messages, None)
                if line is None:
                    break
                conversation.take(line)
            except KeyboardInterrupt:
                told.print("Ctrl-D or /exit ends the chat.")
                messages = lines(_asks())
            except HierdraftError as error:
                told.print(f"hierdraft: {error}", markup=False)


def _asks() -> Any:
    """What reads a line: with a prompt and a history where somebody types."""
    if not sys.stdin.isatty():
        return lambda _: _read()
    with suppress(ImportError):  # then lines are typed without a history
        import readline  # noqa: F401 - its import is what gives `input` a history
    return input


def _read() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")
