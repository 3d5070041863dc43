"""Conversations on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hierdraft.cli.messages import conversation
from hierdraft.errors import CorpusError, HierdraftError, UsageError
from tests.cli.test_cli import hierdraft

TURNS = [{"role": "user", "content": "What is up?"}, {"role": "assistant", "content": "The sky."}]


def test_a_conversation_is_a_system_message_earlier_turns_and_the_prompt(tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    for written in (TURNS, {"model": "x", "messages": TURNS}):
        file.write_text(json.dumps(written), encoding="utf-8-sig")
        assert conversation("So?", None, None) == "So?"
        assert conversation("So?", "Be brief.", file) == [
            {"role": "system", "content": "Be brief."}, *TURNS, {"role": "user", "content": "So?"},
        ]  # fmt: skip
        assert conversation("", None, file) == TURNS


@pytest.mark.parametrize(
    ("written", "error", "words"),
    [
        (None, CorpusError, "cannot be read"),
        ("{", CorpusError, "JSON list of messages"),
        ("[]", CorpusError, "JSON list of messages"),
        ("[1]", CorpusError, "JSON list of messages"),
        ("3", CorpusError, "JSON list of messages"),
        (json.dumps([{"role": "system", "content": "x"}]), UsageError, "leave out --system"),
    ],
)
def test_files_without_messages(tmp_path: Path, written: str | None, error: type[HierdraftError], words: str) -> None:
    file = tmp_path / "chat.json"
    if written is not None:
        file.write_text(written)
    with pytest.raises(error, match=words) as raised:
        conversation("So?", "Be brief.", file)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "arguments",
    [["x", "--raw", "--system", "y"], ["--demo", "--system", "y"], ["x", "--raw", "--template", "a"]],
)
def test_what_does_not_go_together(arguments: list[str]) -> None:
    done = hierdraft("generate", *arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


@pytest.mark.model
def test_the_real_model_answers_a_conversation(tmp_path: Path) -> None:
    import hierdraft as package
    from hierdraft.text import encode_messages

    file = tmp_path / "chat.json"
    file.write_text(json.dumps(TURNS))
    more = ["--system", "Be brief.", "--messages", str(file), "--max-new-tokens", "12", "--json", "--no-learn"]
    done = hierdraft("generate", "And at night?", *more)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    model = package.load(learn=False)
    messages = [{"role": "system", "content": "Be brief."}, *TURNS, {"role": "user", "content": "And at night?"}]
    assert record["prompt_tokens"] == len(encode_messages(model.tokenizer, messages))
    run = model.generate(messages, max_new_tokens=12, method="none")
    assert (record["text"], record["token_ids"]) == (run.text, run.token_ids)
    model.close()
