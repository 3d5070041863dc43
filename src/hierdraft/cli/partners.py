"""Who answers in a chat: a model in this process, or a server that speaks OpenAI's chat completions."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from hierdraft.errors import ServerError, UsageError
from hierdraft.stream import Piece

if TYPE_CHECKING:
    from hierdraft.language_model import LanguageModel

Message = dict[str, Any]


@dataclass(slots=True)
class Figures:
    """What an answer took, by the names that `generate --json` has; None for what a server does not tell.

    seconds         from the question to the end
    levels          level -> {"proposed": tokens, "accepted": tokens}
    draft_forwards  of the model that a local method drafts with, None where it has none
    """

    token_ids: list[int] | None = None
    new_tokens: int | None = None
    finish: str | None = None
    steps: int | None = None
    seconds: float = 0.0
    levels: dict[str, dict[str, int]] = field(default_factory=dict)
    draft_forwards: int | None = None
    seed: int | None = None

    @property
    def accepted_length(self) -> float | None:
        """Tokens per forward after the first token."""
        return (self.new_tokens - 1) / self.steps if self.steps and self.new_tokens else None

    @property
    def tokens_per_second(self) -> float | None:
        """New tokens over all seconds."""
        return self.new_tokens / self.seconds if self.new_tokens is not None and self.seconds else None

    def as_record(self) -> dict[str, Any]:
        """What `chat --json` tells of it."""
        rates = {"accepted_length": self.accepted_length, "tokens_per_second": self.tokens_per_second}
        rounded = {name: None if rate is None else round(rate, 4) for name, rate in rates.items()}
        return {**asdict(self), "seconds": round(self.seconds, 4), **rounded}


class Partner(Protocol):
    """Answers conversations."""

    name: str

    def answer(
        self, messages: Sequence[Message], options: dict[str, Any], figures: Figures
    ) -> Any:  # a context manager of Iterator[Piece]
        """Within the block the answer comes; at its end nothing of it runs any more, and `figures` are filled in.

        options   of `LanguageModel.stream`: method, max_new_tokens, temperature, seed
        """
        ...


class Local:
    """A model in this process."""

    def __init__(self, model: LanguageModel) -> None:
        self.name = model.name
        self._model = model

    @contextmanager
    def answer(
        self, messages: Sequence[Message], options: dict[str, Any], figures: Figures
    ) -> Iterator[Iterator[Piece]]:
        """Decoded in the background, so that a signal that comes meanwhile disturbs nothing."""
        began = time.perf_counter()
        stream = self._model.submit(list(messages), **options)
        try:
            yield iter(stream)
        finally:
            stream.close()
            run = stream.result
            figures.new_tokens, figures.steps, figures.seed = len(run.token_ids), run.steps, run.seed
            figures.token_ids, figures.finish, figures.levels = run.token_ids, run.finish, run.by_level
            figures.draft_forwards = run.draft_forwards
            figures.seconds = time.perf_counter() - began


class Remote:
    """A server; another one than ours says nothing of levels."""

    def __init__(self, url: str, key: str | None = None, model: str | None = None) -> None:
        """`url`: with or without /v1. Raises ServerError where it cannot be asked, UsageError for a wrong URL."""
        import httpx2 as httpx

        self._base = f"{url.rstrip('/').removesuffix('/v1')}/v1"
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            self._client = httpx.Client(headers=headers, timeout=httpx.Timeout(600.0, connect=10.0))
            self.name = model or str(self._ask("GET", "/models").json()["data"][0]["id"])
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise UsageError(f"{url} is not the address of a server ({error}).") from error
        except (ValueError, LookupError, TypeError) as error:
            raise ServerError(f"{url} does not list its models: name one with --model.") from error
        self._ours = True

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def _ask(self, method: str, path: str) -> Any:
        import httpx2 as httpx

        try:
            response = self._client.request(method, f"{self._base}{path}")
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise
        except httpx.HTTPError as error:
            raise ServerError(f"{self._base} cannot be reached ({error}).") from error
        if response.is_error:
            raise ServerError(_reason(response.status_code, response.text))
        return response

    @contextmanager
    def answer(
        self, messages: Sequence[Message], options: dict[str, Any], figures: Figures
    ) -> Iterator[Iterator[Piece]]:
        """Read as it comes. Raises ServerError."""
        import httpx2 as httpx

        body: dict[str, Any] = {
            "model": self.name, "messages": list(messages), "stream": True, "stream_options": {"include_usage": True},
            **{name: options[name] for name in ("temperature", "seed") if options.get(name) is not None},
        }  # fmt: skip
        if options.get("max_new_tokens") is not None:
            body["max_tokens"] = options["max_new_tokens"]
        began = time.perf_counter()
        try:
            with self._opened(body, options.get("method")) as response:
                yield self._pieces(response, figures)
        except httpx.HTTPError as error:
            raise ServerError(f"{self._base} broke off ({error}).") from error
        finally:
            figures.seconds = time.perf_counter() - began

    @contextmanager
    def _opened(self, body: dict[str, Any], method: str | None) -> Iterator[Any]:
        """The response; a server that does not know our extension is asked again without."""
        extension = {"hierdraft": {"provenance": True, **({"method": method} if method else {})}} if self._ours else {}
        with self._client.stream("POST", f"{self._base}/chat/completions", json=body | extension) as response:
            if not response.is_error:
                yield response
                return
            said = response.read().decode("utf-8", "replace")
        if not self._ours or response.status_code not in (400, 422) or "hierdraft" not in said:
            raise ServerError(_reason(response.status_code, said))
        self._ours = False
        if method not in (None, "hierarchy"):
            raise ServerError("This server cannot be told how to draft.")
        with self._opened(body, None) as response:
            yield response

    def _pieces(self, response: Any, figures: Figures) -> Iterator[Piece]:
        for line in response.iter_lines():
            data = line[5:].strip() if line.startswith("data:") else ""
            if not data or data == "[DONE]":
                continue
            try:
                pieces = _pieces_of(json.loads(data), figures)
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise ServerError(f"{self._base} answers with what is no event of a chat ({error}).") from error
            yield from pieces


def _pieces_of(event: dict[str, Any], figures: Figures) -> list[Piece]:
    """What an event says. Raises ServerError for one that tells of an error, and others for what is no event."""
    error = event.get("error")
    if error is not None:
        raise ServerError(str(error.get("message", error) if isinstance(error, dict) else error))
    _take(event, figures)
    found = []
    for choice in event.get("choices") or ():
        told = choice.get("hierdraft")
        if told is not None:
            figures.token_ids = [*(figures.token_ids or ()), *(token for token, _ in told["tokens"])]
            found += [Piece(text, level) for text, level in told["pieces"]]
        elif text := (choice.get("delta") or {}).get("content"):
            found.append(Piece(text, "target"))
    return found


def _take(event: dict[str, Any], figures: Figures) -> None:
    """What an event says of the whole answer."""
    for choice in event.get("choices") or ():
        figures.finish = choice.get("finish_reason") or figures.finish
    if event.get("usage"):
        figures.new_tokens = event["usage"].get("completion_tokens")
    for told in (event.get("metrics") or {}).get("speculative_decoding", ()):
        figures.steps, figures.levels, figures.seed = told["num_drafts"], told["by_level"], told["seed"]


def _reason(status: int, said: str) -> str:
    """What a server answered instead."""
    try:
        found = json.loads(said)["error"]
        return str(found["message"] if isinstance(found, dict) else found)
    except (ValueError, LookupError, TypeError):
        return f"The server answered with {status}."
