"""GGUF files and OpenVINO folders as people have them: run as they are, and drafted without another word."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hierdraft.decoding.loop import Options
from hierdraft.drafting.budget import FixedBudget
from hierdraft.drafting.plain import PlainMethod
from hierdraft.errors import ModelError, UnsupportedModelError, UsageError
from hierdraft.models import load as loading
from hierdraft.models.named import resolve
from hierdraft.text.gguf import tokenizer_json
from tests.lossless.drafters import HARMLESS
from tests.lossless.harness import check_every_drafter, fresh, run
from tests.lossless.tiny import VOCABULARY, reference, tiny
from tests.unit.gguf_files import byte_level, sentencepiece, write_gguf

pytest.importorskip("openvino_genai")
from hierdraft.engines.openvino.graph import cache_shapes, parts, with_cache
from hierdraft.engines.openvino.runtime import openvino
from hierdraft.models.convert import quiet

TEXT = "the sky is blue and a story"
LIMIT = 60


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def opened(path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    monkeypatch.setenv("HIERDRAFT_CACHE_DIR", str(cache))
    return loading.load_parts(str(path), engine="openvino", threads=1, **options)


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_0", "Q4_1", "Q4_K"])
@pytest.mark.parametrize("arch", ["llama", "qwen2", "qwen3"])
def test_a_gguf_file_says_what_transformers_reads_in_it(
    arch: str, kind: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if arch != "llama" and kind != "Q8_0":
        pytest.skip("one number type is enough for what else these have")
    file = write_gguf(tmp_path / f"{arch}-{kind}.gguf", arch, kind, seed=3)
    engine, tokenizer, defaults = opened(file, cache, monkeypatch, dtype="float32")
    ids = tokenizer(TEXT)["input_ids"]
    assert tokenizer.decode(ids) == TEXT
    assert engine.eos_ids == (2,)
    full, theirs, _ = loading.load_parts(str(file), engine="hf", threads=1, lean=False)
    assert theirs(TEXT)["input_ids"] == ids
    wanted = full.values(fresh(full, ids, len(ids)), len(ids) - 1)
    found = engine.values(fresh(engine, ids, len(ids)), len(ids) - 1)
    np.testing.assert_allclose(found, wanted, rtol=2e-2, atol=2e-2)
    engine.eos_ids = ()
    truth = run(engine, PlainMethod(), ids, Options(LIMIT))[0]
    check_every_drafter(engine, ids, truth, engine.vocab_size)
    assert defaults.eos == [2]


def test_small_weights_stay_small(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, weights in (("Q4_0", "int4"), ("Q4_1", "int4"), ("Q8_0", "int8"), ("F16", "float16")):
        file = write_gguf(tmp_path / f"{kind}.gguf", kind=kind)
        engine, _, _ = opened(file, cache, monkeypatch)
        assert engine.dtype == weights
        with pytest.raises(UsageError, match=f"has {weights} weights"):
            opened(file, cache, monkeypatch, dtype="int8" if weights != "int8" else "int4")


def test_a_model_in_parts_is_the_model(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write_gguf(tmp_path / "whole.gguf", kind="Q4_0")
    first = write_gguf(tmp_path / "model.gguf", kind="Q4_0", parts=3)
    assert first.name == "model-00001-of-00003.gguf"
    one, tokenizer, _ = opened(whole, cache, monkeypatch, dtype="float32")
    other, _, _ = opened(first, cache, monkeypatch, dtype="float32")
    ids = tokenizer(TEXT)["input_ids"]
    np.testing.assert_array_equal(fresh(other, ids, 5), fresh(one, ids, 5))
    first.with_name("model-00002-of-00003.gguf").unlink()
    with pytest.raises(ModelError, match=r"lacks model-00002-of-00003\.gguf"):
        resolve(str(first), cache)


def test_a_folder_with_one_file_is_that_file(cache: Path, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "one" / "a.gguf") if (tmp_path / "one").mkdir() is None else None
    assert file is not None
    assert resolve(str(tmp_path / "one"), cache, full=False).name == "a"
    shutil.copy(file, file.with_name("b.gguf"))
    with pytest.raises(ModelError, match=r"several GGUF files \(a\.gguf, b\.gguf\): name one"):
        resolve(str(tmp_path / "one"), cache)


def test_pieces_with_scores(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_gguf(tmp_path / "spm.gguf", tokenizer=sentencepiece())
    _, ours, _ = opened(file, cache, monkeypatch)
    for text in ("the sky is blue.", " the  sky", "Straße", "", "a\nb", "日本", "<s>the</s>"):
        ids = ours(text)["input_ids"]
        assert ids[0] == 1, text
        assert ours.decode(ids, skip_special_tokens=True) == text.replace("<s>", "").replace("</s>", ""), text


DAMAGES = {
    "cut": lambda data: data[: len(data) * 2 // 3],
    "cut in its head": lambda data: data[:700],
    "empty": lambda _: b"",
    "another format": lambda data: b"PK\x03\x04" + data[4:],
    "noise": lambda data: data[:64] + bytes(255 - byte for byte in data[64:4096]) + data[4096:],
    "an architecture nobody knows": lambda data: data.replace(b"llama", b"lhama"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_one_sentence_and_nothing_is_left(damage: str, tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "whole.gguf")
    file = tmp_path / "damaged.gguf"
    file.write_bytes(DAMAGES[damage](whole.read_bytes()))
    for full in (False, True):
        with pytest.raises(ModelError) as failure:
            resolve(str(file), tmp_path / "cache", full=full)
        assert str(failure.value).count("\n") == 0
        names = {path.name for path in (tmp_path / "cache" / "gguf").glob("*/*")}
        assert names <= {"refused.json", "about.json"}


class Plain(torch.nn.Module):
    """As optimum-intel exports a model: a mask of two dimensions, and every position is scored."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Any, mask: Any, positions: Any, *past: Any) -> Any:
        from hierdraft.engines.openvino.graph import as_cache

        cache = as_cache(past)
        out = self.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        return (out.logits, *parts(cache))


def exported(name: str, folder: Path) -> Any:
    """An OpenVINO folder of a tiny model, and the model."""
    model = tiny(name, dtype=torch.float32)
    model.save_pretrained(folder)
    inputs = {"input_ids": [-1, -1], "attention_mask": [-1, -1], "position_ids": [-1, -1]}
    example = (torch.zeros(1, 3, dtype=torch.long), torch.ones(1, 8, dtype=torch.long), torch.arange(5, 8)[None])
    with quiet():
        graph = with_cache(Plain(model), inputs, example, cache_shapes(model), "beam_idx")
    openvino.save_model(graph, folder / "openvino_model.xml", compress_to_fp16=False)
    (folder / "model.safetensors").unlink()
    (folder / "tokenizer.json").write_text(tokenizer_json(byte_level()))
    return model


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "phi", "gpt-neox"])
def test_an_openvino_folder_is_run_as_it_is(
    name: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = exported(name, tmp_path / "model")
    engine, _, _ = opened(tmp_path / "model", cache, monkeypatch)
    assert (engine.vocab_size, engine.dtype, engine.max_length) == (VOCABULARY, "float32", 256)
    prompt = [5, 9, 11, 5, 9, 60, 61, 5, 9, 11, 8, 3]
    engine.eos_ids = ()
    check_every_drafter(engine, prompt, reference(model, prompt, LIMIT), VOCABULARY)


@pytest.mark.parametrize("name", ["mistral", "gemma3"])
def test_sliding_windows_are_refused(name: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported(name, tmp_path / "model")
    with pytest.raises(UnsupportedModelError):
        opened(tmp_path / "model", cache, monkeypatch)
    with pytest.raises(UsageError, match="runs on OpenVINO"):
        loading.load_parts(str(tmp_path / "model"), engine="hf")


def test_a_damaged_folder_is_one_sentence(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported("llama", tmp_path / "model")
    graph, weights = (tmp_path / "model" / f"openvino_model.{end}" for end in ("xml", "bin"))
    whole, data = graph.read_text(), weights.read_bytes()
    for xml, size in ((whole, -1), (whole[: len(whole) // 2], None), ("", None), (whole, 0)):
        graph.write_text(xml)
        weights.write_bytes(data[:size])
        with pytest.raises(ModelError) as failure:
            opened(tmp_path / "model", cache, monkeypatch)
        assert "\n" not in str(failure.value)
    weights.unlink()
    with pytest.raises(ModelError, match=r"openvino_model\.bin cannot be read"):
        opened(tmp_path / "model", cache, monkeypatch)
    graph.rename(graph.with_name("openvino_language_model.xml"))
    with pytest.raises(UnsupportedModelError, match="models that see pictures"):
        opened(tmp_path / "model", cache, monkeypatch)


def test_drafts_in_four_bits_agree_with_plain_decoding_in_exact_mode(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_gguf(tmp_path / "m.gguf", kind="Q4_0", seed=5)
    try:
        engine, tokenizer, _ = opened(file, cache, monkeypatch, exact=True)
    except UsageError as error:  # with other kernels for few rows than for many
        pytest.skip(str(error))
    engine.eos_ids = ()
    ids = tokenizer(TEXT)["input_ids"]
    plain = run(engine, PlainMethod(), ids, Options(LIMIT))[0]
    for kind in HARMLESS.values():
        drafter = kind(engine.vocab_size, ids + plain, 7)
        assert run(engine, drafter, ids, Options(LIMIT, budget=FixedBudget(9)))[0] == plain


def test_facts_are_kept_and_no_graph(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported("llama", tmp_path / "model")
    opened(tmp_path / "model", cache, monkeypatch)
    made = next(path for path in (cache / "openvino").glob("*/facts.json") if str(tmp_path) in path.read_text())
    told = json.loads(made.read_text())
    assert told["graph"] == str(tmp_path / "model" / "openvino_model.xml")
    assert not list(made.parent.glob("*.bin"))


CONVERT = """
import sys
from pathlib import Path
from hierdraft.models.gguf import folder_of
print(folder_of(Path(sys.argv[1]), Path(sys.argv[2])))
"""


def converting(file: Path, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", CONVERT, str(file), str(cache)], stdout=subprocess.PIPE, text=True)


def test_two_conversions_at_once_make_one_folder(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "m.gguf")
    both = [converting(file, tmp_path / "cache") for _ in range(2)]
    said = {process.communicate(timeout=300)[0].strip() for process in both}
    assert len(said) == 1
    assert (Path(said.pop()) / "openvino_model.bin").is_file()
    assert len([path for path in (tmp_path / "cache" / "gguf").iterdir() if path.is_dir()]) == 1


def test_a_conversion_that_is_killed_leaves_nothing_that_is_taken_for_a_model(tmp_path: Path) -> None:
    file, made = write_gguf(tmp_path / "m.gguf"), tmp_path / "cache" / "gguf"
    process = converting(file, tmp_path / "cache")
    end = time.monotonic() + 120
    while not list(made.glob(".m-*.tmp-*")):
        assert time.monotonic() < end
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=60)
    assert not list(made.glob("m-*/"))
    found = resolve(str(file), tmp_path / "cache", full=False).path
    assert (found / "openvino_model.bin").is_file()
    assert not list(made.glob(".m-*.tmp-*"))
