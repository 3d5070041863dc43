"""Filling the model level the paper's way: let the model answer prompts, and keep what it says.

Many prompts are answered at a time, drafted like any other request. Answers go into a JSONL file as they come (see
`corpus/kept.py`); started again, the prompts that have one are skipped.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hierdraft.corpus.chats import BadRecordError, Conversation, Message, read_chats
from hierdraft.corpus.kept import Kept, Sampled, keep, key_of, pack_top, read_kept
from hierdraft.corpus.rendering import render
from hierdraft.corpus.streams import Reading
from hierdraft.databases.levels import LEAD
from hierdraft.errors import CorpusError, UsageError
from hierdraft.protocols import Engine
from hierdraft.tree import Int32

Progress = Callable[[int, int], None]
"""Called with (done, all)."""

_MARK = "What the user says"
_POLL = 0.02
"""Seconds between two looks at which answers are complete."""


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


@dataclass(frozen=True)
class Asked:
    """How prompts are answered.

    most         tokens per answer at most
    temperature  0: greedily; above: drawn
    seed         of all samples: each has one of its own, made of this one, its prompt and its number
    samples      answers per prompt
    logprobs     how many of the target's likeliest ids are kept with every token, 0: none
    method       how they are drafted; the answers do not depend on it
    waiting      most requests that run and wait at a time
    """

    most: int
    temperature: float = 0.0
    seed: int = 0
    samples: int = 1
    logprobs: int = 0
    method: str = "hierarchy"
    waiting: int = 64

    def sampled(self, ids: Sequence[int], sample: int) -> Sampled | None:
        """How that sample of a prompt is drawn, None where answers are greedy."""
        if self.temperature == 0.0:
            return None
        digest = hashlib.sha256(json.dumps([self.seed, sample, list(ids)]).encode()).digest()
        return Sampled(self.temperature, int.from_bytes(digest[:4], "little"))


class Answering(Protocol):
    """What answers: a `LanguageModel`."""

    engine: Engine
    tokenizer: Any

    def submit(self, prompt: Any, **options: Any) -> Any:
        """A request that runs in the background, beside others."""
        ...


class _Dialogue:
    """A conversation while its questions are answered: after each, the recorded answer or the model's own."""

    def __init__(self, chat: Conversation, sample: int) -> None:
        self.chat = chat
        self.sample = sample
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

    def ids(self, model: Answering, most: int, reading: Reading) -> list[int] | None:
        """The ids of the next prompt of a conversation; None where it ends, or cannot continue."""
        messages = self.prompt()
        if messages is None:
            return None
        try:
            tokenizer = model.tokenizer
            templated = bool(getattr(tokenizer, "chat_template", None))
            text = render(tokenizer, messages, reading, tools=self.chat.tools, to_answer=templated)
            ids = [int(token) for token in tokenizer(text, add_special_tokens=not templated)["input_ids"]]
            room = model.engine.max_length
            if len(ids) + most > room:
                raise BadRecordError(f"{len(ids)} tokens and {most} more are longer than the model's context of {room}")
        except BadRecordError as error:
            reading.bad(f"{self.chat.place}: {error}")
            return None
        return ids


class _Begun:
    """A conversation whose first question the model writes itself."""

    def __init__(self, begin: list[int], sample: int) -> None:
        self.sample = sample
        self.documents: list[Int32] = []
        self.text = ""
        self._begin: list[int] | None = begin

    def ids(self, _model: Answering, _most: int, _reading: Reading) -> list[int] | None:
        """What stands before a user's first words, once."""
        begin, self._begin = self._begin, None
        return begin

    def answered(self, text: str) -> None:
        """What the user would say."""
        self.text = text


@dataclass
class _Running:
    """A request, and the conversations that wait for its answer."""

    ids: list[int]
    sampled: Sampled | None
    stream: Any
    dialogues: list[_Dialogue | _Begun] = field(default_factory=list)


def answer_prompts(
    model: Answering, chats: Sequence[Conversation], kept: Path, reading: Reading, asked: Asked, report: Progress
) -> list[Int32]:
    """The model's answers to every question, each after the last tokens of its prompt, in the order of `chats`.

    A prompt is the conversation up to a question; the questions of one are answered in turn, those of several at a
    time. Equal prompts are answered once.

    kept    JSONL file that answers are added to as they come, and read from

    Raises CorpusError if `kept` cannot be read or written, or for a prompt that the chat template refuses or the
    model's context does not hold, unless `reading` may leave it out; and what `submit` and its streams raise.
    """
    work = _Work(model, kept, reading, asked, report)
    dialogues = [_Dialogue(chat, sample) for chat in chats for sample in range(asked.samples)]
    work.run(dialogues, asked.samples * sum(_is_question(message) for chat in chats for message in chat.messages))
    return [document for one in dialogues for document in one.documents]


def own_prompts(
    model: Answering, count: int, kept: Path, reading: Reading, asked: Asked, report: Progress
) -> list[Conversation]:
    """`count` questions that the model makes up: what it says at temperature 1 where a user's first turn begins.

    An instruct model has seen there what users ask (Magpie: Xu et al., arXiv 2406.08464, section 2). Empty ones,
    repetitions, and those that leave no room for an answer are left out; the others are those of `asked.seed`, of
    `asked.most` tokens at most. `kept` as in `answer_prompts`.

    Raises UsageError for a model without a chat template that can say where that is, or without room for a question
    and its answer, and what `answer_prompts` raises.
    """
    begin = _user_begins(model.tokenizer, reading)
    if len(begin) + asked.most >= model.engine.max_length:
        raise UsageError(
            f"Prompts and answers of {asked.most} tokens do not fit into the model's context of "
            f"{model.engine.max_length}: choose fewer with --max-new-tokens."
        )
    drawn = replace(asked, temperature=asked.temperature or 1.0, samples=count, logprobs=0, method="none")
    begun = [_Begun(begin, sample) for sample in range(count)]
    _Work(model, kept, reading, drawn, report).run(begun, count)
    texts = dict.fromkeys(filter(None, (one.text.strip() for one in begun)))
    chats = [
        Conversation(f"{kept}, question {number}", [{"role": "user", "content": text}])
        for number, text in enumerate(texts, 1)
    ]
    leave_out = Reading(skip_bad=True)
    return [chat for chat in chats if _Dialogue(chat, 0).ids(model, asked.most, leave_out) is not None]


def _user_begins(tokenizer: Any, reading: Reading) -> list[int]:
    """The ids before what a user says first."""
    if getattr(tokenizer, "chat_template", None):
        text = render(tokenizer, [{"role": "user", "content": _MARK}], reading, to_answer=True)
        before, mark, _ = text.partition(_MARK)
        if mark and before:
            return [int(token) for token in tokenizer(before, add_special_tokens=False)["input_ids"]]
    raise UsageError(
        "This model has no chat template in which users' turns begin with a text: give it prompts instead."
    )


class _Work:
    """Conversations that are answered at a time, and the file that answers go to."""

    def __init__(
        self, model: Answering, kept: Path, reading: Reading, asked: Asked, report: Progress
    ) -> None:  # fmt: skip
        self._model, self._kept, self._reading, self._asked, self._report = model, kept, reading, asked, report
        self._answers = read_kept(kept)
        self._running: dict[str, _Running] = {}
        self._done = 0

    def run(self, dialogues: Sequence[_Dialogue | _Begun], total: int) -> None:
        """Answer all their questions, `total` of them."""
        ready = deque[_Dialogue | _Begun](dialogues)
        try:
            while ready or self._running:
                while ready and len(self._running) < self._asked.waiting:
                    self._begin(ready.popleft())
                self._report(self._done, total)
                over = [key for key, one in self._running.items() if one.stream.over]
                for key in over:
                    ready.extend(self._end(key))
                if not over and self._running:
                    time.sleep(_POLL)
        finally:
            for one in self._running.values():
                one.stream.close(wait=False)
        self._report(self._done, total)

    def _begin(self, one: _Dialogue | _Begun) -> None:
        """Put the next question of a conversation that has no answer yet."""
        while (ids := one.ids(self._model, self._asked.most, self._reading)) is not None:
            sampled = self._asked.sampled(ids, one.sample)
            key = key_of(ids, self._asked.most, sampled)
            answer = self._answers.get(key)
            if answer is None or answer.top < self._asked.logprobs:
                if key not in self._running:
                    self._running[key] = _Running(ids, sampled, self._submit(ids, sampled))
                self._running[key].dialogues.append(one)
                return
            self._take(one, ids, answer.ids)

    def _submit(self, ids: list[int], sampled: Sampled | None) -> Any:
        asked = self._asked
        drawn = {"temperature": 0.0} if sampled is None else sampled._asdict()
        return self._model.submit(
            ids, max_new_tokens=asked.most, method=asked.method, logprobs=asked.logprobs or None, **drawn
        )

    def _end(self, key: str) -> list[_Dialogue | _Begun]:
        """Keep an answer that is complete; returns the conversations that go on with it."""
        one = self._running[key]
        said = one.stream.wait()
        row: dict[str, Any] = {"key": key, "prompt_ids": one.ids, "output_ids": said.token_ids}
        if one.sampled is not None:
            row |= one.sampled._asdict()
        if self._asked.logprobs:
            row["top"] = pack_top(said.likely, self._asked.logprobs)
        keep(self._kept, row)
        self._answers[key] = Kept(said.token_ids, self._asked.logprobs)
        del self._running[key]
        for dialogue in one.dialogues:
            self._take(dialogue, one.ids, said.token_ids)
        return one.dialogues

    def _take(self, one: _Dialogue | _Begun, ids: list[int], answer: list[int]) -> None:
        one.documents.append(np.array(ids[-LEAD:] + answer, dtype=np.int32))
        one.answered(self._model.tokenizer.decode(answer, skip_special_tokens=True))
        self._done += 1
