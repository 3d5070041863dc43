"""Which databases a model gets: the pack that comes with it, named packs, what it has said; and who may see what."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import hierdraft
from hierdraft.databases.levels import Databases
from hierdraft.databases.namespace import Namespaces
from hierdraft.databases.pack import Pack, PackInfo, join, write_pack
from hierdraft.databases.store import StoreOptions
from hierdraft.databases.suffixsort import build
from hierdraft.engines.toy import ToyEngine
from hierdraft.errors import DraftWarning, PackError, UsageError
from hierdraft.generation import LanguageModel
from hierdraft.holdings import STORE, embedded_pack, open_databases
from hierdraft.settings import load_settings
from hierdraft.text import tokenizer_fingerprint
from tests.lossless.tiny import VOCABULARY, tiny
from tests.unit.byte_tokenizer import Bytes


def pack_of(path: Path, tokens: list[int], vocab: int = 257, tokenizer: str = "") -> Path:
    text = join([np.array(tokens, dtype=np.int32)])
    return write_pack(path, build(text, vocab), PackInfo("statistics", vocab, tokenizer, model="maker")).path


def test_named_packs_and_the_store(tmp_path: Path) -> None:
    mark = tokenizer_fingerprint(Bytes())
    path = pack_of(tmp_path / "a.safetensors", [1, 2, 3], tokenizer=mark)
    found = open_databases(load_settings(packs=[path]), "toy", Bytes(), 257, None, True)
    assert [pack.path for pack in found.packs] == [path]
    found.learn("default", np.array([5], dtype=np.int32), np.array([6, 7], dtype=np.int32))
    found.close()
    assert (load_settings().data_dir / STORE / "salt").exists()
    assert open_databases(load_settings(packs=[path]), "toy", Bytes(), 257, [], False).packs == ()
    foreign = pack_of(tmp_path / "b.safetensors", [1], tokenizer="0" * 64)
    with pytest.raises(PackError, match=r"made for maker \(tokenizer 000000000000, 257 ids\), not for toy"):
        open_databases(load_settings(), "toy", Bytes(), 257, [foreign], False)
    with pytest.raises(PackError, match="cannot be read"):
        open_databases(load_settings(), "toy", Bytes(), 257, [tmp_path / "gone"], False)


def test_settings_of_databases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIERDRAFT_PACKS", f"{tmp_path / 'a'}:{tmp_path / 'b'}")
    assert load_settings().packs == (tmp_path / "a", tmp_path / "b")
    for name, wrong in (("learn", "perhaps"), ("durability", "sometimes"), ("expire_days", 0), ("namespace_tokens", 0)):
        with pytest.raises(UsageError, match=name):
            load_settings(**{name: wrong})


def test_a_store_that_cannot_be_used_costs_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    monkeypatch.setenv("HIERDRAFT_DATA_DIR", str(blocked))
    with pytest.warns(DraftWarning, match="Nothing is learned on disk"):
        found = open_databases(load_settings(), "toy", Bytes(), 257, None, True)
    found.learn("default", np.array([5], dtype=np.int32), np.array([6, 7], dtype=np.int32))
    assert len(found.open("default").texts[0].tokens) >= 3
    found.close()


def test_the_fingerprint_follows_what_ids_mean() -> None:
    first = Bytes()
    assert tokenizer_fingerprint(first) == tokenizer_fingerprint(Bytes())
    first._tokenizer.enable_truncation(5)  # how a text is cut changes no id
    assert tokenizer_fingerprint(first) == tokenizer_fingerprint(Bytes())
    first._tokenizer.add_special_tokens(["<new>"])
    assert tokenizer_fingerprint(first) != tokenizer_fingerprint(Bytes())


def test_answers_teach_their_own_namespace(tmp_path: Path) -> None:
    namespaces = Namespaces(tmp_path, PackInfo("model", 257, "x", model="toy"))
    toy = LanguageModel(ToyEngine(3, 257, memory=None), Bytes(), "toy", Databases(namespaces=namespaces))
    first = toy.generate("hello", max_new_tokens=60, namespace="a")
    again = toy.generate("hello", max_new_tokens=60, namespace="a", budget=8)
    other = toy.generate("hello", max_new_tokens=60, namespace="b", budget=8)
    assert first.token_ids == again.token_ids == other.token_ids
    assert again.by_level["model"]["accepted"] > 40
    assert "model" not in other.by_level
    assert again.steps < other.steps
    toy.close()
    reopened = Namespaces(tmp_path, PackInfo("model", 257, "x", model="toy"))
    later = LanguageModel(ToyEngine(3, 257, memory=None), Bytes(), "toy", Databases(namespaces=reopened))
    assert later.generate("hello", max_new_tokens=60, namespace="a", budget=8).by_level["model"]["accepted"] > 40
    later.close()


def test_a_grown_pack_notes_what_was_useful(tmp_path: Path) -> None:
    options = StoreOptions("batch", compact_at=100)
    namespaces = Namespaces(tmp_path, PackInfo("model", 257, "x", model="toy"), options)
    toy = LanguageModel(ToyEngine(3, 257, memory=None), Bytes(), "toy", Databases(namespaces=namespaces))
    for prompt in ("one", "two", "three"):
        toy.generate(prompt, max_new_tokens=60)
    store = namespaces.store("default")
    store.compact()
    assert len(store.snapshot().packs) == 1
    assert not any(store._used.values())
    toy.generate("two", max_new_tokens=60, budget=8)
    (used,) = store._used.values()
    starts = [0, *(np.flatnonzero(store.snapshot().packs[0].index.tokens == -1)[:-1] + 1).tolist()]
    assert starts[1] in used
    assert set(used) <= set(starts)
    toy.close()


def test_custom_generate_takes_packs_and_learns_in_memory(tmp_path: Path) -> None:
    import torch

    model = tiny("llama", dtype=torch.float32)
    ids = torch.tensor([[5, 6, 7, 8]])
    plain = model.generate(ids, do_sample=False, max_new_tokens=40, pad_token_id=0)
    said = plain[0].tolist()
    pack = pack_of(tmp_path / "a.safetensors", said, vocab=VOCABULARY)
    for options in ({"packs": [pack]}, {"learn": True}):
        decode = hierdraft.hf.decode(budget=8, **options)
        for _ in range(2):
            out = model.generate(ids, do_sample=False, max_new_tokens=40, pad_token_id=0, custom_generate=decode)
            assert out.tolist() == plain.tolist()
        assert len(decode.databases.open("default").packs) == ("packs" in options)
    too_large = pack_of(tmp_path / "b.safetensors", [1], vocab=VOCABULARY + 1)
    decode = hierdraft.hf.decode(packs=[too_large])
    with pytest.raises(PackError, match="too many ids for"):
        model.generate(ids, do_sample=False, max_new_tokens=4, pad_token_id=0, custom_generate=decode)
    with pytest.raises(UsageError, match="does not draft from databases"):
        hierdraft.hf.decode("none", learn=True)


def test_the_pack_that_comes_with_the_package() -> None:
    path = embedded_pack("smollm2-135m")
    assert path is not None
    assert path.stat().st_size < 4_200_000
    pack = Pack.open(path)
    pack.verify()
    assert pack.info.documents >= 1_500
    assert (pack.info.level, pack.info.model, pack.info.licence) == ("model", "smollm2-135m", "Apache-2.0")
    assert embedded_pack("another") is None


@pytest.mark.model
def test_the_pack_fits_the_real_model(smollm2: Path) -> None:
    from hierdraft.engines.hf.load import load_tokenizer

    tokenizer = load_tokenizer(smollm2)
    found = open_databases(load_settings(), "smollm2-135m", tokenizer, len(tokenizer), None, False)
    assert len(found.packs) == 1
    builtin = [json.loads(line) for line in (Path(hierdraft.__file__).parent / "data/prompts.jsonl").open()]
    said = tokenizer.decode(found.packs[0].index.tokens[:20_000].clip(0).tolist())
    assert not any(row["prompt"] in said for row in builtin)
