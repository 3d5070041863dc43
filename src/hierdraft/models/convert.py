"""From a transformers folder to an OpenVINO graph on disk, in a process of its own.

Its memory is returned, what the converter changes in a process stays out of the caller's, and whatever goes wrong in
it ends in one sentence. `graphs.prepare` starts it.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from hierdraft.choices import int4_scheme
from hierdraft.engines.hf.cache import layer_windows
from hierdraft.engines.hf.facts import context_length, eos_ids, vocabulary
from hierdraft.engines.hf.load import load_model, load_tokenizer
from hierdraft.engines.hf.states import state_layout
from hierdraft.engines.openvino.files import Facts, graph_file
from hierdraft.engines.openvino.graph import convert, reason_of
from hierdraft.engines.openvino.join import join_products
from hierdraft.engines.openvino.runtime import openvino
from hierdraft.errors import HierdraftError, MissingDependencyError, ModelError, UnsupportedModelError
from hierdraft.models.files import cache_error
from hierdraft.privacy import unreported
from hierdraft.processes import stop_with_parent
from hierdraft.text.tokenizer import store


def convert_folder(model: Path, weights: str, folder: Path) -> Facts:
    """Write graph and tokenizer of the model in `model` into `folder`, and return what goes with them; see `prepare`.

    Raises what `prepare` does, and whatever the converter comes up with.
    """
    compress = compressor(weights) if weights.startswith("int") else None
    loaded = load_model(model, torch.float32)
    text_config = loaded.config.get_text_config(decoder=True)
    name = loaded.__class__.__name__
    if state_layout(loaded) is not None:
        raise UnsupportedModelError(f"{name} keeps recurrent states, which run on transformers only.")
    windows = tuple(layer_windows(loaded))
    known, bounded = context_length(loaded, text_config)
    with quiet():
        graph = join_products(convert(loaded, windows))
        if compress is not None:
            graph = compress(graph)
        _write(graph, folder, half=weights == "float16")
    with contextlib.suppress(ModelError):  # a folder without one: its users bring token ids
        store(load_tokenizer(model), folder)
    return Facts(name, vocabulary(loaded, text_config), known, bounded, eos_ids(loaded), windows)


def _write(graph: Any, folder: Path, *, half: bool) -> None:
    """Raises CacheError where the disk is full, which OpenVINO does not tell from other errors."""
    try:
        openvino.save_model(graph, graph_file(folder), compress_to_fp16=half)
        openvino.Core().read_model(graph_file(folder))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise cache_error(folder.parent, f"the graph could not be written: {reason}") from error


def compressor(weights: str) -> Any:
    """What turns a graph's weights into these. Raises MissingDependencyError, UsageError.

    weights   `int8`; `int4`, which is `int4-asym-64`: zero points or not (`sym`), and how many weights share a scale
    """
    try:
        with unreported():
            import nncf
    except ImportError as error:
        raise MissingDependencyError(
            f"{weights} weights need nncf ({error}): pip install 'hierdraft[convert]'."
        ) from error
    if weights == "int8":
        return lambda graph: nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_ASYM)
    scheme, size = int4_scheme(weights)
    mode = {"asym": nncf.CompressWeightsMode.INT4_ASYM, "sym": nncf.CompressWeightsMode.INT4_SYM}[scheme]
    smaller = nncf.AdvancedCompressionParameters(  # where channels do not divide into such groups
        group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST
    )
    return lambda graph: nncf.compress_weights(
        graph, mode=mode, ratio=1.0, group_size=size, advanced_parameters=smaller if size > 0 else None
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Converters talk: about shapes that become fixed while tracing (none of hierdraft's do), and of their progress."""
    loggers = [logging.getLogger(name) for name in ("transformers", "nncf")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def main(arguments: list[str]) -> int:
    """Convert, and print the facts, or one of hierdraft's own refusals, as JSON."""
    model, weights, folder = arguments
    try:
        found = asdict(convert_folder(Path(model), weights, Path(folder)))
    except Exception as failure:  # noqa: BLE001 - what converters raise has no common base
        error = failure if isinstance(failure, HierdraftError) else _refusal(model, failure)
        sys.stdout.write(json.dumps({"error": type(error).__name__, "says": str(error)}))
        return error.exit_code
    sys.stdout.write(json.dumps(found))
    return 0


def _refusal(model: str, failure: Exception) -> UnsupportedModelError:
    return UnsupportedModelError(f"The model in {model} cannot be converted for OpenVINO ({reason_of(failure)}).")


if __name__ == "__main__":
    stop_with_parent()
    sys.exit(main(sys.argv[1:]))
