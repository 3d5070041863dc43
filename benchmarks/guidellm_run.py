"""guidellm against our server: its own figures with drafts and without.

    python -m venv build/guidellm && build/guidellm/bin/pip install guidellm
    python benchmarks/guidellm_run.py --guidellm build/guidellm/bin/guidellm

The built-in prompts as chats, answers as long as the model makes them (at most 256 tokens), 1, 4 and 8 at a time.
benchmarks/guidellm.json is the result.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from common import machine, prompts, write
from hierdraft.models.named import resolve
from hierdraft.settings import load_settings
from serving import METHODS, MODEL, server

TOLD = {
    "first_token_ms": "time_to_first_token_ms",
    "between_tokens_ms": "inter_token_latency_ms", "answer_s": "request_latency",
}  # fmt: skip


def run(args: argparse.Namespace, url: str, method: str, folder: Path) -> dict[str, Any]:
    """One run of guidellm: stream count -> what it says."""
    with (folder / "prompts.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"prompt": row["prompt"]}) + "\n" for row in prompts())

    tokenizer = resolve(MODEL, load_settings().cache_dir).path
    extras = {"body": {"hierdraft": {"method": method}}}
    backend = {"kind": "openai_http", "target": url, "model": MODEL, "extras": extras}
    words = [
        args.guidellm, "run", "--disable-console-interactive", "--backend", json.dumps(backend),
        "--tokenizer", f"kind=huggingface_auto,model={tokenizer}",
        "--profile", "kind=concurrent,streams=1", "--override", "profile.streams", args.streams,
        "--constraint", f"kind=max_duration,seconds={args.seconds}",
        "--data", f"kind=json_file,path={folder / 'prompts.jsonl'}",
        "--output", f"kind=json,path={folder / 'out.json'}",
    ]  # fmt: skip
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    found = {}
    for one in json.loads((folder / "out.json").read_text(encoding="utf-8"))["benchmarks"]:
        metrics, totals = one["metrics"], one["metrics"]["request_totals"]
        spread = {
            name: {share: round(metrics[told]["successful"]["percentiles"][share], 2) for share in ("p50", "p95")}
            for name, told in TOLD.items()
        }  # fmt: skip
        found[str(one["config"]["strategy"]["streams"])] = {
            "requests": totals["successful"], "failed": totals["errored"],
            "tokens_per_second": round(metrics["output_tokens_per_second"]["successful"]["mean"], 1), **spread,
        }  # fmt: skip
    print(method, found, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guidellm", required=True, help="its command")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=40)
    parser.add_argument("--streams", default="1,4,8")
    args = parser.parse_args()
    with server(args.dtype, args.threads) as (url, _), tempfile.TemporaryDirectory() as folder:
        found = {method: run(args, url, method, Path(folder)) for method in METHODS}
    shown = subprocess.run([args.guidellm, "--version"], capture_output=True, text=True, check=True).stdout
    settings = {**vars(args), "guidellm": shown.split()[-1]}
    write("guidellm", {"machine": machine(), "settings": settings, "methods": found})


if __name__ == "__main__":
    main()
