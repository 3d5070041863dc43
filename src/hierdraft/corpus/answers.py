"""Filling the model level the paper's way: let the model answer prompts, and keep what it says.

Answers go into a JSONL file as they come, one line per prompt; started again, the prompts that have one are skipped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hierdraft.corpus.chats import BadRecordError, Conversation, Message, read_chats
from hierdraft.corpus.records import ids_of, read_jsonl
from hierdraft.corpus.rendering import render
from hierdraft.corpus.streams import Reading
from hierdraft.databases.levels import LEAD
from hierdraft.errors import CorpusError
from hierdraft.tree import Int32

Progress = Callable[[int, int], None]
"""Called with (done, all)."""


def read_prompts(path: Path, reading: Reading) -> list[Conversation]:
    """The conversations of a file in any form that `read_chats` knows, each up to its last question.

    Raises CorpusError with file and line; records without a question are noted if `reading` may leave them out.
    """
    found = []
    for chat in read_chats([path], reading):
        asked = [n for n, message in enumerate(chat.messages) if _is_question(message)]
        if not asked:
            reading.bad(f"{chat.place}: no question of a user: a record needs a text under 'prompt', or turns")
            continue
        chat.messages = chat.messages[: asked[-1] + 1]
        found.append(chat)
    if not found:
        raise CorpusError(f"{path} holds no prompts.")
    return found


def _is_question(message: Message) -> bool:
    return message["role"] == "user" and bool(message["content"].strip())


class _Dialogue:
    """A conversation while its questions are answered: after each, the recorded answer or the model's own."""

    def __init__(self, chat: Conversation) -> None:
        self.chat = chat
        self.documents: list[Int32] = []
        self._asked: list[Message] = []
        self._waiting = list(chat.messages)

    def prompt(self) -> list[Message] | None:
        """Everything up to the next question, or None after the last."""
        while self._waiting:
            message = self._waiting.pop(0)
            self._asked.append(message)
            if _is_question(message):
                return self._asked
        return None

    def answered(self, text: str) -> None:
        """Continue with `text` as the answer, unless one was recorded."""
        if self._waiting and self._waiting[0]["role"] == "user":
            self._asked.append({"role": "assistant", "content": text})


def answer_prompts(
    model: Any,
    tokenizer: Any,
    chats: Sequence[Conversation],
    kept: Path,
    reading: Reading,
    *,
    most: int,
    batch: int,
    report: Progress,
) -> list[Int32]:
    """Greedy answers of a transformers model to every question, each after the last tokens of its prompt.

    A prompt is the conversation up to a question. They are answered turn by turn, in the order of `chats`.

    kept    JSONL file that answers are added to and read from
    most    tokens per answer at most
    batch   prompts per forward

    Raises CorpusError if `kept` cannot be read or written, or for a prompt that the chat template refuses or the
    model's context does not hold, unless `reading` may leave it out.
    """
    answers = _read_kept(kept)
    dialogues = [_Dialogue(chat) for chat in chats]
    total = sum(_is_question(message) for chat in chats for message in chat.messages)
    done = 0
    going = dialogues
    while asked := [(one, ids) for one in going if (ids := _next(model, tokenizer, one, most, reading)) is not None]:
        keys = [_key(ids, most) for _, ids in asked]
        new = {key: ids for key, (_, ids) in zip(keys, asked, strict=True) if key not in answers}
        done += len(asked) - len(new)
        report(done, total)
        for added in _answered(model, tokenizer, new, most, batch):
            _keep(kept, new, added)
            answers.update(added)
            done += len(added)
            report(done, total)
        for key, (one, ids) in zip(keys, asked, strict=True):
            one.documents.append(np.array(ids[-LEAD:] + answers[key], dtype=np.int32))
            one.answered(tokenizer.decode(answers[key], skip_special_tokens=True))
        going = [one for one, _ in asked]
    return [document for one in dialogues for document in one.documents]


def _answered(
    model: Any, tokenizer: Any, prompts: dict[str, list[int]], most: int, batch: int
) -> Iterator[dict[str, list[int]]]:
    """Key -> answer, `batch` of them at once, prompts of like length together."""
    waiting = sorted(prompts, key=lambda key: len(prompts[key]))
    for start in range(0, len(waiting), batch):
        some = waiting[start : start + batch]
        outputs = _generate(model, tokenizer, [prompts[key] for key in some], most)
        yield dict(zip(some, outputs, strict=True))


def _next(model: Any, tokenizer: Any, dialogue: _Dialogue, most: int, reading: Reading) -> list[int] | None:
    """The ids of the next prompt of a conversation; None where it ends, or cannot continue."""
    messages = dialogue.prompt()
    if messages is None:
        return None
    try:
        templated = bool(getattr(tokenizer, "chat_template", None))
        text = render(tokenizer, messages, reading, tools=dialogue.chat.tools, to_answer=templated)
        ids = [int(token) for token in tokenizer(text, add_special_tokens=not templated)["input_ids"]]
        room = getattr(model.config, "max_position_embeddings", None)
        if isinstance(room, int) and len(ids) + most > room:
            raise BadRecordError(f"{len(ids)} tokens and {most} more are longer than the model's context of {room}")
    except BadRecordError as error:
        reading.bad(f"{dialogue.chat.place}: {error}")
        return None
    return ids


def _key(ids: Sequence[int], most: int) -> str:
    return hashlib.sha256(json.dumps([ids, most]).encode()).hexdigest()[:24]


def _keep(kept: Path, prompts: dict[str, list[int]], answers: dict[str, list[int]]) -> None:
    """Add answers to the file: they are records that `bench replay` and `db inspect` read too."""
    rows = ({"key": key, "prompt_ids": prompts[key], "output_ids": output} for key, output in answers.items())
    try:
        with kept.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    except OSError as error:
        raise CorpusError(f"{kept} cannot be written: {error.strerror or error}.") from error


def _read_kept(kept: Path) -> dict[str, list[int]]:
    """The answers of an earlier run. A last line that was not finished is cut off."""
    if not kept.exists():
        return {}
    try:
        _cut_torn(kept)
    except OSError as error:
        raise CorpusError(f"{kept} cannot be read: {error.strerror or error}.") from error
    found = {}
    for number, row in read_jsonl(kept):
        if "key" not in row:
            raise CorpusError(f"{kept}, line {number}: not an answer of an earlier run: move the file away.")
        found[str(row["key"])] = ids_of(row, "output_ids", f"{kept}, line {number}", None)
    return found


def _cut_torn(kept: Path) -> None:
    data = kept.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with kept.open("r+b") as file:
            file.truncate(whole)


def _generate(model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], most: int) -> list[list[int]]:
    """Greedy answers to some prompts at once, an end-of-sequence id included."""
    import torch

    width = max(map(len, prompts))
    pad = next(token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if token is not None)
    ids = torch.full((len(prompts), width), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    place = next(model.parameters()).device
    with torch.inference_mode():
        made = model.generate(
            input_ids=ids.to(place), attention_mask=mask.to(place), max_new_tokens=most, do_sample=False,
            num_beams=1, pad_token_id=pad,
        )  # fmt: skip
    ends = model.generation_config.eos_token_id
    stops = set(ends if isinstance(ends, list) else [ends])
    answers = []
    for row in made[:, width:].tolist():
        end = next((i + 1 for i, token in enumerate(row) if token in stops), len(row))
        answers.append(row[:end])
    return answers
