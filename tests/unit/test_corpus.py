"""From files to ids: what is read, and what is refused with its file and line."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from backports import zstd
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from hierdraft.corpus import streams, tokens
from hierdraft.corpus.files import find_files, note_kinds, read_documents, read_texts
from hierdraft.corpus.ids import read_ids, read_ngrams
from hierdraft.corpus.streams import Reading
from hierdraft.corpus.tokens import Answer, tokenize
from hierdraft.errors import CorpusError, UsageError
from tests.unit.byte_tokenizer import Bytes

ADVICE = {"advice": "name its encoding with --encoding", "skip_option": "; --skip-bad leaves such things out"}


def read(files: list[Path], **options: Any) -> tuple[list[str], Reading, list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    reading = Reading(report=lambda a, b: told.append((a, b)), **{**ADVICE, **options})
    return ["".join(pieces) for pieces in read_texts(files, reading)], reading, told


def test_folders_are_searched_and_files_taken_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.txt", "a.md", "c.bin", "deep/d.txt", "deep/skip/e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    found = find_files([tmp_path, tmp_path / "c.bin"], ["*.txt", "*.md"], ["skip"])
    assert [file.name for file in found] == ["a.md", "b.txt", "d.txt", "c.bin"]
    with pytest.raises(CorpusError, match="holds no files named"):
        find_files([tmp_path], ["*.rst"], [])


def test_every_line_a_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"rain\r\n\n rain\nthe last one")
    (tmp_path / "b.txt").write_bytes("grün\n".encode())
    (tmp_path / "c.txt").write_bytes(b"fine\n\xff\n")
    files = [tmp_path / name for name in ("a.txt", "b.txt")]
    assert list(read_documents(files, Reading())) == ["rain", " rain", "the last one", "grün"]
    with pytest.raises(CorpusError, match=r"c\.txt, line 2"):
        list(read_documents([tmp_path / "c.txt"], Reading()))
    reading = Reading(skip_bad=True)
    assert list(read_documents([*files, tmp_path / "c.txt"], reading))[-1] == "grün"
    assert len(reading.skipped) == 1


def test_a_file_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
    good.write_text("fine")
    bad.write_bytes(b"one\ntwo\nthr\xe9e\n")
    with pytest.raises(CorpusError, match=r"bad.txt, line 3: not UTF-8 \(.*byte 0xe9\).*--encoding.*--skip-bad"):
        read([good, bad])
    texts, reading, told = read([bad, good], skip_bad=True)
    assert texts == ["fine"]
    assert len(reading.skipped) == 1
    assert "line 3" in reading.skipped[0]
    assert "--skip-bad" not in reading.skipped[0]
    assert told[-1] == (18, 18)
    with pytest.raises(CorpusError, match="cannot be read: No such file"):
        read([tmp_path / "missing.txt"])
    with pytest.raises(CorpusError, match="cannot be read: Is a directory"):
        read([tmp_path])


TEXT = "Grüße, 世界 👩‍👩‍👧\r\nline two\n"


@pytest.mark.parametrize("name", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_marks_tell_the_encoding(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(TEXT.encode(name))
    assert read([path])[0] == [TEXT]
    assert read([path], encoding=name)[0] == [TEXT]


def test_encodings_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for name, text in (("latin-1", "été"), ("cp1252", "“quoted” €"), ("utf-16-le", TEXT), ("shift_jis", "日本語\n")):
        path.write_bytes(text.encode(name))
        assert read([path], encoding=name)[0] == [text]
        with pytest.raises(CorpusError, match=r"line 1: .*--encoding"):
            read([path])
    path.write_bytes("ok\nok\n".encode("utf-16-le") + b"\x00\xd8")
    with pytest.raises(CorpusError, match="line 3: not utf-16-le"):
        read([path], encoding="utf-16-le")
    for name in ("utf-9", "rot13", "base64", "\0", ""):
        with pytest.raises(UsageError, match="no text encoding that Python knows"):
            Reading(encoding=name)


PACKERS = {"gz": gzip.compress, "zst": zstd.compress, "bz2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("end", PACKERS)
def test_packed_files_are_read_and_damage_is_a_sentence(tmp_path: Path, end: str) -> None:
    whole = TEXT * 50_000
    data = PACKERS[end](whole.encode("utf-16"))
    path = tmp_path / "anything"  # what a file begins with tells, not its name
    path.write_bytes(data + PACKERS[end](b""))
    texts, _, told = read([path])
    assert texts == [whole]
    assert told[-1][0] == told[-1][1] == path.stat().st_size
    path.write_bytes(data[:-9])
    with pytest.raises(CorpusError, match="is damaged"):
        read([path])
    path.write_bytes(data[:40] + bytes([data[40] ^ 255]) + data[41:])
    with pytest.raises(CorpusError, match=r"is damaged|not utf-16|half a character|NUL"):
        read([path])
    assert read([path], skip_bad=True)[0] == []


def test_what_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"a" * (8 << 20)))
    assert sum(map(len, read([path])[0])) == 8 << 20
    monkeypatch.setattr(streams, "FREE_GROWTH", 1 << 20)
    with pytest.raises(CorpusError, match="unpacks to more than 250 times its size"):
        read([path])


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for data, words in (
        (b"%PDF-1.7\n", "is a PDF: take its text out first"),
        (b"PK\x03\x04zip", "zip archive or an office document"),
        (b"PAR1xx", "Parquet"),
        (b"one\nt\0o", "line 2: a NUL character.*--encoding"),
    ):
        path.write_bytes(data)
        with pytest.raises(CorpusError, match=words):
            read([path])
        assert read([path], skip_bad=True)[0] == []


def test_a_file_that_shrinks_or_goes_while_others_are_read(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.txt", "b.txt")]
    for path in paths:
        path.write_text("text " * 100)
    told: list[tuple[int, int]] = []
    texts = read_texts(paths, Reading(report=lambda *done: told.append(done)))
    assert "".join(next(texts)) == "text " * 100
    paths[0].unlink()
    paths[1].write_text("short")
    assert "".join(next(texts)) == "short"
    assert next(texts, None) is None
    assert told[-1] == (1000, 1000)
    assert all(done <= total for done, total in told)


def test_kinds_that_are_taken_as_they_are_are_noted(tmp_path: Path) -> None:
    for name, text in (
        ("a.jsonl.gz", ""),
        ("b.html", ""),
        ("c", "<!DOCTYPE html><p>"),
        ("d", '{"a": 1}'),
        ("e.py", "{"),
    ):
        (tmp_path / name).write_text(text)
    reading = Reading()
    note_kinds(sorted(tmp_path.iterdir()), reading)
    assert [(what.split()[0], count) for what, count in reading.notes.items()] == [("JSON", 2), ("HTML", 2)]


def test_tokenising_in_pieces_loses_nothing() -> None:
    tokenizer = Bytes()
    texts = ["", "short", "a line\n" * 40_000, "\n", "no line end " * 30_000, "é" * 10, "x" * 300_000]
    documents = list(tokenize(tokenizer, texts))
    assert [tokenizer.decode(ids.tolist()) for ids in documents] == [text for text in texts if text]
    assert all(ids.dtype == np.int32 for ids in documents)
    chunks = [[text[i : i + 999] for i in range(0, len(text), 999)] for text in texts]
    assert [a.tolist() for a in tokenize(tokenizer, chunks)] == [a.tolist() for a in documents]


def trained(kind: str) -> Any:
    """A small tokenizer with merges: byte level (spaces and newlines stick together) or with a space put in front."""
    words = "the quick brown fox\n\n  jumps over 12 lazy dogs.\n" * 3
    found = Tokenizer(models.BPE())
    if kind == "byte level":
        found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        found.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        splits = [pre_tokenizers.Split("▁", "merged_with_next"), pre_tokenizers.Split("\n", "isolated")]
        found.pre_tokenizer = pre_tokenizers.Sequence(splits)
        alphabet = [*"▁\nabcdefghijklmnopqrstuvwxyz0123456789."]
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    found.train_from_iterator([words], trainer)
    if kind != "byte level":
        found.pre_tokenizer = None  # as in Llama 2: a text is one word, and merges hold within words
    return SimpleNamespace(_tokenizer=found)


@pytest.mark.parametrize("kind", ["byte level", "a space in front"])
@pytest.mark.parametrize("line", ["the quick\n\n  jumps\n   \nover the fox\n", "over 12 lazy dogs.  the  fox "])
def test_cutting_a_text_does_not_change_its_ids(kind: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where white space meets a cut; the tokenizer that begins texts with a space of its own included."""
    monkeypatch.setattr(tokens, "_PIECE", 50)
    tokenizer = trained(kind)
    text = line * 60
    whole = tokenizer._tokenizer.encode(text, add_special_tokens=False).ids
    (ids,) = tokenize(tokenizer, [text])
    assert ids.tolist() == whole
    assert len(list(tokens._cut([text]))) > 20


def test_one_long_line_is_cut_and_long_texts_become_several_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = list(tokens._cut(["a" * 1_000_000]))
    assert "".join(pieces) == "a" * 1_000_000
    assert max(map(len, pieces)) <= tokens.MOST_PIECE
    monkeypatch.setattr(tokens, "MOST_DOCUMENT", 150_000)
    documents = list(tokenize(Bytes(), ["a" * 1_000_000, "b"]))
    assert sum(map(len, documents)) == 1_000_001
    assert max(map(len, documents)) <= 150_000 + tokens.MOST_PIECE
    assert len(documents[-1]) == 1


def test_an_answer_keeps_the_last_tokens_before_it() -> None:
    for kind in ("byte level", "a space in front"):
        tokenizer = trained(kind)
        ids = tokenizer._tokenizer.encode
        before, said = "the lazy fox " * 300 + "\nover the quick", " brown dogs."
        (document,) = tokenize(tokenizer, [Answer(before, said)])
        whole = ids(before + said, add_special_tokens=False).ids
        assert document.tolist() == whole[len(ids(before, add_special_tokens=False).ids) - 8 :]


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
