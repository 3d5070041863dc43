"""What is read in GGUF files: weights' groups, tokenizers, which file is meant."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hierdraft.errors import ModelError, UnsupportedModelError
from hierdraft.models.gguf import folder_of, gguf_in, parts_of
from hierdraft.models.named import known_as, resolve
from hierdraft.text.gguf import end_ids, tokenizer_config, tokenizer_json
from tests.unit.gguf_files import SPECIAL, TEMPLATE, blocks_of_eight, byte_level, sentencepiece

pytest.importorskip("gguf")
pytest.importorskip("openvino")
import gguf

from hierdraft.models.zero_points import _groups


class Tensor:
    def __init__(self, data: Any, kind: str) -> None:
        self.data, self.tensor_type = data, gguf.GGMLQuantizationType[kind]


@pytest.mark.parametrize("kind", ["Q4_1", "Q4_K"])
def test_scales_and_zero_points_are_those_of_the_weights(kind: str) -> None:
    weights = np.random.default_rng(0).standard_normal((24, 512)).astype(np.float32) + 0.3
    data = blocks_of_eight(weights) if kind == "Q4_K" else gguf.quants.quantize(weights, gguf.GGMLQuantizationType.Q4_1)
    truth = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[kind])
    assert np.abs(truth - weights).max() < 0.5
    ((scales, points),) = _groups([Tensor(data, kind)])
    assert scales.shape == points.shape == (24, 16)
    groups = truth.reshape(24, 16, 32)
    numbers = np.rint(groups / scales[..., None].astype(np.float32) + points[..., None].astype(np.float32))
    assert numbers.min() >= 0
    assert numbers.max() <= 15
    again = (numbers - points[..., None].astype(np.float32)) * scales[..., None].astype(np.float32)
    np.testing.assert_allclose(again, groups, atol=2e-3)
    assert list(_groups([Tensor(data, "Q8_0")])) == []


TEXTS = (
    "the sky is blue",
    " two  spaces\n\n and\ttabs ",
    "Stra\u00dfe 12345 don't",
    "\u65e5\u672c\u8a9e \U0001f469",
    "",
)


@pytest.mark.parametrize("cut", ["smollm", "gpt-2", "llama-bpe", "qwen2", "default"])
def test_every_text_comes_back(cut: str) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(tokenizer_json({**byte_level(), "tokenizer.ggml.pre": cut}))
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
    marked = tokenizer.encode("<|im_start|>the<|im_end|>")
    assert marked.ids[0] == 1
    assert marked.ids[-1] == 2
    assert tokenizer.decode(marked.ids) == "the"


def test_words_are_cut_as_the_file_says() -> None:
    from tokenizers import Tokenizer

    def words(cut: str, text: str) -> list[str]:
        tokenizer = Tokenizer.from_str(tokenizer_json({**byte_level(), "tokenizer.ggml.pre": cut}))
        return [text[begin:end] for _, (begin, end) in tokenizer.pre_tokenizer.pre_tokenize_str(text)]

    assert words("gpt-2", "a 1234's") == ["a", " 1234", "'s"]
    assert words("smollm", "a 1234") == ["a", " ", "1", "2", "3", "4"]
    assert words("llama-bpe", "a 1234\n\nB'S") == ["a", " ", "123", "4", "\n\n", "B", "'S"]
    assert words("qwen2", "a 12") == ["a", " ", "1", "2"]


def test_special_tokens_templates_and_ends() -> None:
    about = {**byte_level(), "tokenizer.ggml.eot_token_id": 0}
    assert end_ids(about) == [2, 0]
    found = tokenizer_config(about)
    assert found["eos_token"] == SPECIAL[2]
    assert found["chat_template"] == TEMPLATE
    more = {**about, "tokenizer.chat_templates": ["tools"], "tokenizer.chat_template.tools": "x"}
    assert [one["name"] for one in tokenizer_config(more)["chat_template"]] == ["default", "tools"]


@pytest.mark.parametrize(("key", "value", "words"), [
    ("tokenizer.ggml.pre", "nobody's", "cuts its texts as"), ("tokenizer.ggml.model", "bert", "of the kind 'bert'"),
    ("tokenizer.ggml.tokens", [], "no tokenizer"),
])  # fmt: skip
def test_tokenizers_of_other_kinds_are_refused(key: str, value: Any, words: str) -> None:
    with pytest.raises(UnsupportedModelError, match=words):
        tokenizer_json({**byte_level(), key: value})
    scores = {**sentencepiece(), "tokenizer.ggml.scores": [0.0]}
    with pytest.raises(UnsupportedModelError, match="no score for each"):
        tokenizer_json(scores)


def test_the_first_end_and_begin_are_added_where_the_file_says_so() -> None:
    from tokenizers import Tokenizer

    both = {**byte_level(), "tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True}
    tokenizer = Tokenizer.from_str(tokenizer_json(both))
    assert [tokenizer.encode("a").ids[place] for place in (0, -1)] == [1, 2]
    assert tokenizer.encode("a", add_special_tokens=False).ids[0] > 2


def test_which_file_is_meant(tmp_path: Path) -> None:
    assert gguf_in(tmp_path) is None
    (tmp_path / "m-00001-of-00002.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"lacks m-00002-of-00002\.gguf"):
        gguf_in(tmp_path)
    (tmp_path / "m-00002-of-00002.gguf").write_bytes(b"GGUF")
    assert gguf_in(tmp_path) == tmp_path / "m-00001-of-00002.gguf"
    assert gguf_in(tmp_path / "m-00002-of-00002.gguf") == tmp_path / "m-00001-of-00002.gguf"
    assert len(parts_of(tmp_path / "m-00001-of-00002.gguf")) == 2
    assert known_as(str(tmp_path)) == "m-00001-of-00002"
    assert known_as("smollm2-135m") == "smollm2-135m"
    (tmp_path / "config.json").write_text(json.dumps({}))
    assert gguf_in(tmp_path) is None
    with pytest.raises(ModelError, match="There is no file"):
        resolve(str(tmp_path / "nothing.gguf"), tmp_path)


@pytest.mark.parametrize(("signal", "name"), [(8, "SIGFPE"), (11, "SIGSEGV"), (60, "signal 60")])
def test_after_a_crash_of_the_reader_transformers_reads_the_file(
    signal: int, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF")
    ended = subprocess.CompletedProcess([], -signal, "", "")
    monkeypatch.setattr("hierdraft.models.gguf.run_module", lambda *_: ended)
    monkeypatch.setattr("hierdraft.models.files.convert_gguf", lambda _, folder: (folder / "config.json").touch())
    assert (folder_of(file, tmp_path / "cache") / "config.json").is_file()
    assert f"was ended by {name}." in caplog.text
    assert not list((tmp_path / "cache").glob("gguf/*/refused.json"))


def test_a_killed_reader_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF")
    monkeypatch.setattr("hierdraft.models.gguf.run_module", lambda *_: subprocess.CompletedProcess([], -9, "", ""))
    with pytest.raises(ModelError, match="ended by SIGKILL: check the free memory"):
        folder_of(file, tmp_path / "cache")


def test_what_failed_for_want_of_memory_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF")
    asked: list[str] = []

    def fails(*arguments: str) -> subprocess.CompletedProcess[str]:
        asked.append(arguments[0])
        told = json.dumps({"error": "UnsupportedModelError", "says": "no memory", "again": len(asked) < 3})
        return subprocess.CompletedProcess([], 6, told, "")

    monkeypatch.setattr("hierdraft.models.gguf.run_module", fails)
    monkeypatch.setattr("hierdraft.models.files.convert_gguf", lambda _, folder: (folder / "config.json").touch())
    for _ in range(5):
        assert (folder_of(file, tmp_path / "cache") / "config.json").is_file()
    assert len(asked) == 3
    assert [path.read_text() for path in (tmp_path / "cache").glob("gguf/*/refused.json")] == ['{"says": "no memory"}']
