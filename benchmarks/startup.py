"""How long `import hierdraft` and `hierdraft --help` take, as whole processes, beside an empty Python.

python benchmarks/startup.py
python benchmarks/startup.py --first-call    the first `custom_generate` call of a process beside plain `generate`

The second records `benchmarks/first-call.json`: fresh processes in turn, on `smollm2-135m` as transformers loads it,
without stored step costs (`first`) and with those of a process before (`stored`). `ratio` is of the calls alone,
`ratio_with_imports` counts importing hierdraft and making the decode object too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from time import perf_counter

from common import machine, prompts, spread, write
from hierdraft.models import resolve
from hierdraft.settings import load_settings

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import hierdraft": ["-c", "import hierdraft"],
    "hierdraft --help": [
        "-c",
        "import sys; sys.argv = ['hierdraft', '--help']; import hierdraft.cli.app as a; a.main()",
    ],
}


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first-call", action="store_true")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--new-tokens", type=int, nargs="+", default=[16, 64, 128])
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.first_call:
        first_call(arguments.dtype, arguments.new_tokens, arguments.turns)
    else:
        processes()


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


def processes() -> None:
    """Milliseconds of whole processes."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(16):
        for name, arguments in COMMANDS.items():
            started = perf_counter()
            subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
            if turn:
                times[name].append((perf_counter() - started) * 1e3)
    record = {
        name: {"median": round(statistics.median(v), 1), "min": round(min(v), 1), "max": round(max(v), 1)}
        for name, v in times.items()
    }
    for name, numbers in record.items():
        print(f"{name:<18} {numbers['median']:.0f} ms ({numbers['min']:.0f} to {numbers['max']:.0f})")
    write("startup", {"machine": machine(), "milliseconds": record})


if __name__ == "__main__":
    main()
