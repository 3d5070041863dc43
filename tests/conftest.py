"""What every test gets: settings and caches of its own, no model hub, and the small real model on request."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings


def pytest_configure() -> None:
    """No test reaches the model hub, and no property fails for being slow.

    The hub's client reads its variable when imported; a property's first example may compile a kernel.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    _keep_to_a_core()
    # A compiled kernel's first call, or a busy machine, is no reason to fail: what is tested is results.
    settings.register_profile("hierdraft", deadline=None)
    settings.load_profile("hierdraft")


def _keep_to_a_core() -> None:
    """Processes that test side by side have a core each, where there are enough: libraries begin as many threads as
    there are cores, in every process.
    """
    worker, count = os.environ.get("PYTEST_XDIST_WORKER", ""), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if 1 < count <= len(cores):
            each = len(cores) // count
            number = int(worker.removeprefix("gw"))
            os.sched_setaffinity(0, cores[number * each : (number + 1) * each])


@pytest.fixture(scope="session")
def real_cache_dir() -> Path:
    """The cache folder of whoever runs the tests, read before any test is isolated from it."""
    from hierdraft.settings import load_settings

    return load_settings().cache_dir


@pytest.fixture(autouse=True)
def isolated(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No test sees the settings or the caches of whoever runs it.

    Tests marked `model` keep the real cache folder, because the model lies there.
    """
    folder = tmp_path_factory.mktemp("hierdraft")
    cache_dir = folder / "cache"
    if request.node.get_closest_marker("model"):
        cache_dir = request.getfixturevalue("real_cache_dir")
    for name in [name for name in os.environ if name.startswith("HIERDRAFT_")]:
        monkeypatch.delenv(name)
    config = folder / "config.toml"
    config.touch()  # a settings file that is named has to exist
    monkeypatch.setenv("HIERDRAFT_CONFIG", str(config))
    monkeypatch.setenv("HIERDRAFT_CACHE_DIR", str(cache_dir))
    monkeypatch.setenv("HIERDRAFT_DATA_DIR", str(folder / "data"))


@pytest.fixture(scope="session")
def smollm2(real_cache_dir: Path) -> Path:
    """The folder of the small model, fetched if `make test` has not done so."""
    from hierdraft.models.named import resolve

    return resolve("smollm2-135m", real_cache_dir, pull_missing=True).path
