"""Methods by name: built in or of other packages, with settings of every type that can be written in a name."""

from __future__ import annotations

import inspect
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from hierdraft.errors import HierdraftError, MissingDependencyError, UsageError
from hierdraft.registry import METHODS, make_method, method_names, read_arguments

PLUGIN = """
from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NewType, Optional

from hierdraft.drafting.plain import PlainMethod

if TYPE_CHECKING:
    from nowhere import Unknown

Width = NewType("Width", int)


class Colour(Enum):
    RED = "red"


class Drafter(PlainMethod):
    def __init__(
        self,
        model: str,
        depth: int | None = None,
        share: Optional[float] = 0.5,
        exact: bool = True,
        sizes: tuple[int, ...] = (4, 2),
        pair: tuple[int, float] = (1, 0.5),
        names: list[str] = ["a"],
        often: Sequence[float] = (),
        mode: Literal["fast", 2, None] = "fast",
        place: Path = Path("x"),
        text_or_number: str | int = "x",
        width: Width = Width(3),
        colour: Colour = Colour.RED,
        table: dict[str, int] | None = None,
        call: Callable[[int], int] = abs,
        bare=7,
        whatever: Any = None,
        *,
        last: str = "z",
        **more: str,
    ) -> None:
        self.given = {key: value for key, value in locals().items() if key not in ("self", "__class__")}


def factory(size: int, label="x"):
    made = Drafter(label)
    made.given = {"size": size, "label": label}
    return made


class Unresolved(PlainMethod):
    def __init__(self, size: int = 3, thing: Unknown = None) -> None:
        self.given = {"size": size, "thing": thing}


class Strict(PlainMethod):
    def __init__(self, size: int = 3) -> None:
        raise ValueError("size must be even")
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with methods of its own."""
    (tmp_path / "some_drafters.py").write_text(PLUGIN)
    about = tmp_path / "some_drafters-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: some-drafters\nVersion: 1.0\n")
    names = {"typed": "Drafter", "made": "factory", "loose": "Unresolved", "strict": "Strict", "missing": "Nothing"}
    lines = [f"{name} = some_drafters:{attribute}" for name, attribute in names.items()]
    (about / "entry_points.txt").write_text("\n".join(["[hierdraft.drafters]", *lines, "gone = no_such_module:X"]))
    monkeypatch.syspath_prepend(str(tmp_path))


def given(name: str) -> dict[str, Any]:
    found: dict[str, Any] = make_method(name).given  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("model=7", "7"),
        ("depth=7", 7),
        ("depth=none", None),
        ("share=0.25", 0.25),
        ("share=none", None),
        ("exact=false", False),
        ("exact=true", True),
        ("sizes=4+2+1", (4, 2, 1)),
        ("sizes=", ()),
        ("pair=3+0.25", (3, 0.25)),
        ("names=a+b", ["a", "b"]),
        ("often=0.5+1", (0.5, 1.0)),
        ("mode=fast", "fast"),
        ("mode=2", 2),
        ("mode=none", None),
        ("place=a/b", Path("a/b")),
        ("text_or_number=7", 7),
        ("text_or_number=seven", "seven"),
        ("width=9", 9),
        ("table=none", None),
        ("bare=8", 8),
        ("whatever=8", "8"),
        ("last=q=r", "q=r"),
    ],
)
def test_a_setting_is_of_its_annotated_type(plugins: None, text: str, value: object) -> None:
    key = text.partition("=")[0]
    found = given(f"typed:{text}" if key == "model" else f"typed:model=m:{text}")[key]
    assert found == value
    assert type(found) is type(value)


def test_an_enum_is_written_as_its_value(plugins: None) -> None:
    found = given("typed:model=m:colour=red")["colour"]
    assert isinstance(found, Enum)
    assert found.value == "red"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("typed", "needs the setting 'model'"),
        ("typed:depth=2", "needs the setting 'model'"),
        ("made", "needs the setting 'size'"),
        ("typed:model=m:depth=deep", "a whole number or none, not 'deep'"),
        ("typed:model=m:exact=False!", "true or false"),
        ("typed:model=m:exact=1", "true or false"),
        ("typed:model=m:share=nan", "a number or none"),
        ("typed:model=m:share=inf", "a number or none"),
        ("typed:model=m:sizes=1+x", "joined by +"),
        ("typed:model=m:pair=1", "2 values joined by +"),
        ("typed:model=m:mode=slow", "fast or 2 or none"),
        ("typed:model=m:colour=blue", "red"),
        ("typed:model=m:table=a", "cannot be written here"),
        ("typed:model=m:call=abs", "cannot be written here"),
        ("typed:model=m:more=a", "no setting 'more'"),
        ("typed:model=m:model=n", "given twice"),
        ("typed:model=m:depth", "no value for 'depth': write depth=VALUE"),
        ("loose:size=big", "a whole number"),
        ("strict", "size must be even"),
        ("typd", "did you mean 'typed'"),
        ("hierarchy:least=nan", "a number"),
        ("hierarchy:levels=nowhere", "The levels are"),
        ("none:x=1", "it takes none"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(plugins: None, name: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        make_method(name)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_an_annotation_that_names_nothing_leaves_the_others_readable(plugins: None) -> None:
    assert given("loose:size=9") == {"size": 9, "thing": None}


def test_a_function_makes_drafters_too(plugins: None) -> None:
    assert given("made:size=9:label=y") == {"size": 9, "label": "y"}


@pytest.mark.parametrize("name", ["gone", "missing"])
def test_a_plug_in_that_cannot_be_imported(plugins: None, name: str) -> None:
    assert name in method_names()
    with pytest.raises(MissingDependencyError, match="cannot be imported"):
        make_method(name)


NEEDED = {name: ["draft=small"] for name in ("diffuspec", "draft-model", "early-exit", "easyspec", "tabed")}
"""What a method cannot be made without."""


def _defaults() -> list[tuple[str, str, object]]:
    from importlib.metadata import EntryPoint

    found = []
    for method, target in METHODS.items():
        kind = EntryPoint(method, target, "").load()
        found += [
            (method, key, one.default)
            for key, one in inspect.signature(kind).parameters.items()
            if one.default is not inspect.Parameter.empty
        ]
    return found


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return "+".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


@pytest.mark.parametrize(("method", "key", "default"), _defaults())
def test_every_default_can_be_written(method: str, key: str, default: object) -> None:
    """Whatever a public setting is by default, writing it in the name gives the same."""
    from importlib.metadata import EntryPoint

    setting = f"{key}={_text(default)}"
    kind = EntryPoint(method, METHODS[method], "").load()
    needed = NEEDED.get(method, [])
    assert read_arguments(method, kind, [setting, *needed])[key] == default
    method = ":".join([method, *needed])
    make_method(f"{method}:{setting}")
    if not isinstance(default, str | tuple) and (method, key) != ("hierarchy", "draft"):  # a text, or none
        with pytest.raises(HierdraftError, match=key):
            make_method(f"{method}:{key}=x")


def test_a_method_of_a_method() -> None:
    """What stands after `of=` are the other method's settings."""
    made: Any = make_method("hvt:first=3:of=hd:window=0:order=model")
    assert (made.first, made.inner.order) == (3, ("model",))
    deep: Any = make_method("hvt:of=hvt:first=2:of=none")
    assert (deep.first, deep.inner.first) == (8, 2)
    for name, told in (("hvt:of=hdd", "did you mean 'hd'"), ("hvt:of=hd:first=3", "'hd' has no setting 'first'"),
                       ("hd:of=none", "'hd' has no setting"), ("hvt:first=0", "at least 1"),
                       ("hvt:" + "of=hvt:" * 900 + "of=hd", "one inside the other")):  # fmt: skip
        with pytest.raises(UsageError, match=told):
            make_method(name)


def test_some_defaults_were_tried() -> None:
    assert {method for method, _, _ in _defaults()} >= {"hierarchy", "hd", "suffix", "rest", "aded", "sam"}
