"""Between text and token ids: prompts, text as it streams, stop strings. The core never sees text."""

from hierdraft.text.fingerprint import tokenizer_fingerprint
from hierdraft.text.prompts import Prompt, are_prompts, encode_messages, encode_prompt, encode_references, prompt_ids
from hierdraft.text.stops import StopStrings, VisibleText
from hierdraft.text.visible import TextStream, token_texts

__all__ = [
    "Prompt",
    "StopStrings",
    "TextStream",
    "VisibleText",
    "are_prompts",
    "encode_messages",
    "encode_prompt",
    "encode_references",
    "prompt_ids",
    "token_texts",
    "tokenizer_fingerprint",
]
