"""A drafter is trained, stopped, killed, resumed, measured, stored, and put together with its target."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from hierdraft.cli.commands import app
from hierdraft.corpus.kept import pack_top
from hierdraft.databases.hashchain import ORDERS
from hierdraft.databases.pack import PackInfo, join, write_bare
from hierdraft.drafting.hierarchy.calibration import Calibration
from hierdraft.drafting.hierarchy.cells import opinion_cell
from hierdraft.drafting.hierarchy.method import HierarchyMethod
from hierdraft.errors import CorpusError, HierdraftError, ModelError, PackError, TrainingError, UsageError
from hierdraft.levels import code_of
from hierdraft.models import drafters
from hierdraft.models.cached import belonging_to, cached
from hierdraft.models.drafter_files import read_config, read_head, read_own
from hierdraft.models.load import load_engine, open_beside
from hierdraft.models.named import resolve
from hierdraft.protocols import Likely, Part
from hierdraft.text import tokenizer_fingerprint
from hierdraft.training import agreement
from hierdraft.training.documents import Document, kind_of, read_documents, split, worth_a_row
from hierdraft.training.drafter import Drafter, new_drafter
from hierdraft.training.rows import divergence
from hierdraft.training.settings import Limits, Training
from hierdraft.training.target import read_target
from hierdraft.training.train import Ears, Job, _alone, train_drafter
from hierdraft.training.windows import packed, window_of
from hierdraft.tree import DraftTree
from tests.lossless.tiny import CONFIGS, VOCABULARY, tiny
from tests.unit.model_shop import one_sentence

QUICK = Training(layers=2, rows=60, window=64, batch=2, learning_rate=5e-3, held_out=0.2)


def save_target(folder: Path, family: str = "llama") -> Path:
    """A tiny model with a tokenizer of words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    tiny(family, dtype=torch.float32).save_pretrained(folder)
    words = Tokenizer(WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w1").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_target(tmp_path_factory.mktemp("target") / "base")


def rows_of(count: int = 90, *, top: bool = False) -> list[dict[str, Any]]:
    """A language in which every token says which comes next, three answers to each prompt."""
    drawn, rows = np.random.default_rng(5), list[dict[str, Any]]()
    for number in range(count):
        at, said = (number // 3) % 47, list[int]()
        prompt = drawn.integers(3, 50, size=9).tolist() if number % 3 == 0 else rows[-1]["prompt_ids"]
        for _ in range(20 + number % 9):
            at = (at + 7) % 47
            said.append(at + 3)
        row = {"prompt_ids": prompt, "output_ids": [*said, 1]}
        if top:
            row["top"] = pack_top([Likely(0.0, ((token, -0.1), (2, -3.0))) for token in row["output_ids"]], 2)
        rows.append(row)
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "said.jsonl", rows_of())


def job(target: Path, data: Path, out: Path, steps: int = 12, **more: Any) -> Job:
    return Job(str(target), [data], out, replace(QUICK, **more), Limits(steps=steps), every=0.0, threads=1)


@pytest.fixture(scope="module")
def trained(target: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A drafter of 60 steps, and what was recorded of it."""
    out = tmp_path_factory.mktemp("trained") / "tiny"
    more = write(out.parent / "said.jsonl", rows_of(240))
    asked = job(target, more, out, 60, init="random", learning_rate=2e-2, batch=4)
    found = train_drafter(asked, out.parent)
    assert found is not None
    return out, found


def weights(out: Path) -> dict[str, Any]:
    return {name: one.tobytes() for name, one in load_file(out / "model.safetensors").items()}


def test_a_training_of_seconds_learns_a_toy_language(trained: tuple[Path, dict[str, Any]]) -> None:
    out, found = trained
    curve = [row["loss"] for row in found["curve"]]
    assert len(curve) == 60
    assert curve[-1] < curve[0] / 4
    held = found["held_out"]
    assert held["loss"] < curve[0] / 3
    assert held["agreement"]["1"]["top1"] > 0.6
    assert held["agreement"]["6"]["top8"] > 0.4
    assert held["accepted_length"] > 3
    assert json.loads((out / "training.json").read_text()) == found
    card = (out / "README.md").read_text()
    assert f"| 1 | {held['agreement']['1']['top1']:.3f} |" in card
    assert "said.jsonl" in card
    assert str(out.parent) not in card.replace(found["target"], "")
    assert {name.rpartition(".")[2] for name in load_file(out / "model.safetensors")} == {"weight"}
    assert (out / "model.safetensors").stat().st_size < 50_000


def test_resumed_equals_uninterrupted_and_a_finished_one_is_told_again(
    target: Path, data: Path, tmp_path: Path
) -> None:
    whole = train_drafter(job(target, data, tmp_path / "whole"), tmp_path)
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked in (8, 15)  # within a step, and between two

    found = None
    for _ in range(3):
        assert found is None
        found = train_drafter(job(target, data, tmp_path / "pieces"), tmp_path, Ears(stop=stop))
    assert whole is not None
    assert found is not None
    assert weights(tmp_path / "pieces") == weights(tmp_path / "whole")
    assert found["held_out"] == whole["held_out"]
    assert found["resumed"] == [3, 6]
    assert [row["loss"] for row in found["curve"]] == [row["loss"] for row in whole["curve"]]
    before = (tmp_path / "pieces" / "model.safetensors").stat().st_mtime_ns
    assert train_drafter(job(target, data, tmp_path / "pieces"), tmp_path) == found
    assert (tmp_path / "pieces" / "model.safetensors").stat().st_mtime_ns == before
    stored = train_drafter(job(target, data, tmp_path / "pieces", weights="int8"), tmp_path)
    assert stored is not None
    assert (stored["steps"], stored["settings"]["weights"]) == (12, "int8")
    assert weights(tmp_path / "pieces") != weights(tmp_path / "whole")
    longer = train_drafter(job(target, data, tmp_path / "pieces", 14), tmp_path)
    assert longer is not None
    assert longer["steps"] == 14


def test_a_killed_training_continues(target: Path, data: Path, tmp_path: Path) -> None:
    """kill -9 after a checkpoint, then SIGTERM, which leaves one, then the end: nothing differs from one run."""
    out, common = (
        tmp_path / "out",
        ["--window", "64", "--batch", "2", "--rows", "60", "--steps", "12", "--held-out", "0.2"],
    )
    command = ["train", "drafter", "--model", str(target), "--data", str(data), "--out", str(out), *common, "--json"]
    command += ["--learning-rate", "5e-3", "--threads", "1", "--checkpoint-seconds", "0"]
    process = subprocess.Popen([sys.executable, "-m", "hierdraft", *command], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert "step 1: loss" in process.stderr.readline()
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.communicate(timeout=60)
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["resumed"]) == 1
    assert found["bytes"] < 60_000
    whole = tmp_path / "whole"
    assert train_drafter(job(target, data, whole), tmp_path) is not None
    assert weights(out) == weights(whole)


@pytest.mark.parametrize(("family", "more"), [
    ("llama", {}), ("llama", {"weights": "int8", "rows": 0}), ("gpt2", {"layers": 1}), ("qwen3", {"rows": 97}),
    ("gemma3", {"init": "random"}),
])  # fmt: skip
def test_the_composed_model_is_the_one_that_was_trained(
    family: str, more: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    base = save_target(tmp_path / "base", family)
    out = tmp_path / "out"
    found = train_drafter(job(base, data, out, 3, **more), tmp_path)
    assert found is not None
    assert found["init"] == ("layers:0,3" if family == "llama" else "random")
    folder = resolve(str(out), tmp_path / "cache").path
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    known = read_target(str(base), base)
    kept = load_file(out / "kept.safetensors")["ids"] if (out / "kept.safetensors").exists() else None
    assert (kept is None) == (more.get("rows", 60) in (0, 97))
    ours = Drafter(
        {**known.config, "num_hidden_layers": found["settings"]["layers"]}, known.embedding, known.output, kept
    )
    ours.take(drafters.read_own(out)[0])
    ids = torch.randint(0, VOCABULARY, (30,), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        theirs = model(ids[None]).logits[0]
        hidden = ours.hidden(ids, torch.arange(30), torch.ones(30, 30).tril().bool())
        scores = ours.rows.scores(hidden)
        every = torch.arange(VOCABULARY).expand(30, -1)
        law = ours.rows.logprobs(scores, ours.rows.total(scores), every)
    torch.testing.assert_close(theirs[:, ours.kept], scores, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(theirs.log_softmax(-1), law, rtol=1e-4, atol=1e-4)


def test_every_engine_runs_it_as_any_model(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = trained
    monkeypatch.setenv("HIERDRAFT_CACHE_DIR", str(tmp_path / "cache"))
    prompt = rows_of()[0]["output_ids"][:12]
    engine, tokenizer = load_engine(str(out), engine="hf")
    assert engine.vocab_size == VOCABULARY
    assert len(tokenizer) == VOCABULARY
    monkeypatch.setattr(drafters, "shipped", lambda: {"toy-tiny": out})
    assert resolve("toy-tiny", tmp_path / "cache").path == resolve(str(out), tmp_path / "cache").path
    pytest.importorskip("openvino")
    from hierdraft.language_model import LanguageModel

    other, _ = load_engine(str(out), engine="openvino")
    asked: dict[str, Any] = {"max_new_tokens": 6, "method": "none"}
    answers = [LanguageModel(one, tokenizer, "tiny").generate(prompt, **asked) for one in (engine, other)]
    assert answers[0].token_ids == answers[1].token_ids


@pytest.mark.parametrize("kind", ["hf", "openvino"])
def test_it_drafts_with_the_output_rows_that_it_was_trained_with(
    kind: str, trained: tuple[Path, dict[str, Any]], target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "openvino":
        pytest.importorskip("openvino")
    from hierdraft.language_model import LanguageModel

    out, _ = trained
    kept = load_file(out / "kept.safetensors")["ids"]
    monkeypatch.setenv("HIERDRAFT_CACHE_DIR", str(tmp_path / "cache"))
    engine, tokenizer = load_engine(str(target), engine=kind)
    opened, (whole, _) = open_beside(str(out), engine), load_engine(str(out), engine=kind)
    assert opened.ids is not None
    assert opened.ids.tolist() == kept.tolist()
    assert opened.engine.vocab_size == VOCABULARY > len(kept)
    prompt = rows_of()[0]["output_ids"][:12]
    text = np.array(prompt, dtype=np.int32)
    rows = [one.forward([Part(one.open(reuse=None), text, DraftTree.empty())])[0] for one in (opened.engine, whole)]
    few, all_of_them = (one.values(row.logits, 0) for one, row in zip((opened.engine, whole), rows, strict=True))
    np.testing.assert_allclose(few, all_of_them[kept], rtol=1e-4, atol=1e-4)
    with LanguageModel(engine, tokenizer, "target") as model:
        plain = model.generate(prompt, max_new_tokens=24, method="none")
        for method in (f"draft-model:draft={out}", f"hierarchy:draft={out}"):
            drafted = model.generate(prompt, max_new_tokens=24, method=method, budget=6)
            assert drafted.token_ids == plain.token_ids
            assert drafted.by_level["draft"]["proposed"] > 0


def test_it_is_put_together_once_and_removed_with_the_cache(
    trained: tuple[Path, dict[str, Any]], target: Path, tmp_path: Path
) -> None:
    out, cache = tmp_path / "mine", tmp_path / "cache"
    shutil.copytree(trained[0], out)
    made = resolve(str(out), cache)
    assert made.name == "mine"
    before = (made.path / "config.json").stat().st_mtime_ns
    assert resolve(str(out), cache) == made
    assert (made.path / "config.json").stat().st_mtime_ns == before
    (row,) = [row for row in cached(cache) if row["kind"] == "drafter"]
    assert (row["what"], row["unused"]) == (f"{out}, with base", False)
    assert belonging_to(cached(cache), str(out), cache) == [row]
    stored = load_file(out / "model.safetensors")
    stored["model.norm.weight"] = stored["model.norm.weight"] * 2
    save_file(stored, out / "model.safetensors")
    assert resolve(str(out), cache).path != made.path
    assert sorted(row["unused"] for row in cached(cache) if row["kind"] == "drafter") == [False, True]


def _damage(folder: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    if name == "config.json":
        config = json.loads((folder / name).read_text())
        change(config)
        (folder / name).write_text(json.dumps(config))
    else:
        stored = load_file(folder / name)
        change(stored)
        save_file(stored, folder / name)


@pytest.mark.parametrize(("name", "change", "says"), [
    ("config.json", lambda c: c["hierdraft"].pop("sha256"), "does not say which model the drafter is for"),
    ("config.json", lambda c: c["hierdraft"].update(form=9), "another version"),
    ("config.json", lambda c: c["hierdraft"].update(target="nobody-knows"), "target of the drafter in .* no model"),
    ("config.json", lambda c: c["hierdraft"].update(sha256="0"), "which are not those in"),
    ("config.json", lambda c: c["hierdraft"].update(input="x"), "which are not those in"),
    ("config.json", lambda c: c.update(num_hidden_layers=3), "does not fit"),
    ("config.json", lambda c: c.update(hidden_size=64), "sizes are not its target's"),
    ("config.json", lambda c: c.update(num_attention_heads=0), "damaged"),
    ("model.safetensors", lambda w: w.pop("model.norm.weight"), "model.norm.weight does not fit"),
    ("model.safetensors", lambda w: w.update({"model.norm.weight": np.zeros(3, np.int8)}), "no scale"),
    ("kept.safetensors", lambda k: k.update(ids=k["ids"][::-1].copy()), "no rising ids"),
    ("kept.safetensors", lambda k: k.update(ids=k["ids"] + np.int32(90)), "sizes are not its target's"),
])  # fmt: skip
def test_a_damaged_folder_is_one_sentence(
    name: str, change: Callable[[dict[str, Any]], None], says: str, trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(trained[0], folder)
    _damage(folder, name, change)
    with pytest.raises(ModelError, match=says) as error:
        resolve(str(folder), tmp_path / "cache")
    one_sentence(error)
    assert not [path for path in (tmp_path / "cache").glob("drafters/*") if path.suffix != ".lock"]


def test_a_torn_file_and_a_loop_are_one_sentence(trained: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder = tmp_path / "torn"
    shutil.copytree(trained[0], folder)
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-7])
    with pytest.raises(ModelError, match="is damaged") as error:
        resolve(str(folder), tmp_path / "cache")
    one_sentence(error)
    _damage(folder, "config.json", lambda c: c["hierdraft"].update(target=str(folder)))
    with pytest.raises(ModelError, match="is a drafter itself"):
        resolve(str(folder), tmp_path / "cache")


def twin(drafter: Drafter, one: Document, places: list[int]) -> tuple[float, list[list[int]]]:
    """Cross-entropy and ranks, a whole pass for every token."""

    def law(ids: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            size = len(ids)
            hidden = drafter.hidden(torch.tensor(ids), torch.arange(size), torch.ones(size, size).tril().bool())
            scores = drafter.rows.scores(hidden[-1:])
            full = (
                torch.full((VOCABULARY,), float("-inf")) if len(drafter.kept) == VOCABULARY else torch.zeros(VOCABULARY)
            )
            full[drafter.kept] = scores[0]
            return full.log_softmax(-1)

    text, usable = one.ids.tolist(), set(drafter.kept.tolist())
    nats = -sum(float(law(text[:at])[text[at]]) for at in range(one.start, len(text)))
    ranks = []
    for place in places:
        ids, found = text[: place + 1], []
        for depth in range(1, agreement.DEPTH + 1):
            best = [token for token in law(ids).argsort(descending=True).tolist() if token in usable]
            found.append(min(best.index(text[place + depth]) if text[place + depth] in best else 99, 8))
            ids.append(best[0])
        ranks.append(found)
    return nats, ranks


@pytest.mark.parametrize("rows", [0, 40])
def test_held_out_figures_against_a_slow_twin(rows: int, target: Path) -> None:
    known = read_target(str(target), target)
    documents = [Document(np.array(row["prompt_ids"] + row["output_ids"], np.int32), 9) for row in rows_of(6)]
    kept = worth_a_row(documents, [0, 1], rows, VOCABULARY)
    drafter, _ = new_drafter(known, replace(QUICK, rows=rows), kept)
    drafter.eval()
    every, nats, tokens = [], 0.0, 0
    for one in documents:
        places = np.arange(8, len(one.ids) - agreement.DEPTH, 3).astype(np.int32)
        slow_nats, slow = twin(drafter, one, places.tolist())
        found, best = drafter.chains(one.ids, one.start, places, None, agreement.DEPTH, max(agreement.TOPS))
        ranks = agreement._ranks(best, one.ids, places)
        assert found == pytest.approx(slow_nats, rel=1e-4)
        assert np.minimum(ranks, 8).tolist() == slow
        every += slow
        nats, tokens = nats + slow_nats, tokens + len(one.ids) - 9
    found = agreement.measure(drafter, documents, 64, 0).record()
    assert found["loss"] == pytest.approx(nats / tokens, rel=1e-3)
    assert found["tokens"] == tokens
    assert found["chains"] == sum(min(16, len(one.ids) - agreement.DEPTH - 8) for one in documents)
    assert 1.0 <= found["accepted_length"] <= 7.0
    assert sum(rank < 8 for ranks in every for rank in ranks) > 0, "nothing agrees, so this shows nothing"


def test_windows_teach_every_token_once_and_none_sees_another_document(target: Path) -> None:
    known = read_target(str(target), target)
    lengths = [5, 20, 31, 32, 33, 64, 65, 100, 2, 7]
    drawn = np.random.default_rng(2)
    documents = [
        Document(drawn.integers(3, 90, size=size).astype(np.int32), start)
        for size, start in zip(lengths, [1, 3, 8, 8, 8, 1, 1, 40, 1, 6], strict=True)
    ]
    pieces = packed(documents, 32, seed=1)
    windows = [window_of(some) for some in pieces]
    assert sum(len(one.rows) for one in windows) == sum(len(one.ids) - one.start for one in documents), (
        "documents longer than half a window lose prompt tokens only"
    )
    assert len(windows) <= sum(lengths) // 32 + 3
    assert max(len(one.ids) for one in windows) <= 32
    drafter, _ = new_drafter(known, replace(QUICK, rows=0), None)
    whole = alone = 0.0
    with torch.inference_mode():
        for some, one in zip(pieces, windows, strict=True):
            whole += float(drafter.loss(one, 0.0).entropy)
            alone += sum(float(drafter.loss(window_of([piece]), 0.0).entropy) for piece in some)
    assert whole == pytest.approx(alone, rel=1e-4)

    def listed(seed: int) -> list[list[tuple[Any, ...]]]:
        return [[(one.begin, one.document.ids.tolist()) for one in some] for some in packed(documents, 32, seed)]

    assert listed(1) == listed(1)
    assert listed(1) != listed(2)


def test_the_divergence_from_likeliest_ids(target: Path) -> None:
    """All ids known: Kullback-Leibler's; some: at most that, the rest taken as one; the same law: none."""
    drawn = torch.Generator().manual_seed(3)
    p, q = (torch.randn(7, 20, generator=drawn).log_softmax(-1) for _ in range(2))
    full = (p.exp() * (p - q)).sum(-1)
    torch.testing.assert_close(divergence(q, p), full, rtol=1e-4, atol=1e-5)
    some = divergence(q[:, :5], p[:, :5])
    rest = [torch.log1p(-one[:, :5].exp().sum(-1)) for one in (p, q)]
    merged = (p[:, :5].exp() * (p - q)[:, :5]).sum(-1) + rest[0].exp() * (rest[0] - rest[1])
    torch.testing.assert_close(some, merged, rtol=1e-4, atol=1e-5)
    assert (some <= full + 1e-5).all()
    assert divergence(p, p).abs().max() < 1e-5


def test_likeliest_ids_take_part_in_the_loss(target: Path, tmp_path: Path) -> None:
    known = read_target(str(target), target)
    path = write(tmp_path / "said.jsonl", rows_of(6, top=True))
    from hierdraft.engines.hf.load import load_tokenizer

    documents, _ = read_documents([path], load_tokenizer(target), VOCABULARY)
    assert all(one.top is not None for one in documents)
    drafter, _ = new_drafter(known, QUICK, worth_a_row(documents, [], 30, VOCABULARY))
    for pieces in packed(documents, 64, 0):
        window = window_of(pieces)
        with torch.inference_mode():
            found = drafter.loss(window, 0.0)
        assert found.with_top == found.rows == len(window.rows)
        assert window.top is not None
        assert window.top[1][:, 0].tolist() == window.labels.tolist(), "each likeliest id stands at its place"
        assert float(found.divergence) > 0
    both = [
        train_drafter(job(target, path, tmp_path / str(share), 2, distill=share, held_out=0.4), tmp_path)
        for share in (0.0, 1.0)
    ]
    assert both[0] is not None
    assert both[1] is not None
    assert weights(tmp_path / "0.0") != weights(tmp_path / "1.0")


def test_the_split_shares_no_prompt_and_further_data_moves_nothing(target: Path, tmp_path: Path) -> None:
    from hierdraft.engines.hf.load import load_tokenizer

    tokenizer = load_tokenizer(target)
    rows = rows_of(60)
    path = write(tmp_path / "said.jsonl", [*rows, *rows[:5]])
    pack = tmp_path / "said.safetensors"
    info = PackInfo("model", VOCABULARY, tokenizer_fingerprint(tokenizer), licence="MIT")
    answers = [np.array(row["prompt_ids"][-8:] + row["output_ids"], np.int32) for row in rows[:30]]
    write_bare(pack, join(answers), info)
    text = tmp_path / "text.txt"
    text.write_text("w5 w6 w7 w8")
    chats = write(tmp_path / "chats.jsonl", [{"prompt": "w5 w6", "response": "w7 w8 w9"}])
    assert [kind_of(one) for one in (path, pack, text, chats)] == ["records", "pack", "text", "chats"]
    documents, sources = read_documents([pack, path, text, chats], tokenizer, VOCABULARY)
    assert [one.documents for one in sources] == [30, 65, 1, 1]
    assert sources[0].licence == "MIT"
    assert len(documents) == 62, "an answer in a pack and in a record is one document"
    learned, held_out = split(documents, 0.3, 0)
    assert len(learned) + len(held_out) == 62
    assert not {one.group for one in learned} & {one.group for one in held_out}
    prompts = [{tuple(one.ids[:9].tolist()) for one in some if one.start == 9} for some in (learned, held_out)]
    assert not prompts[0] & prompts[1]
    assert split(documents, 0.3, 1)[1] != held_out
    fewer = split(documents[:40], 0.3, 0)[1]
    assert {one.digest() for one in fewer} <= {one.digest() for one in held_out}
    with pytest.raises(TrainingError, match="leave none for measuring"):
        split(documents, 1e-6, 0)


def test_special_ids_have_rows_whatever_is_frequent() -> None:
    documents = [Document(np.array([9, 9, 9, 8, 8, 7, 50], np.int32), 1)]
    found = worth_a_row(documents, [2, 60], 4, VOCABULARY)
    assert found is not None
    assert found.tolist() == [2, 8, 9, 60]
    assert worth_a_row(documents, [2], 0, VOCABULARY) is None
    assert worth_a_row(documents, [2], VOCABULARY, VOCABULARY) is None


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["train", "drafter", *arguments])


def refused(arguments: list[str], kind: type[HierdraftError], says: str) -> None:
    done = run(*arguments)
    assert isinstance(done.exception, kind), done.output
    assert says in str(done.exception)
    assert "\n" not in str(done.exception)


def test_bad_input_is_one_sentence_each(
    target: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["--model", str(target), "--out", str(tmp_path / "out"), "--steps", "1"]
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    refused(given, UsageError, "No pack comes with")
    refused([*given, "--data", str(empty)], TrainingError, "nothing to learn from")
    refused([*given, "--data", str(tmp_path / "none.jsonl")], CorpusError, "none.jsonl")
    single = write(tmp_path / "single.jsonl", [{"prompt_ids": [5], "output_ids": []}])
    refused([*given, "--data", str(single)], TrainingError, "nothing to learn from")
    wrong = write(tmp_path / "wrong.jsonl", [{"prompt_ids": [5], "output_ids": [7, 4000]}])
    refused([*given, "--data", str(wrong)], CorpusError, "id 4000 is outside the vocabulary of 97")
    foreign = tmp_path / "foreign.safetensors"
    write_bare(foreign, join([np.array([1, 2, 3], np.int32)]), PackInfo("model", 97, "f" * 64, model="other"))
    refused([*given, "--data", str(foreign)], PackError, "was made for other")
    given += ["--data", str(data), "--held-out", "0.3"]
    refused([*given, "--held-out", "1"], UsageError, "--held-out must be between 0 and 1")
    refused([*given, "--init", "magic"], UsageError, "--init must be random, layers or")
    refused([*given, "--init", "layers:0"], UsageError, "names 1 layers and the drafter has 2")
    refused([*given, "--init", "layers:0,9"], UsageError, "numbered from 0 to 3")
    refused([*given, "--weights", "int3"], UsageError, "--weights must be float16 or int8")
    refused([*given[:4], "--epochs", "0", "--data", str(data)], UsageError, "--epochs must be above 0")
    openvino = tmp_path / "openvino"
    openvino.mkdir()
    (openvino / "openvino_model.xml").write_text("<net/>")
    (openvino / "openvino_model.bin").touch()
    refused(["--model", str(openvino), *given[2:]], UsageError, "is an OpenVINO folder")
    monkeypatch.setitem(sys.modules, "torch", None)
    refused(given, HierdraftError, "needs torch and transformers")
    assert not (tmp_path / "out").exists(), "nothing is made for what is refused"


def test_a_folder_of_something_else_is_left_alone(
    trained: tuple[Path, dict[str, Any]], target: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(trained[0], out)
    with pytest.raises(TrainingError, match="holds another training") as error:
        train_drafter(job(target, data, out, seed=3), tmp_path)
    one_sentence(error)
    (out / "checkpoint.safetensors").write_bytes(b"\x07\0\0\0\0\0\0\0garbage")
    with pytest.raises(TrainingError, match=r"cannot be used .* remove it to begin anew"):
        train_drafter(job(target, data, out), tmp_path)
    (out / "checkpoint.safetensors").unlink()
    with pytest.raises(TrainingError, match=r"no checkpoint\.safetensors to continue from"):
        train_drafter(job(target, data, out), tmp_path)
    with pytest.raises(TrainingError, match="holds other files"):
        train_drafter(job(target, data, data.parent), tmp_path)
    with pytest.raises(TrainingError, match="cannot be used"):
        train_drafter(job(target, data, data / "below-a-file"), tmp_path)
    with pytest.raises(UsageError, match="is a drafter"):
        train_drafter(job(out, data, tmp_path / "of-a-drafter"), tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(TrainingError, match="Not enough room"):
        train_drafter(job(target, data, tmp_path / "small"), tmp_path)


def test_a_full_disk_leaves_the_checkpoint_before(
    target: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hierdraft.training import checkpoint

    real, calls = checkpoint.write_file, []

    def full(*arguments: Any) -> None:
        calls.append(time.perf_counter())
        if len(calls) == 3:
            raise OSError(28, os.strerror(28))
        real(*arguments)

    monkeypatch.setattr(checkpoint, "write_file", full)
    with pytest.raises(TrainingError, match="No space left"):
        train_drafter(job(target, data, tmp_path / "out", 6), tmp_path)
    found = train_drafter(job(target, data, tmp_path / "out", 6), tmp_path)
    assert found is not None
    assert found["resumed"] == [2]


def test_families_have_what_a_drafter_needs_or_say_what_is_missing(tmp_path: Path) -> None:
    for family in CONFIGS:
        found = read_target("x", save_target(tmp_path / family, family))
        drafter, init = new_drafter(found, replace(QUICK, layers=1), None)
        assert init == ("layers:3" if family in ("llama", "mistral") else "random"), family
        ids = torch.tensor([5, 6, 7])
        assert drafter.hidden(ids, torch.arange(3), torch.ones(3, 3).tril().bool()).isfinite().all()


def test_two_trainings_into_one_folder_take_no_turns(target: Path, data: Path, tmp_path: Path) -> None:
    with _alone(tmp_path / "out", tmp_path), pytest.raises(TrainingError, match="Another training writes into"):
        train_drafter(job(target, data, tmp_path / "out"), tmp_path)
    with pytest.raises(UsageError, match="--seed must be from 0"):
        train_drafter(job(target, data, tmp_path / "out", seed=1 << 64), tmp_path)


@pytest.mark.parametrize(("name", "tokens", "first"), [("smollm2-tiny", 1e6, 0.5), ("smollm2-eagle", 6e5, 0.45)])
def test_what_comes_with_hierdraft(name: str, tokens: float, first: float) -> None:
    """The drafter and the head of the small model."""
    folder = drafters.shipped()[name]
    own, kept = read_own(folder)
    assert kept is not None
    assert sum(one.size for one in own.values()) < 8e6
    assert sum(file.stat().st_size for file in folder.iterdir()) < 15e6
    told = json.loads((folder / "training.json").read_text())
    assert told["target"] == read_config(folder)[1].target == "smollm2-135m"
    assert sum(source["tokens"] for source in told["data"]) > tokens
    assert told["held_out"]["agreement"]["1"]["top1"] > first
    assert (read_head(folder) is not None) == (name not in drafters.shipped_models()) == (name == "smollm2-eagle")


def test_what_its_opinions_are_worth_comes_too() -> None:
    calibration = Calibration((*HierarchyMethod().levels, "draft"))
    plain = Calibration()
    assert calibration.read_default()
    assert plain.read_default()
    of_opinions = [opinion_cell(code_of("draft"), rank, bucket) for rank in range(ORDERS) for bucket in range(16)]
    assert calibration.tried[of_opinions].sum() > 10 * plain.tried[of_opinions].sum()
