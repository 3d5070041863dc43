"""From files to ids: what is read, and what is refused with its file and line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hierdraft.corpus.files import find_files, read_texts
from hierdraft.corpus.ids import read_ids, read_ngrams
from hierdraft.corpus.tokens import tokenize
from hierdraft.errors import CorpusError
from tests.unit.byte_tokenizer import Bytes


def read(files: list[Path], *, skip_bad: bool = False) -> tuple[list[str], list[str], list[tuple[int, int]]]:
    skipped: list[str] = []
    told: list[tuple[int, int]] = []
    texts = list(read_texts(files, skip_bad=skip_bad, skipped=skipped, report=lambda a, b: told.append((a, b))))
    return texts, skipped, told


def test_folders_are_searched_and_files_taken_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.txt", "a.md", "c.bin", "deep/d.txt", "deep/skip/e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    found = find_files([tmp_path, tmp_path / "c.bin"], ["*.txt", "*.md"], ["skip"])
    assert [file.name for file in found] == ["a.md", "b.txt", "d.txt", "c.bin"]
    with pytest.raises(CorpusError, match="holds no files named"):
        find_files([tmp_path], ["*.rst"], [])


def test_a_file_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
    good.write_text("fine")
    bad.write_bytes(b"one\ntwo\nthr\xe9e\n")
    with pytest.raises(CorpusError, match=r"bad.txt, line 3: not UTF-8 \(.*byte 0xe9\)"):
        read([good, bad])
    texts, skipped, told = read([bad, good], skip_bad=True)
    assert texts == ["fine"]
    assert len(skipped) == 1
    assert "line 3" in skipped[0]
    assert told[-1] == (18, 18)
    with pytest.raises(CorpusError, match="cannot be read: No such file"):
        read([tmp_path / "missing.txt"])


def test_tokenising_in_pieces_loses_nothing() -> None:
    tokenizer = Bytes()
    texts = ["", "short", "a line\n" * 40_000, "\n", "no line end " * 30_000, "é" * 10]
    documents = list(tokenize(tokenizer, texts))
    assert [tokenizer.decode(ids.tolist()) for ids in documents] == [text for text in texts if text]
    assert all(ids.dtype == np.int32 for ids in documents)


def test_ids_from_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"output_ids": [1, 2]}\n\n{"output_ids": [], "x": [9]}\n{"output_ids": [3]}\n')
    assert [ids.tolist() for ids in read_ids(path, "output_ids", 5)] == [[1, 2], [], [3]]
    for line, message in (
        ('{"output_ids": [1, 5]}', "line 2: id 5 is outside the vocabulary of 5"),
        ('{"output_ids": [-1]}', "line 2: id -1 is outside"),
        ('{"output_ids": [true]}', "line 2: a row needs a list of token ids under 'output_ids'"),
        ('{"output_ids": "12"}', "line 2: a row needs a list"),
        ("[1]", "line 2: not a JSON object"),
        ("{", "line 2: not JSON"),
        ("[" * 100_000, "line 2: not JSON"),
    ):
        path.write_text('{"output_ids": [1]}\n' + line)
        with pytest.raises(CorpusError, match=message):
            list(read_ids(path, "output_ids", 5))
    with pytest.raises(CorpusError, match="cannot be read"):
        list(read_ids(tmp_path / "none.jsonl", "output_ids", 5))


@pytest.mark.parametrize(("dtype", "end"), [("uint16", 65_535), ("uint32", 2**32 - 1), ("int32", -1), ("int64", -1)])
def test_ids_from_npy(tmp_path: Path, dtype: str, end: int) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array([1, 2, end, 3, end, end, 4], dtype=dtype))
    assert [ids.tolist() for ids in read_ids(path, "", 5)] == [[1, 2], [3], [4]]
    np.save(path, np.array([1, 7], dtype=dtype))
    with pytest.raises(CorpusError, match="id 7 at 1 is outside the vocabulary of 5"):
        list(read_ids(path, "", 5))


def test_npy_files_that_hold_no_ids(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    for array in (np.ones(3), np.ones((2, 2), dtype=np.int32), np.array(5)):
        np.save(path, array)
        with pytest.raises(CorpusError, match="not a row of token ids"):
            list(read_ids(path, "", 5))
    for data in (b"", b"nonsense", np.array([{}], dtype=object).dumps()):
        path.write_bytes(data)
        with pytest.raises(CorpusError, match="cannot be read as"):
            list(read_ids(path, "", 5))


def test_ngrams_of_the_paper(tmp_path: Path) -> None:
    path = tmp_path / "train_5.json"
    path.write_text(json.dumps({"1/2/3/4/5": 2, "5/4/3/2/1": 1, "1/1/1/1/1": 1_000}))
    found = [ids.tolist() for ids in read_ngrams(path, 6)]
    assert found == [[1, 2, 3, 4, 5]] * 2 + [[5, 4, 3, 2, 1]] + [[1] * 5] * 64
    for text, message in (
        ("[1]", "not an object"),
        ("{", "not JSON"),
        ('{"1/x": 1}', "not an n-gram"),
        ('{"1/2": 0}', "has the count 0"),
        ('{"1/6": 1}', "outside the vocabulary of 6"),
    ):
        path.write_text(text)
        with pytest.raises(CorpusError, match=message):
            list(read_ngrams(path, 6))
