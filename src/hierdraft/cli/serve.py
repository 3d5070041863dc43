"""`hierdraft serve`: a server that OpenAI's and Anthropic's clients speak to."""

from __future__ import annotations

import ipaddress
import json
import logging
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hierdraft.cli import options
from hierdraft.cli.beforehand import ready
from hierdraft.cli.stopping import unhurried
from hierdraft.errors import MissingDependencyError, UsageError

if TYPE_CHECKING:
    import socket

    from hierdraft.language_model import LanguageModel
    from hierdraft.server.keys import Keys
    from hierdraft.settings import Settings

_EXAMPLES = """

Examples:

  hierdraft serve

  hierdraft serve --model smollm2-135m --dtype bfloat16 --port 8080

  hierdraft serve --model models/larger --method draft-model --draft models/smaller

  hierdraft serve --host 0.0.0.0 --api-keys keys.toml
"""


def serve(
    model: options.Model = None,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: any that is free.")] = 8008,
    api_keys: Annotated[Path | None, typer.Option(help="A TOML file of keys with their namespaces and limits.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Let other machines ask without keys.")] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A name that clients may call the server by; may be repeated.")
    ] = None,
    alias: Annotated[str | None, typer.Option(help="What clients call the model.")] = None,
    engine: options.Engine = None,
    dtype: options.Dtype = None,
    exact: options.Exact = None,
    threads: options.Threads = None,
    method: options.Method = None,
    draft: options.Draft = None,
    pack: options.Packs = None,
    max_requests: Annotated[int | None, typer.Option(min=1, help="Most requests that share a forward.")] = None,
    queue: Annotated[int, typer.Option(min=0, help="Most requests that wait; more are refused.")] = 256,
    max_new_tokens: Annotated[int | None, typer.Option(help="Most new tokens where a request does not say.")] = None,
    temperature: options.Temperature = None,
    deadline: Annotated[float, typer.Option(min=0.001, help="Seconds until a request is cut.")] = 600.0,
    drain: Annotated[float, typer.Option(min=0, help="Seconds that requests have left after SIGTERM.")] = 30.0,
    namespace: Annotated[str, typer.Option(help="Without keys: whose database to learn into.")] = "default",
    drop: Annotated[
        list[str] | None, typer.Option(help="A field that clients send and that is left out, not refused.")
    ] = None,
    no_learn: Annotated[bool, typer.Option("--no-learn", help="Neither keep nor use what was said before.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Serve a model to OpenAI's and Anthropic's clients, many requests at a time, and a page for a browser."""
    from hierdraft.databases.namespace import check_name
    from hierdraft.models.named import known_as
    from hierdraft.settings import load_settings

    started = time.perf_counter()
    local = _is_local(host)
    if not local and api_keys is None and not insecure:
        raise UsageError(f"{host} can be reached from other machines: give --api-keys FILE, or --insecure.")
    settings = load_settings(
        model=model, engine=engine, method=method, dtype=dtype, exact=exact, threads=threads, packs=pack or None,
        max_new_tokens=max_new_tokens, max_requests=max_requests, learn=False if no_learn else None,
    )  # fmt: skip
    method = ready(settings, draft)
    check_name(namespace)
    try:
        from hierdraft.server.keys import Keys
        from hierdraft.server.run import listen
    except ImportError as error:
        raise MissingDependencyError(
            f"Serving needs more packages ({error}): pip install 'hierdraft[server]'."
        ) from error
    name = alias or known_as(settings.model)
    keys = Keys.read(api_keys) if api_keys is not None else Keys.none(namespace)
    defaults: dict[str, Any] = {"method": method}
    if "max_new_tokens" in settings.model_fields_set:
        defaults["max_new_tokens"] = settings.max_new_tokens
    if temperature is not None:
        defaults["temperature"] = temperature
    hosts = _names(host, allow_host) if local or allow_host else None
    with closing(listen(host, port)) as listening, _load(settings, queue) as loaded:
        loaded.warm_up(method)
        _run(
            loaded, keys, listening, hosts, name, defaults, frozenset(drop or ()), deadline, drain,
            lambda: _tell(listening, name, time.perf_counter() - started, as_json=as_json),
        )  # fmt: skip


serve.__doc__ = (serve.__doc__ or "") + _EXAMPLES


def _load(settings: Settings, queue: int) -> LanguageModel:
    from hierdraft.generation import load

    return load(
        settings.model, engine=settings.engine, dtype=settings.dtype, threads=settings.threads, exact=settings.exact,
        packs=settings.packs, learn=settings.learn, max_requests=settings.max_requests, queue=queue,
    )  # fmt: skip


def _run(
    loaded: LanguageModel, keys: Keys, listening: socket.socket, hosts: frozenset[str] | None, name: str,
    defaults: dict[str, Any], dropped: frozenset[str], deadline: float, drain: float, ready: Any,
) -> None:  # fmt: skip
    from hierdraft.server.run import Server
    from hierdraft.server.run import serve as run
    from hierdraft.server.service import Limits, Service

    service = Service(loaded, name, keys, Limits(seconds=deadline), defaults, dropped)
    logging.getLogger("hierdraft.server").setLevel(logging.INFO)
    with unhurried():
        run(Server(service, hosts=hosts, drain=drain, ready=ready), listening)


def _tell(listening: socket.socket, name: str, seconds: float, *, as_json: bool) -> None:
    """Where it answers."""
    host, port = listening.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    if as_json:
        typer.echo(json.dumps({"url": url, "model": name, "seconds": round(seconds, 3)}))
    else:
        typer.echo(f"{name} answers at {url}/v1 after {seconds:.1f} s; look at {url} in a browser.", err=True)


def _is_local(host: str) -> bool:
    """Whether only this machine can reach it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _names(host: str, more: list[str] | None) -> frozenset[str]:
    """What the server may be called."""
    return frozenset({"localhost", "127.0.0.1", "::1", host.lower(), *(name.lower() for name in more or ())})
