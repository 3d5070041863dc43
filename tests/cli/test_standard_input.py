"""Where a prompt comes from: typed, piped in or asked for with a dash; nothing waits for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

import pytest

from hierdraft.cli import standard_input
from hierdraft.cli.standard_input import read_prompt
from hierdraft.errors import UsageError


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[BinaryIO]:
    """The end that writes to this process's standard input."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "r", encoding="utf-8") as stdin, os.fdopen(writer, "wb") as end:
        monkeypatch.setattr("sys.stdin", stdin)
        yield end


def filled(writer: BinaryIO, data: bytes) -> None:
    writer.write(data)
    writer.close()


@pytest.mark.parametrize("prompt", ["-", None])
@pytest.mark.parametrize(
    "data", ["Grüße\n".encode(), b"\xef\xbb\xbf" + "Grüße\n".encode()], ids=["utf-8", "with a byte-order mark"]
)
def test_piped_text_is_the_prompt(pipe: BinaryIO, prompt: str | None, data: bytes) -> None:
    filled(pipe, data)
    assert read_prompt(prompt) == "Grüße\n"


def test_a_file_is_the_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    with (tmp_path / "notes.txt").open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert read_prompt(None) == "notes"


def test_with_a_prompt_an_open_pipe_is_not_read(pipe: BinaryIO) -> None:
    assert read_prompt("typed") == "typed"
    filled(pipe, b"piped")
    assert sys.stdin.read() == "piped"


@pytest.mark.parametrize(
    ("prompt", "data", "words"),
    [
        (None, b"", "standard input is empty"),
        (None, b" \n", "standard input is empty"),
        ("-", b"", "The prompt is empty"),
        ("-", b"caf\xe9", "not UTF-8 text .byte 3."),
        (None, b"caf\xe9", "not UTF-8 text"),
        (None, "caf".encode("utf-16"), "UTF-16"),
        ("  ", b"x", "The prompt is empty"),
    ],
)
def test_what_is_no_prompt_is_one_sentence(pipe: BinaryIO, prompt: str | None, data: bytes, words: str) -> None:
    filled(pipe, data)
    with pytest.raises(UsageError, match=words) as error:
        read_prompt(prompt)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("stdin", ["device", "closed", "none", "replaced"])
def test_without_anything_piped_nothing_is_read(monkeypatch: pytest.MonkeyPatch, stdin: str) -> None:
    import io

    opened: TextIO | None = None
    if stdin == "replaced":
        opened = io.StringIO("text")
    elif stdin != "none":
        opened = open(os.devnull)  # noqa: SIM115 - closed below or by the test
        if stdin == "closed":
            opened.close()
    monkeypatch.setattr("sys.stdin", opened)
    with pytest.raises(UsageError, match="There is no prompt: give a prompt"):
        read_prompt(None)
    if opened is not None:
        opened.close()


def test_a_pipe_that_nobody_writes_to_is_given_up(
    pipe: BinaryIO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(standard_input, "NOTICE_SECONDS", 0.05)
    monkeypatch.setattr(standard_input, "PATIENCE_SECONDS", 0.05)
    with pytest.raises(UsageError, match="nothing came"):
        read_prompt(None)
    assert "waiting for a prompt" in capsys.readouterr().err


def test_a_slow_writer_is_waited_for(
    pipe: BinaryIO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import threading

    monkeypatch.setattr(standard_input, "NOTICE_SECONDS", 0.01)
    late = threading.Timer(0.3, filled, (pipe, b"late"))
    late.start()
    assert read_prompt(None) == "late"
    late.join()
    assert "waiting for a prompt" in capsys.readouterr().err


def test_the_command_reads_a_pipe_without_a_dash() -> None:
    """The prompt is accepted, so that the next fault is the one that is told."""
    command = [sys.executable, "-c", "from hierdraft.cli.app import main; main()", "generate", "--method", "telepathy"]
    done = subprocess.run(command, input="notes", capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "telepathy" in done.stderr
