"""OpenVINO folders as people download them: `openvino_model.xml` with its weights, and a tokenizer beside it.

optimum-intel exports such folders, and so does OpenVINO GenAI; the graphs keep their own keys and values. They are
run as they are: only what has to be known of them is written into the cache.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hierdraft.engines.openvino.files import FACTS, Facts
from hierdraft.errors import ModelError, UnsupportedModelError
from hierdraft.models import files
from hierdraft.text.tokenizer import store_written
from hierdraft.text.written import BACKEND

XML = "openvino_model.xml"
_OTHERS = ("openvino_language_model.xml", "openvino_encoder_model.xml", "openvino_decoder_model.xml")
_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx")


def is_openvino(folder: Path) -> bool:
    """Whether a folder holds a graph of OpenVINO's and no weights for transformers."""
    has_graph = any((folder / name).is_file() for name in (XML, *_OTHERS))
    return has_graph and not any(folder.glob("*.safetensors"))


def check(folder: Path) -> None:
    """Checks that such a folder can be complete, without reading the weights themselves.

    Raises ModelError with an unfinished sentence, as `files.check_folder` does, and UnsupportedModelError for the
    graphs of models that see pictures or have an encoder.
    """
    graph = folder / XML
    if not graph.is_file():
        other = next(name for name in _OTHERS if (folder / name).is_file())
        raise UnsupportedModelError(
            f"{folder} holds {other} and no {XML}: models that see pictures or have an encoder do not run here."
        )
    try:
        needed = _end_of_weights(graph)
        size = graph.with_suffix(".bin").stat().st_size
    except OSError as error:
        raise ModelError(f"{graph.with_suffix('.bin')} cannot be read ({error.strerror or error})") from error
    except (ElementTree.ParseError, ValueError) as error:
        raise ModelError(f"{graph} is not a whole OpenVINO graph ({error})") from error
    if size < needed:
        raise ModelError(f"{graph.with_suffix('.bin')} is {size} bytes long where the graph needs {needed}")


def _end_of_weights(graph: Path) -> int:
    """How many bytes of weights a graph refers to. Raises ParseError, ValueError, OSError."""
    end = 0
    for _, element in ElementTree.iterparse(graph):  # noqa: S314 - no entities: expat refuses to expand them at length
        if element.tag == "data" and "offset" in element.attrib:
            end = max(end, int(element.attrib["offset"]) + int(element.attrib["size"]))
        element.clear()
    return end


def describe(model: Path, folder: Path) -> Facts:
    """Write the tokenizer of the model in `model` into `folder`, and return what the engine has to know.

    Raises ModelError, UnsupportedModelError, MissingDependencyError.
    """
    from hierdraft.engines.openvino.downloaded import about_graph

    if (model / BACKEND).is_file():
        store_written(model, folder)
    if (model / FACTS).is_file():  # hierdraft's own conversion
        return replace(Facts.read(model), graph=str(model / XML))
    config = files.read_json(model / "config.json") if (model / "config.json").is_file() else {}
    text_config = config.get("text_config") or config
    length, bounded = _context(text_config)
    if (window := _window(text_config)) is not None and window < length:
        raise UnsupportedModelError(
            f"{model} attends within windows of {window} tokens, which its graph loses where drafts are verified: give "
            "hierdraft the transformers folder of the model."
        )
    graph = about_graph(model / XML, length)
    names = config.get("architectures") or [config.get("model_type") or model.name]
    return Facts(
        architecture=str(names[0]), vocab_size=graph.vocab_size, max_length=length, bounded=bounded or graph.bounded,
        eos_ids=(), windows=(None,) * graph.layers, weights=graph.weights, graph=str(model / XML),
    )  # fmt: skip


def _window(config: Mapping[str, Any]) -> int | None:
    """The window of the layers that have one, None where all attend to everything."""
    window = config.get("sliding_window")
    kinds = config.get("layer_types")
    slides = "sliding_attention" in kinds if kinds else config.get("use_sliding_window", True)
    return int(window) if window and slides else None


def _context(config: Mapping[str, Any]) -> tuple[int, bool]:
    """How many positions the model knows, and whether its rotary embeddings change once a text is longer."""
    known = next((int(config[name]) for name in _LENGTHS if config.get(name)), 1 << 30)
    ropes = config.get("rope_parameters") or config.get("rope_scaling") or {}
    for rope in [ropes, *(value for value in ropes.values() if isinstance(value, dict))]:
        if rope.get("rope_type", rope.get("type")) in ("dynamic", "longrope"):
            first = rope.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
            return int(first or known), True
    return known, False
