"""Every causal family of transformers, made small: drafted text against plain text, past windows, blocks and chunks.

python benchmarks/families.py [FAMILY ...]

Each family's configuration is made small by the names of its fields, with windows, blocks and chunks of 12 tokens and
random weights in float64 (float32 where experts or kernels know nothing else). `generate` writes 72 tokens with and
without drafts; the drafts are the right continuation hidden in trees of wrong ones. A model that says the same token
for ever may not repeat itself (`no_repeat_ngram_size`). Without arguments the record is
`benchmarks/families.json` and the table in `docs/families.md`; the exit code is the number of families that differ.
With `--again RESULT ...` those that ended so in the record are made anew, and the others stay as they are in it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import signal
import sys
import textwrap
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as FAMILIES

from common import ROOT, machine, write
from hierdraft.errors import HierdraftError
from hierdraft.hf import decode

sys.path.insert(0, str(ROOT))
from tests.lossless.drafters import HARMLESS

VOCABULARY = 97
WINDOW = 12
LIMIT = 72
LAYERS = 4
PROMPT = [5, 9, 11, 5, 9, 60, 61, 5, 9, 11, 8, 3]
SECONDS = 60
FILE = ROOT / "benchmarks" / "families.json"
FEW = 8

SIZES: dict[str, int] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "n_embd": 32, "d_model": 32, "dim": 32, "embedding_size": 32,
    "emb_dim": 32, "word_embed_proj_dim": 32, "intermediate_size": 48, "ffn_dim": 48, "n_inner": 48, "dff": 48,
    "decoder_ffn_dim": 48, "encoder_ffn_dim": 48, "d_inner": 48, "ffn_hidden_size": 48, "feed_forward_size": 48,
    "num_hidden_layers": LAYERS, "n_layer": LAYERS, "n_layers": LAYERS, "num_layers": LAYERS,
    "decoder_layers": LAYERS, "encoder_layers": LAYERS, "num_decoder_layers": LAYERS, "num_encoder_layers": LAYERS,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "decoder_attention_heads": 4,
    "encoder_attention_heads": 4, "num_decoder_attention_heads": 4, "num_encoder_attention_heads": 4,
    "num_key_value_heads": 2, "multi_query_group_num": 2, "head_dim": 8, "d_head": 8, "global_head_dim": 8,
    "rotary_dim": 4,
    "max_position_embeddings": 256, "n_positions": 256, "max_seq_len": 256, "n_ctx": 256, "max_source_positions": 256,
    "max_target_positions": 256, "seq_length": 256, "max_length": 256, "max_sequence_length": 256,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "moe_num_experts": 4, "moe_k": 2, "moe_topk": 2, "moe_num_shared_experts": 1, "n_shared_experts": 1,
    "shared_expert_intermediate_size": 24, "n_group": 1, "topk_group": 1, "num_experts_per_token": 2,
    "shared_intermediate_size": 24, "ffn_dim_mult": 1, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8, "v_head_dim": 8, "qk_head_dim": 12, "first_k_dense_replace": 1, "kv_channels": 8,
    "intermediate_size_mlp": 48, "query_pre_attn_scalar": 8, "attention_head_dim": 8, "attention_head_size": 8,
    "dense_intermediate_size": 48, "expert_ffn_hidden_size": 24, "zero_expert_num": 1, "lm_head_dim": 32,
    "vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 0,
    "index_n_heads": 2, "index_head_dim": 8, "index_topk": 8, "state_size": 4, "mamba_d_state": 4, "ssm_state_size": 4,
    "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_num_heads": 4, "mamba_head_dim": 8, "mamba_d_ssm": 32,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "lru_width": 32, "attention_hidden_size": 32, "attention_window_size": WINDOW, "time_step_rank": 4,
    "per_layer_config": 0, "dim_model": 32, "dim_ff": 48, "dim_head": 8, "bottleneck_size": 8,
}  # fmt: skip
"""Fields of configurations by name; what a family has of them is set."""

OTHER: dict[str, Any] = {
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "decoder_start_token_id": 1,
    "initializer_range": 0.4, "init_std": 0.4, "initializer_std": 0.4, "is_decoder": True, "use_cache": True,
    "is_encoder_decoder": False, "tie_word_embeddings": False, "use_sliding_window": True, "max_window_layers": 2,
    "forced_eos_token_id": None, "add_cross_attention": False, "sep_token_id": 3, "default_language": "en_XX",
}  # fmt: skip

SPANS = re.compile(r"window|chunk|block_size|span|stride|block_length|segment_len")
"""Names of fields that hold a window, block or chunk."""

CHANGES: tuple[dict[str, int], ...] = (
    {}, {"num_key_value_heads": 4}, {"num_key_value_heads": 4, "head_dim": 4, "qk_head_dim": 12},
    {"num_key_value_heads": 1},
)  # fmt: skip
"""What is tried one after another where sizes do not fit together."""

SPECIAL: dict[str, dict[str, Any]] = {
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "num_layers": 4},
    "reformer": {"attn_layers": ["local", "lsh"] * 2, "axial_pos_shape": [16, 16], "axial_pos_embds_dim": [16, 16],
                 "is_decoder": True, "local_attn_chunk_length": WINDOW, "lsh_attn_chunk_length": WINDOW},
    "xlm": {"causal": True, "n_langs": 1}, "xlnet": {"bi_data": False, "mem_len": None},
    "phi3": {"original_max_position_embeddings": 256}, "mpt": {"expansion_ratio": 2},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1},
    "bamba": {"mamba_n_heads": 8, "attn_layer_indices": [1, 3]},
    "granitemoehybrid": {"mamba_n_heads": 8, "layer_types": ["linear_attention", "full_attention"] * 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
}  # fmt: skip
"""What names do not tell."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", help="names of model types; all of them without")
    parser.add_argument("--again", nargs="+", choices=KINDS, default=[], help="make anew what ended so")
    args = parser.parse_args()
    before = json.loads(FILE.read_text(encoding="utf-8")) if args.again else {"families": {}}
    kept = {name: row for name, row in before["families"].items() if row["result"] not in args.again}
    chosen = args.families or [name for name in sorted(FAMILIES) if name not in kept]
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    record: dict[str, dict[str, str]] = {}
    for name in chosen:
        record[name] = found = judge(name)
        print(f"{name:<28} {found['result']:<10} {found.get('dtype', '')} {found.get('why', '')}", flush=True)
    if not args.families:
        record = dict(sorted({**kept, **record}.items()))
    counts = {kind: sum(row["result"] == kind for row in record.values()) for kind in KINDS}
    print(", ".join(f"{count} {kind}" for kind, count in counts.items()))
    if not args.families:
        ran = {"machine": machine(), "families": chosen}
        made = {"machine": before["machine"], "again": ran} if args.again else {"machine": ran["machine"]}
        write("families", {**made, "counts": counts, "families": record})
        (ROOT / "docs" / "families.md").write_text(page(record, counts), encoding="utf-8")
    sys.exit(counts["different"] + counts["error"])


KINDS = ("same", "refused", "different", "error", "not made")


def judge(name: str) -> dict[str, str]:
    """What becomes of one family."""
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(SECONDS)
    try:
        return _judge(name)
    except TimeoutError:
        return {"result": "not made", "why": f"takes more than {SECONDS} s"}
    finally:
        signal.alarm(0)


def _late(*_: Any) -> None:
    raise TimeoutError


def _judge(name: str) -> dict[str, str]:
    why = ""
    for dtype, change in itertools.product((torch.float64, torch.float32), CHANGES):
        try:
            model = small(name, dtype, change)
            truth = write_text(model)
            once = {"no_repeat_ngram_size": 2} if len(set(truth)) < FEW else {}
            truth = write_text(model, **once)
        except Exception as error:  # noqa: BLE001 - whatever a family raises, the next way to make it is tried
            why = why or f"{type(error).__name__}: {_line(error)}"
            continue
        row = {"class": type(model).__name__, "dtype": str(dtype).removeprefix("torch.")}
        try:
            same = all(write_text(model, drafts, **once) == truth for drafts in drafters(truth))
        except HierdraftError as error:
            return {"result": "refused", **row, "why": _line(error)}
        except Exception as error:  # noqa: BLE001 - an error is what is looked for
            return {"result": "error", **row, "why": f"{type(error).__name__}: {_line(error)}"}
        return {"result": "same" if same else "different", **row, "tokens": str(len(set(truth)))}
    return {"result": "not made", "why": why}


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else ""


def drafters(truth: list[int]) -> Iterator[Any]:
    """The right text in trees of wrong ones, with mistakes, alone; and what is drafted in earnest."""
    for kind in ("OracleInATree", "OracleWithOneError", "Oracle", "RandomTree"):
        yield HARMLESS[kind](VOCABULARY, PROMPT + truth, 7)
    yield "hierarchy"


def write_text(model: Any, drafts: Any = None, **options: Any) -> list[int]:
    """What the model says after the prompt, with or without drafts."""
    ids = torch.tensor([PROMPT])
    custom = {"custom_generate": decode(drafts, budget=9)} if drafts is not None else {}
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=LIMIT,
        do_sample=False,
        pad_token_id=0,
        **custom,
        **options,
    )
    return [int(token) for token in out[0, len(PROMPT) :]]


def small(name: str, dtype: torch.dtype, change: dict[str, int]) -> Any:
    """A random model of the family."""
    config_class = transformers.CONFIG_MAPPING[name]
    given = settings(config_class(), name)
    config = config_class(**given | {field: value for field, value in change.items() if field in given})
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    for weights in model.parameters():
        if weights.ndim > 1 and 0.0 <= float(weights.std()) < 0.1:
            torch.nn.init.normal_(weights, std=0.4)
    model.generation_config = transformers.GenerationConfig(pad_token_id=0)
    return model


def settings(config: Any, name: str = "") -> dict[str, Any]:
    """What to make the configuration of, from the fields it has by default."""
    given: dict[str, Any] = {}
    for field, value in config.to_dict().items():
        if field in SIZES and not isinstance(value, dict):
            given[field] = SIZES[field]
        elif field in OTHER:
            given[field] = OTHER[field]
        elif (SPANS.search(field) and isinstance(value, int) and not isinstance(value, bool) and value > 1) or (
            re.search(r"sliding_window|chunk_size", field) and value is None
        ):
            given[field] = WINDOW
        elif isinstance(value, dict) and hasattr(getattr(config, field), "to_dict"):
            given[field] = settings(getattr(config, field))
    return given | SPECIAL.get(name, {})


def page(record: dict[str, dict[str, str]], counts: dict[str, int]) -> str:
    """docs/families.md."""
    tried = len(record) - counts["not made"]
    blocks = [
        "# Families of transformers\n\n`python benchmarks/families.py` makes every causal family that transformers "
        f"{transformers.__version__} knows small, with windows, blocks and chunks of {WINDOW} tokens, and lets "
        f"`generate` write {LIMIT} tokens with and without `custom_generate`; it wrote this page from "
        f"`benchmarks/families.json`. Of {tried} model types that could be made small {counts['same']} say the same "
        f"with drafts, {counts['refused']} are refused by name, {counts['different']} differ and {counts['error']} end "
        "in another error. What is refused keeps working with its plain `generate()`.\n",
    ]
    by_type: dict[str, list[str]] = {}
    for name, row in record.items():
        if row["result"] == "same":
            by_type.setdefault(row["dtype"], []).append(f"`{name}`")
    for dtype, names in by_type.items():
        blocks.append(f"## The same text, compared in {dtype}\n\n{_wrapped(', '.join(names))}\n")
    for kind, title in (
        ("refused", "Refused"), ("different", "Another text"), ("error", "Another error"),
        ("not made", "Not made small"),
    ):  # fmt: skip
        rows = [(name, row["why"]) for name, row in record.items() if row["result"] == kind and "why" in row]
        if rows:
            table = "\n".join(f"| `{name}` | {why.replace('|', '/')} |" for name, why in rows)
            blocks.append(f"## {title}\n\n| model type | why |\n|---|---|\n{table}\n")
    return "\n".join(blocks)


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 118, break_long_words=False, break_on_hyphens=False))


if __name__ == "__main__":
    main()
