"""How long commands take as whole processes: to their end, and `hierdraft generate` to the first token that it shows.

python benchmarks/startup.py                 the first turn is not counted: models are converted, kernels compiled then
python benchmarks/startup.py --first-call    the first `custom_generate` call of a process beside plain `generate`
python benchmarks/startup.py --gguf FILE     `hierdraft.load` on a GGUF file, new and converted before, beside folders

The second records `benchmarks/first-call.json`: fresh processes in turn, on `smollm2-135m` as transformers loads it,
without stored step costs (`first`) and with those of a process before (`stored`). `ratio` is of the calls alone,
`ratio_with_imports` counts importing hierdraft and making the decode object too.

The third records `benchmarks/gguf-startup.json`: seconds of new processes in turns, for conversion alone, until
`hierdraft.load` has returned, and until the first token. `new` has an empty cache folder, `again` the one that `new`
left; the folders of transformers were converted and measured before.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from time import perf_counter

from common import machine, prompts, spread, write
from hierdraft.models.named import resolve
from hierdraft.settings import load_settings

MAIN = "from hierdraft.cli.app import main; main()"
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import hierdraft": ["-c", "import hierdraft"],
    "hierdraft --help": ["-c", MAIN, "--help"],
}
ENGINES = ("openvino", "hf")
MODEL, PROMPT = "smollm2-135m", "Why is the sky blue?"


CALL = """
import sys
from time import perf_counter
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
path, way, dtype, limit, prompt = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype)).eval()
given = AutoTokenizer.from_pretrained(path).apply_chat_template(
    [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True)
started = perf_counter()
custom = {}
if way != "plain":
    import hierdraft
    custom["custom_generate"] = hierdraft.hf.decode()
made = perf_counter()
ids = model.generate(**given, max_new_tokens=int(limit), do_sample=False, **custom)
print(perf_counter() - made, perf_counter() - started, ids[0].tolist())
"""


LOAD = """
import sys
from time import perf_counter
started = perf_counter()
import hierdraft
name, engine, dtype, prompt = sys.argv[1:]
converted = started
if name.endswith(".gguf"):
    from hierdraft.models.gguf import folder_of
    from hierdraft.settings import load_settings
    from pathlib import Path
    converting = perf_counter()
    folder_of(Path(name), load_settings().cache_dir)
    converted = started + perf_counter() - converting
with hierdraft.load(name, engine=engine, dtype=dtype, learn=False) as model:
    ready = perf_counter()
    with model.stream(prompt, max_new_tokens=8) as pieces:
        next(iter(pieces))
        first = perf_counter()
print(converted - started, ready - started, first - started)
"""
PARTS = ("converted", "ready", "first token")
FOLDERS = (("openvino", "int8"), ("openvino", "float32"), ("hf", "float32"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first-call", action="store_true")
    parser.add_argument("--gguf", help="a file of the model in 4 bits")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--new-tokens", type=int, nargs="+", default=[16, 64, 128])
    parser.add_argument("--turns", type=int, help="default: 15, and 5 with --first-call and --gguf")
    arguments = parser.parse_args()
    if arguments.first_call:
        first_call(arguments.dtype, arguments.new_tokens, arguments.turns or 5)
    elif arguments.gguf:
        doors(arguments.gguf, arguments.turns or 5)
    else:
        processes(arguments.turns or 15)


def first_call(dtype: str, limits: list[int], turns: int) -> None:
    """Seconds of the first call, and its ratio to plain `generate`'s first call, by the length of the answer."""
    path = str(resolve("smollm2-135m", load_settings().cache_dir).path)
    record = {}
    for limit in limits:
        times: dict[str, list[tuple[float, float]]] = {"plain": [], "first": [], "stored": []}
        for prompt in prompts(1)[:turns]:
            with tempfile.TemporaryDirectory() as cache:  # `stored` finds what `first` left there
                answers = [_call(path, way, dtype, limit, prompt["prompt"], cache, times[way]) for way in times]
            assert len(set(answers)) == 1, "drafted text is not plain text"
        seconds = {way: [one for one, _ in found] for way, found in times.items()}
        whole = {way: [both for _, both in found] for way, found in times.items()}
        ratios, with_imports = ({way: _ratios(kind, way) for way in times} for kind in (seconds, whole))
        record[str(limit)] = {
            "seconds": {way: spread(found) for way, found in seconds.items()}, "ratio": ratios,
            "ratio_with_imports": with_imports,
        }  # fmt: skip
        print(f"{limit} tokens: " + ", ".join(f"{way} {found['median']:.2f}" for way, found in ratios.items()))
    write("first-call", {"machine": machine(), "dtype": dtype, "new_tokens": record})


def _ratios(seconds: dict[str, list[float]], way: str) -> dict[str, float]:
    return spread([ours / plain for ours, plain in zip(seconds[way], seconds["plain"], strict=True)])


def _call(
    path: str, way: str, dtype: str, limit: int, prompt: str, cache: str, times: list[tuple[float, float]]
) -> str:  # fmt: skip
    command = [sys.executable, "-c", CALL, path, way, dtype, str(limit), prompt]
    environment = {**os.environ, "HIERDRAFT_CACHE_DIR": cache}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    seconds, whole, ids = done.stdout.strip().splitlines()[-1].split(" ", 2)
    times.append((float(seconds), float(whole)))
    return ids


def processes(turns: int) -> None:
    """Milliseconds of whole processes, and seconds to a first token; in turns: a slow minute touches all alike."""
    whole: dict[str, list[float]] = {name: [] for name in COMMANDS}
    first: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    for turn in range(turns + 1):
        for name, arguments in COMMANDS.items():
            whole[name] += [_to_the_end(arguments)] * bool(turn)
        for engine, seconds in first.items():
            seconds += [_to_the_first_token(engine)] * bool(turn)
    milliseconds = {name: spread([value * 1e3 for value in found]) for name, found in whole.items()}
    to_first = {engine: spread(found) for engine, found in first.items()}
    for name, numbers in milliseconds.items():
        print(f"{name:<18} {numbers['median']:.0f} ms ({numbers['min']:.0f} to {numbers['max']:.0f})")
    for engine, numbers in to_first.items():
        print(f"first token, {engine:<9} {numbers['median']:.2f} s ({numbers['min']:.2f} to {numbers['max']:.2f})")
    record = {"milliseconds": milliseconds, "model": MODEL, "seconds_to_first_token": to_first}
    write("startup", {"machine": machine(), **record})


def doors(gguf: str, turns: int) -> None:
    """Seconds from the start of `hierdraft.load`'s process, by what is loaded; the first turn is not counted."""
    ways = ["new", "again", *(f"{MODEL}, {engine}, {dtype}" for engine, dtype in FOLDERS)]
    times: dict[str, list[list[float]]] = {way: [] for way in ways}
    for turn in range(turns + 1):
        with tempfile.TemporaryDirectory() as cache:
            for way in ways[:2]:
                times[way] += [_loaded(gguf, "openvino", "int4", cache)] * bool(turn)
        for way, (engine, dtype) in zip(ways[2:], FOLDERS, strict=True):
            times[way] += [_loaded(MODEL, engine, dtype, None)] * bool(turn)
    record = {
        way: {part: spread(found) for part, found in zip(PARTS, zip(*times[way], strict=True), strict=True)}
        for way in ways
    }
    for way, found in record.items():
        print(f"{way:<32}", ", ".join(f"{part} {one['median']:.2f} s" for part, one in found.items()))
    write("gguf-startup", {"machine": machine(), "gguf": os.path.basename(gguf), "turns": turns, "seconds": record})


def _loaded(name: str, engine: str, dtype: str, cache: str | None) -> list[float]:
    command = [sys.executable, "-c", LOAD, name, engine, dtype, PROMPT]
    environment = {**os.environ, **({"HIERDRAFT_CACHE_DIR": cache} if cache else {})}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return [float(value) for value in done.stdout.split()[-3:]]


def _to_the_end(arguments: list[str]) -> float:
    started = perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    return perf_counter() - started


def _to_the_first_token(engine: str) -> float:
    """Seconds from the start of `hierdraft generate` to the first visible character on its standard output."""
    command = [sys.executable, "-c", MAIN, "generate", PROMPT, "--model", MODEL, "--engine", engine]
    started = perf_counter()
    with subprocess.Popen(
        [*command, "--max-new-tokens", "8", "--no-learn"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        while not (shown := process.stdout.read(1)).strip():
            assert shown, f"{engine} has said nothing"
        seconds = perf_counter() - started
        process.stdout.read()
    assert process.returncode == 0
    return seconds


if __name__ == "__main__":
    main()
