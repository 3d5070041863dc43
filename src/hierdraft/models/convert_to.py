"""`hierdraft models convert`: a model as an OpenVINO folder that stands by itself."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from hierdraft.engines.openvino.files import FACTS, Facts, graph_file
from hierdraft.errors import UsageError
from hierdraft.models import files
from hierdraft.models.gguf import ABOUT, folder_of, gguf_in
from hierdraft.models.graphs import prepare
from hierdraft.models.named import folder_of as path_of
from hierdraft.models.named import resolve
from hierdraft.models.openvino_folders import XML, is_openvino

_BESIDE = (".json", ".jinja", ".txt", ".model")


def convert_to(source: str, weights: str | None, out: Path | None, cache_dir: Path) -> Path:
    """The folder of the converted model: `out`, or else the one in the cache.

    source   what `--model` can be
    weights  see `NumberType`, or `int4-SCHEME-SIZE`; None: a GGUF file's own, float32 for others
    out      a folder that is not there yet, or empty

    Raises UsageError, and what `resolve` and `prepare` do.
    """
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already: name a folder that is not.")
    file = gguf_in(path_of(source))
    if file is not None and weights is None:
        found = folder_of(file, cache_dir)
        if is_openvino(found):
            return found if out is None else _placed(found, None, out)
    model = resolve(source, cache_dir).path
    if is_openvino(model):
        raise UsageError(f"{model} is an OpenVINO folder already, whose weights stay as they are.")
    prepared = prepare(model, weights or "float32", cache_dir)
    return prepared if out is None else _placed(model, prepared, out, (weights or "float32").partition("-")[0])


def _placed(model: Path, prepared: Path | None, out: Path, weights: str = "") -> Path:
    """Copies what belongs to the model into `out`, complete or not at all.

    prepared   the folder with graph and tokenizer, if they are not in the model's own
    """
    graph = graph_file(prepared) if prepared is not None else model / XML
    with files.disk_errors(graph):
        size = graph.with_suffix(".bin").stat().st_size
    with files.new_folder(out, size) as folder:
        for file in sorted(model.iterdir()):
            if file.suffix in _BESIDE and file.name != ABOUT and not file.name.endswith(".index.json"):
                shutil.copyfile(file, folder / file.name)
        for suffix in (".xml", ".bin"):
            shutil.copyfile(graph.with_suffix(suffix), (folder / XML).with_suffix(suffix))
        if prepared is not None:
            facts = asdict(Facts.read(prepared)) | {"weights": weights}
            (folder / FACTS).write_text(json.dumps({**facts, "bytes": {}}), encoding="utf-8")
            for file in prepared.glob("tokenizer*.json"):
                shutil.copyfile(file, folder / file.name)
    return out
