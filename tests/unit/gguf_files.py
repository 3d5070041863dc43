"""Tiny GGUF files with random weights, as llama.cpp's converter writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HIDDEN, LAYERS, HEADS, KV_HEADS, INNER, CONTEXT = 64, 2, 4, 2, 128, 512
DIMS = {"llama": 16, "qwen2": 16, "qwen3": 128}
"""Of a head, as readers expect it of each architecture."""


def byte_level(words: str = "the sky is blue and a story about two small cats ") -> dict[str, Any]:
    """Pieces for all bytes and for some words, and the merges that make them."""
    from hierdraft.text.decoders import _alphabet

    letters = {byte: letter for letter, byte in _alphabet().items()}
    pieces = [letters[byte] for byte in range(256)]
    merges: list[str] = []
    for word in words.split(" "):
        shown = "".join(letters[byte] for byte in f" {word}".encode())
        left = shown[0]
        for letter in shown[1:]:
            if left + letter not in pieces:
                merges.append(f"{left} {letter}")
                pieces.append(left + letter)
            left += letter
    tokens = [*SPECIAL, *pieces]
    return {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * len(SPECIAL) + [1] * len(pieces), "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.padding_token_id": 2, "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }  # fmt: skip


def sentencepiece() -> dict[str, Any]:
    """Pieces with scores: bytes, letters, and words that are put together from both sides."""
    letters = [*"\u2581abcdefghijklmnopqrstuvwxyzäß.,"]
    words = ["th", "the", "\u2581the", "\u2581s", "\u2581sky", "ky", "ue", "\u2581bl", "\u2581blue", "is", "\u2581is"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words, *letters]
    kinds = [2, 3, 3] + [6] * 256 + [1] * (len(words) + len(letters))
    scores = [0.0] * 259 + [-float(place) for place in range(len(words) + len(letters))]
    return {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.scores": scores, "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }  # fmt: skip


def weights(arch: str, vocab: int, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """A random model's tensors, float32, by the names of the format."""
    chance, dim = np.random.default_rng(seed), DIMS[arch]

    def drawn(*shape: int) -> np.ndarray[Any, Any]:
        return (chance.standard_normal(shape) * 0.15).astype(np.float32)

    found = {"token_embd.weight": drawn(vocab, HIDDEN), "output_norm.weight": 1 + drawn(HIDDEN)}
    found["output.weight"] = drawn(vocab, HIDDEN)
    for layer in range(LAYERS):
        own = {
            "attn_norm.weight": 1 + drawn(HIDDEN), "attn_q.weight": drawn(HEADS * dim, HIDDEN),
            "attn_k.weight": drawn(KV_HEADS * dim, HIDDEN), "attn_v.weight": drawn(KV_HEADS * dim, HIDDEN),
            "attn_output.weight": drawn(HIDDEN, HEADS * dim), "ffn_norm.weight": 1 + drawn(HIDDEN),
            "ffn_gate.weight": drawn(INNER, HIDDEN), "ffn_up.weight": drawn(INNER, HIDDEN),
            "ffn_down.weight": drawn(HIDDEN, INNER),
        }  # fmt: skip
        if arch == "qwen2":
            own |= {"attn_q.bias": drawn(HEADS * dim), "attn_k.bias": drawn(KV_HEADS * dim)}
            own |= {"attn_v.bias": drawn(KV_HEADS * dim)}
        if arch == "qwen3":
            own |= {"attn_q_norm.weight": 1 + drawn(dim), "attn_k_norm.weight": 1 + drawn(dim)}
        found |= {f"blk.{layer}.{name}": tensor for name, tensor in own.items()}
    return found


def write_gguf(
    file: Path, arch: str = "llama", kind: str = "Q8_0", tokenizer: dict[str, Any] | None = None, *, parts: int = 1,
    seed: int = 0,
) -> Path:  # fmt: skip
    """A GGUF file; in several parts the first one's path is returned.

    kind   F16, Q8_0, Q4_0 or Q4_1: of all matrices
    """
    about = tokenizer or byte_level()
    tensors = list(weights(arch, len(about["tokenizer.ggml.tokens"]), seed).items())
    size = -(-len(tensors) // parts)
    files = [file] if parts == 1 else [
        file.with_name(f"{file.stem}-{number:05}-of-{parts:05}.gguf") for number in range(1, parts + 1)
    ]  # fmt: skip
    for number, part in enumerate(files):
        split = (number, parts, len(tensors)) if parts > 1 else None
        _write(part, arch, kind, about if number == 0 else {}, tensors[number * size : (number + 1) * size], split)
    return files[0]


def _write(
    file: Path, arch: str, kind: str, about: dict[str, Any], tensors: list[tuple[str, Any]],
    split: tuple[int, int, int] | None,
) -> None:  # fmt: skip
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.quants import quantize

    writer = GGUFWriter(file, arch)
    writer.add_file_type({"F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7}[kind])
    if split is not None:
        writer.add_uint16("split.no", split[0])
        writer.add_uint16("split.count", split[1])
        writer.add_int32("split.tensors.count", split[2])
    if about:
        writer.add_context_length(CONTEXT)
        writer.add_embedding_length(HIDDEN)
        writer.add_block_count(LAYERS)
        writer.add_feed_forward_length(INNER)
        writer.add_head_count(HEADS)
        writer.add_head_count_kv(KV_HEADS)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_freq_base(10000.0)
        writer.add_rope_dimension_count(DIMS[arch])
        if arch == "qwen3":
            writer.add_key_length(DIMS[arch])
            writer.add_value_length(DIMS[arch])
        writer.add_vocab_size(len(about["tokenizer.ggml.tokens"]))
    for name, value in about.items():
        if isinstance(value, list):
            writer.add_array(name, value)
        elif isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        else:
            writer.add_string(name, value)
    for name, tensor in tensors:
        if tensor.ndim == 1:
            writer.add_tensor(name, tensor)
        elif kind == "F16":
            writer.add_tensor(name, tensor.astype(np.float16))
        else:
            form = GGMLQuantizationType[kind]
            writer.add_tensor(name, quantize(tensor, form), raw_dtype=form)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
