"""Every command ends: on a closed pipe, a full disk, a signal, odd terminals; and what was learned is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from hierdraft.cli.stopping import behind
from hierdraft.databases.disk import write_file
from hierdraft.databases.namespace import Namespaces
from hierdraft.databases.pack import join, write_pack
from hierdraft.databases.suffixsort import build
from tests.cli.toy_command import INFO

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and devices of POSIX systems")

LIMIT = 10.0
"""Seconds for what takes one on a machine that does nothing else."""

MAIN = ["-c", "from hierdraft.cli.app import main; main()"]
TOY = ["-m", "tests.cli.toy_command"]
ANSWER = ["generate", "ab", "--max-new-tokens", "1000000"]
COMMANDS = (
    ["--help"], ["--version"], ["models", "list"], ["config", "show"], ["doctor"],
    ["db", "inspect", "PACK"], ["db", "verify", "PACK"], ["db", "export", "PACK", "--out", "OUT"], ANSWER,
    [*ANSWER[:-1], "40", "--json"],
)  # fmt: skip
if not os.environ.get("PROOFS"):  # which imports much, and ends as the others do
    COMMANDS = tuple(command for command in COMMANDS if command != ["doctor"])
MOMENTS = range(1, 8) if os.environ.get("PROOFS") else (1, 3, 4, 6)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packs") / "toy.safetensors"
    write_pack(path, build(join([np.arange(200, dtype=np.int32)] * 3), 257), INFO)
    return path


def start(command: list[str], folder: Path, pack: Path | str = "", **more: object) -> subprocess.Popen[str]:
    """A command as a shell starts it, its standard error a pipe."""
    named = [str({"PACK": pack, "OUT": folder / "out.jsonl"}.get(word, word)) for word in command]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHONUNBUF")}
    environment = {"TOY": "quick", **inherited, "HIERDRAFT_DATA_DIR": str(folder), **more.pop("env", {})}  # type: ignore[dict-item]
    options: dict[str, object] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more}
    how = TOY if command[0] == "generate" else MAIN
    options.setdefault("preexec_fn", heard)
    return subprocess.Popen([sys.executable, *how, *named], env=environment, **options)  # type: ignore[call-overload,no-any-return]


def heard() -> None:
    """Whoever started the tests may ignore signals, as nohup and the background of a shell do."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def said(folder: Path) -> int:
    """How many tokens of the toy model's answers are kept."""
    namespaces = Namespaces(folder, INFO)
    store = namespaces.store("default")
    assert store.writes  # nobody holds the folder
    found = len(store)
    namespaces.close()
    return found


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_closed_pipe_and_a_full_disk(command: list[str], tmp_path: Path, pack: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    for name in "12":
        (tmp_path / name).mkdir()
    closed = start(command, tmp_path / "1", pack, stdout=writer)
    os.close(writer)
    with open("/dev/full", "w") as full:
        filled = start(command, tmp_path / "2", pack, stdout=full)
    told = closed.communicate(timeout=60)[1]
    assert (closed.returncode, told.replace("loading\n", "")) == (141, "")
    told = filled.communicate(timeout=60)[1].replace("loading\n", "")
    assert filled.returncode == 16
    assert told.startswith("hierdraft: Standard output cannot be written (No space left on device)")
    assert told.count("\n") == 1
    if command[0] == "generate":
        assert min(said(tmp_path / "1"), said(tmp_path / "2")) > 2


def ends(process: subprocess.Popen[str], number: int, meanwhile: str) -> None:
    """A signal ends the process soon, with its exit code and without a traceback."""
    sent = time.monotonic()
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert time.monotonic() - sent < LIMIT
    assert process.returncode == 128 + number, told
    assert told.replace("loading\n", "") == f"{meanwhile}hierdraft: stopped.\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_an_answer_is_printed(number: int, tmp_path: Path) -> None:
    process = start(ANSWER, tmp_path, bufsize=0, text=False)
    assert process.stdout is not None
    read = b""
    while len(read) < 300:
        read += os.read(process.stdout.fileno(), 300)
    process.send_signal(number)
    told = process.communicate(timeout=60)[1]
    assert (process.returncode, told) == (128 + number, b"loading\nhierdraft: stopped.\n")
    assert said(tmp_path) > 20


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("toy", ["computing", "swallowing", "finalizing"])
def test_a_signal_while_a_library_does_not_hear_it(number: int, toy: str, tmp_path: Path) -> None:
    process = start(ANSWER, tmp_path, env={"TOY": toy})
    assert process.stderr is not None
    assert process.stderr.readline() == "loading\n"
    time.sleep(0.2)
    ends(process, number, "in order\n" if toy == "finalizing" else "")


@pytest.mark.parametrize("reads", [True, False])
def test_a_signal_while_nobody_reads_what_is_said(reads: bool, tmp_path: Path) -> None:
    """Standard error is a pipe that is full, or was closed."""
    reader, writer = os.pipe()
    process = start(ANSWER, tmp_path, env={"TOY": "swallowing"}, stderr=writer)
    assert os.read(reader, 8) == b"loading\n"
    if reads:
        os.set_blocking(writer, False)
        with suppress(BlockingIOError):
            while os.write(writer, bytes(1 << 12)):
                pass
    else:
        os.close(reader)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT) == 143


MAKES_A_CLASS = """
import os, signal, time
from hierdraft.cli import app

class Told:
    def __set_name__(self, owner, name):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

app._run = lambda: len(type("Made", (), {"told": Told()}).__name__)
app.main()
"""


def test_a_signal_while_a_class_is_made_is_a_signal() -> None:
    """Python makes another error of what `__set_name__` raises."""
    run = subprocess.run([sys.executable, "-c", MAKES_A_CLASS], capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stderr) == (143, "hierdraft: stopped.\n")
    assert behind(ValueError("nothing of the kind")) is None


@pytest.mark.parametrize(
    ("words", "moments"), [("doctor", (3, 5)), ("models list", MOMENTS), ("db inspect PACK", MOMENTS)]
)
def test_a_signal_at_any_moment(words: str, moments: Sequence[int], tmp_path: Path, pack: Path) -> None:
    """Also while modules are imported; while the interpreter itself begins or ends, the system's own way is taken."""
    command = words.split()
    started = time.monotonic()
    start(command, tmp_path, pack).communicate(timeout=60)
    whole = time.monotonic() - started
    processes = []
    for part in moments:
        process = start(command, tmp_path, pack)
        time.sleep(whole * part / 8)
        number = (signal.SIGINT, signal.SIGTERM)[part % 2]
        process.send_signal(number)
        processes.append((process, number, part))
    for process, number, part in processes:
        told = process.communicate(timeout=60)[1]
        assert process.returncode in (0, 128 + number, -number) or (part == 1 and number == signal.SIGINT), told
        if part > 1:
            assert "Traceback" not in told
            assert "Exception ignored" not in told


def test_ignored_signals_stay_ignored(tmp_path: Path) -> None:
    process = start([*ANSWER[:-1], "400"], tmp_path, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert process.stdout is not None
    process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_terminals_that_are_not_utf_8(encoding: str, tmp_path: Path) -> None:
    environment = {"PYTHONIOENCODING": encoding, "LC_ALL": "C"}
    process = start([*ANSWER[:-1], "40"], tmp_path, env=environment, text=False)
    shown, told = process.communicate(timeout=60)
    assert (process.returncode, told[:8]) == (0, b"loading\n")
    assert b"\\ufffd" in shown
    process = start(["models", "path", "日本"], tmp_path, env=environment)
    assert "\\u65e5" in process.communicate(timeout=60)[1]


@pytest.mark.parametrize("command", [["\udcff"], ["ab", "--stop", "\udcff"], ["ab", "--namespace", "\udcff"]])
def test_arguments_that_are_no_text(command: list[str], tmp_path: Path) -> None:
    process = start(["generate", *command], tmp_path)
    told = process.communicate(timeout=60)[1].replace("loading\n", "")
    assert process.returncode == 2
    assert told.count("\n") == 1
    assert "dcff" in told.lower()


def test_unbuffered_output(tmp_path: Path) -> None:
    process = start(["models", "list"], tmp_path, env={"PYTHONUNBUFFERED": "1"})
    assert "smollm2-135m" in process.communicate(timeout=60)[0]
    with open("/dev/full", "w") as full:
        process = start(["models", "list"], tmp_path, env={"PYTHONUNBUFFERED": "1"}, stdout=full)
    assert process.communicate(timeout=60)[1].count("\n") == 1
    assert process.returncode == 16


def test_without_standard_streams(tmp_path: Path) -> None:
    """As some services start programs: what is printed is discarded, and none of hierdraft's files takes its place."""
    closing = "import os, sys; [os.close(n) for n in range(3)]; os.execv(sys.executable, sys.argv[1:])"
    for how, command in ((MAIN, ["models", "list"]), (TOY, [*ANSWER[:-1], "40"])):
        environment = {**os.environ, "TOY": "quick", "HIERDRAFT_DATA_DIR": str(tmp_path)}
        words = [sys.executable, "-c", closing, sys.executable, *how, *command]
        assert subprocess.run(words, env=environment, timeout=60).returncode == 0
    assert said(tmp_path) > 20


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    from hierdraft.databases.disk import Disk

    def chunks() -> object:
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_file(Disk(), tmp_path / "file", chunks())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
