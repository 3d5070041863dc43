"""Models with recurrent states inside transformers' own `generate`: single prompts, batches, caches that continue."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hierdraft.errors import UsageError
from hierdraft.integrations.transformers import decode
from tests.lossless.drafters import HARMLESS
from tests.lossless.test_recurrent import ALONE
from tests.lossless.tiny import RECURRENT, VOCABULARY, tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*keeps recurrent states:RuntimeWarning")

PAD = 0
TEXTS = [np.random.default_rng(seed).integers(3, VOCABULARY, 5 + 13 * seed).tolist() for seed in range(4)]
CACHES = ("past_key_values", "cache_params")


def padded(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([[9] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


def write(model: Any, rows: list[list[int]], limit: int = 40, **options: Any) -> Any:
    torch.manual_seed(3)
    given = {"max_new_tokens": limit, "do_sample": False, "pad_token_id": PAD, **padded(rows)}
    return model.generate(**{**given, **options})


@pytest.mark.parametrize("name", RECURRENT)
def test_the_same_ids(name: str) -> None:
    model, row, limit = tiny(name), TEXTS[2], 12 if name in ALONE else 60
    plain = write(model, [row], limit)[0].tolist()
    for method in ("hierarchy", *(HARMLESS[kind](VOCABULARY, plain, 3) for kind in ("OracleInATree", "RandomTree"))):
        assert write(model, [row], limit, custom_generate=decode(method, budget=7))[0].tolist() == plain
    assert write(model, [row], limit, custom_generate=decode())[0].tolist() == plain


@pytest.mark.parametrize("name", RECURRENT)
def test_rows_of_a_batch_are_those_of_their_prompts_alone(name: str) -> None:
    model, limit = tiny(name), 12 if name in ALONE else 40
    ends = [write(model, [row], limit)[0, len(row) + limit // 3 * (place + 1) - 1].item() for place, row in
            enumerate(TEXTS[:2])]  # fmt: skip
    ours = write(model, TEXTS, limit, eos_token_id=ends, custom_generate=decode(budget=7))
    width = max(map(len, TEXTS))
    for row, found in zip(TEXTS, ours[:, width:].tolist(), strict=True):
        alone = write(model, [row], limit, eos_token_id=ends)[0, len(row) :].tolist()
        assert found == alone + [PAD] * (len(found) - len(alone))


@pytest.mark.parametrize("name", ["qwen3.5", "mamba2", "falcon-h1"])
def test_samples_are_those_without_drafts(name: str) -> None:
    model, options = tiny(name), {"do_sample": True, "temperature": 0.8, "top_k": 20}
    plain = write(model, [TEXTS[1]], **options, custom_generate=decode("none")).tolist()
    drafter = HARMLESS["OracleWithOneError"](VOCABULARY, plain[0], 3)
    assert write(model, [TEXTS[1]], **options, custom_generate=decode(drafter, budget=7)).tolist() == plain


def cached(layer: Any) -> list[torch.Tensor]:
    """All that a layer of any cache keeps."""
    found = [getattr(layer, kind, None) for kind in ("keys", "values")]
    for kind in ("conv_states", "recurrent_states"):
        found += getattr(layer, kind, {}).values()
    return [one for one in found if one is not None]


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize("end", [False, True])
def test_a_returned_cache_can_be_continued(name: str, end: bool) -> None:
    """Whatever was left to be scored again, and wherever a chain was cut by an end."""
    model, row = tiny(name), TEXTS[1]
    plain = write(model, [row], 20)[0].tolist()
    more: dict[str, Any] = {"return_dict_in_generate": True}
    if end:
        more["eos_token_id"] = plain[len(row) + 11]
    theirs = write(model, [row], 20, **more)
    for kind in ("Oracle", "OracleWithOneError"):
        drafts = decode(HARMLESS[kind](VOCABULARY, plain, 5), budget=6)
        ours = write(model, [row], 20, **more, custom_generate=drafts)
        assert ours.sequences.tolist() == theirs.sequences.tolist()
        for one, other in zip(ours.past_key_values.layers, theirs.past_key_values.layers, strict=True):
            for mine, wanted in zip(cached(one), cached(other), strict=True):
                torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["lfm2", "falcon-h1"])
def test_caches_of_a_batch(name: str) -> None:
    model, rows = tiny(name), TEXTS[:3]
    ends = write(model, [rows[0]], 30)[0, len(rows[0]) + 9].item()
    more = {"return_dict_in_generate": True, "eos_token_id": ends}
    ours = write(model, rows, 30, **more, custom_generate=decode(budget=6))
    length = ours.sequences.shape[1]
    for place, row in enumerate(rows):
        text = ours.sequences[place, max(map(len, rows)) - len(row) :]
        alone = model(text[None, :-1], use_cache=True).past_key_values
        for one, other in zip(ours.past_key_values.layers, alone.layers, strict=True):
            for mine, wanted in zip(cached(one), cached(other), strict=True):
                if mine.ndim == 4 and hasattr(one, "keys") and mine.shape[2] == length - 1:
                    mine = mine[:, :, -wanted.shape[2] :]
                torch.testing.assert_close(mine[place : place + 1], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["qwen3.5", "mamba2"])
def test_a_cache_that_holds_text_already_is_refused_by_name(name: str) -> None:
    model, row = tiny(name), TEXTS[1]
    first = write(model, [row], 5, return_dict_in_generate=True)
    given = {"cache_params" if name == "mamba2" else "past_key_values": first.past_key_values}
    with pytest.raises(UsageError, match="already holds text"):
        write(model, first.sequences.tolist(), 5, **given, custom_generate=decode(budget=6))
