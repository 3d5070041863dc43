"""What a model's folder says about generation: drafted, plain and transformers' own greedy ids are the same."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t

import hierdraft
from hierdraft.engines.generation_config import GenerationDefaults
from hierdraft.engines.generation_keys import HONOURED, NOT_WHEN_SAMPLING, REFUSED, WHEN_SAMPLING, WITHOUT_EFFECT
from hierdraft.errors import GenerationConfigWarning, HierdraftError, UsageError
from tests.unit.tokenizer_kinds import byte_level

PROMPT = [17, 40, 99, 17, 40]
SMALL: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256, "bos_token_id": None,
    "eos_token_id": None, "pad_token_id": None, "initializer_range": 0.4,
}  # fmt: skip


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shelf") / "model"
    torch.manual_seed(0)
    tokenizer = byte_level()
    config = t.LlamaConfig(vocab_size=len(tokenizer), **SMALL)
    t.AutoModelForCausalLM.from_config(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def says(shelf: Path, said: Any, name: str = "generation_config.json") -> str:
    """The model's folder with such a generation_config.json (None: without one)."""
    if name == "generation_config.json":
        (shelf / name).unlink(missing_ok=True)
    if said is not None:
        (shelf / name).write_text(said if isinstance(said, str) else json.dumps(said))
    return str(shelf)


def load(path: str, **more: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GenerationConfigWarning)
        return hierdraft.load(path, engine="hf", learn=False, **more)


def theirs(path: str, prompt: list[int], **more: Any) -> list[int]:
    model = t.AutoModelForCausalLM.from_pretrained(path).eval()
    ids = torch.tensor([prompt])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=0, **more)
    return [int(token) for token in out[0, len(prompt) :]]


@pytest.fixture(scope="module")
def greedy(shelf: Path) -> list[int]:
    """What the model says without any of it: the settings below are made to change that."""
    return theirs(says(shelf, {"eos_token_id": -1}), PROMPT, max_new_tokens=40)


def settings(said: list[int]) -> dict[str, dict[str, Any]]:
    """`said`: the plain greedy answer."""
    first, second, third, end = said[0], said[1], said[2], said[6]
    return {
        "repetition_penalty": {"repetition_penalty": 1.7},
        "repetition_penalty below 1": {"repetition_penalty": 0.6},
        "encoder_repetition_penalty": {"encoder_repetition_penalty": 1.9},
        "no_repeat_ngram_size": {"no_repeat_ngram_size": 2},
        "no_repeat_ngram_size of one": {"no_repeat_ngram_size": 1},
        "encoder_no_repeat_ngram_size": {"encoder_no_repeat_ngram_size": 1},
        "suppress_tokens": {"suppress_tokens": [first, second, -1, 10**6]},
        "begin_suppress_tokens": {"begin_suppress_tokens": [first]},
        "bad_words_ids": {"bad_words_ids": [[first], [second, third], [end]], "eos_token_id": end},
        "sequence_bias": {"sequence_bias": [[[first], -3.0], [[second, third], -50.0], [[7], 1.5]]},
        "eos": {"eos_token_id": end},
        "several eos": {"eos_token_id": [end, third]},
        "min_length": {"eos_token_id": end, "min_length": 20},
        "min_new_tokens": {"eos_token_id": end, "min_new_tokens": 12},
        "min_new_tokens replaces min_length": {"eos_token_id": end, "min_new_tokens": 0, "min_length": 30},
        "forced_eos_token_id": {"forced_eos_token_id": 7},
        "several forced_eos_token_id": {"forced_eos_token_id": [9, 7]},
        "exponential_decay_length_penalty": {"eos_token_id": 5, "exponential_decay_length_penalty": [4, 1.3]},
        "remove_invalid_values": {"remove_invalid_values": True, "bad_words_ids": [[first]], "no_repeat_ngram_size": 1},
        "renormalize_logits": {"renormalize_logits": True, "repetition_penalty": 1.2},
        "nothing": {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "typical_p": 0.5, "length_penalty": 2.0},
        "all at once": {
            "eos_token_id": end, "min_new_tokens": 9, "repetition_penalty": 1.2, "no_repeat_ngram_size": 3,
            "suppress_tokens": [first], "begin_suppress_tokens": [second], "forced_eos_token_id": 7,
            "bad_words_ids": [[third, end]], "sequence_bias": [[[second], -1.0]],
        },
    }  # fmt: skip


@pytest.mark.parametrize("name", settings([0] * 40))
def test_every_setting_is_done_as_transformers_does_it(name: str, shelf: Path, greedy: list[int]) -> None:
    path = says(shelf, {"eos_token_id": -1, **settings(greedy)[name]})
    prompt = [*PROMPT, *greedy[:12]] if name.startswith("encoder") else PROMPT
    want = theirs(path, prompt, max_new_tokens=40)
    model = load(path)
    drafted, plain = (model.generate(prompt, max_new_tokens=40, method=m, budget=8) for m in ("hierarchy", "none"))
    assert drafted.token_ids == plain.token_ids == want
    off = load(path, generation_config=False).generate(prompt, max_new_tokens=40, ignore_eos=True)
    assert (off.token_ids == want) == (name == "nothing")
    assert prompt != PROMPT or off.token_ids == greedy


@pytest.mark.parametrize("prompt", [[17], [17, 40]])
def test_forced_first_tokens(shelf: Path, prompt: list[int]) -> None:
    path = says(shelf, {"eos_token_id": None, "forced_bos_token_id": 9, "begin_suppress_tokens": [9, 30, 31]})
    want = theirs(path, prompt, max_new_tokens=12)
    assert load(path).generate(prompt, max_new_tokens=12, budget=8).token_ids == want
    assert (want[0] == 9) == (len(prompt) == 1)


@pytest.mark.parametrize(
    ("said", "new"), [({}, 256 - 5), ({"max_length": 30}, 25), ({"max_new_tokens": 11}, 11), ({"max_length": 20}, 15)]
)
def test_limits_hold_where_a_request_has_none(shelf: Path, said: dict[str, Any], new: int) -> None:
    model = load(says(shelf, {"eos_token_id": -1, **said}))
    assert len(model.generate(PROMPT).token_ids) == new
    assert len(model.generate(PROMPT, max_new_tokens=3).token_ids) == 3
    if "max_length" in said:
        with pytest.raises(UsageError, match="give max_new_tokens"):
            model.stream([1] * 40)


def test_stop_strings_of_the_folder(shelf: Path, greedy: list[int]) -> None:
    whole = load(says(shelf, {"eos_token_id": None})).generate(PROMPT, max_new_tokens=40).text
    string = next(whole[i : i + 2] for i in range(3, 20) if "\ufffd" not in whole[i : i + 2])
    run = load(says(shelf, {"eos_token_id": None, "stop_strings": [string]})).generate(PROMPT, max_new_tokens=40)
    assert (run.text, run.finish) == (whole[: whole.index(string)], "stop")


def test_a_request_that_samples_takes_what_it_does_not_set(shelf: Path) -> None:
    path = says(shelf, {"do_sample": True, "temperature": 2.0, "top_k": 3, "top_p": 0.8, "repetition_penalty": 1.3})
    model, bare = load(path), load(path, generation_config=False)
    options = {"max_new_tokens": 40, "seed": 5, "temperature": 0.9}
    want = bare.generate(PROMPT, top_k=3, top_p=0.8, repetition_penalty=1.3, **options).token_ids
    assert model.generate(PROMPT, **options).token_ids == want
    own = {**options, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}
    assert model.generate(PROMPT, **own).token_ids == bare.generate(PROMPT, **options).token_ids != want
    assert model.generate(PROMPT, max_new_tokens=20).seed is None
    refuses = load(says(shelf, {"do_sample": True, "typical_p": 0.5, "eta_cutoff": 0.1}))
    with pytest.raises(UsageError, match="typical_p, eta_cutoff"):
        refuses.stream(PROMPT, temperature=1.0)


def test_every_key_of_transformers_has_a_place() -> None:
    """A key that a newer transformers knows fails here: does it change what is said?"""
    ours = [*HONOURED, *WHEN_SAMPLING, *NOT_WHEN_SAMPLING, *REFUSED, *WITHOUT_EFFECT]
    known = {key for key in vars(t.GenerationConfig()) if not key.startswith("_")}
    assert known - set(ours) == set()
    assert len(ours) == len(set(ours))


REFUSALS = {
    "num_beams": 4, "num_return_sequences": 2, "penalty_alpha": 0.6, "dola_layers": "low", "guidance_scale": 1.5,
    "constraints": [1], "force_words_ids": [[1]], "watermarking_config": {"bias": 2.0}, "token_healing": True,
    "max_time": 3.0, "cache_implementation": "quantized",
}  # fmt: skip


def test_what_is_not_done_is_refused_by_name(shelf: Path) -> None:
    assert set(REFUSALS) == set(REFUSED)
    for key, value in REFUSALS.items():
        says(shelf, {key: value})
        with pytest.raises(HierdraftError, match=f"{key}.*generation_config=False") as error:
            GenerationDefaults.read(shelf)
        assert "\n" not in str(error.value)
        assert GenerationDefaults.read(shelf, eos_only=True) == GenerationDefaults()


@pytest.mark.parametrize("key", HONOURED)
def test_values_that_cannot_be_are_refused(shelf: Path, key: str) -> None:
    wrong = ["x", -1, 1.5, [["x"]], {"a": 1}, [1, [2]], [-1.5]]
    for value in [*wrong, True] if key not in ("remove_invalid_values", "renormalize_logits") else wrong:
        if (key.endswith("penalty") and value == 1.5) or (key == "stop_strings" and value == "x"):
            continue
        says(shelf, {key: value})
        with pytest.raises(HierdraftError, match=f"{key} in .* must be") as error:
            GenerationDefaults.read(shelf)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("written", ["{", "[]", "3", '"x"', "", "\x00"])
def test_damaged_files_are_one_sentence(shelf: Path, written: str) -> None:
    with pytest.raises(HierdraftError, match="restore or delete it") as error:
        load(says(shelf, written))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "said",
    [{"bad_words_ids": [[10**6]]}, {"sequence_bias": [[[10**6], 1.0]]}, {"forced_bos_token_id": 10**6},
     {"forced_eos_token_id": [3, 10**6]}],
)  # fmt: skip
def test_ids_past_the_vocabulary(shelf: Path, said: dict[str, Any]) -> None:
    with pytest.raises(HierdraftError, match="1000000, outside the vocabulary"):
        load(says(shelf, said))


@pytest.mark.parametrize(
    ("value", "ids"),
    [(None, (0,)), (3, (3,)), ([3, 4, 3], (3, 4)), ([[3], [4]], (3, 4)), (-1, ()), ([-1, 5], (5,)), (10**6, ()),
     (2.0, (2,)), (2.7, (2,)), ([], ()), (True, (1,))],
)  # fmt: skip
def test_where_answers_end(shelf: Path, value: Any, ids: tuple[int, ...]) -> None:
    """The tokenizer says 0, and is asked where the folder says nothing."""
    model = load(says(shelf, {"eos_token_id": value}))
    assert model.engine.eos_ids == ids
    assert len(model.generate(PROMPT, max_new_tokens=3).token_ids) <= 3


@pytest.mark.parametrize("value", ["3", [["x"]], {"a": 1}, float("inf"), float("nan")])
def test_an_end_that_is_no_number(shelf: Path, value: Any) -> None:
    with pytest.raises(HierdraftError, match=r"eos_token_id.* must be a number"):
        load(says(shelf, {"eos_token_id": value}))


def test_without_the_file_the_models_own_configuration_counts(shelf: Path) -> None:
    config = json.loads((shelf / "config.json").read_text())
    for said, eos in (({"eos_token_id": 5}, (5,)), ({"eos_token_id": [6, 7]}, (6, 7)), ({"max_length": 20}, (0,))):
        says(shelf, {**config, **said}, "config.json")
        model = load(says(shelf, None))
        assert model.engine.eos_ids == eos
        assert model.defaults.limit(5, 256) == 256
    says(shelf, config, "config.json")


def test_one_line_says_what_is_taken_over(shelf: Path) -> None:
    path = says(shelf, {"repetition_penalty": 1.3, "do_sample": True, "temperature": 0.6, "top_p": 0.9})
    with pytest.warns(GenerationConfigWarning) as told:
        hierdraft.load(path, engine="hf", learn=False)
    (line,) = [str(one.message) for one in told if one.category is GenerationConfigWarning]
    assert "repetition_penalty 1.3 taken over" in line
    assert "do_sample, temperature 0.6: answers are greedy unless a temperature is given" in line
    assert "top_p 0.9" in line
    with warnings.catch_warnings():
        warnings.simplefilter("error", GenerationConfigWarning)
        hierdraft.load(says(shelf, {"eos_token_id": 3, "use_cache": True}), engine="hf", learn=False)


def test_openvino_does_the_same(shelf: Path, greedy: list[int]) -> None:
    pytest.importorskip("openvino")
    path = says(shelf, settings(greedy)["all at once"])
    want = theirs(path, PROMPT, max_new_tokens=40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GenerationConfigWarning)
        model = hierdraft.load(path, engine="openvino", learn=False)
    assert model.engine.eos_ids == (greedy[6],)
    assert model.generate(PROMPT, max_new_tokens=40, budget=8).token_ids == want
    assert model.generate(PROMPT, max_new_tokens=40, method="none").token_ids == want
