"""Nothing about the process or about what a caller passes in changes by importing, loading or generating."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t
from tokenizers import Tokenizer, models, pre_tokenizers

import hierdraft
from hierdraft.corpus.tokens import tokenize
from hierdraft.engines.hf.engine import HFEngine
from hierdraft.tree import DraftTree
from tests.lossless.tiny import tiny

SNAPSHOT = """
import logging, os, random, signal, sys, warnings
import numpy, torch, transformers
def process():
    return {
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()), "type": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(), "exact": torch.are_deterministic_algorithms_enabled(),
        "environment": dict(os.environ), "warnings": list(warnings.filters), "level": logging.getLogger().level,
        "handlers": list(logging.getLogger().handlers), "verbosity": transformers.logging.get_verbosity(),
        "bars": transformers.utils.logging.is_progress_bar_enabled(), "random": random.getstate(),
        "noise": torch.get_rng_state().tolist(), "numpy": str(numpy.random.get_state()), "folder": os.getcwd(),
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)],
        "hooks": (sys.excepthook, sys.unraisablehook), "recursion": sys.getrecursionlimit(),
    }
"""


def process() -> Any:
    """What a library could change behind one's back."""
    names: dict[str, Any] = {}
    exec(SNAPSHOT, names)  # noqa: S102 - the same text runs in another process below
    return names["process"]()


def test_importing_changes_nothing() -> None:
    code = SNAPSHOT + (
        "before = process()\n"
        "import hierdraft, hierdraft.generation, hierdraft.engines.hf.engine, hierdraft.models.load\n"
        "after = process()\n"
        "del before['warnings']\n"  # other libraries, imported here for the first time, filter their own
        "print([name for name in before if before[name] != after[name]])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def letters() -> Any:
    backend = Tokenizer(models.BPE({chr(33 + k): k for k in range(94)} | {"<pad>": 94, "<eos>": 95, " ": 96}, []))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    special = {"pad_token": "<pad>", "eos_token": "<eos>"}
    return t.PreTrainedTokenizerFast(tokenizer_object=backend, **special)


@pytest.mark.parametrize("threads", [None, 2])
def test_loading_and_generating_change_nothing(tmp_path: Path, threads: int | None) -> None:
    tiny("llama", dtype=torch.float32).save_pretrained(tmp_path)
    letters().save_pretrained(tmp_path)
    before = process()
    model = hierdraft.load(str(tmp_path), engine="hf", learn=False, threads=threads)
    model.generate("hello", max_new_tokens=8, chat=False)
    after = process()
    assert [name for name in before if before[name] != after[name]] == []


def test_generating_with_the_callers_own_model_changes_nothing() -> None:
    model, ids = tiny("llama"), torch.tensor([[5, 9, 11, 5, 9]])
    before, config = process(), model.generation_config.to_dict()
    model.generate(ids, max_new_tokens=12, do_sample=False, custom_generate=hierdraft.hf.decode())
    after = process()
    assert [name for name in before if before[name] != after[name]] == []
    assert model.generation_config.to_dict() == config
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_threads_are_an_engines_own() -> None:
    seen: list[int] = []
    model = tiny("llama")
    model.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    engine = HFEngine(model, threads=before + 1)
    sequence = engine.open()
    sequence.prefill([1, 2, 3])
    sequence.forward(4, DraftTree.empty())
    assert seen[-2:] == [before + 1] * 2
    assert torch.get_num_threads() == before
    assert engine.fingerprint != HFEngine(model).fingerprint


def test_a_tokenizer_keeps_its_padding_and_truncation() -> None:
    tokenizer = letters()
    backend = tokenizer._tokenizer
    backend.enable_truncation(5)
    backend.enable_padding(pad_id=94, pad_token="<pad>", length=7)
    before = backend.truncation, backend.padding, dict(os.environ)
    assert [ids.tolist() for ids in tokenize(tokenizer, ["abcdefgh"])] == [list(range(64, 72))]
    assert (backend.truncation, backend.padding, dict(os.environ)) == before
