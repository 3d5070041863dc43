"""Regular expressions of JSON schemas (ECMA 262) for the grammar's engine, and for Python's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_CONTROL = re.compile(r"c([A-Za-z])")
_CODE = re.compile(r"x\{([0-9A-Fa-f]+)\}|u\{([0-9A-Fa-f]+)\}|u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})")
_REPEAT = re.compile(r"\{\d+(,\d*)?\}")
_WORD = re.compile(r"[\w@:#/ -]+")
_END, _ALL = "end", "all"
_IN_CLASS = "[&~"


def translated(pattern: str) -> str:
    r"""ECMA's syntax in Rust's: `\/`, `\u0041`, `\cJ`, a lone `{` or `[`, `[^]`; all else stays as it is."""
    out: list[str] = []
    at, inside, opened = 0, False, 0
    while at < len(pattern):
        letter = pattern[at]
        at += 1
        if letter == "\\" and at < len(pattern):
            written, at = _escape(pattern, at, inside)
            out.append(written)
        elif inside:
            if letter == "]":
                inside = False
                out.append(letter)
            else:
                out.append("\\" + letter if letter in _IN_CLASS or _is_double_dash(pattern, at - 1, opened) else letter)
        elif letter == "[":
            written, step = _class_start(pattern, at)
            out.append(written)
            at += step
            inside = not written.endswith(")")
            opened = at
        elif letter == "{" and not _REPEAT.match(pattern, at - 1):
            out.append("\\{")
        elif letter == "}" and not _closes_repeat(pattern, at):
            out.append("\\}")
        else:
            out.append(letter)
    return "".join(out)


def _class_start(pattern: str, at: int) -> tuple[str, int]:
    """The beginning of a class after its bracket, and how much of the pattern it is."""
    if pattern.startswith("^]", at):
        return "(?s:.)", 2
    if pattern.startswith("]", at):
        return "(?:[^\\s\\S])", 1
    return ("[^", 1) if pattern.startswith("^", at) else ("[", 0)


def _is_double_dash(pattern: str, at: int, opened: int) -> bool:
    """A dash that Rust would read as a difference of classes."""
    return pattern[at] == "-" and at > opened and (pattern[at - 1] == "-" or pattern.startswith("-", at + 1))


def _closes_repeat(pattern: str, at: int) -> bool:
    start = pattern.rfind("{", 0, at)
    found = _REPEAT.match(pattern, start) if start >= 0 else None
    return found is not None and found.end() == at


def _escape(pattern: str, at: int, inside: bool) -> tuple[str, int]:
    """An escape sequence after its backslash, and where it ends."""
    control = _CONTROL.match(pattern, at)
    if control:
        return f"\\x{{{ord(control[1].upper()) - 64:x}}}", control.end()
    code = _CODE.match(pattern, at)
    if code:
        return f"\\x{{{next(filter(None, code.groups()))}}}", code.end()
    letter = pattern[at]
    if letter == "/" or (letter.isalpha() and letter.lower() not in "bdswnrtfvpazk") or ord(letter) > 127:
        return letter, at + 1
    if letter == "Z":
        return "$", at + 1
    if letter == "0" or (letter == "b" and inside):
        return ("\\x{0}" if letter == "0" else "\\x{8}"), at + 1
    if letter in "_\"'`,:;=@<>! %":
        return letter, at + 1
    return "\\" + letter, at + 1


def conjuncts(pattern: str) -> list[str]:
    """A pattern as patterns that must all match: look-aheads at its anchored beginning become patterns of their own.

    Of negative ones only those that look for words.
    """
    found: list[str] = []
    while pattern.startswith(("^(?=", "^(?!")):
        end = _closing(pattern, 1)
        rest = pattern[end + 1 :]
        if end < 0 or rest[:1] in ("*", "+", "?", "{") or _has_bar(rest):
            break
        ahead = pattern[4:end]
        if pattern[3] == "=":
            found.append(f"^(?:{ahead})")
        elif (others := _not_words(ahead)) is not None:
            found.append(others)
        else:
            break
        pattern = "^" + rest
    return [*found, pattern]


def name_pattern(pattern: str) -> str:
    """A pattern of names as one pattern, where what follows a look-ahead lets every name through."""
    parts = conjuncts(pattern)
    return parts[0] if len(parts) == 2 and parts[1] in ("^.*$", "^.*", "^") else pattern


def _not_words(ahead: str) -> str | None:
    """A pattern of what does not begin with (or, where they end in `$`, is not) one of some words."""
    while ahead.startswith("(") and _closing(ahead, 0) == len(ahead) - 1:
        ahead = ahead[1:-1].removeprefix("?:")
    whole = False
    if ahead.startswith("(") and ahead.endswith(")$") and _closing(ahead, 0) == len(ahead) - 2:
        ahead, whole = ahead[1:-2].removeprefix("?:"), True
    words = ahead.split("|")
    ends = [word.removesuffix("$") for word in words]
    if not all(_WORD.fullmatch(word) for word in ends):
        return None
    exact = [end for word, end in zip(words, ends, strict=True) if whole or word.endswith("$")]
    begins = [end for word, end in zip(words, ends, strict=True) if not whole and not word.endswith("$")]
    return none_of(exact, begins)


def _has_bar(text: str) -> bool:
    """An alternative at the outermost depth."""
    depth, at, inside = 0, 0, False
    while at < len(text):
        letter = text[at]
        if letter == "\\":
            at += 1
        elif inside:
            inside = letter != "]"
        elif letter == "[":
            inside = True
        elif letter in "()":
            depth += 1 if letter == "(" else -1
        elif letter == "|" and depth == 0:
            return True
        at += 1
    return False


def _closing(text: str, start: int) -> int:
    """Where the group that opens at `start` closes; -1: nowhere."""
    depth, at, inside = 0, start, False
    while at < len(text):
        letter = text[at]
        if letter == "\\":
            at += 1
        elif inside:
            inside = letter != "]"
        elif letter == "[":
            inside = True
        elif letter == "(":
            depth += 1
        elif letter == ")":
            depth -= 1
            if depth == 0:
                return at
        at += 1
    return -1


def any_of(patterns: Iterable[str]) -> str:
    """What matches where one of the patterns does."""
    return "|".join(f"(?:{pattern})" for pattern in patterns)


def none_of(words: Iterable[str], beginnings: Iterable[str] = ()) -> str:
    """A pattern, anchored, of every string that is none of the words and begins with none of the beginnings."""
    tree: dict[str, Any] = {}
    for word in words:
        _branch(tree, word)[_END] = {}
    for word in beginnings:
        _branch(tree, word)[_ALL] = {}
    return f"^{_other(tree)}$"


def _branch(tree: dict[str, Any], word: str) -> dict[str, Any]:
    for letter in word:
        tree = tree.setdefault(letter, {})
    return tree


def _other(tree: dict[str, Any]) -> str:
    """Every string that the tree does not spell from here."""
    letters = [letter for letter in tree if len(letter) == 1 and _ALL not in tree.get(letter, {})]
    taken = [letter for letter in tree if len(letter) == 1]
    options = [] if _END in tree else [""]
    if taken:
        options.append("[^" + "".join(f"\\x{{{ord(letter):x}}}" for letter in taken) + "](?s:.*)")
        options += [f"\\x{{{ord(letter):x}}}{_other(tree[letter])}" for letter in letters]
    else:
        options.append("(?s:.+)")
    return "(?:" + "|".join(options) + ")"
