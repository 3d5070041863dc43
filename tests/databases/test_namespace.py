"""Tenants: nothing crosses over, quotas hold, the old expires, and what is forgotten is gone."""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from hierdraft.databases.levels import Databases
from hierdraft.databases.namespace import Namespaces, expire, forget, model_key
from hierdraft.databases.pack import PackInfo
from hierdraft.databases.store import StoreOptions
from hierdraft.databases.writer import take_lock
from hierdraft.decoding.loop import Options, decode
from hierdraft.drafting.hierarchy.method import HierarchyMethod
from hierdraft.drafting.plain import PlainMethod
from hierdraft.engines.replay import ReplayEngine
from hierdraft.errors import DraftWarning, StoreError, UsageError
from hierdraft.levels import code_of
from hierdraft.protocols import Budget, Request, Setup

INFO = PackInfo("model", 2_000, "fingerprint", model="toy")
MODEL = code_of("model")
LOOKUPS = 10_000


def answer(tenant: int, number: int) -> np.ndarray:
    """Common openings, then ids that only this tenant's answers contain."""
    opening = [number % 20, number % 7, number % 3]
    return np.array([*opening, *(200 + 600 * tenant + (number * 13 + i * i) % 500 for i in range(30))], dtype=np.int32)


def learn(databases: Databases, tenant: str, documents: list[np.ndarray]) -> None:
    for ids in documents:
        databases.learn(tenant, np.array([1], dtype=np.int32), ids)


def test_canaries_never_cross(tmp_path: Path) -> None:
    """10,000 look-ups in one namespace for openings that the others continue: not one foreign id."""
    namespaces = Namespaces(tmp_path, INFO, StoreOptions("batch", compact_at=1_500))
    databases = Databases(namespaces=namespaces)
    method = HierarchyMethod(least=0.0)
    method.attach(Setup(databases))
    for tenant in range(3):
        learn(databases, f"tenant {tenant}", [answer(tenant, i) for i in range(150)])
        namespaces.store(f"tenant {tenant}").wait()
    drafted = [0, 0, 0, 0]
    budget = Budget(8, 8)
    for lookup in range(LOOKUPS):
        tenant = lookup % 4  # the last one has learned nothing
        opening = answer(lookup % 3, lookup)[: 3 + lookup % 9]
        session = method.open(Request(opening, 10, f"tenant {tenant}"))
        tree = session.propose(opening, budget)
        own = set(range(200 + 600 * tenant, 800 + 600 * tenant)) | set(opening.tolist()) | set(range(20))
        assert set(tree.tokens.tolist()) <= own
        drafted[tenant] += int((tree.level == MODEL).sum())
        if tenant == 3:
            assert (tree.level != MODEL).all()
    assert min(drafted[:3]) > 1_000  # the look-ups would have found something
    databases.close()


def test_a_request_teaches_its_own_namespace_only(tmp_path: Path) -> None:
    databases = Databases(namespaces=Namespaces(tmp_path, INFO))
    method = HierarchyMethod()
    method.attach(Setup(databases))
    prompt, said = np.array([5, 6, 7], dtype=np.int32), np.array([8, 9, 10, 11], dtype=np.int32)
    engine = ReplayEngine(100)
    engine.play(said)
    for _ in decode(engine, PlainMethod(), prompt, Options(4, namespace="a", learn=databases.learn)):
        pass
    for namespace, expected in (("a", [8, 9, 10, 11]), ("b", [])):
        session = method.open(Request(prompt, 10, namespace))
        assert session.propose(prompt, Budget(4, 4)).tokens.tolist() == expected
        session.finish(prompt)  # nothing was said: nothing is learned
    databases.close()


def test_a_quota_holds_per_namespace(tmp_path: Path) -> None:
    namespaces = Namespaces(tmp_path, INFO, StoreOptions("batch", compact_at=200, most_tokens=1_000))
    for tenant in ("a", "b"):
        store = namespaces.store(tenant)
        for i in range(100):
            store.append(answer(0, i))
            store.wait()
        assert len(store) <= 1_000 + 200
    namespaces.close()
    sizes = [sum(f.stat().st_size for f in folder.iterdir()) for folder in (tmp_path / model_key(INFO)).iterdir()]
    assert len(sizes) == 2
    assert max(sizes) < 8 * 1_400 + 4 * INFO.vocab_size + 8_192


def test_names_are_not_on_disk(tmp_path: Path) -> None:
    namespaces = Namespaces(tmp_path, INFO)
    namespaces.store("alice@example.com").append([1, 2, 3])
    namespaces.close()
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"alice" not in everything
    assert not any("alice" in str(path) for path in tmp_path.rglob("*"))
    assert oct((tmp_path / "salt").stat().st_mode & 0o777) == "0o600"
    other = Namespaces(tmp_path / "elsewhere", INFO)
    other.store("alice@example.com").append([1])
    other.close()
    folders = {path.parent.name for path in tmp_path.rglob("*.journal")}
    assert len(folders) == 2  # another salt, another name


def test_what_is_forgotten_is_gone(tmp_path: Path) -> None:
    namespaces = Namespaces(tmp_path, INFO, StoreOptions("batch", compact_at=400))
    databases = Databases(namespaces=namespaces)
    same = [answer(2, i) for i in range(3)]
    learn(databases, "a", [answer(0, i) for i in range(60)] + same)
    learn(databases, "b", [answer(1, i) for i in range(60)] + same)
    for tenant in ("a", "b"):
        namespaces.store(tenant).wait()
    folder = namespaces.store("a").folder
    assert folder is not None
    held = [path.open("rb") for path in folder.iterdir()]  # what an open file still shows is zeros
    erasure = namespaces.forget("a")
    assert erasure.folders == 1
    assert erasure.files >= 3
    assert erasure.passages > 40
    assert erasure.found == 0
    assert 1 <= erasure.elsewhere <= 3
    assert not folder.exists()
    for file in held:
        assert file.read().strip(b"\0") == b""
        file.close()
    method = HierarchyMethod()
    method.attach(Setup(databases))
    opening = answer(0, 5)[:5]
    session = method.open(Request(opening, 10, "a"))
    assert len(session.propose(opening, Budget(8, 8))) == 0
    assert len(namespaces.store("b")) > 1_000
    databases.close()
    assert forget(tmp_path, "never seen").folders == 0
    assert forget(tmp_path / "nowhere", "a").folders == 0


def test_a_namespace_in_use_is_not_erased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    namespaces = Namespaces(tmp_path, INFO)
    namespaces.store("a").append([1, 2, 3])
    monkeypatch.setattr("hierdraft.databases.namespace.FORGET_WAIT", 0.1)
    with pytest.raises(StoreError, match="Another process uses the namespace 'a'"):
        forget(tmp_path, "a")
    namespaces.close()
    assert forget(tmp_path, "a").folders == 1


def test_an_erasure_that_fails_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    namespaces = Namespaces(tmp_path, INFO)
    namespaces.store("a").append(answer(0, 1))
    namespaces.close()
    monkeypatch.setattr("hierdraft.databases.namespace._erase", lambda folder: None)
    with pytest.raises(StoreError, match="could not be erased: 1 passages are still found"):
        forget(tmp_path, "a")


def test_what_nobody_used_expires(tmp_path: Path) -> None:
    namespaces = Namespaces(tmp_path, INFO)
    for tenant in ("old", "new", "busy"):
        namespaces.store(tenant).append([1, 2, 3])
    folders = {tenant: namespaces.store(tenant).folder for tenant in ("old", "new", "busy")}
    namespaces.close()
    for tenant in ("old", "busy"):
        for path in folders[tenant].iterdir():  # type: ignore[union-attr]
            os.utime(path, (time.time() - 40 * 86_400,) * 2)
    lock = take_lock(folders["busy"])  # type: ignore[arg-type]
    assert lock is not None
    for path in folders["busy"].iterdir():  # type: ignore[union-attr]
        os.utime(path, (time.time() - 40 * 86_400,) * 2)
    Namespaces(tmp_path, INFO, expire_days=30.0)
    assert not folders["old"].exists()  # type: ignore[union-attr]
    assert folders["new"].exists()  # type: ignore[union-attr]
    assert folders["busy"].exists()  # type: ignore[union-attr]
    lock.release()
    assert expire(tmp_path, 30.0) == 1


def test_a_store_that_fails_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="cannot be used"):
        Namespaces(tmp_path / "file", INFO)
    with pytest.raises(UsageError, match="needs a name"):
        Namespaces(None, INFO).store("")
    namespaces = Namespaces(tmp_path / "root", INFO)
    folder = tmp_path / "root" / model_key(INFO)
    folder.write_text("in the way")
    databases = Databases(namespaces=namespaces)
    method = HierarchyMethod()
    method.attach(Setup(databases))
    text = np.array([1, 2, 3, 1, 2], dtype=np.int32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            session = method.open(Request(text, 10))
            assert session.propose(text, Budget(4, 4)).tokens[0] == 3
            session.finish(np.append(text, np.int32(3)))
    assert len(caught) == 1
    assert caught[0].category is DraftWarning
    assert "Nothing is learned on disk" in str(caught[0].message)


def test_a_damaged_salt_is_named(tmp_path: Path) -> None:
    (tmp_path / "salt").write_bytes(b"short")
    with pytest.raises(StoreError, match="is damaged: without it no namespace can be found"):
        Namespaces(tmp_path, INFO)
