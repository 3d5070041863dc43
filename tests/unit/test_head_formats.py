"""Heads in the formats of others: ours is written and read back, and theirs say what their own code says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from hierdraft.drafting.heads.text import numbers
from hierdraft.errors import HierdraftError, ModelError, UnsupportedModelError, UsageError
from hierdraft.models import load
from hierdraft.models.fusing import reads_of
from hierdraft.models.heads import composed, torch_head, whole_head
from hierdraft.models.load import load_engine, open_beside
from hierdraft.models.publishing import publish
from hierdraft.protocols import Part
from hierdraft.training.train import train_drafter
from hierdraft.tree import DraftTree
from tests.unit.model_shop import one_sentence
from tests.unit.test_eagle import job
from tests.unit.test_training import rows_of, save_target, write

NOTHING = DraftTree.empty()
SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 300, "max_position_embeddings": 256,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama with all ids": {"rows": 300},
    "llama of two layers": {"layers": 2, "norm_before_residual": True},
    "eagle 3.1": {"fc_norm": True, "norm_output": True},
    "gpt-oss": {"norm_before_fc": True},
    "qwen3": {"model_type": "qwen3"},
    "llama 3.1": {"rope_parameters": LLAMA3},
    "specforge": {"specforge": True},
}
"""Heads of published configurations, shrunk."""


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("targets")
    for name in ("llama", "qwen3"):
        save_target(folder / name)  # for its tokenizer
        torch.manual_seed(1)
        config = {"llama": LlamaConfig, "qwen3": Qwen3Config}[name](**SIZES, tie_word_embeddings=False)
        {"llama": LlamaForCausalLM, "qwen3": Qwen3ForCausalLM}[name](config).save_pretrained(folder / name)
    return {name: folder / name for name in ("llama", "qwen3")}


def head_of(folder: Path, target: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A head with random weights on disk; its weights by the names of speculators, and its configuration."""
    told = {"model_type": "llama", "rows": 120, "layers": 1, **KINDS[kind]}
    torch.manual_seed(2)
    width, rows, dim = SIZES["hidden_size"], told["rows"], SIZES["head_dim"]
    states = [1, 3, 5]
    shapes: dict[str, tuple[int, ...]] = {"fc": (width, 3 * width), "norm": (width,), "lm_head": (rows, width)}
    for layer in range(told["layers"]):
        given = width if layer else 2 * width
        attention, mlp = f"layers.{layer}.self_attn", f"layers.{layer}.mlp"
        shapes |= {
            f"{attention}.q_proj": (4 * dim, given), f"{attention}.k_proj": (2 * dim, given),
            f"{attention}.v_proj": (2 * dim, given), f"{attention}.o_proj": (width, 4 * dim),
            f"{mlp}.gate_proj": (96, width), f"{mlp}.up_proj": (96, width), f"{mlp}.down_proj": (width, 96),
            f"layers.{layer}.input_layernorm": (width,), f"layers.{layer}.post_attention_layernorm": (width,),
        }  # fmt: skip
        if told["model_type"] == "qwen3":
            shapes |= {f"{attention}.q_norm": (dim,), f"{attention}.k_norm": (dim,)}
    shapes["layers.0.hidden_norm"] = (width,)
    shapes |= {f"fc_norm.{place}": (width,) for place in range(3) if told.get("fc_norm")}
    shapes |= {"input_norm": (3 * width,)} if told.get("norm_before_fc") else {}
    found = {
        f"{name}.weight": torch.rand(shape) + 0.5 if len(shape) == 1 else torch.randn(shape) * shape[1] ** -0.5
        for name, shape in shapes.items()
    }
    ids = torch.arange(300) if rows == 300 else torch.randperm(300)[:rows].sort().values
    if rows < 300:
        known = torch.zeros(300, dtype=torch.bool)
        known[ids] = True
        found |= {"d2t": ids - torch.arange(rows), "t2d": known}
    rope = told.get("rope_parameters", {"rope_type": "default", "rope_theta": 10000.0})
    layers = {**SIZES, "model_type": told["model_type"], "num_hidden_layers": told["layers"], "rms_norm_eps": 1e-6,
              "attention_bias": False, "hidden_act": "silu", "attention_dropout": 0.0, "mlp_bias": False,
              "rope_parameters": rope}  # fmt: skip
    flags = {
        name: bool(told.get(name)) for name in ("fc_norm", "norm_before_fc", "norm_output", "norm_before_residual")
    }
    folder.mkdir()
    if told.get("specforge"):
        config = {**layers, "architectures": ["LlamaForCausalLMEagle3"], "draft_vocab_size": rows,
                  "eagle_config": {"eagle_aux_hidden_state_layer_ids": states}}  # fmt: skip
        save_file(
            {name.replace("layers.0.", "midlayer."): one for name, one in found.items()}, folder / "model.safetensors"
        )
    else:
        config = {
            "speculators_model_type": "eagle3", "architectures": ["Eagle3Speculator"], "draft_vocab_size": rows,
            **flags, "eagle_aux_hidden_state_layer_ids": states, "transformer_layer_config": layers,
            "speculators_config": {
                "algorithm": "eagle3", "default_proposal_method": "greedy",
                "proposal_methods": [{"proposal_type": "greedy", "speculative_tokens": 3}],
                "verifier": {"name_or_path": str(target), "architectures": ["LlamaForCausalLM"]},
            },
        }  # fmt: skip
        own = {"embed_tokens.weight": load_file(target / "model.safetensors")["model.embed_tokens.weight"]}
        save_file({**found, **own}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return found, config


@torch.inference_mode()
def plainly(
    found: dict[str, Tensor], config: dict[str, Any], embedding: Tensor, ids: list[int], states: Tensor
) -> tuple[Tensor, Tensor]:
    """(logits [T, K], what it hands on [T, H]) of a head, from the papers and formats, with transformers' layers."""
    from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding, apply_rotary_pos_emb

    layers = config.get("transformer_layer_config", config)
    width, dim, eps = SIZES["hidden_size"], SIZES["head_dim"], 1e-6

    def norm(name: str, given: Tensor) -> Tensor:
        one = LlamaRMSNorm(given.shape[-1], eps)
        one.weight.data = found[f"{name}.weight"]
        return one(given)

    if config.get("fc_norm"):
        states = torch.cat([norm(f"fc_norm.{n}", part) for n, part in enumerate(states.split(width, -1))], -1)
    if config.get("norm_before_fc"):
        states = norm("input_norm", states)
    hidden = states @ found["fc.weight"].T
    rotary = LlamaRotaryEmbedding(
        LlamaConfig(**{k: v for k, v in layers.items() if k not in ("model_type", "architectures")})
    )
    turns = rotary(hidden, torch.arange(len(ids))[None])
    for layer in range(layers["num_hidden_layers"]):
        name = f"layers.{layer}"
        if layer == 0:
            even = norm(f"{name}.hidden_norm", hidden)
            given = torch.cat([norm(f"{name}.input_layernorm", embedding[torch.tensor(ids)]), even], -1)
            hidden = even if config.get("norm_before_residual") else hidden
        else:
            given = norm(f"{name}.input_layernorm", hidden)
        query, key, value = (
            (given @ found[f"{name}.self_attn.{one}_proj.weight"].T).view(1, len(ids), -1, dim) for one in "qkv"
        )
        if f"{name}.self_attn.q_norm.weight" in found:
            query, key = norm(f"{name}.self_attn.q_norm", query), norm(f"{name}.self_attn.k_norm", key)
        query, key = apply_rotary_pos_emb(query.transpose(1, 2), key.transpose(1, 2), *turns)  # type: ignore[no-untyped-call]
        attended = torch.nn.functional.scaled_dot_product_attention(
            query, key, value.transpose(1, 2), is_causal=True, enable_gqa=True
        )
        hidden = hidden + attended.transpose(1, 2).flatten(2)[0] @ found[f"{name}.self_attn.o_proj.weight"].T
        inner = norm(f"{name}.post_attention_layernorm", hidden)
        gate, up = (inner @ found[f"{name}.mlp.{one}_proj.weight"].T for one in ("gate", "up"))
        hidden = hidden + (torch.nn.functional.silu(gate) * up) @ found[f"{name}.mlp.down_proj.weight"].T
    final = norm("norm", hidden)
    return final @ found["lm_head.weight"].T, final if config.get("norm_output") else hidden


@pytest.mark.parametrize("engine", ["openvino", "hf"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_published_head_says_what_it_should(
    kind: str, engine: str, targets: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = targets["qwen3" if kind == "qwen3" else "llama"]
    found, config = head_of(tmp_path / "head", target, kind)
    parts, embedding, output = whole_head(tmp_path / "head", target)
    assert parts.states == (1, 3, 5)
    if "d2t" in found:
        assert parts.ids is not None
        assert parts.ids.tolist() == (found["d2t"] + torch.arange(len(found["d2t"]))).tolist()
        assert sorted(parts.ids.tolist()) == found["t2d"].nonzero()[:, 0].tolist()
    opened_engine, _ = load_engine(str(target), engine="hf", dtype="float32", threads=1)
    if engine == "hf":
        monkeypatch.setattr(load, "has_openvino", lambda: False)
    opened = open_beside(str(tmp_path / "head"), opened_engine)
    assert opened.reads is not None
    drawn = np.random.default_rng(1)
    ids, states = drawn.integers(0, 300, 9).tolist(), drawn.standard_normal((9, 3, 64)).astype(np.float32)
    features = opened.reads.fuse([states[:, n] for n in range(3)])
    logits, hidden = plainly(found, config, torch.from_numpy(embedding), ids, torch.from_numpy(states).flatten(1))
    last = opened.engine.offers.layers
    part = Part(opened.engine.open(reuse=None), np.array(ids, np.int32), NOTHING, 9, (last,), features)
    scored = opened.engine.forward([part])[0]
    scale = float(logits.abs().max())
    assert scored.logits.shape == (9, len(output))
    allowed = 0.06 if engine == "openvino" else 1e-4  # there in eight bits
    assert np.abs(np.asarray(scored.logits) - logits.numpy()).max() < allowed * scale
    np.testing.assert_allclose(scored.hidden[last], hidden.numpy(), atol=allowed * float(hidden.abs().max()))
    tree, above = DraftTree.build([4, 7, 9], [-1, -1, 0]), scored.hidden[last][[-1, -1]]
    sequence = part.sequence
    first = Part(sequence, np.empty(0, np.int32), tree.prefix(2), 0, (last,), numbers(above))
    beside = numbers(opened.engine.forward([first])[0].hidden[last])
    second = Part(sequence, np.empty(0, np.int32), tree, 0, (last,), beside[:1])
    found_last = opened.engine.values(opened.engine.forward([second])[0].logits, 0)
    sequence.commit([])
    plain = Part(
        sequence, np.array([4, 9], np.int32), NOTHING, 1, (last,), np.concatenate([numbers(above)[:1], beside[:1]])
    )
    again = opened.engine.values(opened.engine.forward([plain])[0].logits, 0)
    assert np.abs(found_last - again).max() < max(allowed, 1e-3) * scale  # fewer rows may be computed in another way
    several = [
        Part(opened.engine.open(reuse=None), np.array(ids[:count], np.int32), NOTHING, 1, (last,), features[:count])
        for count in (9, 4)
    ]
    for one, count in zip(opened.engine.forward(several), (9, 4), strict=True):
        assert np.abs(opened.engine.values(one.logits, 0) - logits[count - 1].numpy()).max() < allowed * scale
    opened.close()


def test_ours_in_their_formats_and_back(tmp_path: Path) -> None:
    target = save_target(tmp_path / "base")
    data = write(tmp_path / "said.jsonl", rows_of(60))
    assert train_drafter(job(target, data, tmp_path / "head", 2), tmp_path) is not None
    ours, table, rows = whole_head(tmp_path / "head", target)
    for form in ("speculators", "specforge"):
        out = publish(str(tmp_path / "head"), form, tmp_path / form, tmp_path)
        theirs, their_table, their_rows = whole_head(out, target)
        assert (theirs.states, theirs.even, theirs.hands_on) == (ours.states, False, False)
        np.testing.assert_array_equal(theirs.ids, ours.ids)
        np.testing.assert_array_equal(their_table, table)
        np.testing.assert_array_equal(their_rows, rows)
        assert set(theirs.own) == set(ours.own)
        for name, one in ours.own.items():
            np.testing.assert_array_equal(theirs.own[name], one)
        made = composed(out, target, tmp_path), composed(tmp_path / "head", target, tmp_path)
        assert reads_of(made[0], 9).layers == reads_of(made[1], 9).layers
        with pytest.raises(UsageError, match="is there already"):
            publish(str(tmp_path / "head"), form, out, tmp_path)
    with pytest.raises(UsageError, match="no head that was trained here"):
        publish(str(tmp_path / "speculators"), "specforge", tmp_path / "again", tmp_path)
    with pytest.raises(ModelError, match="does not say which model it is for"):
        publish(str(tmp_path / "specforge"), "speculators", tmp_path / "again", tmp_path)


@pytest.mark.parametrize(
    ("changes", "kind", "told"),
    [({"speculators_model_type": "dflash"}, UnsupportedModelError, "dflash"),
     ({"transformer_layer_config": {**SIZES, "model_type": "mamba"}}, UnsupportedModelError, "mamba"),
     ({"transformer_layer_config": {**SIZES, "rope_parameters": {"rope_type": "yarn"}}}, UnsupportedModelError, "yarn"),
     ({"transformer_layer_config": {**SIZES, "hidden_size": 32}}, ModelError, "damaged"),
     ({"eagle_aux_hidden_state_layer_ids": [1, 2]}, ModelError, "damaged"),
     ({"fc_norm": True}, ModelError, "damaged"),
     ({"transformer_layer_config": {**SIZES, "num_attention_heads": 8}}, ModelError, "damaged")],
)  # fmt: skip
def test_what_is_not_known_is_refused(
    changes: dict[str, Any], kind: type[HierdraftError], told: str, targets: dict[str, Path], tmp_path: Path
) -> None:
    _, config = head_of(tmp_path / "head", targets["llama"], "llama")
    (tmp_path / "head" / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(kind, match=told) as raised:
        composed(tmp_path / "head", targets["llama"], tmp_path)
    one_sentence(raised)


@pytest.mark.parametrize("engine", ["openvino", "hf"])
def test_rows_of_ids_that_are_not_there(engine: str, targets: dict[str, Path], tmp_path: Path) -> None:
    def make(head: Path, target: Path) -> Any:
        return composed(head, target, tmp_path) if engine == "openvino" else torch_head(head, target, "cpu", "float32")

    found, _ = head_of(tmp_path / "head", targets["llama"], "specforge")
    for change in ({"d2t": found["d2t"] + 250}, {"d2t": found["d2t"] * 0 - 1}, {"d2t": None}):
        kept = {name: one for name, one in {**found, **change}.items() if one is not None}
        save_file(kept, tmp_path / "head" / "model.safetensors")
        with pytest.raises(ModelError, match="damaged") as raised:
            make(tmp_path / "head", targets["llama"])
        one_sentence(raised)
