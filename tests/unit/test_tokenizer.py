"""The stored tokenizer gives what transformers' own gives, for every kind, and for templates as models have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers as t
from jinja2 import TemplateError
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from hierdraft.text import TextStream, prompt_ids, tokenizer_fingerprint
from hierdraft.text.templates import fill
from hierdraft.text.tokenizer import StoredTokenizer, store, stored_in

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + "
    "'<eos>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
STRICT = """{{- bos_token }}
{%- set ns = namespace(found=false) %}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- if loop.index0 > 5 %}{%- break %}{%- endif %}
    {%- set ns.found = true %}
    {%- if message.role == 'assistant' %}{% generation %}{{ message.content }}{% endgeneration %}
    {%- else %}{{ '[INST] ' + message.content + ' [/INST]' }}{%- endif %}
{%- endfor %}
"""
DATED = "{{ strftime_now('%Y') }} {{ messages | tojson(indent=2) }} {{ dict(a=1) | tojson }} {{ messages[0].content }}"


def byte_level(**options: Any) -> Any:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return t.PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", bos_token="<bos>", **options)


def byte_fallback(**options: Any) -> Any:
    words = ["▁", "e", "t", "a", "o", "n", "i", "s", "r", "h", "▁the", "th", "he", "in", "er"]
    known = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"<0x{b:02X}>": 3 + b for b in range(256)}}
    for word in words:
        known.setdefault(word, len(known))
    merges = [("t", "h"), ("h", "e"), ("i", "n"), ("e", "r")]
    backend = Tokenizer(models.BPE(known, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    backend.enable_truncation(7)
    return t.PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", **options)


def word_pieces(**options: Any) -> Any:
    words = [
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "why",
        "is",
        "the",
        "sky",
        "blue",
        "##s",
        "?",
        ".",
        ",",
        "hello",
        "don",
        "'",
        "t",
    ]
    backend = Tokenizer(models.WordPiece({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return t.PreTrainedTokenizerFast(
        tokenizer_object=backend, sep_token="[SEP]", clean_up_tokenization_spaces=True, **options
    )


KINDS = {"byte level": byte_level, "byte fallback": byte_fallback, "word pieces": word_pieces}
TEMPLATES: dict[str, Any] = {
    "none": None, "chatml": CHATML, "strict": STRICT, "dated": DATED, "several": {"default": CHATML, "other": STRICT},
}  # fmt: skip
CHATS = [
    [("user", "Why  is the sky blue?\n")],
    [("user", "a"), ("assistant", "b "), ("user", "{{ c }} <eos>")],
    [("system", "short"), ("user", "a")],
]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", KINDS)
def test_it_gives_what_the_whole_one_gives(kind: str, template: str, tmp_path: Path) -> None:
    whole = KINDS[kind](chat_template=TEMPLATES[template])
    whole.add_tokens(["extra word"])
    assert store(whole, tmp_path)
    light = StoredTokenizer(tmp_path, lambda: whole)
    assert tokenizer_fingerprint(light) == tokenizer_fingerprint(whole)
    assert len(light) == len(whole)
    for name in ("eos_token_id", "pad_token_id", "all_special_ids", "chat_template", "bos_token_id"):
        assert getattr(light, name) == getattr(whole, name)
    for text in ("", "Why is the sky blues?", "extra word <eos> </s> Stra\u00dfe \U0001f469\u200d\U0001f467 don't ."):
        ids = light(text)["input_ids"]
        assert ids == whole(text)["input_ids"] == light.encode(text)
        assert light(text, add_special_tokens=False) == dict(
            whole(text, add_special_tokens=False, return_token_type_ids=False)
        )
        for skip in (True, False):
            assert light.decode(ids, skip_special_tokens=skip) == whole.decode(ids, skip_special_tokens=skip)
        assert light.convert_ids_to_tokens(ids) == whole.convert_ids_to_tokens(ids)
        one, other = TextStream(light), TextStream(whole)
        assert [one.push(i) for i in ids] + [one.flush()] == [other.push(i) for i in ids] + [other.flush()]
    if template != "none":
        for chat in CHATS:
            turns = [{"role": role, "content": text} for role, text in chat]
            assert filled(light, turns) == filled(whole, turns)


def filled(tokenizer: Any, turns: list[dict[str, Any]]) -> Any:
    found = []
    for options in ({"add_generation_prompt": True}, {}, {"tokenize": False}):
        try:
            found.append(tokenizer.apply_chat_template(turns, return_dict=False, **options))
        except TemplateError as error:
            found.append(str(error))
    return found


def test_what_it_does_not_know_the_whole_one_is_asked(tmp_path: Path) -> None:
    whole = byte_level(chat_template={"one": CHATML, "other": STRICT})
    loads: list[int] = []
    store(whole, tmp_path)
    light = StoredTokenizer(tmp_path, lambda: loads.append(1) or whole)
    assert light("abc")["input_ids"]
    assert prompt_ids(light, [{"role": "user", "content": "a"}], chat="one").tolist()
    assert not loads
    assert light(["a", "bc"])["input_ids"] == whole(["a", "bc"])["input_ids"]
    assert light("abc", return_tensors="pt")["input_ids"].shape == (1, 3)
    assert light.get_vocab() == whole.get_vocab()
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert light.apply_chat_template(turns, chat_template="one", continue_final_message=True, return_dict=False) == (
        whole.apply_chat_template(turns, chat_template="one", continue_final_message=True, return_dict=False)
    )
    with pytest.raises(ValueError, match="no default"):
        light.apply_chat_template(turns, return_dict=False)
    assert loads == [1]
    with pytest.raises(AttributeError):
        _ = light.no_such_thing


def test_a_tokenizer_with_steps_of_its_own_is_not_stored(tmp_path: Path) -> None:
    class Shouting(t.PreTrainedTokenizerFast):
        def _decode(self, *arguments: Any, **options: Any) -> str:
            return str(super()._decode(*arguments, **options)).upper()

    assert not store(Shouting(tokenizer_object=byte_level()._tokenizer), tmp_path)


def test_a_tokenizer_that_would_say_something_else_is_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hierdraft.text.templates.fill", lambda *_, **__: "something else")
    assert not store(byte_level(chat_template=CHATML), tmp_path)
    assert not stored_in(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{% set ns = namespace(__x=1) %}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
    ],
)
def test_templates_stay_in_their_sandbox(template: str) -> None:
    messages = [{"role": "user", "content": "a"}]
    with pytest.raises(TemplateError):
        fill(template, messages)
    assert messages == [{"role": "user", "content": "a"}]
