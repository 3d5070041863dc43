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
LAYERS, HEADS, KV_HEADS, CONTEXT = 2, 4, 2, 512


def widths(arch: str, kind: str) -> tuple[int, int, int]:
    """(hidden, inner, of a head) of a model whose weights are of this kind: some are in blocks of 256."""
    hidden, inner = (256, 256) if kind == "Q4_K" else (64, 128)
    return hidden, inner, 128 if arch == "qwen3" else hidden // HEADS


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


def weights(arch: str, kind: str, vocab: int, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """A random model's tensors, float32, by the names of the format."""
    chance = np.random.default_rng(seed)
    hidden, inner, dim = widths(arch, kind)

    def drawn(*shape: int) -> np.ndarray[Any, Any]:
        return (chance.standard_normal(shape) * 0.15).astype(np.float32)

    found = {"token_embd.weight": drawn(vocab, hidden), "output_norm.weight": 1 + drawn(hidden)}
    found["output.weight"] = drawn(vocab, hidden)
    for layer in range(LAYERS):
        own = {
            "attn_norm.weight": 1 + drawn(hidden), "attn_q.weight": drawn(HEADS * dim, hidden),
            "attn_k.weight": drawn(KV_HEADS * dim, hidden), "attn_v.weight": drawn(KV_HEADS * dim, hidden),
            "attn_output.weight": drawn(hidden, HEADS * dim), "ffn_norm.weight": 1 + drawn(hidden),
            "ffn_gate.weight": drawn(inner, hidden), "ffn_up.weight": drawn(inner, hidden),
            "ffn_down.weight": drawn(hidden, inner),
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

    kind   F16, Q8_0, Q4_0, Q4_1 or Q4_K: of all matrices
    """
    about = tokenizer or byte_level()
    tensors = list(weights(arch, kind, len(about["tokenizer.ggml.tokens"]), seed).items())
    size = -(-len(tensors) // parts)
    files = [file] if parts == 1 else [
        file.with_name(f"{file.stem}-{number:05}-of-{parts:05}.gguf") for number in range(1, parts + 1)
    ]  # fmt: skip
    for number, part in enumerate(files):
        split = (number, parts, len(tensors)) if parts > 1 else None
        _write(part, arch, kind, about if number == 0 else {}, tensors[number * size : (number + 1) * size], split)
    return files[0]


def blocks_of_eight(tensor: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Q4_K: blocks of eight groups of 32 weights; scales and smallest values are rounded up."""
    groups = tensor.reshape(len(tensor), -1, 8, 32)
    least = np.maximum(0.0, -groups.min(axis=-1))
    steps = (groups.max(axis=-1) + least) / 15.0
    whole = np.stack([steps.max(axis=-1), least.max(axis=-1)], axis=-1) / 63.0
    whole = whole.astype(np.float16)
    scale, low = (
        np.clip(np.ceil(part / (whole[..., at, None].astype(np.float32) + 1e-9)), 0, 63).astype(np.uint8)
        for at, part in enumerate((steps, least))
    )
    step, below = (part * whole[..., at, None].astype(np.float32) for at, part in enumerate((scale, low)))
    numbers = np.clip(np.rint((groups + below[..., None]) / (step[..., None] + 1e-9)), 0, 15).astype(np.uint8)
    pairs = numbers.reshape(*numbers.shape[:2], 4, 2, 32)
    packed = (pairs[..., 0, :] | pairs[..., 1, :] << 4).reshape(*numbers.shape[:2], 128)
    head = np.concatenate([
        scale[..., :4] | (scale[..., 4:] >> 4) << 6, low[..., :4] | (low[..., 4:] >> 4) << 6,
        (scale[..., 4:] & 15) | (low[..., 4:] & 15) << 4,
    ], axis=-1)  # fmt: skip
    blocks = np.concatenate([whole.view(np.uint8).reshape(*numbers.shape[:2], 4), head, packed], axis=-1)
    return blocks.reshape(len(tensor), -1)


def _write(
    file: Path, arch: str, kind: str, about: dict[str, Any], tensors: list[tuple[str, Any]],
    split: tuple[int, int, int] | None,
) -> None:  # fmt: skip
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.quants import quantize

    writer = GGUFWriter(file, arch)
    writer.add_file_type({"F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q4_K": 15}[kind])
    if split is not None:
        writer.add_uint16("split.no", split[0])
        writer.add_uint16("split.count", split[1])
        writer.add_int32("split.tensors.count", split[2])
    if about:
        writer.add_context_length(CONTEXT)
        hidden, inner, dim = widths(arch, kind)
        writer.add_embedding_length(hidden)
        writer.add_block_count(LAYERS)
        writer.add_feed_forward_length(inner)
        writer.add_head_count(HEADS)
        writer.add_head_count_kv(KV_HEADS)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_freq_base(10000.0)
        writer.add_rope_dimension_count(dim)
        if arch == "qwen3":
            writer.add_key_length(dim)
            writer.add_value_length(dim)
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
            data = blocks_of_eight(tensor) if kind == "Q4_K" else quantize(tensor, form)
            writer.add_tensor(name, data, raw_dtype=form)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
