"""Every argument of `generate` with `custom_generate`: the same result as without, or a refusal that names it."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import threading
from typing import Any

import pytest
import torch
import transformers as t
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from hierdraft.errors import EngineBusyError, UnsupportedModelError, UsageError
from hierdraft.integrations.generate_arguments import HONOURED, MEANINGLESS, MODES, PARAMETERS, REFUSED
from hierdraft.integrations.transformers import decode
from tests.lossless.tiny import CONFIGS, VOCABULARY, tiny

PROMPT = [5, 9, 11, 5, 9, 60, 61, 5, 9, 11, 8, 3]
IDS = torch.tensor([PROMPT])
MASK = torch.ones_like(IDS)


def tokenizer() -> Any:
    """One printable character per token."""
    words = {chr(33 + k): k for k in range(VOCABULARY - 3)} | {"<pad>": 94, "<bos>": 95, "<eos>": 96}
    backend = Tokenizer(models.BPE(words, []))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    special = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}
    return t.PreTrainedTokenizerFast(tokenizer_object=backend, **special)


TOKENIZER = tokenizer()

SETTINGS: dict[str, dict[str, Any]] = {
    "max_length": {"max_length": len(PROMPT) + 7, "max_new_tokens": None},
    "max_new_tokens": {"max_new_tokens": 3},
    "min_length": {"min_length": len(PROMPT) + 20, "eos_token_id": [7, 60, 61, 33, 5, 9]},
    "min_new_tokens": {"min_new_tokens": 25, "eos_token_id": [7, 60, 61, 33, 5, 9]},
    "max_time": {"max_time": 0.0},
    "stop_strings": {"stop_strings": ["d", "9"], "tokenizer": TOKENIZER},
    "token_healing": {"token_healing": True, "tokenizer": TOKENIZER, "pad_token_id": 94, "bos_token_id": 95},
    "repetition_penalty": {"repetition_penalty": 1.3},
    "encoder_repetition_penalty": {"encoder_repetition_penalty": 1.2},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 2},
    "encoder_no_repeat_ngram_size": {"encoder_no_repeat_ngram_size": 2},
    "bad_words_ids": {"bad_words_ids": [[k] for k in range(40)]},
    "renormalize_logits": {"renormalize_logits": True, "repetition_penalty": 1.1},
    "forced_bos_token_id": {"forced_bos_token_id": 7},
    "forced_eos_token_id": {"forced_eos_token_id": 2, "eos_token_id": 2},
    "remove_invalid_values": {"remove_invalid_values": True},
    "exponential_decay_length_penalty": {"exponential_decay_length_penalty": (5, 1.4), "eos_token_id": 2},
    "suppress_tokens": {"suppress_tokens": [3, 4, 5, 60]},
    "begin_suppress_tokens": {"begin_suppress_tokens": list(range(50))},
    "sequence_bias": {"sequence_bias": {(10,): 2.0, (11, 12): -4.0}},
    "guidance_scale": {"guidance_scale": 1.5, "negative_prompt_ids": IDS[:, 3:7]},
    "watermarking_config": {"watermarking_config": t.WatermarkingConfig(bias=2.5, seeding_scheme="selfhash")},
    "output_scores": {"output_scores": True, "return_dict_in_generate": True},
    "output_logits": {"output_logits": True, "return_dict_in_generate": True},
    "return_dict_in_generate": {"return_dict_in_generate": True},
    "pad_token_id": {"pad_token_id": 3},
    "bos_token_id": {"bos_token_id": 4},
    "eos_token_id": {"eos_token_id": list(range(0, 97, 9)), "pad_token_id": 0},
    "do_sample": {"do_sample": True},
    "temperature": {"do_sample": True, "temperature": 0.5},
    "top_k": {"do_sample": True, "top_k": 3},
    "top_p": {"do_sample": True, "top_p": 0.5},
    "min_p": {"do_sample": True, "min_p": 0.2},
    "top_h": {"do_sample": True, "top_h": 0.4},
    "typical_p": {"do_sample": True, "typical_p": 0.5},
    "epsilon_cutoff": {"do_sample": True, "epsilon_cutoff": 0.05},
    "eta_cutoff": {"do_sample": True, "eta_cutoff": 0.05},
    "early_stopping": {"early_stopping": True},
    "length_penalty": {"length_penalty": 2.0},
    "diversity_penalty": {"diversity_penalty": 0.5},
    "num_beam_groups": {"num_beam_groups": 2},
    "decoder_start_token_id": {"decoder_start_token_id": 3},
    "num_assistant_tokens": {"num_assistant_tokens": 3},
    "num_assistant_tokens_schedule": {"num_assistant_tokens_schedule": "heuristic"},
    "assistant_confidence_threshold": {"assistant_confidence_threshold": 0.9},
    "assistant_ensemble_weight": {"assistant_ensemble_weight": 0.5},
    "assistant_lookbehind": {"assistant_lookbehind": 3},
    "target_lookbehind": {"target_lookbehind": 3},
    "max_matching_ngram_size": {"max_matching_ngram_size": 2},
    "speculation_type": {"speculation_type": "dflash"},
    "low_memory": {"low_memory": True},
    "cache_config": {"cache_config": {"backend": "quanto"}},
    "max_cache_len": {"max_cache_len": 100},
    "compile_config": {"compile_config": t.CompileConfig()},
    "disable_compile": {"disable_compile": True},
}

REFUSALS: dict[str, dict[str, Any]] = {
    "num_beams": {"num_beams": 2},
    "penalty_alpha": {"penalty_alpha": 0.6, "top_k": 4},
    "dola_layers": {"dola_layers": "low"},
    "use_mtp": {"use_mtp": True},
    "prompt_lookup_num_tokens": {"prompt_lookup_num_tokens": 3},
    "assistant_early_exit": {"assistant_early_exit": 2},
    "constraints": {"constraints": [1], "num_beams": 2},
    "force_words_ids": {"force_words_ids": [[3]], "num_beams": 2},
    "num_return_sequences": {"num_return_sequences": 2, "do_sample": True},
    "use_cache": {"use_cache": False},
    "output_attentions": {"return_dict_in_generate": True, "output_attentions": True},
    "output_hidden_states": {"return_dict_in_generate": True, "output_hidden_states": True},
    "cache_implementation": {"cache_implementation": "static"},
    "prefill_chunk_size": {"prefill_chunk_size": 4},
    "is_assistant": {"is_assistant": True},
    "assistant_model": {"assistant_model": tiny("llama")},
    "synced_gpus": {"synced_gpus": True},
    "position_ids": {"position_ids": torch.arange(1, 13)[None]},
    "attention_mask": {"attention_mask": torch.cat([MASK[:, :1] * 0, MASK[:, 1:]], dim=1)},
    "inputs_embeds": {"inputs_embeds": torch.zeros(1, len(PROMPT), 32, dtype=torch.float64)},
}

INTERNAL = {"transformers_version", "_from_model_config", "continuous_batching_config"}


def run(model: Any, **options: Any) -> Any:
    torch.manual_seed(3)
    given = {"attention_mask": MASK, "max_new_tokens": 30, "do_sample": False, **options}
    found = model.generate(
        IDS, **{name: value for name, value in given.items() if name == "max_new_tokens" or value is not None}
    )
    return found if isinstance(found, torch.Tensor) else found.sequences


def test_no_argument_of_generate_is_unknown() -> None:
    """Fails where a newer transformers adds one: put it into a table of `hf_arguments` and into one here."""
    assert HONOURED | MEANINGLESS | set(MODES) | set(REFUSED) == set(vars(t.GenerationConfig()))
    assert set(SETTINGS) | INTERNAL == HONOURED | MEANINGLESS
    assert set(MODES) | set(REFUSED) <= set(REFUSALS)
    source = inspect.getsource(t.GenerationMixin._extract_generation_mode_kwargs)
    source += inspect.getsource(inspect.unwrap(t.GenerationMixin.generate))
    taken = set(re.findall(r'kwargs\.pop\("(\w+)"', source)) - {"input_ids"}
    assert set(PARAMETERS) == (set(inspect.signature(t.GenerationMixin.generate).parameters) | taken) - {"self"}
    assert {"assistant_model", "synced_gpus"} == {name for name, kind in PARAMETERS.items() if kind == "refused"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SETTINGS)
def test_an_argument_has_the_effect_it_has_without(name: str) -> None:
    model, options = tiny("llama"), SETTINGS[name]
    ours = run(model, **copy.deepcopy(options), custom_generate=decode(budget=6))
    plain = {"custom_generate": decode("none")} if options.get("do_sample") else {}
    assert ours.tolist() == run(model, **copy.deepcopy(options), **plain).tolist()


@pytest.mark.parametrize(
    "name",
    ["max_length", "max_new_tokens", "min_length", "max_time", "stop_strings", "bad_words_ids", "guidance_scale"],
)
def test_those_arguments_have_an_effect_here(name: str) -> None:
    model, options = tiny("llama"), SETTINGS[name]
    free = {key: value for key, value in options.items() if key == "eos_token_id"}
    assert run(model, **options).tolist() != run(model, **free).tolist()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_refused_is_named(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        run(tiny("llama"), **REFUSALS[name], custom_generate=decode(budget=6))


def test_a_field_of_a_newer_transformers_is_refused_where_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = t.GenerationConfig.__init__

    def newer(self: Any, **kwargs: Any) -> None:
        self.rhyme = kwargs.pop("rhyme", None)
        begin(self, **kwargs)

    monkeypatch.setattr(t.GenerationConfig, "__init__", newer)
    model = tiny("llama")
    assert run(model, custom_generate=decode(budget=6)).tolist() == run(model).tolist()
    with pytest.raises(UsageError, match="rhyme"):
        run(model, rhyme="aabb", custom_generate=decode(budget=6))


@pytest.mark.parametrize("name", [*REFUSALS, "batch", "mamba", "stopping criterion", "busy"])
@pytest.mark.filterwarnings("ignore")
def test_no_reader_of_a_streamer_waits_for_ever(name: str) -> None:
    streamer = t.TextIteratorStreamer(TOKENIZER, timeout=20)
    options = {**REFUSALS.get(name, {}), "custom_generate": decode(budget=6), "streamer": streamer}
    model, ids = tiny("llama"), IDS
    if name == "batch":
        ids, options["attention_mask"] = torch.cat([IDS, IDS]), torch.cat([MASK, MASK])
    if name == "mamba":
        config = t.MambaConfig(vocab_size=97, hidden_size=16, state_size=4, num_hidden_layers=2)
        model = t.AutoModelForCausalLM.from_config(config).eval()
    if name == "stopping criterion":
        options["stopping_criteria"] = [Breaks()]
    if name == "busy":
        options["custom_generate"]._busy.acquire()

    def call() -> None:
        with pytest.raises(Exception):  # noqa: B017, PT011 - which one is other tests' business
            model.generate(ids, **{"attention_mask": MASK, "max_new_tokens": 9, "do_sample": False, **options})

    thread = threading.Thread(target=call)
    thread.start()
    list(streamer)
    thread.join()


class Breaks(t.StoppingCriteria):
    """A bug of somebody else's, on the third token."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        if input_ids.shape[1] == len(PROMPT) + 3:
            raise ZeroDivisionError
        return torch.tensor([False])


def test_a_streamer_of_the_object_ends_too() -> None:
    streamer = t.TextIteratorStreamer(TOKENIZER, timeout=20)
    with pytest.raises(UsageError, match="num_beams"):
        run(tiny("llama"), num_beams=2, custom_generate=decode(streamer=streamer))
    assert list(streamer) == [""]


def test_two_threads_on_one_object() -> None:
    model, custom = tiny("llama"), decode(budget=6)
    inside, leave = threading.Event(), threading.Event()

    class Waits(t.StoppingCriteria):
        def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
            inside.set()
            leave.wait(20)
            return torch.tensor([False])

    found: list[Any] = []
    first = threading.Thread(
        target=lambda: found.append(run(model, stopping_criteria=[Waits()], custom_generate=custom))
    )
    first.start()
    assert inside.wait(20)
    with pytest.raises(EngineBusyError, match="make one for each thread"):
        run(model, custom_generate=custom)
    leave.set()
    first.join()
    assert found[0].tolist() == run(model).tolist()


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])  # noqa: S301
def test_a_copy_is_an_object_of_its_own(way: Any) -> None:
    model = tiny("llama")
    one = decode("hierarchy", budget=5, learn=True, reference=[[5, 9, 11]])
    truth = run(model, custom_generate=one)
    other = way(one)
    assert other.method is not one.method
    assert other.budget.nodes == 5
    assert other.reference == [[5, 9, 11]]
    assert run(model, custom_generate=other).tolist() == truth.tolist()
    one._busy.acquire()
    assert run(model, custom_generate=other).tolist() == truth.tolist()


def test_a_copy_writes_to_the_same_streamer() -> None:
    streamer = t.TextIteratorStreamer(TOKENIZER, timeout=20)
    assert copy.deepcopy(decode(streamer=streamer)).streamer is streamer


CHANGES: dict[str, Any] = {
    "grown": lambda model: model.resize_token_embeddings(VOCABULARY + 31),
    "shrunk": lambda model: model.resize_token_embeddings(VOCABULARY - 30),
    "float32": lambda model: model.float(),
    "other weights": lambda model: model.load_state_dict(tiny("llama", seed=5).state_dict()),
    "eager": lambda model: model.set_attn_implementation("eager"),
    "more room": lambda model: setattr(model.config, "max_position_embeddings", 40),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_object_follows_its_model(name: str) -> None:
    model, custom = tiny("llama"), decode(budget=6, learn=True)
    ids = torch.tensor([[5, 9, 11, 5, 9, 60, 61, 5, 9, 11, 8, VOCABULARY - 40]])
    model.generate(IDS, attention_mask=MASK, max_new_tokens=20, do_sample=False, custom_generate=custom)
    CHANGES[name](model)
    if name == "grown":
        ids[0, 3] = VOCABULARY + 7
    options = {"attention_mask": MASK, "max_new_tokens": 40, "do_sample": False}
    assert model.generate(ids, **options, custom_generate=custom).tolist() == model.generate(ids, **options).tolist()


def test_number_types_one_after_another() -> None:
    model, custom = tiny("llama"), decode(budget=6)
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        model.to(dtype)
        ours = run(model, custom_generate=custom)
    assert ours.tolist() == run(model).tolist()


def test_training_mode_is_refused_and_comes_back() -> None:
    model, custom = tiny("llama"), decode(budget=6)
    truth = run(model, custom_generate=custom)
    model.train()
    with pytest.raises(UsageError, match=r"LlamaForCausalLM is in training mode: call eval\(\)"):
        run(model, custom_generate=custom)
    assert run(model.eval(), custom_generate=custom).tolist() == truth.tolist()


def test_a_copied_model_has_an_engine_of_its_own() -> None:
    model, custom = tiny("llama"), decode(budget=6)
    truth = run(model, custom_generate=custom)
    other = copy.deepcopy(model)
    other.load_state_dict(tiny("llama", seed=5).state_dict())
    assert run(other, custom_generate=custom).tolist() == run(other).tolist()
    assert run(model, custom_generate=custom).tolist() == truth.tolist()


def test_a_compiled_model_is_called_as_it_is() -> None:
    config = CONFIGS["llama"]()
    config.num_hidden_layers = 1
    model = t.AutoModelForCausalLM.from_config(config).eval()
    truth = run(model, max_new_tokens=4).tolist()
    assert (
        run(torch.compile(model, backend="eager"), custom_generate=decode(budget=6), max_new_tokens=4).tolist() == truth
    )
    model.compile(backend="eager", dynamic=True)
    assert run(model, custom_generate=decode(budget=2), max_new_tokens=4).tolist() == truth


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_lean_model_that_was_cast_is_refused(dtype: torch.dtype) -> None:
    from hierdraft.engines.hf.lean import make_lean

    model, custom = tiny("llama", dtype=torch.float32), decode(budget=6)
    make_lean(model)
    run(model, custom_generate=custom)
    model.to(dtype)
    with pytest.raises(UsageError, match="load it again"):
        run(model, custom_generate=custom)


@pytest.mark.parametrize("kind", ["prompt", "prefix", "p"])
def test_virtual_tokens_are_refused(kind: str) -> None:
    peft = pytest.importorskip("peft")
    config = {"prompt": peft.PromptTuningConfig, "prefix": peft.PrefixTuningConfig, "p": peft.PromptEncoderConfig}[kind]
    model = peft.get_peft_model(tiny("llama"), config(task_type="CAUSAL_LM", num_virtual_tokens=3)).eval()
    with pytest.raises(UnsupportedModelError, match="virtual tokens"):
        run(model, custom_generate=decode(budget=6))


def test_low_rank_adapters_on_off_and_merged() -> None:
    peft = pytest.importorskip("peft")
    base = tiny("llama")
    plain = run(base)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model, custom = peft.get_peft_model(base, config).eval(), decode(budget=6, learn=True)
    adapted = run(model)
    assert adapted.tolist() != plain.tolist()
    assert run(model, custom_generate=custom).tolist() == adapted.tolist()
    with model.disable_adapter():
        assert run(model, custom_generate=custom).tolist() == plain.tolist()
    merged = model.merge_and_unload()
    assert run(merged, custom_generate=custom).tolist() == run(merged).tolist() == adapted.tolist()


def vision(name: str) -> Any:
    """A model for pictures and text, asked with text alone."""
    text = CONFIGS["llama"]().to_dict() if name == "llava" else None
    small = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "patch_size": 14}
    if name == "llava":
        config: Any = t.LlavaConfig(
            text_config=t.LlamaConfig(**{**text, "pad_token_id": 0}), image_token_index=96,
            vision_config=t.CLIPVisionConfig(**small, num_hidden_layers=1, image_size=28),
        )  # fmt: skip
    elif name == "gemma3":
        config = t.Gemma3Config(
            text_config=CONFIGS["gemma3"]().to_dict(), mm_tokens_per_image=4, image_token_index=96, boi_token_index=95,
            eoi_token_index=94, vision_config={**small, "num_hidden_layers": 1, "image_size": 28},
        )  # fmt: skip
    else:
        rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
        other = ("model_type", "architectures", "head_dim", "rope_parameters", "transformers_version")
        sizes = {key: value for key, value in CONFIGS["llama"]().to_dict().items() if key not in other}
        config = t.Qwen2_5_VLConfig(
            text_config={**sizes, "rope_parameters": rope}, image_token_id=96, video_token_id=95,
            vision_config={
                "depth": 1, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 32,
            },
            vision_start_token_id=94, vision_end_token_id=93,
        )  # fmt: skip
    torch.manual_seed(0)
    model = t.AutoModelForImageTextToText.from_config(config, dtype=torch.float64).eval()
    model.generation_config.eos_token_id = None
    return model


@pytest.mark.parametrize("name", ["llava", "gemma3", "qwen2.5"])
def test_vision_models_take_text(name: str) -> None:
    model = vision(name)
    assert run(model, custom_generate=decode(budget=6)).tolist() == run(model).tolist()


@pytest.mark.parametrize("name", ["llava", "gemma3"])
def test_pictures_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"pixel_values|mm_encoder_outputs"):
        run(vision(name), pixel_values=torch.zeros(1, 3, 28, 28).double(), custom_generate=decode(budget=6))
