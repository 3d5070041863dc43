"""Which files there are, and the text in them.

Every function raises CorpusError with the file, and the line where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hierdraft.errors import CorpusError

Report = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""


def find_files(paths: Sequence[Path], patterns: Sequence[str], excluded: Sequence[str]) -> list[Path]:
    """The files named, and those in named folders whose names match one of `patterns`, sorted.

    Folders called as one of `excluded` are not searched.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            matching = {file for pattern in patterns for file in path.rglob(pattern) if file.is_file()}
            inside = [file for file in matching if not set(file.relative_to(path).parts[:-1]) & set(excluded)]
            if not inside:
                raise CorpusError(f"{path} holds no files named {' or '.join(patterns)}.")
            found += sorted(inside)
        else:
            found.append(path)
    return found


def read_texts(files: Sequence[Path], *, skip_bad: bool, skipped: list[str], report: Report) -> Iterator[str]:
    """The text of every UTF-8 file. A file that is none raises, or is noted in `skipped` if `skip_bad`."""
    sizes = []
    for file in files:
        try:
            sizes.append(file.stat().st_size)
        except OSError as error:
            raise CorpusError(f"{file} cannot be read: {error.strerror or error}.") from error
    done = 0
    for file, size in zip(files, sizes, strict=True):
        try:
            yield _read_text(file)
        except CorpusError as error:
            if not skip_bad:
                raise
            skipped.append(str(error))
        done += size
        report(done, sum(sizes))


def _read_text(file: Path) -> str:
    try:
        data = file.read_bytes()
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CorpusError(
            f"{file}, line {line}: not UTF-8 ({error.reason}, byte {data[error.start]:#04x}); "
            "convert the file, or leave such files out with --skip-bad."
        ) from error
    except OSError as error:
        raise CorpusError(f"{file} cannot be read: {error.strerror or error}.") from error
