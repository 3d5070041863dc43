"""Write the prompts whose answers became the pack that comes with hierdraft for smollm2-135m.

python packs/smollm2_prompts.py prompts.jsonl [conversations.jsonl]

All of them are combined here from lists: the first part from `topics.py`, the second and the conversations, which have
more than one question each, from the other files beside it. None comes from a benchmark. The same every time.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import more_phrases as ask
import more_requests as requests
import more_topics as more
import situations as personal
from passages import CHATS
from passages import PASSAGES as TEXTS
from topics import CUSTOMERS, PAIRS, PASSAGES, PEOPLE, PLACES, PROGRAMS, SENTENCES, SKILLS, THINGS

Prompt = tuple[str, str]

EXPLAIN = (
    "Explain {} in simple words.", "What should everyone know about {}?", "Tell me about {}.",
    "Write a short paragraph about {}.", "Can you explain {} to a ten-year-old?", "Give me five facts about {}.",
    "Why does {} matter?", "I have to give a talk about {}. What are the main points?",
    "What are common misunderstandings about {}?", "Describe {} in about 100 words.",
    "Write an introduction to an essay about {}.", "What questions would a curious student ask about {}, and what are the answers?",
    "Summarize the most important ideas about {}.", "Give a brief overview of {}.",
)  # fmt: skip
HOW = (
    "How do I {}?", "What is the best way to {}?", "Give me step-by-step instructions to {}.", "I want to {}. Where do I start?",
    "List ten tips to {}.", "What mistakes do people make when they try to {}?", "Make a plan for one week that helps me {}.",
    "I find it hard to {}. Any advice?", "Explain how to {} to a beginner.",
)  # fmt: skip
STORY = (
    "Write a short story about {} in {}.", "Write a poem about {} in {}.", "Write a dialogue between {} and a stranger in {}.",
    "Describe the morning of {} in {}.", "Write the first paragraph of a novel about {} in {}.",
    "Write a letter from {}, sent from {}.", "Tell a bedtime story about {} and a secret in {}.",
)  # fmt: skip
TASKS = (
    "Summarize the following text in two sentences:\n\n{}", "What is the main point of this text?\n\n{}",
    "List the key facts of this text as bullet points:\n\n{}", "Rewrite this text in a formal style:\n\n{}",
    "Rewrite this text so that a child understands it:\n\n{}", "Write a headline for this text and explain your choice:\n\n{}",
    "Write three questions about this text and answer them:\n\n{}", "Continue this text:\n\n{}",
    "Shorten this text to about half its length:\n\n{}", "Turn this text into an e-mail to a friend:\n\n{}",
    "Which numbers and names appear in this text, and what do they stand for?\n\n{}",
    "Read the text and answer: what happened, and why?\n\n{}", "Correct this text if needed and explain the changes:\n\n{}",
)  # fmt: skip
LETTERS = (
    "Write a polite e-mail about {}.", "Write a short message to a neighbour about {}.", "Write a formal letter about {}.",
    "Write a reply to a customer who wrote about {}.", "Write an announcement about {}.",
)  # fmt: skip
COMPARE = (
    "What is the difference between {}?", "Compare {} in a table.", "What are the pros and cons of {}?",
    "Write a short essay that compares {}.", "What do {} have in common?",
)  # fmt: skip
CODE = (
    "Write a Python function that {}.", "Write a Python program that {} and explain how it works.",
    "Write a JavaScript function that {}.", "Show me how to write code in Python that {}, with an example.",
    "Write a Python class with a method that {}.",
)  # fmt: skip
LISTS = (
    "List ten interesting questions about {}.", "Suggest five titles for an article about {}.",
    "Brainstorm ideas for a school project about {}.", "Name seven words that have to do with {} and define each.",
    "Make a quiz with five questions about {}, with answers.", "Write a JSON object with three facts about {}.",
    "Make a table with three columns about {}.",
)  # fmt: skip
TALK = (
    "What do you think about {}?", "Pretend you are a teacher and answer a student's question about {}.",
    "Convince me that {} is interesting.", "Tell me a joke about {} and explain it.", "Write a conversation about {} between two friends.",
)  # fmt: skip
MATHS = (
    "{a} friends share {b} apples equally. How many apples does each friend get, and how many are left? Explain each step.",
    "A train travels {b} kilometres in {a} hours. What is its average speed?",
    "Anna has {b} marbles and gives away {a}. How many are left? Show your work.",
    "A shirt costs {b} dollars and is reduced by {c} percent. What is the new price?",
    "What is {b} times {a}? Explain how to compute it by hand.", "What is {b} + {d} - {a}? Show the steps.",
    "A rectangle is {a} metres wide and {b} metres long. What are its area and perimeter?",
    "Tom reads {a} pages a day. How many days does he need for a book of {d} pages?",
    "A recipe for {a} people needs {b} grams of flour. How much flour is needed for {e} people?",
    "The sum of two numbers is {d} and their difference is {a}. What are the numbers?",
    "A shop sold {b} books on Monday and {a} times as many on Tuesday. How many books did it sell in all?",
    "If {a} pens cost {b} cents, how much do {e} pens cost?", "Solve for x: {a}x + {e} = {d}.",
    "What is {c} percent of {d}?", "Find the average of {a}, {b}, {c} and {d}.",
)  # fmt: skip


def _first() -> Iterator[Prompt]:
    """The prompts of the first part, some of them twice."""
    pick = random.Random(20260101)

    def mixed(kind: str, phrases: tuple[str, ...], about: list[str], times: int) -> Iterator[Prompt]:
        """Every entry with `times` different phrases."""
        for entry in about:
            for phrase in pick.sample(phrases, times):
                yield kind, phrase.format(entry.strip())

    yield from mixed("explain", EXPLAIN, THINGS, 3)
    yield from mixed("how-to", HOW, SKILLS, 3)
    yield from mixed("list", LISTS, THINGS, 1)
    yield from mixed("talk", TALK, pick.sample(THINGS, 60), 1)
    yield from mixed("text", TASKS, PASSAGES, len(TASKS))
    yield from mixed("letter", LETTERS, CUSTOMERS, 4)
    yield from mixed("compare", COMPARE, PAIRS, 3)
    yield from mixed("code", CODE, PROGRAMS, 3)
    for person in PEOPLE:
        for phrase, place in zip(pick.sample(STORY, 5), pick.sample(PLACES, 5), strict=True):
            yield "story", phrase.format(person.strip(), place.strip())
    for sentence in SENTENCES:
        for language in pick.sample(("Spanish", "French", "German", "Italian"), 3):
            yield "translate", f"Translate into {language}: {sentence.strip()}"
    for phrase in MATHS:
        for _ in range(8):
            a, b, c = pick.randint(2, 9), pick.randint(12, 90), pick.choice((5, 10, 15, 20, 25, 40, 50))
            yield "maths", phrase.format(a=a, b=b, c=c, d=pick.randint(100, 400), e=pick.randint(10, 20))


def _second() -> Iterator[Prompt]:
    """The prompts of the second part, some of them twice."""
    pick = random.Random(20261126)
    texts = [text for text, _ in TEXTS]
    plain: list[tuple[str, tuple[str, ...], list[str], int]] = [
        ("explain", ask.EXPLAIN, more.THINGS, 2),
        ("how-to", ask.HOW, more.SKILLS, 3),
        ("list", ask.LISTS, pick.sample(more.THINGS, 220), 1),
        ("explain", ask.EXPLAIN, pick.sample(THINGS, 40), 1),
        ("text", ask.TEXTS, texts, 7),
        ("letter", ask.LETTERS, more.LETTERS, 2),
        ("compare", ask.COMPARE, more.PAIRS, 2),
        ("code", ask.CODE, more.PROGRAMS, 2),
        ("advice", ask.ADVICE, personal.SITUATIONS, 2),
        ("review", ask.REVIEWS, personal.REVIEWS, 2),
        ("extract", ask.EXTRACT, texts, 2),
        ("role", ("{}",), personal.ROLES, 1),
        ("puzzle", ask.PUZZLES, personal.PUZZLES, 1),
        ("recommend", ask.WISHES, requests.WISHES, 2),
        ("brainstorm", ask.BRAINSTORM, requests.BRAINSTORM, 2),
        ("plan", ask.PLANS, requests.PLANS, 2),
        ("marketing", ask.PRODUCTS, requests.PRODUCTS, 2),
        ("word", ask.WORDS, requests.WORDS, 2),
        ("rewrite", ask.ROUGH, requests.ROUGH, 3),
        ("bug", ask.BUGS, requests.BUGS, 2),
        ("tools", ("{}",), requests.TOOLS, 1),
        ("chat", ask.CHATS, CHATS, 4),
    ]
    for kind, phrases, about, times in plain:
        for entry in about:
            for phrase in pick.sample(phrases, times):
                yield kind, phrase.format(entry.strip())
    for text, question in TEXTS:
        for phrase in pick.sample(ask.ASKED, 2):
            yield "asked", phrase.format(text=text, question=question)
    for person in more.PEOPLE:
        for phrase, place in zip(pick.sample(ask.STORY, 3), pick.sample(more.PLACES, 3), strict=True):
            yield "story", phrase.format(person.strip(), place.strip())
    for sentence in more.SENTENCES:
        languages = pick.sample(("Spanish", "French", "German", "Italian", "Portuguese", "Dutch"), 2)
        for phrase, language in zip(pick.sample(ask.TRANSLATE, 2), languages, strict=True):
            yield "translate", phrase.format(sentence.strip(), language)
    for phrase in ask.SUMS:
        for _ in range(8):
            a, b, c = pick.randint(2, 9), pick.randint(31, 98), pick.choice((5, 10, 15, 20, 25, 40, 60, 75))
            yield "maths", phrase.format(a=a, b=b, c=c, d=pick.randint(110, 480), e=pick.randint(11, 28))


def prompts() -> Iterator[Prompt]:
    """(kind, text) of every prompt, each text once."""
    seen: set[str] = set()
    for part in (_first(), _second()):
        for kind, text in part:
            if text not in seen:
                seen.add(text)
                yield kind, text


def conversations() -> Iterator[tuple[str, list[str]]]:
    """(kind, questions) of every conversation: two questions each, and every sixth has three."""
    pick = random.Random(20261127)
    about = {
        "things": pick.sample(more.THINGS + THINGS, 130),
        "skills": pick.sample(more.SKILLS + SKILLS, 55),
        "programs": pick.sample(more.PROGRAMS + PROGRAMS, 40),
        "people": pick.sample(more.PEOPLE + PEOPLE, 35),
        "situations": pick.sample(personal.SITUATIONS, 30),
        "texts": pick.sample([text for text, _ in TEXTS], 20),
        "wishes": pick.sample(requests.WISHES, 12),
        "plans": pick.sample(requests.PLANS, 12),
        "products": pick.sample(requests.PRODUCTS, 12),
        "pairs": pick.sample(more.PAIRS, 14),
    }
    number = 0
    for kind, entries in about.items():
        for entry in entries:
            number += 1
            start = pick.choice(ask.STARTS[kind]).format(entry.strip())
            yield kind, [start, *pick.sample(ask.NEXT[kind], 2 if number % 6 == 0 else 1)]


def main() -> None:
    """Write the files named on the command line."""
    lines = [{"id": f"pack-{i:04}", "kind": kind, "prompt": text} for i, (kind, text) in enumerate(prompts(), start=1)]
    _write(Path(sys.argv[1]), lines)
    if len(sys.argv) > 2:
        talks = enumerate(conversations(), start=len(lines) + 1)
        _write(Path(sys.argv[2]), [{"id": f"pack-{i:04}", "kind": kind, "turns": turns} for i, (kind, turns) in talks])


def _write(path: Path, lines: Sequence[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
