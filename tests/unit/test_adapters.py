"""Adapter folders: merged into their base once, refused by name where that cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import hierdraft
from hierdraft.errors import ModelError, UnsupportedModelError
from hierdraft.models import named as models
from tests.lossless.tiny import VOCABULARY, reference, tiny

peft = pytest.importorskip("peft")

PROMPT = [5, 9, 11, 5, 9]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A tiny base model with a tokenizer, and a cache folder for what is made of it."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path / "base"
    tiny("llama", dtype=torch.float32).save_pretrained(folder)
    words = Tokenizer(WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HIERDRAFT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def adapter(base: Path, folder: Path, config: Any) -> tuple[Path, Any]:
    """An adapter of the base with random weights that matter, saved, and the model with it."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_" in name:
                value.normal_(std=0.2)
    model.save_pretrained(folder)
    return folder, model


def test_a_lora_folder_loads_with_its_base(base: Path, tmp_path: Path, cache: Path) -> None:
    lora = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    folder, model = adapter(base, tmp_path / "lora", lora)
    loaded = hierdraft.load(str(folder), engine="hf", learn=False)
    drafted = loaded.generate(PROMPT, max_new_tokens=40).token_ids
    assert drafted == loaded.generate(PROMPT, max_new_tokens=40, method="none").token_ids
    assert drafted == reference(model, PROMPT, 40)
    plain = hierdraft.load(str(base), engine="hf", learn=False).generate(PROMPT, max_new_tokens=40).token_ids
    assert drafted != plain, "the adapter changes nothing, so this shows nothing"
    made = list((cache / "adapters").glob("lora-*"))
    assert len(made) == 1
    before = made[0].stat().st_mtime_ns
    assert models.resolve(str(folder), cache).path == made[0]
    assert made[0].stat().st_mtime_ns == before, "it is merged once"
    adapter(base, folder, lora)
    assert models.resolve(str(folder), cache).path != made[0], "trained again, it is merged again"


def test_virtual_tokens_are_refused_by_name(base: Path, tmp_path: Path, cache: Path) -> None:
    folder, _ = adapter(base, tmp_path / "p", peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with pytest.raises(UnsupportedModelError, match=r"PROMPT_TUNING.*virtual tokens"):
        models.resolve(str(folder), cache)


def test_odd_adapters_get_a_sentence(base: Path, tmp_path: Path, cache: Path) -> None:
    lora = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    folder, _ = adapter(base, tmp_path / "lora", lora)
    config = json.loads((folder / "adapter_config.json").read_text())

    def refused(**changes: Any) -> str:
        (folder / "adapter_config.json").write_text(json.dumps({**config, **changes}))
        with pytest.raises(ModelError) as error:
            models.resolve(str(folder), cache)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "does not name its base model" in refused(base_model_name_or_path=None)
    assert "base model of the adapter" in refused(base_model_name_or_path="nobody-knows-this")
    assert "cannot be merged" in refused(target_modules=["no_such_module"])
    assert not [path for path in (cache / "adapters").iterdir() if not path.name.endswith(".lock")]
    (folder / "adapter_model.safetensors").unlink()
    assert "adapter_model.safetensors" in refused()
