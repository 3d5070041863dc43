"""Chat templates as transformers fills them, with jinja2 alone, in a sandbox: a template is data from a stranger."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError, ext, nodes, utils
from jinja2.exceptions import SecurityError
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

_REASONING = ("reasoning_content", "thinking", "reasoning")
"""Fields of a message that transformers copies to one another; such messages are left to it."""


_MARK = "HIERDRAFT_CONTINUES_HERE "
"""Stands where an answer continues; where the template cuts the space from its end, it cuts that of any message."""


def fill(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Any] | None = None,
    *,
    continues: bool = False,
    **others: Any,
) -> str:
    """The text of a conversation; `others` are names that the template can use.

    tools      descriptions of functions
    continues  end within the last message, which is a text, instead of after it

    Raises jinja2.TemplateError, and ValueError where the template does not show the last message.
    """
    if continues:
        last = messages[-1]
        messages = [*messages[:-1], {**last, "content": last["content"] + _MARK}]
    text = _compiled(template).render(messages=messages, tools=tools, documents=None, **others)
    if not continues:
        return text
    bare = _MARK.strip()
    place = text.rfind(bare)
    if place < 0:
        raise ValueError("the template does not show the last message, so no answer can continue it")
    return text[:place] if text[place:].startswith(_MARK) else text[:place].rstrip()


def is_plain(value: Any) -> bool:
    """Whether a value is made of texts, numbers, lists and dictionaries alone, so that a template can do no harm."""
    if type(value) is dict:
        return all(type(key) is str and key not in _REASONING and is_plain(part) for key, part in value.items())
    if type(value) is list:
        return all(is_plain(part) for part in value)
    return value is None or type(value) in (str, int, float, bool)


@lru_cache(maxsize=64)
def _compiled(template: str) -> Template:
    environment = ImmutableSandboxedEnvironment(  # not a page but a prompt is made: nothing is escaped
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {
        "raise_exception": _raise,
        "strftime_now": lambda form: datetime.now().strftime(form),
        "dict": _Dictionary(),
        "namespace": _Namespace,
    }
    return environment.from_string(template)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class _Generation(ext.Extension):
    """`{% generation %}` marks what an assistant said; it shows as its body."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own declaration

    def parse(self, parser: Parser) -> nodes.Node:
        """The block as a call that gives back what is in it."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller: Any) -> Any:
        return caller()


class _Namespace(utils.Namespace):
    """`namespace()` without names that lead into the interpreter."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # so that a namespace may hold a `self`
        given = dict(*args[1:], **kwargs)
        for name in given:
            _check(name)
        utils.Namespace.__init__(args[0], given)

    def __setitem__(self, name: str, value: Any) -> None:
        _check(name)
        super().__setitem__(name, value)


def _check(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a chat template cannot store {name!r} in a namespace")


class _Dictionary:
    """`dict()`, and nothing else that hangs on the class."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        """As `dict.fromkeys`."""
        return dict.fromkeys(*args)
