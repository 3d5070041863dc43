"""How many public JSON schemas can be followed: by llguidance alone, rewritten, and with the rest left to a check.

    git clone --depth 1 https://github.com/SchemaStore/schemastore
    python benchmarks/schemas.py --folder schemastore/src/schemas/json

Every file of the folder is one schema. What is refused is counted by its reason: the keyword, where a path is named.
"""

from __future__ import annotations

import argparse
import re
import signal
import statistics
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

from common import machine, write
from hierdraft.errors import UsageError
from hierdraft.text.grammars import Grammars

SOURCE = "SchemaStore (https://github.com/SchemaStore/schemastore), src/schemas/json, commit given by --commit"
LONGEST = 30
END = "<eos>"
_PATH = re.compile(r"The JSON schema cannot be used: (\S*#.*?): (.*)")


def tokenizer() -> Any:
    """A byte-level tokenizer without merges: whether a schema can be followed does not depend on the tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({END: 256, **{letter: i for i, letter in enumerate(alphabet)}}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([END])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END)


def alone(grammars: Grammars, path: Path) -> str | None:
    """llguidance with the file as it is: None, or why not."""
    import llguidance

    try:
        text = llguidance.LLMatcher.grammar_from_json_schema(path.read_text(encoding="utf-8"))
    except ValueError as error:
        return str(error).splitlines()[0]
    matcher = llguidance.LLMatcher(grammars._tokenizer, text)
    return str(matcher.get_error()).strip().splitlines()[0] if matcher.is_error() else None


def rewritten(grammars: Grammars, path: Path, *, lenient: bool, left: list[str]) -> str | None:
    """hierdraft: None, or why not; `left` grows by the names of schemas whose answers are checked at the end."""
    try:
        grammar = grammars.json(path, lenient=lenient)
    except UsageError as error:
        return str(error)
    if grammar.left:
        left.append(path.name)
    return None


def kind(reason: str) -> str:
    """A reason without what is special to one schema."""
    found = _PATH.match(reason)
    if found:
        path, why = found.groups()
        if "on the network" in why:
            return "a reference to the network"
        keyword = path.rpartition("/")[2]
        return f"patternProperties: {why[:60]}" if "regex" in why and keyword != "pattern" else f"{keyword}: {why[:60]}"
    reason = re.sub(r'(?<!\[)"[^"\]]*"(?!\])|/\S*/|\d+', "...", reason.removeprefix("The JSON schema cannot be used: "))
    return reason[:80]


def counted(paths: list[Path], look: Callable[[Path], str | None]) -> dict[str, Any]:
    reasons: Counter[str] = Counter()
    seconds: list[float] = []
    for path in paths:
        started = perf_counter()
        signal.alarm(LONGEST)
        try:
            reason = look(path)
        except TimeoutError:
            reason = f"longer than {LONGEST} seconds"
        signal.alarm(0)
        seconds.append(perf_counter() - started)
        reasons["accepted" if reason is None else kind(reason)] += 1
    accepted = reasons.pop("accepted", 0)
    return {
        "accepted": accepted, "refused": dict(reasons.most_common()),
        "median_seconds": round(statistics.median(seconds), 4), "longest_seconds": round(max(seconds), 1),
    }  # fmt: skip


def _too_long(*_: object) -> None:
    raise TimeoutError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--commit", default="", help="of the collection")
    given = parser.parse_args()
    paths = sorted(given.folder.glob("*.json"))
    signal.signal(signal.SIGALRM, _too_long)
    grammars = Grammars(tokenizer(), 257, (256,))
    checked: dict[str, list[str]] = {"strict": [], "lenient": []}
    ways: dict[str, Callable[[Path], str | None]] = {
        "llguidance alone": lambda path: alone(grammars, path),
        "rewritten": lambda path: rewritten(grammars, path, lenient=False, left=checked["strict"]),
        "rewritten, lenient": lambda path: rewritten(grammars, path, lenient=True, left=checked["lenient"]),
    }
    results = {name: counted(paths, look) for name, look in ways.items()}
    results["rewritten"]["checked_at_the_end"] = len(checked["strict"])
    results["rewritten, lenient"]["checked_at_the_end"] = len(checked["lenient"])
    write("schemas", {
        "machine": machine(), "collection": SOURCE, "commit": given.commit, "schemas": len(paths),
        "llguidance": version("llguidance"), "jsonschema": version("jsonschema"), "results": results,
    })  # fmt: skip


if __name__ == "__main__":
    main()
