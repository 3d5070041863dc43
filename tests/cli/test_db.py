"""`hierdraft db` as a user meets it: packs from ids, looked at, checked, joined, exchanged, forgotten."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_cli import hierdraft

BARE = ("--tokenizer", "none", "--vocab-size", "50")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JSONL of ids, an .npy of ids, n-grams, and packs of the first two."""
    path = tmp_path_factory.mktemp("db")
    rng = np.random.default_rng(0)
    documents = [rng.integers(0, 50, 40).tolist() for _ in range(30)]
    (path / "ids.jsonl").write_text("".join(json.dumps({"output_ids": ids}) + "\n" for ids in documents))
    (path / "records.jsonl").write_text(json.dumps({"prompt_ids": [1, 2], "output_ids": documents[3]}) + "\n")
    np.save(path / "ids.npy", np.array([token for ids in documents for token in [*ids, 65_535]], dtype=np.uint16))
    (path / "ngrams.json").write_text('{"1/2/3/4/5": 3, "2/3/4/5/6": 1}')
    for source, out in (("ids.jsonl", "a"), ("ids.npy", "b")):
        arguments = ("db", "build", "--level", "model", *BARE, "--ids", str(path / source))
        done = hierdraft(*arguments, "--out", str(path / f"{out}.safetensors"), "--json")
        assert done.returncode == 0, done.stderr
        made = json.loads(done.stdout)
        assert made["tokens"] == 1_200
        assert made["documents"] == 30
        assert made["bytes"] == (path / f"{out}.safetensors").stat().st_size
    assert (path / "a.safetensors").read_bytes() == (path / "b.safetensors").read_bytes()
    return path


def test_inspect_and_score(folder: Path) -> None:
    records = ("--records", str(folder / "records.jsonl"))
    done = hierdraft("db", "inspect", str(folder / "a.safetensors"), "--top", "3", "--size", "2", *records, "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["vocab_size"] == 50
    assert shown["tokens"] == 1_200
    assert [gram["count"] for gram in shown["top"]] == sorted((gram["count"] for gram in shown["top"]), reverse=True)
    assert shown["accepted_length"]["with"] > 5 > shown["accepted_length"]["without"]
    assert "bytes a token" in hierdraft("db", "inspect", str(folder / "a.safetensors")).stdout


def test_verify_merge_export_import(folder: Path, tmp_path: Path) -> None:
    packs = [str(folder / "a.safetensors"), str(folder / "b.safetensors")]
    merged, exported, back = tmp_path / "m.safetensors", tmp_path / "m.jsonl", tmp_path / "n.safetensors"
    assert json.loads(hierdraft("db", "merge", *packs, "--out", str(merged), "--json").stdout)["documents"] == 60
    assert json.loads(hierdraft("db", "verify", str(merged), "--json").stdout)["verified"] is True
    assert hierdraft("db", "export", str(merged), "--out", str(exported)).returncode == 0
    assert len(exported.read_text().splitlines()) == 60
    done = hierdraft("db", "import", str(exported), "--vocab-size", "50", "--out", str(back), "--json")
    assert json.loads(done.stdout)["tokens"] == 2_400
    ngrams = str(folder / "ngrams.json")
    done = hierdraft("db", "import", ngrams, "--vocab-size", "50", "--out", str(back), "--json")
    assert json.loads(done.stdout)["tokens"] == 20
    bare = tmp_path / "bare.safetensors"
    done = hierdraft("db", "build", "--ids", str(exported), *BARE, "--bare", "--out", str(bare), "--json")
    assert json.loads(done.stdout)["bytes"] < merged.stat().st_size / 3
    assert hierdraft("db", "verify", str(bare)).returncode == 0
    data = bytearray(merged.read_bytes())
    data[-5] ^= 8
    merged.write_bytes(data)
    done = hierdraft("db", "verify", str(merged))
    assert done.returncode == 11
    assert "is damaged" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["build", "--out", "x"], 2, "exactly one of --text, --chat, --ids, --generate and --own-prompts"),
        (["build", "--ids", "ids.npy", "--text", "x", "--out", "x"], 2, "exactly one of"),
        (["build", "--ids", "ids.npy", "--out", "x"], 2, "Name the tokenizer"),
        (["build", "--ids", "ids.npy", "--tokenizer", "none", "--out", "x"], 2, "needs --vocab-size"),
        (["build", "--ids", "ids.npy", *BARE[:3], "9", "--out", "x"], 13, "outside the vocabulary of 9"),
        (["build", "--ids", "gone.npy", *BARE, "--out", "x"], 13, "cannot be read"),
        (["build", "--ids", "ids.npy", *BARE, "--level", "context", "--out", "x"], 2, "model or statistics"),
        (["build", "--text", "ngrams.json", *BARE, "--out", "x"], 2, "Text needs a tokenizer"),
        (["build", "--generate", "ids.jsonl", "--out", "x"], 2, "--generate and --own-prompts need --model"),
        (["build", "--own-prompts", "3", "--out", "x"], 2, "--generate and --own-prompts need --model"),
        (
            ["build", "--own-prompts", "3", "--turns", "all", "--out", "x"],
            2,
            "--turns goes with --chat, not with --own-prompts",
        ),
        (["build", "--own-prompts", "3", "--out", "x", "ids.npy"], 2, "--own-prompts takes no files"),
        (["build", "--own-prompts", "3", "--text", "x", "--out", "x"], 2, "exactly one of"),
        (["build", "--generate", "ids.jsonl", "--model", "smollm2-135m", "--out", "x"], 13, "give the file with --ids"),
        (["build", "--generate", "x", "--model", "x", "--samples", "3", "--out", "x"], 2, "go with --temperature"),
        (
            ["build", "--text", "ids.jsonl", *BARE, "--logprobs", "3", "--out", "x"],
            2,
            "--logprobs goes with --generate",
        ),
        (["build", "--chat", "ids.jsonl", *BARE, "--out", "x"], 2, "Chat logs need a tokenizer"),
        (["build", "--chat", "ids.jsonl", *BARE, "--turns", "mine", "--out", "x"], 2, "--turns must be"),
        (["build", "--chat", "ids.jsonl", *BARE, "--encoding", "klingon", "--out", "x"], 2, "no text encoding that"),
        (
            ["build", "--ids", "ids.jsonl", *BARE, "--skip-bad", "--out", "x"],
            2,
            "--skip-bad goes with",
        ),
        (["build", "--ids", "ids.jsonl", *BARE, "--glob", "*", "--out", "x"], 2, "--glob goes with"),
        (["build", "--ids", "ids.jsonl", *BARE, "--lines", "--out", "x"], 2, "--lines goes with --text"),
        (["build", "--text", "ids.jsonl", *BARE, "--threads", "1", "--out", "x"], 2, "--threads goes with --generate"),
        (["build", "--ids", "ids.jsonl", *BARE, "--out", "x", "more"], 2, "--ids takes one file"),
        (["build", "--ids", "ids.npy", *BARE, "--out", "no/such/folder/x"], 11, "cannot be written"),
        (["inspect", "gone"], 11, "cannot be read"),
        (["inspect", "ids.npy"], 11, "no safetensors header"),
        (["inspect", "a.safetensors", "--records", "ids.npy"], 13, "ids.npy, line 1: not UTF-8"),
        (["verify", "records.jsonl"], 11, "not a usable pack"),
        (["merge", "a.safetensors", "b.safetensors", "--out", "a.safetensors"], 2, "file of its own"),
        (["import", "ngrams.json", "--vocab-size", "3", "--out", "x"], 13, "outside the vocabulary of 3"),
        (["export", "a.safetensors", "--out", "no/such/folder/x"], 13, "cannot be written"),
    ],
)
def test_bad_input_is_one_sentence_and_an_exit_code(folder: Path, arguments: list[str], code: int, words: str) -> None:
    done = hierdraft("db", *arguments, cwd=folder)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "x").exists()


def test_what_is_written_is_read_again(folder: Path, tmp_path: Path) -> None:
    """Records of `bench run`, kept answers of --generate and documents of `db export`."""
    said = list(range(1, 30))
    rows = {
        "run.jsonl": [
            {"run": {"method": "hierarchy"}},
            {"id": "1", "task": "qa", "prompt_ids": [3, 4], "output_ids": said, "steps": 4},
            {"id": "2", "task": "qa", "prompt_ids": [3, 4], "output_ids": []},
        ],
        "said.answers.jsonl": [{"key": "00ff", "prompt_ids": [3, 4], "output_ids": said}],
    }
    for name, lines in rows.items():
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    exported = tmp_path / "export.jsonl"
    assert hierdraft("db", "export", str(folder / "a.safetensors"), "--out", str(exported)).returncode == 0
    for path in (*(tmp_path / name for name in rows), exported):
        done = hierdraft("db", "inspect", str(folder / "a.safetensors"), "--records", str(path), "--json")
        assert json.loads(done.stdout)["accepted_length"]["with"] >= 1, done.stderr
        done = hierdraft("bench", "replay", "--records", str(path), "--methods", "none", "--json")
        assert json.loads(done.stdout)["methods"]["none"]["tokens"] > 20, done.stderr
        out = tmp_path / "again.safetensors"
        done = hierdraft("db", "build", *BARE, "--ids", str(path), "--out", str(out), "--json")
        assert json.loads(done.stdout)["tokens"] > 20, done.stderr


def test_forgetting_nothing_says_so(tmp_path: Path) -> None:
    done = hierdraft("db", "forget", "nobody", HIERDRAFT_DATA_DIR=str(tmp_path))
    assert done.returncode == 0
    assert "Nothing was learned in 'nobody'" in done.stdout
    assert json.loads(hierdraft("db", "forget", "nobody", "--json").stdout)["folders"] == 0


def test_help_of_each_command() -> None:
    for command in ("build", "inspect", "verify", "merge", "export", "import", "forget"):
        shown = hierdraft("db", command, "--help")
        assert shown.returncode == 0
        assert "--json" in shown.stdout
        assert "Example" in shown.stdout


@pytest.mark.model
def test_chat_logs_through_a_real_template(smollm2: Path, tmp_path: Path) -> None:
    """Ids are those that the model sees in a chat; a log that is packed or in another encoding gives the same pack."""
    from hierdraft.engines.hf.load import load_tokenizer

    turns = [("system", "Be brief."), ("user", "Où est Paris ?"), ("assistant", "In France, on the Seine."),
             ("user", "Thanks!"), ("assistant", "You are welcome.\n\nAnything else?")]  # fmt: skip
    messages = [{"role": role, "content": text} for role, text in turns]
    log = json.dumps({"messages": messages}, ensure_ascii=False)
    (tmp_path / "a.jsonl").write_text(log + "\n{}\n", encoding="utf-8")
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(f"[{log}]".encode("latin-1")))
    out, exported = str(tmp_path / "said.safetensors"), tmp_path / "said.jsonl"
    tokenizer = load_tokenizer(smollm2)
    packs = []
    for name, more in (("a.jsonl", ["--skip-bad"]), ("b.json.gz", ["--encoding", "latin-1"])):
        chat = ("--tokenizer", str(smollm2), "--chat", str(tmp_path / name), *more)
        done = hierdraft("db", "build", *chat, "--out", out, "--json")
        assert done.returncode == 0, done.stderr
        assert len(json.loads(done.stdout)["skipped"]) == (name == "a.jsonl")
        packs.append(Path(out).read_bytes())
    assert packs[0] == packs[1]
    hierdraft("db", "export", out, "--out", str(exported))
    found = [json.loads(line)["output_ids"] for line in exported.read_text().splitlines()]
    for document, end in zip(found, (3, 5), strict=True):
        prompt = tokenizer.apply_chat_template(messages[: end - 1], add_generation_prompt=True, return_dict=False)
        answer = tokenizer(messages[end - 1]["content"])["input_ids"]
        assert document == [*prompt[-8:], *answer, tokenizer.eos_token_id]
    done = hierdraft("db", "build", "--level", "statistics", *chat, "--out", out, "--json")
    assert json.loads(done.stdout)["documents"] == 1, done.stderr
    hierdraft("db", "export", out, "--out", str(exported))
    whole = tokenizer.apply_chat_template(messages, return_dict=False)
    assert json.loads(exported.read_text())["output_ids"] == whole


@pytest.mark.model
def test_a_real_pack_is_used_learned_from_and_forgotten(smollm2: Path, tmp_path: Path) -> None:
    """Text and the model's own answers become packs; an answer given once is drafted the second time."""
    text = tmp_path / "notes.txt"
    text.write_text("The quick brown fox jumps over the lazy dog.\n" * 30)
    pack, said, prompts = (tmp_path / name for name in ("text.safetensors", "said.safetensors", "prompts.jsonl"))
    model = str(smollm2)
    arguments = ("--level", "statistics", "--tokenizer", model, "--text", str(text), "--out", str(pack), "--json")
    built = hierdraft("db", "build", *arguments)
    assert json.loads(built.stdout)["documents"] == 1, built.stderr
    shown = hierdraft("db", "inspect", str(pack), "--tokenizer", model, "--size", "3", "--top", "1", "--json")
    assert json.loads(shown.stdout)["top"][0]["text"] in "The quick brown fox jumps over the lazy dog.\nThe quick"
    prompts.write_text('{"prompt": "Say hello."}\n{"prompt": "Count to five."}\n')
    arguments = ("--model", model, "--generate", str(prompts), "--max-new-tokens", "24", "--out", str(said), "--json")
    built = hierdraft("db", "build", *arguments)
    assert json.loads(built.stdout)["documents"] == 2, built.stderr
    data = str(tmp_path / "data")
    command = ("generate", "Count to five.", "--model", model, "--max-new-tokens", "24", "--budget", "8", "--json")
    runs = []  # a fixed budget: with auto, timing decides how much is drafted
    for more in (("--no-learn",), ("--no-learn", "--pack", str(said)), (), ()):
        done = hierdraft(*command, *more, HIERDRAFT_DATA_DIR=data)
        assert done.returncode == 0, done.stderr
        runs.append(json.loads(done.stdout))
    assert len({tuple(run["token_ids"]) for run in runs}) == 1
    alone, packed, first, second = (run["accepted_length"] for run in runs)
    assert packed > alone
    assert second > first
    forgotten = hierdraft("db", "forget", "default", "--json", HIERDRAFT_DATA_DIR=data)
    assert json.loads(forgotten.stdout)["folders"] == 1
    assert json.loads(hierdraft(*command, HIERDRAFT_DATA_DIR=data).stdout)["accepted_length"] < second
    wrong = tmp_path / "wrong.safetensors"
    ids = tmp_path / "ids.jsonl"
    ids.write_text('{"output_ids": [1, 2, 60000]}')
    hierdraft("db", "import", str(ids), "--vocab-size", "70000", "--out", str(wrong))
    refused = hierdraft(*command, "--pack", str(wrong), HIERDRAFT_DATA_DIR=data)
    assert refused.returncode == 11
    assert "70000 ids" in refused.stderr
    assert "49152 ids" in refused.stderr
