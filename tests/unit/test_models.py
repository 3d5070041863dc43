"""Finding models: named, local and on the hub; what is said about damaged and unknown ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import hierdraft
from hierdraft.errors import ModelError
from hierdraft.models import hub as model_hub
from hierdraft.models import named as models
from hierdraft.models.known import NAMED_MODELS
from hierdraft.models.listed import list_models
from tests.unit.model_shop import Shop, one_sentence, safetensors


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def resolve(shop: Shop, name: str, pull_missing: bool = True) -> models.ResolvedModel:
    return models.resolve(name, shop.cache, pull_missing, steps=shop.steps, table=shop.table)


def test_resolve_pulls_a_named_model(shop: Shop) -> None:
    with pytest.raises(ModelError, match=r"hierdraft models pull toy\.$"):
        resolve(shop, "toy", pull_missing=False)
    found = resolve(shop, "toy")
    assert found == models.ResolvedModel(shop.cache / "models" / "toy", "toy")
    assert resolve(shop, "toy", pull_missing=False) == found


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", safetensors()[:-1]),
        ("model.safetensors", safetensors() + b"x"),
        ("model.safetensors", b"\x00" * 40),
        ("model.safetensors", b"\xff" * 40),
        ("model.safetensors", b""),
        ("model.safetensors", None),
        ("config.json", b"{"),
        ("config.json", b"[]"),
        ("config.json", None),
        ("hierdraft.json", None),
    ],
)
def test_damaged_pulled_model_says_how_to_repair_it(shop: Shop, file: str, content: bytes | None) -> None:
    path = shop.pull() / file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ModelError) as error:
        resolve(shop, "toy")
    assert one_sentence(error).endswith("run hierdraft models pull toy --force.")
    assert list_models(shop.cache, table=shop.table)[0]["pulled"] is False
    shop.pull(force=True)
    shop.check_clean()


def test_verify_notices_a_changed_byte(shop: Shop) -> None:
    weights = shop.pull() / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert resolve(shop, "toy").name == "toy"  # the size is right
    with pytest.raises(ModelError) as error:
        models.verify("toy", shop.cache, table=shop.table)
    assert "--force" in one_sentence(error)


def test_list_models(shop: Shop) -> None:
    (row,) = list_models(shop.cache, table=shop.table)
    assert (row["name"], row["pulled"], row["bytes"], row["parameters"]) == ("toy", False, 0, 4)
    folder = shop.pull()
    (row,) = list_models(shop.cache, table=shop.table)
    assert row["pulled"] is True
    assert row["path"] == str(folder)
    assert row["bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    json.dumps(row)


def test_local_folder(shop: Shop, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        resolve(shop, str(folder))
    (folder / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no \.safetensors weights"):
        resolve(shop, str(folder))
    (folder / "a.safetensors").write_bytes(safetensors())
    assert resolve(shop, str(folder)) == models.ResolvedModel(folder, "mine")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "a.safetensors", "v": "b.safetensors"}}))
    with pytest.raises(ModelError) as error:
        resolve(shop, str(folder))
    assert "lacks b.safetensors" in one_sentence(error)


@pytest.mark.parametrize("name", ["smollm2-125m", "SmolLM2", "smollm2"])
def test_unknown_name_gets_a_suggestion(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError) as error:
        models.resolve(name, tmp_path)
    assert "did you mean smollm2-135m?" in one_sentence(error)
    assert "gemma3-270m" in one_sentence(error)


@pytest.mark.parametrize("name", ["", "zzzzzz", "./no/such/folder", "a/b/c", "nul\0byte"])
def test_no_such_model(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError) as error:
        models.resolve(name, tmp_path)
    assert "did you mean" not in one_sentence(error)
    with pytest.raises(ModelError):
        models.pull(name, tmp_path)


def resolve_hub_name(cwd: Path, hf_home: Path) -> str:
    """What a process of its own says of a hub name, with no network and its hub cache in `hf_home`."""
    code = (
        "from pathlib import Path; from hierdraft.models import named as models\n"
        "from hierdraft.errors import ModelError\n"
        "try: models.resolve('some-owner/some-model', Path('.'))\n"
        "except ModelError as error: print(error)"
    )
    source = str(Path(hierdraft.__file__).parents[1])
    env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env |= {"PYTHONPATH": source, "HF_HUB_OFFLINE": "1", "HF_HOME": str(hf_home)}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=cwd, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    return done.stdout


def test_offline_hub_name_is_one_sentence(tmp_path: Path) -> None:
    assert "HF_HUB_OFFLINE" in resolve_hub_name(tmp_path, tmp_path)


def test_a_hub_cache_that_cannot_be_used_is_not_blamed_on_the_network(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("where a folder must be")
    said = resolve_hub_name(tmp_path, tmp_path / "file" / "home")
    assert "HF_HOME" in said
    assert "network" not in said


def test_importing_stays_light() -> None:
    code = "import sys, hierdraft.models.named, hierdraft.settings, hierdraft.cli.models; print(*sys.modules)"
    source = str(Path(hierdraft.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": source}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "requests", "huggingface_hub"} & set(done.stdout.split())


def test_the_shipped_table_is_consistent() -> None:
    for name, model in NAMED_MODELS.items():
        assert model.name == name
        assert model.model_bytes > 4 * model.parameters
        for part in model.parts:
            package, version = part.requirement.split("==")
            assert part.wheel == f"{package.replace('-', '_')}-{version}-py3-none-any.whl"
            assert len(part.sha256) == len(model.gguf_sha256) == 64


def test_what_is_fetched_is_said_before_it_is(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    shop.model = shop.table["toy"] = replace(shop.model, gguf_bytes=98_400_000, model_bytes=542_000_000)
    with caplog.at_level("INFO", logger="hierdraft"):
        resolve(replace_space(shop), "toy")
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "Fetching toy: 98 MB to download, 542 MB on disk; licence: MIT; from shelf."
    assert "toy: converting" in said
    caplog.clear()
    resolve(shop, "toy")
    assert not caplog.records


def replace_space(shop: Shop) -> Shop:
    shop.steps = replace(shop.steps, free_bytes=lambda _: 1 << 40)
    return shop


def test_what_is_fetched_from_a_hub_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    files = [("config.json", 500), ("model.safetensors", 7_000_000), ("pytorch_model.bin", 9_000_000)]
    about = SimpleNamespace(
        siblings=[SimpleNamespace(rfilename=name, size=size) for name, size in files], tags=["license:mit", "x"]
    )
    monkeypatch.setattr(hub.HfApi, "model_info", lambda *_, **__: about)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    with caplog.at_level("INFO", logger="hierdraft"):
        model_hub.snapshot("owner/name", True)
        model_hub.snapshot("owner/name", False)
        monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: "here")
        model_hub.snapshot("owner/name", True)
    assert [record.getMessage() for record in caplog.records] == [
        "Fetching owner/name: 7 MB to download; licence: mit; from the hub."
    ]


QUANTS = ("m-Q2_K.gguf", "m-Q4_K_M.gguf", "m-Q4_K_S.gguf", "mmproj-F16.gguf", "big/m-F32-00001-of-00002.gguf",
          "big/m-F32-00002-of-00002.gguf", "README.md", "config.json")  # fmt: skip


@pytest.mark.parametrize(
    ("name", "fetched", "told"),
    [
        ("owner/name", ["m-Q4_K_M.gguf"], ""),
        ("owner/name:q2_k", ["m-Q2_K.gguf"], ""),
        ("owner/name:Q4_K_S", ["m-Q4_K_S.gguf"], ""),
        ("owner/name:F32", ["big/m-F32-00001-of-00002.gguf", "big/m-F32-00002-of-00002.gguf"], ""),
        ("owner/name:m-Q2_K.gguf", ["m-Q2_K.gguf"], ""),
        ("owner/name:Q5_0", [], "none for Q5_0"),
        ("owner/name:m", [], "several for m"),
    ],
)
def test_one_gguf_file_of_a_hub_repository(
    name: str, fetched: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    here = tmp_path / "snapshot"
    about = SimpleNamespace(siblings=[SimpleNamespace(rfilename=file, size=1_000_000) for file in QUANTS], tags=[])

    def download(repository: str, allow_patterns: list[str], local_files_only: bool) -> str:
        assert repository == "owner/name"
        for file in [] if local_files_only else allow_patterns:
            (here / file).parent.mkdir(parents=True, exist_ok=True)
            (here / file).write_bytes(b"GGUF")
        return str(here)

    monkeypatch.setattr(hub.HfApi, "model_info", lambda *_, **__: about)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(hub, "snapshot_download", download)
    if told:
        with pytest.raises(ModelError, match=told):
            model_hub.snapshot(name, True)
        assert not here.exists()
        return
    assert model_hub.snapshot(name, True) == here / fetched[0]
    assert sorted(file.relative_to(here).as_posix() for file in here.rglob("*.gguf")) == fetched
    assert model_hub.snapshot(name, False) == here / fetched[0]


def test_base_models_are_known(shop: Shop) -> None:
    with_template, without = SimpleNamespace(chat_template="x"), SimpleNamespace(chat_template=None)
    assert models.is_base("toy", with_template, table=shop.table)  # it is known to be one, whatever its files say
    assert models.is_base("some/folder", without)
    assert not models.is_base("some/folder", with_template)
    assert not models.is_base("smollm2-135m", without)
