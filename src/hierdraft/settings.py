"""One validated tree of settings: file < environment < what the caller passes.

The file is TOML: the one named by HIERDRAFT_CONFIG, else `config.toml` in the user's configuration folder.
Every field has an environment variable, HIERDRAFT_ and its name in capitals.
"""

from __future__ import annotations

import codecs
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from platformdirs import user_cache_path, user_config_path, user_data_path
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.sources import EnvSettingsSource

from hierdraft.choices import engine_names, listed, number_types
from hierdraft.errors import SettingsError, UsageError

Origin = Literal["default", "file", "environment", "argument"]

MOST_THREADS = 4096
"""More is no machine's, and the engines' own refusals blame the model."""

INDEXES = "indexes"
"""Folder, in the cache folder, of the indexes of packs that come without one."""

_PREFIX = "HIERDRAFT_"
_CONFIG = "HIERDRAFT_CONFIG"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # what UTF-32 begins with too, in the one order that is met


def _not_bool(value: object) -> object:
    """True and false would otherwise pass as the numbers 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("not a number")
    return value


def _expand_user(value: object) -> object:
    """A leading ~ means the home folder, in the file and in the environment too."""
    if value == "":
        raise ValueError("empty")
    return expanded(value) if isinstance(value, str | Path) else value


def expanded(path: str | Path) -> Path:
    """With the home folder for a leading ~. Raises ValueError for a user who does not exist."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: there is no such user") from error


def _paths(value: object) -> object:
    """In the environment, paths stand as in PATH."""
    return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value


def _one_of(names: tuple[str, ...]) -> AfterValidator:
    def check(value: str) -> str:
        if value not in names:
            raise ValueError("not one of them")
        return value

    return AfterValidator(check)


_Text = Annotated[str, Field(min_length=1)]
_Count = Annotated[int, BeforeValidator(_not_bool), Field(ge=1)]
_Threads = Annotated[int, BeforeValidator(_not_bool), Field(ge=1, le=MOST_THREADS)]
_Days = Annotated[float, BeforeValidator(_not_bool), Field(gt=0)]
_Packs = Annotated[tuple[Annotated[Path, BeforeValidator(_expand_user)], ...], NoDecode, BeforeValidator(_paths)]
_Budget = Annotated[int, BeforeValidator(_not_bool), Field(ge=0, le=128)]


class Settings(BaseSettings):
    """Every setting with its default. A field's title is what it is for, its description what its value must be.

    Use `load_settings`, which also reads the file and puts every problem into one sentence.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, validate_default=True
    )

    model: _Text = Field(
        default="smollm2-135m", title="which model answers", description="a model name, a local folder or owner/name"
    )
    engine: Annotated[str, _one_of(engine_names())] = Field(
        default="auto", title="what runs it", description=listed(engine_names())
    )
    method: _Text = Field(default="hierarchy", title="how it is drafted", description="the name of a decoding method")
    dtype: Annotated[str, _one_of(number_types())] = Field(
        default="auto", title="the number type of its weights", description=listed(number_types())
    )
    exact: bool | None = Field(
        default=None, title="plain decoding's ids in bfloat16 and int8 too, a little slower; unset: no",
        description="true or false", examples=[True],
    )  # fmt: skip
    budget: Literal["auto"] | _Budget = Field(
        default="auto", title="most drafted tokens in a step", description="auto or a whole number from 0 to 128"
    )
    max_new_tokens: _Count = Field(
        default=256, title="most new tokens in an answer", description="a whole number of at least 1"
    )
    max_requests: Annotated[int, BeforeValidator(_not_bool), Field(ge=1, le=1024)] = Field(
        default=16, title="most requests that share a forward", description="a whole number from 1 to 1024"
    )
    threads: _Threads | None = Field(
        default=None, title="CPU threads; unset: the engine's own choice",
        description=f"a whole number from 1 to {MOST_THREADS}",
        examples=[4],
    )  # fmt: skip
    packs: _Packs = Field(
        default=(), title="packs to draft from, besides the one that comes with a model",
        description="a list of pack files", examples=[["~/packs/notes.safetensors"]],
    )  # fmt: skip
    learn: bool = Field(default=True, title="keep what the model says and draft from it", description="true or false")
    durability: Literal["none", "batch", "always"] = Field(
        default="batch", title="what a power failure may take: all (kept in memory only), a second, nothing",
        description="none, batch or always",
    )  # fmt: skip
    namespace_tokens: _Count = Field(
        default=1 << 24, title="size limit of what is kept per namespace, in tokens",
        description="a whole number of at least 1",
    )  # fmt: skip
    expire_days: _Days | None = Field(
        default=None, title="erase namespaces that were not used for so long; unset: never",
        description="a number of days above 0", examples=[90],
    )  # fmt: skip
    data_dir: Annotated[Path, BeforeValidator(_expand_user)] = Field(
        default_factory=lambda: user_data_path("hierdraft"), title="where what was learned lies",
        description="a folder",
    )  # fmt: skip
    cache_dir: Annotated[Path, BeforeValidator(_expand_user)] = Field(
        default_factory=lambda: user_cache_path("hierdraft"), title="where models lie", description="a folder"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments only: `load_settings` merges the sources itself, to know where each value came from."""
        return (init_settings,)


@dataclass(frozen=True)
class Sourced:
    """A setting's value and where it came from."""

    value: object
    origin: Origin


def config_path() -> Path:
    """The settings file: HIERDRAFT_CONFIG, else config.toml in the user's folder. Raises SettingsError."""
    named = os.environ.get(_CONFIG)
    try:
        return expanded(named) if named else user_config_path("hierdraft") / "config.toml"
    except ValueError as error:
        raise SettingsError(f"{_CONFIG} cannot be used: {error}.") from error


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return _PREFIX + name.upper()


def load_settings(**overrides: Any) -> Settings:
    """The settings in force. An override of None counts as not given.

    Raises SettingsError for a wrong file or environment variable, UsageError for a wrong override; each
    names the key, where it stands, and what it must be.
    """
    return _validated(_read_sources(overrides))


def origins(**overrides: Any) -> dict[str, Sourced]:
    """Per field: the value in force and where it comes from. Raises as `load_settings` does."""
    sources = _read_sources(overrides)
    settings = _validated(sources)
    return {name: Sourced(getattr(settings, name), _origin(name, sources)) for name in Settings.model_fields}


def _read_sources(overrides: Mapping[str, Any]) -> dict[Origin, dict[str, Any]]:
    """What each source says, the weakest first. Unknown names are refused here, with their place."""
    path = config_path()
    in_file = _read_file(path)
    for key in in_file:
        if key not in Settings.model_fields:
            raise SettingsError(f"Unknown key {key!r} in {path}{_known(Settings.model_fields)}")
    variables = [variable(name) for name in Settings.model_fields]
    for found in os.environ:
        if found.startswith(_PREFIX) and found not in (*variables, _CONFIG):
            raise SettingsError(f"Unknown environment variable {found}{_known([*variables, _CONFIG])}")
    given = {name: value for name, value in overrides.items() if value is not None}
    for name in given:
        if name not in Settings.model_fields:
            raise UsageError(f"There is no setting {name!r}{_known(Settings.model_fields)}")
    return {"file": in_file, "environment": EnvSettingsSource(Settings)(), "argument": given}


def _known(names: Iterable[str]) -> str:
    return f": known are {', '.join(names)}."


def _read_file(path: Path) -> dict[str, Any]:
    """The TOML file as a dictionary; the default file may be missing, one that was named may not."""
    if not path.exists() and not os.environ.get(_CONFIG):
        return {}
    try:
        data = path.read_bytes()
        if data.startswith(_UTF16):
            raise SettingsError(f"The settings file {path} is UTF-16 text: save it as UTF-8.")
        return tomllib.loads(data.decode("utf-8-sig"))  # editors may begin a file with a byte-order mark
    except OSError as error:
        named = f" ({_CONFIG} names it)" if os.environ.get(_CONFIG) else ""
        reason = error.strerror or error
        raise SettingsError(f"The settings file {path}{named} cannot be read: {reason}.") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"The settings file {path} is not UTF-8 text: save it as UTF-8.") from error
    except tomllib.TOMLDecodeError as error:  # its text ends with the line and column
        raise SettingsError(f"The settings file {path} is not valid TOML: {error}.") from error
    except RecursionError as error:
        raise SettingsError(f"The settings file {path} cannot be used: it has lists in lists, too deep.") from error


def _validated(sources: Mapping[Origin, Mapping[str, Any]]) -> Settings:
    merged: dict[str, Any] = {}
    for values in sources.values():
        merged.update(values)
    try:
        return Settings(**merged)
    except ValidationError as error:
        # A union reports one error per alternative; the field they share is all that is needed.
        name = str(error.errors()[0]["loc"][0])
        raise _wrong_value(name, merged.get(name), _origin(name, sources)) from error


def _wrong_value(name: str, value: object, origin: Origin) -> SettingsError | UsageError:
    expected = Settings.model_fields[name].description
    if origin == "argument":
        return UsageError(f"{name} must be {expected}, not {value!r}.")
    place = f"in {config_path()}" if origin == "file" else f"(from {variable(name)})"
    return SettingsError(f"{name} {place} must be {expected}, not {value!r}.")


def _origin(name: str, sources: Mapping[Origin, Mapping[str, Any]]) -> Origin:
    """The strongest source that gives this field."""
    found: Origin = "default"
    for origin, values in sources.items():
        if name in values:
            found = origin
    return found
