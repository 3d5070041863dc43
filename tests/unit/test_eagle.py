"""An EAGLE-3-like head: trained on what its target thinks, step by step as it will draft."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from hierdraft.cli.commands import app
from hierdraft.databases.levels import Databases
from hierdraft.drafting.budget import FixedBudget
from hierdraft.drafting.heads.text import HeadText
from hierdraft.drafting.hierarchy.method import HierarchyMethod
from hierdraft.drafting.models.draft_model import DraftModelMethod
from hierdraft.drafting.plain import PlainMethod
from hierdraft.errors import DraftWarning, HierdraftError, ModelError, TrainingError, UsageError
from hierdraft.models import fusing, load
from hierdraft.models.beside import Drafters, check_there
from hierdraft.models.drafter_files import AMONG, read_own
from hierdraft.models.fusing import FEW
from hierdraft.models.load import load_engine, open_beside
from hierdraft.protocols import Setup, Step
from hierdraft.training.documents import Document
from hierdraft.training.eagle import FADE, EagleHead
from hierdraft.training.reading import Asked, with_reading
from hierdraft.training.settings import HeadTraining, Limits
from hierdraft.training.students import new_head
from hierdraft.training.target import Target, read_target
from hierdraft.training.train import Job, train_drafter
from hierdraft.training.windows import packed, window_of
from hierdraft.tree import DraftTree
from hierdraft.verify.sampling import Sampling
from tests.lossless.harness import run
from tests.lossless.test_draft_model import chosen
from tests.lossless.tiny import VOCABULARY
from tests.unit.model_shop import one_sentence
from tests.unit.test_training import rows_of, save_target, write

QUICK = HeadTraining(rows=60, window=64, batch=2, learning_rate=1e-2, held_out=0.2, logprobs=4, unrolled=3)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_target(tmp_path_factory.mktemp("target") / "base")


def job(target: Path, data: Path, out: Path, steps: int = 12, **more: Any) -> Job:
    return Job(str(target), [data], out, replace(QUICK, **more), Limits(steps=steps), every=0.0, threads=1)


def documents(known: Target, folder: Path, layers: tuple[int, ...], count: int = 6) -> list[Document]:
    engine, _ = load_engine(str(known.path), engine="hf", dtype="float32", threads=1)
    drawn = np.random.default_rng(2)
    given = [
        Document(drawn.integers(3, VOCABULARY, size).astype(np.int32), start)
        for size, start in zip([5, 20, 33, 41, 60, 12][:count], [1, 3, 8, 2, 20, 11], strict=False)
    ]
    return with_reading(engine, given, Asked(4, layers), folder)


def one_row(head: EagleHead, given: list[tuple[Tensor, Tensor]]) -> Tensor:
    """What comes out of the head's layers for the last of these (embedding, feature), computed the slow way."""
    embedded, states = (torch.stack(parts) for parts in zip(*given, strict=True))
    count = len(given)
    seen = torch.ones(count, count).tril().bool()
    for number, layer in enumerate(head.body.layers):
        queries, keys, values = head.body.split(number, layer.given(states, embedded), torch.arange(count))  # type: ignore[operator]
        scores = ((queries @ keys.transpose(1, 2)) * queries.shape[-1] ** -0.5).masked_fill(~seen, -torch.inf)
        states = layer.rest(states, scores.softmax(-1) @ values)  # type: ignore[operator]
    return states[-1]


@torch.inference_mode()
def twin(head: EagleHead, one: Document, ids: list[int], place: int, steps: int) -> list[Tensor]:
    """Scores of a chain after token `place`, of these ids further on, one row at a time."""
    assert one.states is not None
    thoughts = head.body.fc(torch.from_numpy(one.states.read(0, len(one.ids) - 1)).float())
    given = [(head.embedding[int(one.ids[at + 1])], thoughts[at]) for at in range(place)]
    found = []
    for step in range(steps):
        state = one_row(head, given)
        found.append(head.rows.scores(head.body.norm(state[None])))
        if step < steps - 1:
            given.append((head.embedding[ids[step]], state))
    return found


@pytest.fixture(scope="module")
def known(target: Path) -> Target:
    return read_target(str(target), target)


@torch.inference_mode()
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kept", [None, np.arange(0, VOCABULARY, 2, dtype=np.int32)])
def test_the_loss_against_a_slow_twin(kept: Any, count: int, known: Target, tmp_path: Path) -> None:
    """All steps of all rows at a time, in windows of several documents: the same as a row after another."""
    layers = QUICK.reads(known.depth)
    given = documents(known, tmp_path, layers)
    head, _ = new_head(known, replace(QUICK, layers=count), kept, len(layers))
    head.eval()
    for pieces in packed(given, 128, 1):
        window = window_of(pieces)
        found = head.loss(window, 0.0)
        nats = [list[float]() for _ in range(QUICK.unrolled)]
        apart = [list[float]() for _ in range(QUICK.unrolled)]
        for piece in pieces:
            one = piece.document
            for place in range(1, len(one.ids) - 1):
                told = [int(token) for token in one.ids[place + 1 :]]
                steps = min(QUICK.unrolled, len(told)) if place + 1 >= one.start else 0
                for step, scores in enumerate(twin(head, one, told, place, steps) if steps else []):
                    total = head.rows.total(scores)
                    wanted = torch.tensor([[told[step]]])
                    nats[step].append(-float(head.rows.logprobs(scores, total, wanted)))
                    at = place + 1 + step - one.start
                    assert one.top is not None
                    ids, theirs = (torch.from_numpy(part[at : at + 1]) for part in one.top)
                    ours = head.rows.logprobs(scores, total, ids.long())
                    rest = (1 - ours.exp().sum()).clamp(min=1e-7), (1 - theirs.float().exp().sum()).clamp(min=0)
                    known_part = (theirs.float().exp() * (theirs.float() - ours)).sum()
                    apart[step].append(float(known_part + rest[1] * (rest[1].clamp(min=1e-7).log() - rest[0].log())))
        share = np.array([FADE**step for step in range(QUICK.unrolled)])
        share /= share.sum()
        mean = sum(weight * np.mean(some) for weight, some in zip(share, nats, strict=True) if some)
        assert float(found.entropy) / found.rows == pytest.approx(mean, rel=1e-4)
        far = sum(weight * np.mean(some) for weight, some in zip(share, apart, strict=True) if some)
        assert float(found.divergence) / found.with_top == pytest.approx(far, rel=2e-2, abs=1e-4)
        assert found.rows == len(window.rows)


@pytest.mark.parametrize("count", [1, 2])
def test_chains_against_a_slow_twin(count: int, known: Target, tmp_path: Path) -> None:
    layers = QUICK.reads(known.depth)
    head, _ = new_head(known, replace(QUICK, layers=count), np.arange(1, VOCABULARY, 3, dtype=np.int32), len(layers))
    head.eval()
    one = documents(known, tmp_path, layers)[4]
    assert one.states is not None
    places = np.array([20, 21, 30, 50], dtype=np.int32)
    nats, best = head.chains(one.ids, one.start, places, one.states.read(0, len(one.ids) - 1), 5, 3)
    for place, rows in zip(places.tolist(), best.tolist(), strict=True):
        chain: list[int] = []
        for row in rows:
            scores = twin(head, one, chain, place, len(chain) + 1)[-1]
            assert head.kept[scores[0].topk(3).indices].tolist() == row
            chain.append(row[0])
    slow = 0.0
    for place in range(one.start - 1, len(one.ids) - 1):
        (scores,) = twin(head, one, [], place, 1)
        slow -= float(head.rows.logprobs(scores, head.rows.total(scores), torch.tensor([[int(one.ids[place + 1])]])))
    assert nats == pytest.approx(slow, rel=1e-4)


def test_every_weight_learns(known: Target, tmp_path: Path) -> None:
    layers = QUICK.reads(known.depth)
    head, _ = new_head(known, replace(QUICK, layers=2), None, len(layers))
    found = head.loss(window_of(packed(documents(known, tmp_path, layers), 256, 1)[0]), 1.0)
    (found.entropy + found.divergence).backward()  # type: ignore[no-untyped-call]
    for name, one in head.body.named_parameters():
        assert one.grad is not None
        assert float(one.grad.abs().sum()) > 0, name


def test_a_head_learns_a_toy_language_and_is_stopped_and_continued(target: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "said.jsonl", rows_of(240))
    found = train_drafter(job(target, data, tmp_path / "head", 50, batch=4, learning_rate=2e-2), tmp_path)
    assert found is not None
    held, curve = found["held_out"], [row["loss"] for row in found["curve"]]
    assert curve[-1] < curve[0] / 2
    assert held["agreement"]["1"]["top1"] > 0.3
    assert held["accepted_length"] > 1.5
    assert found["settings"]["kind"] == "eagle3"
    again = train_drafter(job(target, data, tmp_path / "head", 60, batch=4, learning_rate=2e-2), tmp_path)
    assert again is not None
    assert again["resumed"] == [50]
    whole = train_drafter(job(target, data, tmp_path / "whole", 60, batch=4, learning_rate=2e-2), tmp_path)
    assert whole is not None
    with pytest.raises(TrainingError, match="another training"):
        train_drafter(job(target, data, tmp_path / "head", 60, unrolled=2), tmp_path)
    with pytest.raises(UsageError, match="different layers from 0 to"):
        train_drafter(job(target, data, tmp_path / "other", 60, states=(1, 99)), tmp_path)


TRAININGS = {
    "eagle3": QUICK, "koala": replace(QUICK, kind="koala", layers=2, adversarial=0.1),
    "parallel": replace(QUICK, kind="parallel"), "block": replace(QUICK, kind="block", layers=2, rows=0),
    "coral": replace(QUICK, kind="coral", rows=0),
}  # fmt: skip


@pytest.fixture(scope="module")
def heads(target: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Heads of all kinds that know the toy language."""
    parent = tmp_path_factory.mktemp("trained")
    data = write(parent / "said.jsonl", rows_of(240))

    def of(kind: str) -> Path:
        out = parent / kind
        if not out.exists():
            told = replace(TRAININGS[kind], batch=4, learning_rate=2e-2)
            asked = Job(str(target), [data], out, told, Limits(steps=60), every=0.0, threads=1)
            assert train_drafter(asked, parent) is not None
        return out

    return of


@pytest.fixture(scope="module")
def trained(heads: Callable[[str], Path]) -> Path:
    """One of them."""
    return heads("eagle3")


METHODS = {
    "draft-model": lambda name: DraftModelMethod(name, width=(2, 1), depth=4),
    "hierarchy": lambda name: HierarchyMethod(draft=name, ask="always"),
}


@pytest.mark.parametrize("engine", ["openvino", "hf"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", TRAININGS)
def test_it_drafts_for_its_target_and_changes_nothing(
    kind: str, engine: str, method: str, heads: Callable[[str], Path], target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head is a graph beside a graph, and a module beside a module."""
    trained = heads(kind)
    if engine == "hf":
        monkeypatch.setattr(load, "has_openvino", lambda: False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DraftWarning)
        loaded, _ = load_engine(str(target), engine=engine, dtype="float32", threads=1)
        drafter = METHODS[method](str(trained))
        Drafters(loaded).attach(drafter, Setup(Databases(), loaded.offers, loaded.vocab_size))
        made = _compiled(loaded)
        accepted = 0
        for row in rows_of(9):
            prompt = row["prompt_ids"] + row["output_ids"][:6]
            for temperature in (0.0, 0.7):
                sampling = Sampling(temperature=temperature, seed=3)
                expected, _ = run(loaded, PlainMethod(), prompt, chosen(loaded, 30, FixedBudget(0), sampling, prompt))
                got, steps = run(loaded, drafter, prompt, chosen(loaded, 30, FixedBudget(8), sampling, prompt))
                accepted += sum(step.accepted for step in steps)
                if temperature == 0.0 or method == "hierarchy":
                    assert got == expected
        assert accepted > 0
        assert _compiled(loaded) == made, "an answer waited for the graph to be compiled anew"
        drafter.close()


def _compiled(engine: Any) -> int:
    """How often a target's graph has been compiled."""
    return int(engine._cache._compiled.made) if engine.name == "openvino" else 0


@pytest.mark.parametrize("engine", ["openvino", "hf"])
@pytest.mark.parametrize("kind", TRAININGS)
def test_the_graph_says_what_the_trained_head_says(
    kind: str, engine: str, heads: Callable[[str], Path], known: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the folder, put together with its target; in eight bits its likeliest is among the first."""
    trained = heads(kind)
    if engine == "hf":
        monkeypatch.setattr(load, "has_openvino", lambda: False)
    opened = open_beside(str(trained))
    assert opened.reads is not None
    layers = opened.reads.layers
    own, kept = read_own(trained)
    head, _ = new_head(known, TRAININGS[kind], kept, len(layers))
    head.take(own)
    head.eval()
    one = documents(known, tmp_path, layers)[4]
    assert one.states is not None
    states = one.states.read(0, len(one.ids) - 1)
    _, best = head.chains(one.ids, one.start, np.array([len(one.ids) - 1], np.int32), states, head.unrolled, 5)
    split = np.split(states, len(layers), axis=1)
    text = HeadText(opened.engine, opened.reads)
    text.saw(Step([], DraftTree.empty(), [], np.empty(0, np.int32), prefill=True,
                  hidden={layer: [one] for layer, one in zip(layers, split, strict=True)}))  # fmt: skip
    (scored,) = opened.engine.forward([text.part(one.ids)])
    found = opened.engine.choices(scored.logits)
    found = found if opened.ids is None else opened.ids[found]
    assert len(found) == (head.unrolled if kind in AMONG else 1)
    for said, likely in zip(found.tolist(), best[0].tolist(), strict=False):
        assert said in likely[: 1 if engine == "hf" else 5]
    opened.close()


@pytest.mark.parametrize("kind", TRAININGS)
def test_a_training_goes_on_from_another_head(
    kind: str, heads: Callable[[str], Path], target: Path, tmp_path: Path
) -> None:
    first = heads(kind)
    told = replace(TRAININGS[kind], batch=4, learning_rate=1e-6, init=str(first))
    data = write(tmp_path / "said.jsonl", rows_of(240))
    asked = Job(str(target), [data], tmp_path / "next", told, Limits(steps=1), every=0.0, threads=1)
    found = train_drafter(asked, tmp_path)
    assert found is not None
    assert found["init"] == f"the head {first}"
    before = json.loads((first / "training.json").read_text())["held_out"]
    assert found["held_out"]["loss"] == pytest.approx(before["loss"], rel=0.02)
    assert found["held_out"]["agreement"]["1"] == pytest.approx(before["agreement"]["1"], abs=0.03)


def test_it_goes_on_from_nothing_else(
    trained: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said before the target has read anything."""
    data = write(tmp_path / "said.jsonl", rows_of(60))
    monkeypatch.setattr("hierdraft.training.train._Run._read", lambda *_: pytest.fail("the target was asked"))
    for init, more, says in (
        (str(tmp_path), {}, "no head that hierdraft has trained"),
        (str(target), {}, "no head that hierdraft has trained"),
        ("smollm2-tiny", {}, "no head that hierdraft has trained"),
        (str(trained), {"kind": "parallel"}, "of the kind eagle3"),
        (str(trained), {"states": (1,)}, "reads the layers"),
    ):
        with pytest.raises(UsageError, match=says):
            train_drafter(job(target, data, tmp_path / "out", init=init, **more), tmp_path)


def test_a_head_of_other_layers_is_not_gone_on_from(trained: Path, target: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "said.jsonl", rows_of(60))
    with pytest.raises(UsageError, match="other layers"):
        train_drafter(job(target, data, tmp_path / "out", layers=2, init=str(trained)), tmp_path)
    assert not (tmp_path / "out" / "config.json").exists()


def swapped(name: str, value: str) -> Callable[[bytes], bytes]:
    """Another value for what stands in config.json."""
    return lambda text: text.replace(f'"{name}": '.encode(), f'"{name}": {value}, "": '.encode())


def test_what_cannot_be_used_is_said_in_a_sentence(trained: Path, target: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a head, which drafts beside its target"):
        load_engine(str(trained))
    check_there(str(trained), tmp_path)
    for number, (name, change, told) in enumerate([
        ("config.json", lambda text: text.replace(b'"eagle3"', b'"eagle9"'), "'eagle9', which this version"),
        ("config.json", lambda text: text.replace(b'"states": [', b'"states": [-1, '), "which hidden states"),
        ("config.json", swapped("num_key_value_heads", "0"), "num_key_value_heads is '0'"),
        ("config.json", swapped("head_dim", "-1"), "head_dim is '-1'"),
        ("config.json", swapped("intermediate_size", '"9"'), "intermediate_size is '9'"),
        ("config.json", swapped("rope_parameters", "[]"), "rope_parameters"),
        ("config.json", swapped("rms_norm_eps", "0"), "rms_norm_eps"),
        ("config.json", lambda _: b"[" * 100_000, "not valid JSON"),
        ("config.json", lambda text: text.replace(b'"offsets": 1', b'"offsets": 2'), "how many tokens"),
        ("config.json", lambda text: text.replace(b'"hidden_size": ', b'"hidden_size": 1'), "damaged"),
        ("model.safetensors", lambda text: text[:100], "damaged"),
        ("config.json", lambda text: text.replace(b'"sha256": "', b'"sha256": "0'), "train it for this model"),
    ]):  # fmt: skip
        copy = tmp_path / str(number)
        shutil.copytree(trained, copy)
        (copy / name).write_bytes(change((copy / name).read_bytes()))  # type: ignore[no-untyped-call]
        with pytest.raises(ModelError, match=told) as raised:
            open_beside(str(copy))
        one_sentence(raised)


def test_the_command(target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIERDRAFT_CACHE_DIR", str(tmp_path / "cache"))
    data = write(tmp_path / "said.jsonl", rows_of(60))
    given = ["--model", str(target), "--data", str(data), "--out", str(tmp_path / "head"), "--rows", "60"]
    more = [*given, "--window", "64", "--steps", "2", "--held-out", "0.3", "--threads", "1", "--logprobs", "4"]
    done = CliRunner().invoke(app, ["train", "head", *more, "--states", "0,2", "--unrolled", "2", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["states"] == [0, 2]
    assert found["settings"]["unrolled"] == 2
    card = " ".join((tmp_path / "head" / "README.md").read_text().split())
    assert "behind its layers 0, 2, and goes on with its own, for which it was trained 2 steps ahead" in card
    block = [*more[:5], str(tmp_path / "block"), *more[6:]]
    done = CliRunner().invoke(app, ["train", "head", *block, "--kind", "parallel", "--unrolled", "3", "--json"])
    assert done.exit_code == 0, done.output
    assert "says 3 tokens in one call" in " ".join((tmp_path / "block" / "README.md").read_text().split())
    done = CliRunner().invoke(app, ["models", "list", "--caches"])
    assert "readings" in done.stdout
    out = tmp_path / "published"
    command = ["models", "convert", str(tmp_path / "head"), "--format", "speculators", "--out", str(out), "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["path"] == str(out)
    for wrong, told in (
        (["train", "head", *more, "--kind", "medusa"], "--kind must be eagle3, koala"),
        (["train", "head", *more, "--states", "2;3"], "--states must be numbers of layers"),
        (["models", "convert", str(tmp_path / "head"), "--format", "gguf"], "There is no format 'gguf'"),
        (["models", "convert", str(tmp_path / "head"), "--format", "speculators"], "takes --out"),
        (["models", "convert", str(tmp_path / "block"), "--format", "speculators", "--out", "x"], "no format for"),
        (["models", "convert", str(target), "--format", "specforge", "--out", str(out)], "no head that was trained"),
        (["generate", "w5 w6", "--model", str(tmp_path / "head")], "is a head, which drafts beside its target"),
    ):
        failed = CliRunner().invoke(app, wrong)
        assert isinstance(failed.exception, HierdraftError), failed.output
        assert told in str(failed.exception)


@pytest.mark.parametrize("rows", [0, 1, 5, FEW, FEW + 1])
def test_few_rows_are_fused_without_numpys_threads(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """These go on running in circles after a product, and the target's next forward takes twice as long beside them."""
    drawn = np.random.default_rng(rows)
    given = drawn.standard_normal((rows, 48)).astype(np.float32)
    weights = drawn.standard_normal((48, 16)).astype(np.float32)
    called: list[int] = []
    kernel = fusing._product
    monkeypatch.setattr(fusing, "_product", lambda *both: called.append(len(both[0])) or kernel(*both))
    found = fusing.product(given, weights)
    assert found.dtype == np.float32
    assert np.allclose(found, given @ weights, rtol=1e-4, atol=1e-4)
    assert called == ([rows] if rows <= FEW else [])
