"""Heads that say several tokens in one call, while they are trained: all rows of all blocks at a time are what each is
by itself.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import Tensor

from hierdraft.errors import ModelError, UsageError
from hierdraft.models.drafter_files import AMONG, Head, config_of
from hierdraft.models.heads import whole_head
from hierdraft.training.block import BlockHead
from hierdraft.training.critic import Critic, expected
from hierdraft.training.documents import Document
from hierdraft.training.eagle import FADE
from hierdraft.training.learned import Learned
from hierdraft.training.rows import OutputRows
from hierdraft.training.settings import KINDS
from hierdraft.training.students import new_head
from hierdraft.training.target import Target, read_target
from hierdraft.training.windows import packed, window_of
from tests.lossless.tiny import VOCABULARY
from tests.unit.model_shop import one_sentence
from tests.unit.test_eagle import QUICK, documents
from tests.unit.test_training import save_target

BLOCK = replace(QUICK, unrolled=4)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Target:
    folder = save_target(tmp_path_factory.mktemp("target") / "base")
    return read_target(str(folder), folder)


def head_of(known: Target, kind: str, layers: int, kept: Any = None) -> BlockHead:
    head, _ = new_head(known, replace(BLOCK, kind=kind, layers=layers), kept, len(BLOCK.reads(known.depth)))
    assert isinstance(head, BlockHead)
    for name, one in head.body.named_parameters():
        if name.startswith("mask_"):
            torch.nn.init.normal_(one)
    return head.eval()


@torch.inference_mode()
def twin(head: BlockHead, kind: str, one: Document, place: int) -> list[Tensor]:
    """Scores of every offset after token `place`: text and block in one sequence, with the mask written out."""
    assert one.states is not None
    body: Any = head.body
    thoughts = body.fc(torch.from_numpy(one.states.read(0, len(one.ids) - 1)).float())
    text = torch.from_numpy(one.ids[1 : place + 1]).long()
    size, more = len(text), head.unrolled - 1
    embedded, features = head.embedding[text], thoughts[:size]
    if kind == "coral":
        asked = embedded[-1:].repeat(more, 1), features[-1:].repeat(more, 1)
    else:
        asked = body.mask_embeddings, body.mask_features
    embedded, states = torch.cat([embedded, asked[0]]), torch.cat([features, asked[1]])
    seen = torch.ones(size + more, size + more).tril().bool()
    if kind == "block":
        seen[size:] = True
    if kind == "coral":
        seen[size:, size:] = torch.eye(more).bool()
    positions = torch.arange(size + more)
    for number, layer in enumerate(body.layers):
        queries, keys, values = body.split(number, layer.given(states, embedded), positions)
        scores = ((queries @ keys.transpose(1, 2)) * queries.shape[-1] ** -0.5).masked_fill(~seen, -torch.inf)
        states = layer.rest(states, scores.softmax(-1) @ values)
    return [*head.rows.scores(body.norm(states[size - 1 :]))]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", AMONG)
def test_the_loss_against_a_slow_twin(kind: str, layers: int, known: Target, tmp_path: Path) -> None:
    head = head_of(known, kind, layers, np.arange(0, VOCABULARY, 2, dtype=np.int32))
    given = documents(known, tmp_path, BLOCK.reads(known.depth), 4)
    for pieces in packed(given, 128, 1):
        window = window_of(pieces)
        with torch.inference_mode():
            found = head.loss(window, 0.0)
        nats = [list[float]() for _ in range(head.unrolled)]
        for piece in pieces:
            one = piece.document
            for place in range(max(1, one.start - 1), len(one.ids) - 1):
                told = one.ids[place + 1 :]
                for step, scores in enumerate(twin(head, kind, one, place)[: len(told)]):
                    total = head.rows.total(scores[None])
                    wanted = torch.tensor([[int(told[step])]])
                    nats[step].append(-float(head.rows.logprobs(scores[None], total, wanted)))
        share = np.array([FADE**step for step in range(head.unrolled)])
        mean = sum(weight * np.mean(some) for weight, some in zip(share / share.sum(), nats, strict=True) if some)
        assert float(found.entropy) / found.rows == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize("kind", AMONG)
def test_what_it_says_against_a_slow_twin(kind: str, known: Target, tmp_path: Path) -> None:
    head = head_of(known, kind, 2, np.arange(1, VOCABULARY, 3, dtype=np.int32))
    one = documents(known, tmp_path, BLOCK.reads(known.depth))[4]
    assert one.states is not None
    places = np.array([20, 30, 50], dtype=np.int32)
    _, best = head.chains(one.ids, one.start, places, one.states.read(0, len(one.ids) - 1), 6, 3)
    assert best.shape == (3, 6, 3)
    assert (best[:, head.unrolled :] == -1).all()
    for place, rows in zip(places.tolist(), best.tolist(), strict=True):
        for scores, row in zip(twin(head, kind, one, place), rows, strict=False):
            assert head.kept[scores.topk(3).indices].tolist() == row


@pytest.mark.parametrize("kind", [*AMONG, "koala"])
def test_every_weight_learns(kind: str, known: Target, tmp_path: Path) -> None:
    layers = BLOCK.reads(known.depth)
    training = replace(BLOCK, kind=kind, layers=2, adversarial=0.5 if kind == "koala" else 0.0)
    head, _ = new_head(known, training, None, len(layers))
    found = head.loss(window_of(packed(documents(known, tmp_path, layers), 256, 1)[0]), 1.0)
    (found.entropy + found.divergence).backward()  # type: ignore[no-untyped-call]
    still = [name for name, one in head.body.named_parameters() if one.grad is None or not one.grad.abs().sum() > 0]
    assert still == []
    assert any(name.startswith("critic.") for name, _ in head.body.named_parameters()) == (kind == "koala")
    assert not any(name.startswith("critic.") for name in head.own())


def test_a_critic_teaches_the_head_to_be_taken_for_the_target() -> None:
    torch.manual_seed(1)
    critic, width = Critic(8), 8
    features, theirs = torch.randn(64, width), torch.randn(64, width) + 2.0
    ours = torch.randn(64, width).requires_grad_()
    plain = critic.loss(features, ours, theirs, 0.0)
    plain.backward()  # type: ignore[no-untyped-call]
    assert ours.grad is None, "before its time the head hears nothing"
    assert critic.first.weight.grad is not None
    before = critic.first.weight.grad.clone()
    critic.zero_grad()
    critic.loss(features, ours, theirs, 0.5).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(critic.first.weight.grad, before, msg="what the head wants is not the critic's aim")
    taken = critic._told(features, ours)
    moved = (ours - 10.0 * ours.grad).detach()  # type: ignore[operator]
    assert (critic._told(features, moved) > taken).float().mean() > 0.95
    for one in critic.parameters():
        one.data.zero_()
    critic.second.bias.data.fill_(1.0)
    critic.first.weight.data[0, width:], critic.second.weight.data[0, 0] = 1.0, 5.0
    sure = ours.detach().requires_grad_()
    critic.second.bias.data.fill_(-40.0)
    critic.loss(features, sure, theirs + 40.0, 0.5).backward()  # type: ignore[no-untyped-call]
    assert sure.grad is None, "a critic that is always right teaches nothing"


def test_expected_rows() -> None:
    output = torch.eye(3)
    places, logprobs = torch.tensor([[0, 2], [1, -1]]), torch.tensor([[0.5, 0.25], [0.1, 0.9]]).log()
    torch.testing.assert_close(expected(output, places, logprobs), torch.tensor([[2 / 3, 0.0, 1 / 3], [0.0, 1.0, 0.0]]))


def test_sampled_rows_are_right_on_average() -> None:
    """What a softmax divides by: those that are asked for exactly, and the others by those that stand for them."""
    torch.manual_seed(0)
    kept = np.arange(0, 300, 2, dtype=np.int32)
    rows, hidden = OutputRows(torch.randn(300, 8), kept), 0.3 * torch.randn(5, 8)
    scores = rows.rows.scores(hidden)
    whole = rows.rows.total(scores)
    wanted = torch.tensor([[4, 8, 3]]).repeat(5, 1)
    exact = rows.rows.logprobs(scores, whole, wanted)
    totals = []
    for seed in range(400):
        some = rows.some(wanted[0], 20, seed)
        assert len(some.output) == 22
        found = some.scores(hidden)
        totals.append(some.total(found).exp())
        torch.testing.assert_close(some.logprobs(found, whole, wanted), exact)
    torch.testing.assert_close(torch.stack(totals).mean(0), whole.exp(), rtol=0.05, atol=0.0)
    assert rows.some(wanted[0], 148, 0) is rows.rows
    everything = OutputRows(torch.randn(40, 8), None).some(torch.arange(5), 10, 1)
    assert torch.isinf(everything.others[-1])
    assert len(everything.output) == 15


def test_what_cannot_be_trained_is_refused() -> None:
    assert {*AMONG} < {*KINDS}
    for given, said in (
        ({"kind": "medusa"}, "--kind must be"), ({"kind": "block", "unrolled": 1}, "--unrolled must be from 2"),
        ({"kind": "coral", "adversarial": 0.1}, "--adversarial is for"), ({"adversarial": 2.0}, "from 0 to 1"),
        ({"kind": "koala", "adversarial": 0.1, "logprobs": 0}, "--adversarial is for"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            replace(QUICK, **given).check()  # type: ignore[arg-type]


def test_pieces_that_a_window_cuts(known: Target, tmp_path: Path) -> None:
    """The token after a piece's last one lies in another window: it is learned with the piece that it begins."""
    layers = BLOCK.reads(known.depth)
    given = documents(known, tmp_path, layers, 3)
    for kind, unrolled in (("eagle3", 3), ("block", 4)):
        head, _ = new_head(known, replace(BLOCK, kind=kind, unrolled=unrolled), None, len(layers))
        said = 0
        for pieces in packed(given, 16, 1):
            window = window_of(pieces)
            with torch.inference_mode():
                found = head.loss(window, 0.0)
            assert torch.isfinite(found.entropy)
            said += len(Learned(window).rows())
        whole = sum(len(Learned(window_of(some)).rows()) for some in packed(given, 512, 1))
        assert whole > said > 0.8 * whole


def test_masks_that_do_not_fit_are_damage(known: Target, tmp_path: Path) -> None:
    head = head_of(known, "parallel", 1)
    own = {**head.own()}
    for change in (
        {"mask_features": np.zeros((3, 7), np.float32)}, {"mask_features": None},
        {"mask_embeddings": np.zeros(3, np.float32)},
        {"mask_embeddings": np.zeros((2, own["mask_features"].shape[1]), np.float32)},
    ):  # fmt: skip
        folder = tmp_path / str(len([*tmp_path.iterdir()]))
        folder.mkdir()
        tensors = {name: one for name, one in {**own, **change}.items() if one is not None}
        config = config_of({**known.config, "num_hidden_layers": 1}, known.shared, Head("parallel", (1, 2), 4))
        (folder / "config.json").write_text(json.dumps(config))
        save_file(tensors, folder / "model.safetensors")
        with pytest.raises(ModelError, match="masks do not fit") as raised:
            whole_head(folder, known.path)
        one_sentence(raised)
