"""From a GGUF file to an OpenVINO folder, in a process of its own: its memory is returned, its messages are not shown.

OpenVINO GenAI reads the weights and builds the graph; the tokenizer and what is said about answers come from the file's
own metadata. `models/gguf.py` starts it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hierdraft.errors import HierdraftError, MissingDependencyError, ModelError, UnsupportedModelError
from hierdraft.models.files import remove
from hierdraft.models.openvino_folders import XML
from hierdraft.privacy import unreported
from hierdraft.processes import stop_with_parent
from hierdraft.text.gguf import end_ids, tokenizer_config, tokenizer_json

KNOWN = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
"""Architectures that OpenVINO GenAI reads, and what transformers calls them."""


class NoGraphError(UnsupportedModelError):
    """GenAI failed, over what it read or for want of memory or room: it does not say which."""


def convert(every: list[Path], folder: Path) -> None:
    """Write graph, tokenizer and configuration. Raises ModelError, UnsupportedModelError, MissingDependencyError."""
    about = metadata(every[0])
    kind = str(about.get("general.architecture", "?"))
    if kind not in KNOWN:
        raise UnsupportedModelError(f"OpenVINO GenAI reads no GGUF files of the architecture {kind!r}.")
    _write_tokenizer(about, every[0], folder)
    file = every[0] if len(every) == 1 else joined(every, folder / "joined.gguf")
    _write_graph(file, folder)
    _restore(every, folder)
    config = {
        "architectures": [KNOWN[kind]],
        "model_type": kind,
        "vocab_size": len(about["tokenizer.ggml.tokens"]),
        "max_position_embeddings": int(about.get(f"{kind}.context_length", 1 << 30)),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    ends = {"eos_token_id": end_ids(about)}
    (folder / "generation_config.json").write_text(json.dumps(ends), encoding="utf-8")


def metadata(file: Path) -> dict[str, Any]:
    """What a GGUF file says about its model, by its keys. Raises ModelError, MissingDependencyError."""
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise MissingDependencyError(f"GGUF files need gguf ({error}): pip install 'hierdraft[openvino]'.") from error
    try:
        reader = GGUFReader(file)
        return {name: field.contents() for name, field in reader.fields.items()}
    except Exception as error:  # the reader fails over a damaged file with whatever comes first
        raise ModelError(f"{file} is damaged or not complete ({error}): download it again.") from error


def joined(every: list[Path], file: Path) -> Path:
    """One file of those that a model was split into."""
    from gguf import GGUFReader, GGUFValueType, GGUFWriter

    readers = [GGUFReader(part) for part in every]
    writer = GGUFWriter(file, arch=str(readers[0].fields["general.architecture"].contents()))
    for name, field in readers[0].fields.items():
        if not name.startswith(("split.", "GGUF.")) and name != "general.architecture":
            inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    tensors = [tensor for reader in readers for tensor in reader.tensors]
    for tensor in tensors:
        writer.add_tensor_info(
            tensor.name, tensor.data.shape, tensor.data.dtype, tensor.data.nbytes, tensor.tensor_type
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:
        writer.write_tensor_data(tensor.data)
    writer.close()
    return file


def _write_tokenizer(about: Mapping[str, Any], file: Path, folder: Path) -> None:
    """The file's own; where it is of a kind that is not known here, what transformers makes of it."""
    try:
        text = tokenizer_json(about)
    except UnsupportedModelError as error:
        try:
            from transformers import AutoTokenizer
        except ImportError:
            raise error from None
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
        return
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(about), indent=1), encoding="utf-8")


def _write_graph(file: Path, folder: Path) -> None:
    """What GenAI makes of it, which it writes beside the file that it reads."""
    try:
        with unreported():
            import openvino_genai
    except ImportError as error:
        raise MissingDependencyError(
            f"GGUF files need openvino-genai ({error}): pip install 'hierdraft[openvino]'."
        ) from error
    link = folder / "model.gguf"
    if file.parent == folder:
        file.rename(link)
    else:
        link.symlink_to(file.resolve())
    reason = "it says nothing"
    try:
        # What it compiles beside is not used; in bfloat16 with one thread it could end the process: see `compiling`.
        openvino_genai.LLMPipeline(str(link), "CPU", enable_save_ov_model=True, INFERENCE_PRECISION_HINT="f32")
    except (RuntimeError, IndexError) as error:  # also over tokenizers, after the graph is written
        reason = str(error).strip().splitlines()[-1]
    finally:
        remove(link)
    for name in ("openvino_tokenizer", "openvino_detokenizer"):
        for suffix in (".xml", ".bin"):
            remove(folder / f"{name}{suffix}")
    if not (folder / XML).is_file():
        raise NoGraphError(f"OpenVINO GenAI makes no graph of {file} ({reason}).")


def _restore(every: list[Path], folder: Path) -> None:
    """Zero points as the file has them."""
    from gguf import GGUFReader

    from hierdraft.models.zero_points import restore_zero_points

    restore_zero_points(folder / XML, (tensor for part in every for tensor in GGUFReader(part).tensors))


def main(arguments: list[str]) -> int:
    """Convert; one of hierdraft's own refusals is printed as JSON."""
    folder, *every = map(Path, arguments)
    try:
        convert(every, folder)
    except HierdraftError as error:
        again = isinstance(error, NoGraphError)
        kind = "UnsupportedModelError" if again else type(error).__name__
        sys.stdout.write("\n" + json.dumps({"error": kind, "says": str(error), "again": again}))
        return error.exit_code
    return 0


if __name__ == "__main__":
    stop_with_parent()
    sys.exit(main(sys.argv[1:]))
