"""Reading JSON schemas: text or objects, references inside them, and to files beside them. Never the network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from hierdraft.errors import MissingDependencyError, UsageError

_DRAFTS = {
    "draft-03": "http://json-schema.org/draft-03/schema",
    "draft-04": "http://json-schema.org/draft-04/schema",
    "draft-05": "http://json-schema.org/draft-04/schema",
    "draft-06": "http://json-schema.org/draft-06/schema",
    "draft-07": "http://json-schema.org/draft-07/schema",
    "2019-09": "https://json-schema.org/draft/2019-09/schema",
    "2020-12": "https://json-schema.org/draft/2020-12/schema",
}
_NOWHERE = "http://schema.invalid/"
"""Where a schema without a file is taken to lie: by RFC 6761 no host has such a name."""
_OLDEST_WITH_SIBLINGS = 2019
_MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """A subschema in its document.

    contents  the subschema
    resolver  follows references from here
    path      where it stands, for people: `#/properties/a`, `other.json#/definitions/b`
    draft     the year of its draft: 3, 4, 6 and 7 count as such
    """

    contents: Any
    resolver: Any
    path: str
    draft: int

    def below(self, contents: Any, *steps: str | int) -> Place:
        """A subschema inside this one."""
        path = "/".join([self.path, *(str(step).replace("~", "~0").replace("/", "~1") for step in steps)])
        return Place(contents, self.resolver, path, self.draft)


@dataclass
class Documents:
    """A schema and the files that it may refer to.

    folders  where files lie that may be referred to; nothing else is read
    """

    folders: Sequence[Path] = ()
    _names: dict[str, str] = field(default_factory=dict)
    _identified: dict[str, Path] | None = None

    def root(self, schema: Any, path: Path | None = None) -> Place:
        """Where a schema begins; `path` is the file it came from. Raises UsageError, MissingDependencyError."""
        try:
            from referencing import Registry, Resource
            from referencing.jsonschema import specification_with
        except ImportError as error:
            raise MissingDependencyError(
                f"JSON schemas need jsonschema ({error}): pip install 'hierdraft[structured]'."
            ) from error
        draft = _draft_of(schema)
        specification = specification_with(_DRAFTS[draft])
        base = _identity(schema)
        if not urlsplit(base).scheme:
            base = urljoin(path.resolve().as_uri() if path else _NOWHERE, base)
        self._names[base] = ""
        registry: Any = Registry(retrieve=self._retrieve)
        resource: Any = Resource(schema, specification)
        try:
            resolver = registry.with_resource(base, resource).resolver(base)
        except Exception as error:  # the library fails in its own ways on invalid identifiers
            raise UsageError(f"The JSON schema cannot be used: its identifiers cannot be read ({error}).") from error
        return Place(schema, resolver, "#", _year(draft))

    def follow(self, place: Place, reference: str, keyword: str = "$ref") -> Place:
        """What a reference at `place` means. Raises UsageError with the reference's own path."""
        from referencing.exceptions import Unresolvable

        where = f"{place.path}/{keyword}"
        try:
            found = place.resolver.lookup(reference)
        except Unresolvable as error:
            raise UsageError(f"The JSON schema cannot be used: {where}: {self._missing(place, reference)}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(
                f"The JSON schema cannot be used: {where}: {reference!r} is not a reference ({error})."
            ) from error
        base, fragment = urldefrag(urljoin(place.resolver._base_uri, reference))
        same = base == place.resolver._base_uri
        name = place.path.partition("#")[0] if same else self._names.get(base, base.rpartition("/")[2])
        document = found.contents if not fragment else None
        draft = place.draft
        if isinstance(document, dict) and "$schema" in document:
            draft = _year(_draft_of(document))
        return Place(found.contents, found.resolver, f"{name}#{fragment}", draft)

    def _missing(self, place: Place, reference: str) -> str:
        base, fragment = urldefrag(urljoin(place.resolver._base_uri, reference))
        if base == place.resolver._base_uri or base in self._names:
            return f"there is no {reference!r} ({'#' + fragment})."
        if urlsplit(base).scheme in ("http", "https") and not base.startswith(_NOWHERE):
            return (
                f"{base} is on the network, where nothing is fetched from: put that schema, with this address as its "
                "$id, into the folder of the schema file."
            )
        return f"{reference!r} is no file in a folder that may be read: give its folder as a schema folder."

    def _retrieve(self, address: str) -> Any:
        """A file's schema for the registry, which asks for everything that it does not hold."""
        from referencing import Resource
        from referencing.exceptions import NoSuchResource
        from referencing.jsonschema import specification_with

        known = _metaschema(address)
        if known is not None:
            return known
        path = self._file(address)
        if path is None:
            raise NoSuchResource(ref=address)
        contents = read_schema(path)
        self._names[address] = path.name
        return Resource(contents, specification_with(_DRAFTS[_draft_of(contents)]))

    def _file(self, address: str) -> Path | None:
        """The file that an address means: itself, the same name in one of the folders, or one with it as its `$id`."""
        parts = urlsplit(address)
        if parts.scheme == "file":
            path = Path(unquote(parts.path)).resolve()
            inside = any(path.is_relative_to(folder.resolve()) for folder in self.folders)
            return path if inside and path.is_file() else None
        if address.startswith(_NOWHERE):
            for folder in self.folders:
                path = (folder / unquote(parts.path).lstrip("/")).resolve()
                if path.is_relative_to(folder.resolve()) and path.is_file():
                    return path
            return None
        return self._by_identity().get(address.rstrip("#"))

    def _by_identity(self) -> dict[str, Path]:
        """Schema files in the folders by their `$id`; read once, and only where an address is asked for."""
        if self._identified is None:
            self._identified = {}
            for folder in self.folders:
                for path in sorted(folder.glob("*.json")):
                    try:
                        identity = _identity(read_schema(path))
                    except UsageError:
                        continue
                    if identity:
                        self._identified.setdefault(identity.rstrip("#"), path)
        return self._identified


def read_schema(path: Path) -> Any:
    """A schema file's contents. Raises UsageError where it cannot be read or is not JSON."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UsageError(f"{path} is too large for a JSON schema ({path.stat().st_size} bytes).")
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        return parse_schema(data.decode(_encoding(data)), str(path))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text in UTF-8: {error.reason} at byte {error.start}.") from error


def parse_schema(text: str, name: str = "The JSON schema") -> Any:
    """A schema from text: an object or a boolean. Raises UsageError."""
    text = text.removeprefix("\ufeff")
    try:
        schema = json.loads(text)
    except RecursionError as error:
        raise UsageError(f"{name} cannot be read: it is nested too deeply.") from error
    except ValueError as error:
        yaml = text.lstrip()[:1] not in ("{", "[", '"') and ":" in text.partition("\n")[0]
        hint = " It looks like YAML: convert it to JSON first." if yaml else ""
        raise UsageError(f"{name} cannot be read: it is not JSON: {error}.{hint}") from error
    return checked_schema(schema, name)


def checked_schema(schema: Any, name: str = "The JSON schema") -> Any:
    """The schema, if it can be one. Raises UsageError."""
    if isinstance(schema, bool | Mapping):
        return schema
    kind = "a list" if isinstance(schema, list) else f"{json.dumps(schema)[:40]}"
    raise UsageError(f"{name} cannot be used: a schema is an object or a boolean, not {kind}.")


def _encoding(data: bytes) -> str:
    return "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _identity(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        return ""
    for key in ("$id", "id"):
        if isinstance(schema.get(key), str):
            return str(schema[key])
    return ""


def _draft_of(schema: Any) -> str:
    """The draft that a document says it follows, or else the one that it looks like."""
    if not isinstance(schema, Mapping):
        return "2020-12"
    said = str(schema.get("$schema", ""))
    for name in _DRAFTS:
        if name in said:
            return name
    if "$defs" not in schema and ("definitions" in schema or said.startswith("http://json-schema.org")):
        return "draft-04" if "id" in schema and "$id" not in schema else "draft-07"
    return "2020-12"


def _year(draft: str) -> int:
    return int(draft[-1]) if draft.startswith("draft-") else int(draft[:4])


def siblings_count(draft: int) -> bool:
    """Whether keywords beside a `$ref` mean something: since 2019-09."""
    return draft >= _OLDEST_WITH_SIBLINGS


def _metaschema(address: str) -> Any:
    """One of the drafts' own schemas, which jsonschema brings along."""
    from jsonschema_specifications import REGISTRY

    for known in (address, address.rstrip("#"), address.rstrip("#") + "#"):
        if known in REGISTRY:
            return REGISTRY[known]
    return None
