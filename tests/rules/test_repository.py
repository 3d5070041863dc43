"""Rules of the house that a program can check; each is also shown a case that breaks it."""

from __future__ import annotations

import ast
import builtins
import importlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "hierdraft"
SOURCES = sorted(PACKAGE.rglob("*.py"))

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 45
USUAL_FUNCTION_LINES = 40
MAX_UNUSUAL_FUNCTIONS = 1
HEAVY = ("torch", "transformers", "numba", "pydantic")
RUNS_CODE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
RUNS_CODE |= {"torch.load", "allow_pickle", "trust_remote_code"}
FORBIDDEN_WORDS = ("guess", "memory level", "candidate pool", "verifier model")


def long_file(source: str) -> Iterator[str]:
    """More lines than a file may have."""
    if len(source.splitlines()) > MAX_FILE_LINES:
        yield f"{len(source.splitlines())} lines, at most {MAX_FILE_LINES}"


def functions_over(limit: int, source: str) -> Iterator[str]:
    """Functions of more than `limit` lines below their signature: a command may have many options."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.body[0].lineno + 1
            if lines > limit:
                yield f"line {node.lineno}: {node.name} has {lines} lines, at most {limit}"


def long_function(source: str) -> Iterator[str]:
    """More lines than any function may have."""
    yield from functions_over(MAX_FUNCTION_LINES, source)


def bare_except(source: str) -> Iterator[str]:
    """`except:` catches what nobody thought of."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"line {node.lineno}: bare except"


def unexplained_except(source: str) -> Iterator[str]:
    """`except Exception` without a comment of at least three words, on its line or the one above, that says why."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ExceptHandler) or node.type is None:
            continue
        names = {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)}
        comment = lines[node.lineno - 1].partition("#")[2]
        above = lines[node.lineno - 2].strip()
        comment += above if above.startswith("#") else ""
        reason = re.sub(r"noqa(: *[A-Z]+\d+(, *[A-Z]+\d+)*)?", "", comment)
        if names & {"Exception", "BaseException"} and len(re.findall(r"[A-Za-z]{2,}", reason)) < 3:
            yield f"line {node.lineno}: except Exception without a comment that explains it"


def assertion(source: str) -> Iterator[str]:
    """`assert` vanishes under -O."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assert):
            yield f"line {node.lineno}: assert"


def unsafe_loading(source: str) -> Iterator[str]:
    """Formats and options that run code from data."""
    for node in ast.walk(ast.parse(source)):
        used: list[str] = []
        if isinstance(node, ast.Import):
            used = [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            used = [(node.module or "").partition(".")[0]]
        elif isinstance(node, ast.Attribute):
            used = [ast.unparse(node)]
        elif isinstance(node, ast.keyword) and ast.unparse(node.value) != "False":
            used = [node.arg or ""]
        yield from (f"line {node.lineno}: {name}" for name in used if name in RUNS_CODE)


def forbidden_word(source: str) -> Iterator[str]:
    """Words that the project replaced by others, in any inflection."""
    for number, line in enumerate(source.splitlines(), start=1):
        for word in FORBIDDEN_WORDS:
            if re.search(rf"(?<![a-z]){word}", line, re.IGNORECASE):
                yield f"line {number}: {word!r}"


def printing(source: str) -> Iterator[str]:
    """`print` belongs to the command line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"line {node.lineno}: print"


Rule = Callable[[str], Iterator[str]]

BREACHES: list[tuple[Rule, str]] = [
    (long_file, "x = 1\n" * (MAX_FILE_LINES + 1)),
    (long_function, "def f():\n" + "    x = 1\n" * (MAX_FUNCTION_LINES + 1)),
    (bare_except, "try:\n    x = 1\nexcept:\n    x = 2\n"),
    (unexplained_except, "try:\n    x = 1\nexcept Exception:\n    x = 2\n"),
    (unexplained_except, "try:\n    x = 1\nexcept (OSError, Exception) as e:  # noqa: BLE001\n    x = 2\n"),
    (assertion, "assert 1 + 1 == 2\n"),
    (unsafe_loading, "import pickle\n"),
    (unsafe_loading, "from pickle import loads\n"),
    (unsafe_loading, "x = torch.load('f')\n"),
    (unsafe_loading, "x = np.load('f', allow_pickle=True)\n"),
    (unsafe_loading, "x = load('f', trust_remote_code=flag)\n"),
    (forbidden_word, "# the next Guess\n"),
    (forbidden_word, "max_guesses = 3\n"),
    (printing, "print('x')\n"),
]
RULES = list(dict.fromkeys(rule for rule, _ in BREACHES))

FINE = '''
"""Prints nothing."""
def f():
    try:
        return np.load("f", allow_pickle=False)
    except Exception:  # noqa: BLE001 - a plug-in may raise anything
        return None
    # A plug-in may raise anything.
    except BaseException:
        return None
'''


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_sources_keep_the_rule(rule: Rule) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {breach}"
        for path in SOURCES
        if not (rule is printing and path.is_relative_to(PACKAGE / "cli"))
        for breach in rule(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("rule", "source"), BREACHES)
def test_rule_finds_a_breach(rule: Rule, source: str) -> None:
    assert len(list(rule(source))) == 1


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_lets_fine_code_pass(rule: Rule) -> None:
    assert not list(rule(FINE))


def test_few_functions_are_longer_than_usual() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {breach}"
        for path in SOURCES
        for breach in functions_over(USUAL_FUNCTION_LINES, path.read_text(encoding="utf-8"))
    ]
    assert len(found) <= MAX_UNUSUAL_FUNCTIONS, "\n".join(found)


def test_functions_are_measured() -> None:
    source = "@decorator\ndef f(\n    x: int,\n) -> None:\n" + "    x = 1\n" * 4
    assert list(functions_over(3, source)) == ["line 2: f has 4 lines, at most 3"]
    assert not list(functions_over(4, source))


def test_data_files_keep_to_the_words() -> None:
    data = [path for path in (PACKAGE / "data").iterdir() if path.is_file() and path.suffix != ".safetensors"]
    assert PACKAGE / "data" / "prompts.jsonl" in data
    assert not [path.name for path in data if list(forbidden_word(path.read_text(encoding="utf-8")))]


def missing_names(source: str) -> Iterator[str]:
    """What is imported of the package and is not there."""
    for node in ast.walk(ast.parse(source)):
        module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        if not module.startswith("hierdraft") or not isinstance(node, ast.ImportFrom):
            continue
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("hierdraft"):  # what else is missing is optional
                yield f"line {node.lineno}: {module}"
            continue
        for name in node.names:
            if not hasattr(found, name.name) and not (Path(found.__file__ or "").parent / f"{name.name}.py").is_file():
                yield f"line {node.lineno}: {module} has no {name.name}"


def test_scripts_import_what_there_is() -> None:
    """Scripts are run rarely, so that nobody sees them break."""
    assert [*missing_names("from hierdraft.nowhere import x")] == ["line 1: hierdraft.nowhere"]
    assert [*missing_names("from hierdraft.tree import Tree")] == ["line 1: hierdraft.tree has no Tree"]
    scripts = [path for folder in ("benchmarks", "packs", "examples") for path in (ROOT / folder).rglob("*.py")]
    assert len(scripts) > 40
    broken = {str(path.relative_to(ROOT)): [*missing_names(path.read_text(encoding="utf-8"))] for path in scripts}
    assert {name: lines for name, lines in broken.items() if lines} == {}


def test_the_rules_saw_the_package() -> None:
    assert PACKAGE / "tree.py" in SOURCES
    assert len(SOURCES) >= 20


def test_importing_hierdraft_is_light() -> None:
    code = f"import sys, hierdraft; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_package_is_marked_as_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


# What must never be in the repository. Assembled from pieces, so that this file does not contain it either.

HOSTS = [".".join(parts) for parts in (
    ("pypi", "org"), ("pypi", "python", "org"), ("pythonhosted", "org"), ("download", "pytorch", "org"),
    ("anaconda", "org"), ("registry", "npmjs", "org"), ("proxy", "golang", "org"),
)]  # fmt: skip
FOLDERS = "|".join(("work", "root", "home", "Users", "tmp", "mnt", "private"))
LEAKS = [
    ("a folder of some machine", re.compile(rf"(?<![\w.~$}}:/*-])/(?:{FOLDERS})/[\w.]")),
    ("a registry's host", re.compile("|".join(map(re.escape, HOSTS)))),
    ("a registry's address", re.compile("https?:" + r"//[^\s'\"]+/" + r"simple\b")),
    ("a choice of registry", re.compile("--(?:extra-)?" + "index-" + "url")),
]


def leaks(text: str) -> list[str]:
    """What of `LEAKS` a text contains, with line numbers."""
    return [
        f"line {number}: {what}"
        for number, line in enumerate(text.splitlines(), start=1)
        for what, pattern in LEAKS
        if pattern.search(line)
    ]


def repository_files() -> list[Path]:
    """What is tracked or about to be; without git, everything that is not hidden."""
    if not (ROOT / ".git").exists():
        found = [path.relative_to(ROOT) for path in ROOT.rglob("*")]
        kept = [path for path in found if not re.search(r"(^|/)(\.|__pycache__)", path.as_posix())]
        return [ROOT / path for path in kept if (ROOT / path).is_file()]
    command = "git -c safe.directory=* ls-files -z --cached --others --exclude-standard"
    listed = subprocess.run(command.split(), cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    return [path for path in paths if path.is_file() or path.is_symlink()]


def test_no_file_is_a_link() -> None:
    """What it points to is a place on somebody's machine."""
    assert not [path.name for path in repository_files() if path.is_symlink()]


def test_repository_names_no_machine_and_no_registry() -> None:
    files = repository_files()
    assert ROOT / "pyproject.toml" in files
    found = [
        f"{path.relative_to(ROOT)}: {leak}"
        for path in files
        for leak in leaks(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "cd " + "/" + "home/ada/models",
        'path = "' + "/" + 'work/x"',
        "see https:" + "//files." + HOSTS[2],
        "http:" + "//mirror.example/" + "simple",
        "pip install --extra-" + "index-" + "url X",
    ],
)
def test_leaks_are_found(text: str) -> None:
    assert leaks(text)


def test_ordinary_text_has_no_leaks() -> None:
    below = "/" + "work/x", "/" + "tmp/b"
    ordinary = ["https://example.org/" + "home/page", "~" + below[0], "a" + below[1], "$HOME" + below[1], "and/or"]
    assert not leaks(", ".join([*ordinary, "src/hierdraft"]))


# Figures in README and docs come from files in benchmarks/, and are what their renderer makes of them today.

Renderer = Callable[[Path], str]
MARKER = re.compile(r"<!-- *(figures: *(?P<file>[^ ]+)|end figures) *-->")


def figure_blocks(text: str) -> list[tuple[str, str]]:
    """(file, what stands between the markers) of each block. ValueError where markers do not pair up."""
    blocks: list[tuple[str, str]] = []
    opened: re.Match[str] | None = None
    for marker in MARKER.finditer(text):
        if (opened is None) == (marker["file"] is None):
            raise ValueError(f"{marker[0]} stands in the wrong place")
        if opened is not None:
            blocks.append((opened["file"], text[opened.end() : marker.start()].strip()))
        opened = None if opened else marker
    if opened is not None:
        raise ValueError(f"{opened[0]} has no end")
    return blocks


def stale_figures(text: str, root: Path, render: Renderer) -> list[str]:
    """The files whose block in `text` is not what `render` makes of them."""
    stale = []
    for name, body in figure_blocks(text):
        path = root / name
        if path.resolve().parent != (root / "benchmarks").resolve() or path.suffix != ".json":
            raise ValueError(f"{name} is not a JSON file in benchmarks/")
        if render(path).strip() != body:
            stale.append(name)
    return stale


CLAIM = re.compile(
    r"\d ?(?:(?:x|\u00d7)(?! ?\d)|times (?:as fast|faster)|tok(?:en)?s?(?: per second|/s)|[mµu]s|GB/s)(?!\w)"
)
RECORD = re.compile(r"benchmarks/[\w./-]+\.json")


def loose_figures(text: str, root: Path) -> list[str]:
    """Lines outside figure blocks that state a speed or a time and name no recorded file that exists."""
    outside = re.sub(r"(?s)<!-- *figures:.*?<!-- *end figures *-->", "", text)
    return [
        line
        for line in outside.splitlines()
        if CLAIM.search(line) and not any((root / name).is_file() for name in RECORD.findall(line))
    ]


def _renderer() -> Renderer:
    sys.path.insert(0, str(ROOT / "benchmarks"))  # where its own modules are found when it is run as a script
    try:
        render: Renderer = importlib.import_module("render").render
    finally:
        sys.path.pop(0)
    return render


PAGES = [ROOT / "README.md", *sorted((ROOT / "benchmarks").glob("RESULTS.md")), *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_figures_are_those_of_the_recorded_files(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not loose_figures(text, ROOT)
    if figure_blocks(text):
        assert not stale_figures(text, ROOT, _renderer()), "run benchmarks/render.py and paste its output"


# Code on a page runs as it stands, after the page's earlier code, or the text before it says what it continues.


def unknown_names(code: str) -> set[str]:
    """Names that code reads and neither it nor Python defines."""
    tree = ast.parse(code)
    known = set(dir(builtins))
    for node in ast.walk(tree):
        if isinstance(node, ast.alias):
            known.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            known.add(node.name)
        elif isinstance(node, ast.arg):
            known.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            known.add(node.id)
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - known


def unexplained_names(page: str) -> list[str]:
    """Of each block of Python on a page the names that it does not say where they come from."""
    found, before, told = [], "", set[str]()
    for block in re.finditer(r"(?ms)^```python\n(.*?)^```", page):
        above = page[: block.start()].rstrip().rpartition("\n\n")[2]
        told |= set(re.findall(r"`(\w+)`", above))
        found += sorted(unknown_names(before + block[1]) - told)
        before += block[1]
    return found


@pytest.mark.parametrize("path", [page for page in PAGES if page.name != "extending.md"], ids=lambda path: path.name)
def test_code_on_pages_says_what_it_continues(path: Path) -> None:
    """Those of extending.md are parts of files, which its own tests run."""
    assert not unexplained_names(path.read_text(encoding="utf-8"))


def test_names_that_code_does_not_explain_are_found() -> None:
    block = "```python\n{}\n```\n"
    fine = "import a.b\n\n\ndef f(x, *y):\n    return [z + x for z in y]\n\n\nwith f(a) as g:\n    print(g)"
    assert not unexplained_names(block.format(fine))
    assert unexplained_names(block.format("print(model, **inputs)")) == ["inputs", "model"]
    assert unexplained_names("A `model` of yours.\n\n" + block.format("print(model, **inputs)")) == ["inputs"]
    assert not unexplained_names(block.format("x = 1") + "Then\n" + block.format("print(x)"))


SAMPLE = """
Intro.
<!-- figures: benchmarks/a.json -->
| 1 |
<!-- end figures -->
Between.
<!-- figures: benchmarks/b.json -->
| 2 |
| 3 |
<!-- end figures -->
"""


def test_figure_blocks_are_parsed_and_compared(tmp_path: Path) -> None:
    assert figure_blocks("no blocks") == []
    assert figure_blocks(SAMPLE) == [("benchmarks/a.json", "| 1 |"), ("benchmarks/b.json", "| 2 |\n| 3 |")]
    made = {"a.json": "| 1 |\n", "b.json": "| 2 |\n| 4 |\n"}
    assert stale_figures(SAMPLE, tmp_path, lambda path: made[path.name]) == ["benchmarks/b.json"]


@pytest.mark.parametrize(
    "claim", ["1.7x", "2.05 \u00d7", "31 tokens per second", "9 tok/s", "4 ms", "1.5 times faster"]
)
def test_a_figure_needs_a_recorded_file(claim: str, tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "a.json").touch()
    assert loose_figures(f"Decoding: {claim}, see benchmarks/b.json.", tmp_path)
    assert not loose_figures(f"Decoding: {claim}, see benchmarks/a.json.", tmp_path)
    assert not loose_figures(f"<!-- figures: benchmarks/b.json -->\n{claim}\n<!-- end figures -->", tmp_path)


def test_other_numbers_are_no_figures(tmp_path: Path) -> None:
    assert not loose_figures(
        "Python 3.12, float32, int32[n], 3 x 4 cells, 28 nodes, 0x10, 300 lines, 135m, 2 more", tmp_path
    )


@pytest.mark.parametrize(
    "text",
    [
        "<!-- figures: benchmarks/a.json -->",
        "<!-- end figures -->",
        "<!-- figures: benchmarks/a.json --> <!-- figures: benchmarks/b.json --> <!-- end figures -->",
        "<!-- figures: elsewhere/a.json --> <!-- end figures -->",
        "<!-- figures: benchmarks/../a.json --> <!-- end figures -->",
        "<!-- figures: benchmarks/a.txt --> <!-- end figures -->",
    ],
)
def test_malformed_figure_blocks_are_errors(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"benchmarks|figures"):
        stale_figures(text, tmp_path, lambda path: "")
