"""Converting in a process of its own: what goes wrong there ends in one sentence, and nobody is told of it."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as t
from tokenizers import Tokenizer, models, pre_tokenizers

from hierdraft.errors import CacheError, UnsupportedModelError
from hierdraft.models import load as loading
from hierdraft.models.named import ResolvedModel
from tests.lossless.tiny import VOCABULARY, tiny
from tests.unit.byte_tokenizer import Bytes

pytest.importorskip("openvino")
from hierdraft.engines.openvino import engine as openvino
from hierdraft.models import convert as openvino_convert
from hierdraft.models import graphs as files

SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "eos_token_id": None,
}  # fmt: skip
EXPERTS = {
    "qwen3-moe": lambda: t.Qwen3MoeConfig(
        **SMALL, head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24
    ),
    "mixtral": lambda: t.MixtralConfig(**SMALL, num_local_experts=4, num_experts_per_tok=2),
    "deepseek-v3": lambda: t.DeepseekV3Config(
        **{**SMALL, "num_key_value_heads": 4}, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=24,
        n_group=1, topk_group=1, q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8,
    ),
}  # fmt: skip


@pytest.fixture
def llama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model's folder, which `load_engine` takes without a tokenizer."""
    folder = tmp_path / "model"
    tiny("llama", dtype=torch.float32).save_pretrained(folder)
    without_tokenizer(monkeypatch)
    return folder


def without_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "resolve", lambda name, _, **__: ResolvedModel(Path(name), "tiny"))
    monkeypatch.setattr("hierdraft.engines.hf.load.load_tokenizer", lambda _: None)


def engine_of(path: Path, **options: Any) -> tuple[str, list[str]]:
    """Which engine runs a model, and what was said about it."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = loading.load_engine(str(path), device="cpu", **options)[0].name
    return found, [str(one.message) for one in said if one.category is RuntimeWarning]


@pytest.mark.parametrize("name", EXPERTS)
def test_experts_run_on_transformers(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_tokenizer(monkeypatch)
    monkeypatch.setattr(files, "converted", in_process_like_the_other)
    torch.manual_seed(0)
    t.AutoModelForCausalLM.from_config(EXPERTS[name]()).save_pretrained(tmp_path / "model")
    engine, said = engine_of(tmp_path / "model")
    assert engine == "hf"
    assert len(said) == 1
    assert said[0].endswith("It runs on transformers instead.")
    assert "\n" not in said[0]
    monkeypatch.setattr(files, "converted", None)  # a refusal is remembered
    with pytest.raises(UnsupportedModelError, match="OpenVINO"):
        loading.load_engine(str(tmp_path / "model"), engine="openvino")


def in_process_like_the_other(model: Path, weights: str, folder: Path) -> Any:
    """What `converted` does, without another process to wait for."""
    try:
        return openvino_convert.convert_folder(model, weights, folder)
    except Exception as failure:
        error = (
            failure if isinstance(failure, UnsupportedModelError) else openvino_convert._refusal(str(model), failure)
        )
        raise files._RefusalError(str(error)) from failure


@pytest.mark.parametrize("kind", [AssertionError, type("OpConversionFailure", (Exception,), {})])
def test_whatever_a_converter_raises_is_one_sentence(
    kind: type[Exception], llama: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise kind("Check 'x' failed at a/b.cpp:1:\nmore\nlines")

    monkeypatch.setattr(openvino_convert, "join_products", fails)
    assert openvino_convert.main([str(llama), "float32", str(llama)]) == UnsupportedModelError.exit_code
    printed = capsys.readouterr().out
    assert f"({kind.__name__}: Check 'x' failed at a/b.cpp:1)." in printed
    assert "more" not in printed


def test_a_tree_check_that_raises_refuses_the_model(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> bool:
        raise AssertionError("shapes differ")

    monkeypatch.setattr(files, "converted", openvino_convert.convert_folder)
    monkeypatch.setattr("hierdraft.engines.openvino.engine.attends_as_told", fails)
    engine, said = engine_of(llama)
    assert engine == "hf"
    assert "shapes differ" in said[0]


def test_a_cache_folder_that_cannot_be_written_leaves_transformers(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").touch()  # a file, where a folder should be
    monkeypatch.setenv("HIERDRAFT_CACHE_DIR", str(tmp_path / "cache"))
    engine, said = engine_of(llama)
    assert engine == "hf"
    assert len(said) == 1
    assert "cannot be used" in said[0]
    with pytest.raises(CacheError, match="cannot be used"):
        loading.load_engine(str(llama), engine="openvino")


def test_a_full_disk_ends_in_one_sentence_and_leaves_nothing(llama: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(CacheError, match="free space"):
            files.prepare(llama, "float32", tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert all(left.name.endswith(".lock") for left in (tmp_path / "cache" / "openvino").iterdir())


def test_a_killed_conversion_is_one_sentence_and_is_tried_again(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: str) -> Any:
        return subprocess.CompletedProcess([], -9, "", "")

    with monkeypatch.context() as patched:
        patched.setattr(files, "run_module", killed)
        with pytest.raises(UnsupportedModelError, match="ended by SIGKILL: check the free memory"):
            files.prepare(llama, "float32", tmp_path / "cache")
    monkeypatch.setattr(files, "converted", openvino_convert.convert_folder)
    assert files.Facts.read(files.prepare(llama, "float32", tmp_path / "cache")).vocab_size == VOCABULARY


LOADING = """
import os, socket
def refuse(*arguments, **_):
    with open(os.environ["ASKED"], "a") as file:
        file.write(f"{arguments[1:]}\\n")
    raise OSError("no network here")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""
LOAD = """
import warnings
from pathlib import Path
from hierdraft.models.graphs import prepare
from hierdraft.engines.openvino.engine import OpenVINOEngine
engine = OpenVINOEngine(prepare(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])), sys.argv[2])
assert engine.fingerprint
import openvino
assert callable(openvino.convert_model)
print("loaded")
"""


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_loading_tells_nobody_and_leaves_the_home_folder_alone(weights: str, llama: Path, tmp_path: Path) -> None:
    if weights == "int8":
        pytest.importorskip("nncf")
    assert run_without_network(LOAD, tmp_path, str(llama), weights, str(tmp_path / "cache")).endswith("loaded")


def run_without_network(code: str, tmp_path: Path, *arguments: str) -> str:
    """`sitecustomize` blocks sockets in every Python process that is started, the converter's too."""
    home, blocked = tmp_path / "home", tmp_path / "blocked"
    home.mkdir(exist_ok=True)
    blocked.mkdir(exist_ok=True)
    (blocked / "sitecustomize.py").write_text(LOADING)
    path = os.pathsep.join([str(blocked), str(Path(loading.__file__).parents[2])])
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "HF_HUB_OFFLINE")}
    environment = {**kept, "HOME": str(home), "PYTHONPATH": path, "ASKED": str(tmp_path / "asked")} | {
        "HIERDRAFT_CACHE_DIR": str(tmp_path / "cache"),
        "HIERDRAFT_DATA_DIR": str(tmp_path / "data"),
    }
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}", *arguments],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "asked").exists(), (tmp_path / "asked").read_text()
    assert [str(left) for left in home.rglob("*") if left.is_file()] == []
    return done.stdout.strip()


LOAD_AND_ANSWER = """
import hierdraft
model = hierdraft.load(sys.argv[1], engine="auto", device=sys.argv[2] or None)
found = model.generate("hello you", max_new_tokens=6)
model.close()
heavy = [name for name in ("torch", "transformers", "nncf") if name in sys.modules]
print(heavy, model.engine.name, found.token_ids, repr(found.text))
"""


def test_a_converted_model_is_loaded_without_torch_and_says_the_same(llama: Path, tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    few = Tokenizer(models.WordLevel({"[UNK]": 0, "hello": 5, "you": 9, ">": 11}, unk_token="[UNK]"))
    few.pre_tokenizer = pre_tokenizers.Whitespace()
    t.PreTrainedTokenizerFast(tokenizer_object=few, chat_template=template).save_pretrained(llama)
    first, again = (run_without_network(LOAD_AND_ANSWER, tmp_path, str(llama), "cpu") for _ in range(2))
    assert first == again
    assert first.startswith("[] openvino [")
    graph = next((tmp_path / "cache" / "openvino").glob("*/facts.json")).parent
    (graph / "tokenizer_facts.json").write_text("{}")  # is another length, so that the graph is made again
    assert run_without_network(LOAD_AND_ANSWER, tmp_path, str(llama), "cpu") == first
    kept = (graph / "tokenizer_facts.json").read_text()
    (graph / "tokenizer_facts.json").write_text("x" * len(kept))
    damaged = run_without_network(LOAD_AND_ANSWER, tmp_path, str(llama), "cpu")
    assert damaged.startswith("['torch', 'transformers'] openvino [")
    assert damaged.partition("openvino")[2] == first.partition("openvino")[2]


def test_no_driver_shows_a_device_and_torch_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(loading, "_sees_accelerator", lambda: False)
    assert loading.on_cpu(None)
    assert "torch" not in sys.modules
    monkeypatch.setattr(loading, "_sees_accelerator", lambda: True)
    for found in (True, False):
        about = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda found=found: found))
        monkeypatch.setattr("hierdraft.engines.hf.load.check_torch", lambda about=about: about)
        assert loading.on_cpu(None) is not found
    assert loading.on_cpu("cpu")
    assert not loading.on_cpu("cuda")


def test_the_tree_check_is_made_once_for_a_graph_a_number_type_and_a_machine(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "converted", openvino_convert.convert_folder)
    checks: list[str] = []
    monkeypatch.setattr(
        "hierdraft.engines.openvino.engine.attends_as_told", lambda one: checks.append(one.dtype) or True
    )
    folder = files.prepare(llama, "float32", tmp_path / "cache")
    for _ in range(2):
        openvino.OpenVINOEngine(folder)
    assert checks == ["float32"]
    openvino.OpenVINOEngine(folder, threads=1)
    assert len(checks) == 2
    monkeypatch.setattr("hierdraft.engines.openvino.engine.CHECK", -1)  # a stricter check, of a later version
    openvino.OpenVINOEngine(folder)
    assert len(checks) == 3
    monkeypatch.setattr("hierdraft.engines.openvino.engine.CHECK", -2)
    monkeypatch.setattr("hierdraft.engines.openvino.engine.attends_as_told", lambda _: False)
    for _ in range(2):  # what fails is not remembered as good
        with pytest.raises(UnsupportedModelError, match="explicit mask"):
            openvino.OpenVINOEngine(folder)


LOAD_WITH_TRANSFORMERS = """
from hierdraft.models.load import load_engine
engine, tokenizer = load_engine(sys.argv[1], engine="hf")
assert tokenizer("ab")["input_ids"]
print("loaded")
"""


def test_loading_with_transformers_tells_nobody(llama: Path, tmp_path: Path) -> None:
    wrapped = t.PreTrainedTokenizerFast(tokenizer_object=Bytes()._tokenizer)
    wrapped.save_pretrained(llama)
    assert run_without_network(LOAD_WITH_TRANSFORMERS, tmp_path, str(llama)).endswith("loaded")


def test_a_caller_who_lets_openvino_report_has_not_told_it_to_report_us(llama: Path, tmp_path: Path) -> None:
    """openvino was imported before us, with its reports on: what we do is still not among them."""
    code = """
import sys
from pathlib import Path
import openvino_telemetry.backend.backend_ga4 as backend
sent = []
backend.GA4Backend.send = lambda self, message: sent.append(message)
import openvino
from hierdraft.models.graphs import prepare
from hierdraft.engines.openvino.engine import OpenVINOEngine
openvino.tools.ovc.telemetry.sender.executor.shutdown(wait=True)
before = len(sent)
OpenVINOEngine(prepare(Path(sys.argv[1]), "float32", Path(sys.argv[2])))
print(before, len(sent))
"""
    pytest.importorskip("openvino_telemetry")
    (tmp_path / "home").mkdir()
    kept = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(llama), str(tmp_path / "cache")],
        env={**kept, "HOME": str(tmp_path / "home")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "1"]
