"""From data and a target to a drafter's folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hierdraft import __version__
from hierdraft.errors import TrainingError, UsageError
from hierdraft.models.files import disk_errors, sha256_file
from hierdraft.training import ASKING, MEASURING, TRAINING
from hierdraft.training.settings import HeadTraining, Limits, Training, identity

Report = Callable[[int, int], None]


def _silent(_done: int, _all: int) -> None:
    return None


@dataclass(frozen=True)
class Job:
    """One training as it is asked for.

    model     the target: a known name, or a transformers folder
    data      files to learn from
    out       the drafter's folder
    command   how it was started, for the record
    licence   of what comes of it
    every     seconds between checkpoints
    threads   of torch, None: as the process has set
    """

    model: str
    data: Sequence[Path]
    out: Path
    training: Training
    limits: Limits
    command: str = ""
    licence: str = ""
    every: float = 60.0
    threads: int | None = None


@dataclass
class Ears:
    """Who is told, and who may end it.

    stages   makes a `report` for a stage of the work
    log      takes lines about the training
    stop     whether to end now, with a checkpoint
    """

    stages: Callable[[str], Report] = field(default=lambda _title: _silent)
    log: Callable[[str], None] = field(default=lambda _line: None)
    stop: Callable[[], bool] = field(default=lambda: False)


def train_drafter(job: Job, cache_dir: Path, ears: Ears | None = None) -> dict[str, Any] | None:
    """Train, or continue what the folder has a checkpoint of; returns what training.json holds, None if stopped.

    Raises UsageError, ModelError, MissingDependencyError, CorpusError, PackError or TrainingError.
    """
    from hierdraft.engines.hf.load import check_torch
    from hierdraft.training.documents import check_files

    job.training.check()
    job.limits.check()
    _check_dtype(job.training.dtype)
    check_files(job.data)
    check_torch()
    from hierdraft.engines.hf.facts import using_threads

    with _alone(job.out, cache_dir), using_threads(job.threads):
        return _Run(job, cache_dir, ears or Ears()).run()


def _check_dtype(dtype: str) -> None:
    """Raises UsageError for one that this CPU does not compute in."""
    if dtype != "bfloat16" or find_spec("openvino") is None:
        return
    from hierdraft.engines.openvino.compiling import has_bfloat16

    if not has_bfloat16():
        raise UsageError("This CPU does not compute in bfloat16: leave --dtype out.")


@contextmanager
def _alone(out: Path, cache_dir: Path) -> Iterator[None]:
    """Nobody else trains into this folder meanwhile. Raises TrainingError."""
    locks = cache_dir.expanduser() / "training"
    name = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:24]
    with disk_errors(locks):
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / f"{name}.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise TrainingError(f"Another training writes into {out}: wait for it, or choose another --out.") from None
    try:
        yield
    finally:
        lock.release()


class _Run:
    def __init__(self, job: Job, cache_dir: Path, ears: Ears) -> None:
        from hierdraft.engines.generation_config import GenerationDefaults
        from hierdraft.engines.hf.load import load_tokenizer
        from hierdraft.training.documents import digest_of, read_documents, split, worth_a_row
        from hierdraft.training.students import begun_with
        from hierdraft.training.target import read_target

        self.job, self.ears = job, ears
        path = _folder(job.model, cache_dir)
        tokenizer = load_tokenizer(path)
        self.target = read_target(job.model, path)
        vocab = len(self.target.embedding)
        documents, self.sources = read_documents(job.data, tokenizer, vocab)
        training, digest = job.training, digest_of(documents)
        split(documents, training.held_out, training.seed)  # before the target has read anything
        self.reads = training.reads(self.target.depth) if isinstance(training, HeadTraining) else ()
        if isinstance(training, HeadTraining) and training.init is not None:
            begun_with(training.init, training, self.reads)  # nor has the target read anything for another head
        if training.logprobs or self.reads:
            documents = self._read(documents, cache_dir)
        self.learned, self.held_out = split(documents, training.held_out, training.seed)
        ends = GenerationDefaults.read(path, eos_only=True).eos_ids(tokenizer, vocab)
        special = [*tokenizer.all_special_ids, *getattr(tokenizer, "added_tokens_decoder", ()), *ends]
        self.kept = worth_a_row(self.learned, special, training.rows, vocab)
        self.identity = identity(training, digest, self.target.shared.sha256)

    def _read(self, documents: list[Any], cache_dir: Path) -> list[Any]:
        """The documents with what the target thinks of them; without those that a head could not be taught with."""
        from hierdraft.models.load import load_engine
        from hierdraft.training.reading import FOLDER, Asked, with_reading

        job, asked, dtype = self.job, Asked(self.job.training.logprobs, self.reads), self.job.training.dtype
        weights = [sha256_file(file) for file in sorted(self.target.path.glob("*.safetensors"))]
        of = hashlib.sha256(repr((weights, asked, dtype)).encode()).hexdigest()[:24]
        engine, _ = load_engine(job.model, dtype=dtype, threads=job.threads)
        if self.reads and engine.offers.layers < max(self.reads):  # as of graphs with sliding windows
            engine, _ = load_engine(job.model, engine="hf", dtype=dtype, threads=job.threads)
        with disk_errors(cache_dir):
            found = with_reading(engine, documents, asked, cache_dir / FOLDER / of, self.ears.stages(ASKING))
        return [one for one in found if one.states is not None] if self.reads else found

    def run(self) -> dict[str, Any] | None:
        """Train, measure and write."""
        from hierdraft.training.folder import check_folder
        from hierdraft.training.loop import Loop
        from hierdraft.training.students import new_student
        from hierdraft.training.windows import packed

        job, training = self.job, self.job.training
        student, init = new_student(self.target, training, self.kept, self.reads)
        size = sum(one.size for one in student.own().values())
        check_folder(job.out, self.identity, 4 * size)
        windows = packed(self.learned, training.window, training.seed)
        loop = Loop(
            student, windows, training, job.limits, job.out, self.identity, every=job.every, stop=self.ears.stop,
            report=self.ears.stages(TRAINING), log=self.ears.log,
        )  # fmt: skip
        if loop.state.steps:
            self.ears.log(f"continued after step {loop.state.steps}")
        if loop.done >= 1.0 and (found := self._written(loop.state.steps)) is not None:
            return found
        if not loop.run():
            return None
        return self._finish(student, init, loop, size)

    def _written(self, steps: int) -> dict[str, Any] | None:
        """What is told of a training that is complete, None where its folder is not."""
        from hierdraft.models.drafter_files import TRAINING as RECORD
        from hierdraft.models.drafter_files import is_drafter

        if not is_drafter(self.job.out):
            return None
        try:
            found: dict[str, Any] = json.loads((self.job.out / RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        settings = json.loads(json.dumps(asdict(self.job.training)))  # tuples are lists there
        return found if found.get("steps") == steps and found.get("settings") == settings else None

    def _finish(self, student: Any, init: str, loop: Any, size: int) -> dict[str, Any]:
        """Measure the weights as they will be stored, and write the folder."""
        from hierdraft.models.drafter_files import config_of, packed, unpacked
        from hierdraft.training.agreement import measure
        from hierdraft.training.folder import told, write_drafter

        job, training, state = self.job, self.job.training, loop.state
        own = student.own()
        student.take(unpacked(packed(own, training.weights)))
        found = measure(student, self.held_out, training.window, training.seed, self.ears.stages(MEASURING))
        shared = self.target.shared
        record = {
            "target": job.model,
            "version": __version__,
            "command": job.command,
            "licence": job.licence,
            "settings": asdict(training),
            "limits": asdict(job.limits),
            "init": init,
            **({"states": list(self.reads)} if self.reads else {}),
            "parameters": size,
            "vocab_size": len(self.target.embedding),
            "rows": len(student.kept),
            "data": told(self.sources),
            "documents": {"training": len(self.learned), "held_out": len(self.held_out)},
            "steps": state.steps,
            "tokens": state.tokens,
            "seconds": round(state.seconds, 2),
            "tokens_per_second": round(state.tokens / max(state.seconds, 1e-9), 1),
            "resumed": state.resumed,
            "loss": round(state.curve[-1]["loss"], 4) if state.curve else 0.0,
            "curve": state.curve,
            "held_out": found.record(),
        }
        config = {**self.target.config, "num_hidden_layers": training.layers}
        head = training.head(self.reads) if isinstance(training, HeadTraining) else None
        config = config_of(config, shared, head, training.loops)
        write_drafter(
            job.out, config_of(config, shared, head, training.loops), own, self.kept, training.weights, record
        )
        return record


def _folder(model: str, cache_dir: Path) -> Path:
    """The transformers folder of the target. Raises UsageError for one that is none, and ModelError."""
    from hierdraft.models.drafter_files import is_drafter
    from hierdraft.models.named import folder_of, resolve
    from hierdraft.models.openvino_folders import is_openvino

    if is_drafter(folder_of(model)):
        raise UsageError(f"{model} is a drafter: train one for the model that it drafts for.")
    path = resolve(model, cache_dir).path
    if is_openvino(path):
        raise UsageError(
            f"{path} is an OpenVINO folder, whose weights a drafter cannot share: name the transformers folder or the "
            "GGUF file that it was made of."
        )
    return path
