"""Names of drafting methods: name -> "module:attribute", imported on use.

A package can add methods of its own through the entry point group `hierdraft.drafters`. A method may be named with
settings, which its class takes as arguments: `hd:window=0:order=model+context`. Each is read as its annotation says.
A setting `of` is a method's name with its own settings, so it comes last: `hvt:first=8:of=hd:window=0`.
"""

from __future__ import annotations

import difflib
import inspect
import math
import types
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path, PurePath
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from hierdraft.errors import HierdraftError, MissingDependencyError, UsageError
from hierdraft.protocols import Method

GROUP = "hierdraft.drafters"

METHODS = {
    "aded": "hierdraft.drafting.rivals.aded:AdedMethod",
    "diffuspec": "hierdraft.drafting.heads.diffuspec:DiffuSpecMethod",
    "draft-model": "hierdraft.drafting.models.draft_model:DraftModelMethod",
    "early-exit": "hierdraft.drafting.heads.early_exit:EarlyExitMethod",
    "easyspec": "hierdraft.drafting.models.easyspec:EasySpecMethod",
    "hd": "hierdraft.drafting.hd.method:HdMethod",
    "hierarchy": "hierdraft.drafting.hierarchy.method:HierarchyMethod",
    "hvt": "hierdraft.drafting.hvt:HvtMethod",
    "logitspec": "hierdraft.drafting.rivals.logitspec:LogitSpecMethod",
    "lookahead": "hierdraft.drafting.rivals.lookahead:LookaheadMethod",
    "none": "hierdraft.drafting.plain:PlainMethod",
    "prompt-lookup": "hierdraft.drafting.rivals.prompt_lookup:PromptLookupMethod",
    "rest": "hierdraft.drafting.rivals.rest:RestMethod",
    "sam": "hierdraft.drafting.rivals.sam:SamMethod",
    "suffix": "hierdraft.drafting.rivals.suffix:SuffixMethod",
    "tabed": "hierdraft.drafting.models.tabed:TabedMethod",
    "token-recycling": "hierdraft.drafting.rivals.token_recycling:TokenRecyclingMethod",
}

_SEQUENCES = (tuple, list, set, frozenset, Sequence)
_SCALARS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_DEEPEST = 4
_ABSENT = inspect.Parameter.empty


def method_names() -> list[str]:
    """Every method's name, built in and from plug-ins."""
    return sorted({*METHODS, *(found.name for found in entry_points(group=GROUP))})


def check_name(method: str, more: Sequence[str] = ()) -> None:
    """Raises UsageError, with the name that may be meant, for one that is no method's and none of `more`."""
    names = sorted({*method_names(), *more})
    if method not in names:
        near = difflib.get_close_matches(method, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(names)}."
        raise UsageError(f"There is no drafting method {method!r}: {hint}")


def make_method(name: str) -> Method:
    """The named method, new.

    Raises UsageError for an unknown name, an unknown or missing setting or one that cannot be read, and
    MissingDependencyError for a plug-in that cannot be imported.
    """
    if name.count(":of=") > _DEEPEST:
        raise UsageError(f"A method may be made of {_DEEPEST} others, one inside the other, and not of more.")
    own, of, inner = name.partition(":of=")
    method, *settings = own.split(":")
    settings += [f"of={inner}"] if of else []
    kind = _kind(method)
    arguments = read_arguments(method, kind, settings)
    try:
        return kind(**arguments)
    except HierdraftError:
        raise
    except (TypeError, ValueError) as error:
        raise UsageError(f"The method {name!r} cannot be made with these settings: {error}.") from error


def _kind(method: str) -> Callable[..., Method]:
    """The class or function that a method's name stands for."""
    check_name(method)
    plugins = {found.name: found for found in entry_points(group=GROUP)}
    target = EntryPoint(method, METHODS[method], GROUP) if method in METHODS else plugins[method]
    try:
        return cast(Callable[..., Method], target.load())
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(
            f"The drafting method {method!r} is {target.value}, which cannot be imported ({error})."
        ) from error


def read_arguments(method: str, kind: Callable[..., Method], settings: Sequence[str]) -> dict[str, Any]:
    """`key=value` texts as the arguments of `kind`, each of the type that it is annotated with, else its default's.

    Sequences are written with plus signs, `a+b`, an empty one as nothing; None is written `none`. Raises UsageError.
    """
    known = {key: one for key, one in inspect.signature(kind).parameters.items() if one.kind in _NAMED}
    hints = _hints(kind)
    arguments: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if key not in known or not equals:
            wanted = f"write {key}=VALUE" if key in known else f"it takes {', '.join(known) or 'none'}"
            what = "no value for" if key in known else "no setting"
            raise UsageError(f"The method {method!r} has {what} {key!r}: {wanted}.")
        if key in arguments:
            raise UsageError(f"The setting {key!r} of {method!r} is given twice.")
        hint = hints.get(key, _type_of(known[key].default))
        try:
            arguments[key] = _read(text, hint)
        except ValueError:
            raise UsageError(f"The setting {key!r} of {method!r} must be {_described(hint)}, not {text!r}.") from None
        except TypeError as error:
            raise UsageError(
                f"The setting {key!r} of {method!r} is {error}, which cannot be written here: pass an object."
            ) from None
    for key, parameter in known.items():
        if parameter.default is _ABSENT and key not in arguments:
            raise UsageError(f"The method {method!r} needs the setting {key!r}: write {method}:{key}=...")
    return arguments


def _hints(kind: Callable[..., Method]) -> Mapping[str, Any]:
    """What the arguments are annotated with; nothing where an annotation names what is not there."""
    made = kind.__init__ if inspect.isclass(kind) else kind
    try:
        return get_type_hints(made)
    except (NameError, AttributeError, TypeError):
        return {}


def _type_of(default: object) -> Any:
    """The type of a setting that is not annotated."""
    return str if default is _ABSENT or default is None else type(default)


def _read(text: str, hint: Any) -> Any:
    """Raises ValueError for a text that is none of these, TypeError for a type that no text can be read as."""
    hint = getattr(hint, "__supertype__", getattr(hint, "__value__", hint))  # a NewType, an alias
    origin, inner = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, types.UnionType):
        return _read_any(text, inner)
    if origin in _SEQUENCES:
        return _read_sequence(text, origin, inner)
    if origin is Literal or _is(hint, Enum):
        values = inner if origin is Literal else tuple(hint)
        found = [value for value in values if text == _written(value)]
        if not found:
            raise ValueError
        return found[0]
    return _read_one(text, hint)


def _read_any(text: str, members: tuple[Any, ...]) -> Any:
    """None by its name, then the first member that the text can be read as; text itself comes last."""
    if text == "none" and type(None) in members:
        return None
    others = [member for member in members if member is not type(None)]
    refused = False
    for member in sorted(others, key=lambda member: member is str):
        try:
            return _read(text, member)
        except ValueError:
            refused = True
        except TypeError:  # another member may do
            continue
    if refused:
        raise ValueError
    raise TypeError(" or ".join(map(_described, others)))


def _read_sequence(text: str, kind: Any, members: tuple[Any, ...]) -> Any:
    parts = text.split("+") if text else []
    if kind is tuple and members and Ellipsis not in members:
        if len(parts) != len(members):
            raise ValueError
        return tuple(_read(part, member) for part, member in zip(parts, members, strict=True))
    made = tuple if kind is Sequence else kind
    return made(_read(part, members[0] if members else str) for part in parts)


def _read_one(text: str, hint: Any) -> Any:
    if hint in (Any, object):
        return text
    if hint is bool:
        if text not in ("true", "false"):
            raise ValueError
        return text == "true"
    if _is(hint, PurePath):
        try:
            return Path(text).expanduser()
        except RuntimeError as error:
            raise ValueError from error
    if hint not in _SCALARS:
        raise TypeError(_described(hint))
    value = hint(text)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError
    return value


def _is(hint: Any, kind: type) -> bool:
    return inspect.isclass(hint) and issubclass(hint, kind)


def _written(value: object) -> str:
    """How a value of a Literal or an Enum is written."""
    value = value.value if isinstance(value, Enum) else value
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _described(hint: Any) -> str:
    """What a text must be, in words."""
    hint = getattr(hint, "__supertype__", getattr(hint, "__value__", hint))
    origin, inner = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join("none" if member is type(None) else _described(member) for member in inner)
    if origin is Literal or _is(hint, Enum):
        return " or ".join(map(_written, inner if origin is Literal else hint))
    if origin is tuple and inner and Ellipsis not in inner:
        return f"{len(inner)} values joined by + ({', '.join(map(_described, inner))})"
    if origin in _SEQUENCES:
        return f"values joined by +, each {_described(inner[0] if inner else str)}"
    if _is(hint, PurePath):
        return "a path"
    return _SCALARS.get(hint) or f"of type {getattr(hint, '__name__', hint)}"
