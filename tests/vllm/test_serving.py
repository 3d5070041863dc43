"""A real vLLM on a CPU with our proposer: the same tokens, whatever happens to the requests. `make test-vllm`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("vllm")

from hierdraft.bench.datasets import builtin_prompts
from hierdraft.engines.vllm import CLASS
from hierdraft.errors import DraftWarning
from hierdraft.models import model_path
from hierdraft.settings import load_settings

pytestmark = pytest.mark.vllm

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # the engine in this process, to look into it
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

MODEL = str(model_path("smollm2-135m", load_settings().cache_dir))
NOISE = 2e-3
"""Two log probabilities closer than this may change places when the shape of a pass changes (float32)."""


def engine(drafted: bool = True, **more: Any) -> Any:
    """A vLLM engine in this process."""
    from vllm import LLM

    if drafted:
        more.setdefault("speculative_config", {"method": "custom_class", "model": CLASS, "num_speculative_tokens": 6})
        more.setdefault("additional_config", {"hierdraft": {"model": "smollm2-135m"}})
    more.setdefault("max_num_seqs", 32)
    return LLM(MODEL, dtype="float32", max_model_len=1024, enable_prefix_caching=False, seed=0, **more)


def proposer(llm: Any) -> Any:
    """Our object inside an engine."""
    return llm.llm_engine.model_executor.driver_worker.worker.model_runner.drafter


@pytest.fixture(scope="module")
def plain() -> Iterator[Any]:
    llm = engine(drafted=False)
    yield llm
    del llm


@pytest.fixture(scope="module")
def drafted() -> Iterator[Any]:
    llm = engine()
    yield llm
    del llm


def prompts(count: int) -> list[list[dict[str, str]]]:
    """Chats of very different lengths."""
    rows = [row["prompt"] for row in builtin_prompts()]
    texts = [rows[i % len(rows)] if i < len(rows) else f"{rows[i % len(rows)]} ({i})" for i in range(count)]
    return [[{"role": "user", "content": text}] for text in texts]


def lengths(count: int) -> list[int]:
    """Most new tokens of each request, from a few to many."""
    return [(16, 64, 160, 320)[i % 4] + i % 7 for i in range(count)]


def say(llm: Any, chats: Any, most: list[int], **sampling: Any) -> list[Any]:
    from vllm import SamplingParams

    settings = [SamplingParams(max_tokens=n, **{"temperature": 0.0, **sampling}) for n in most]
    return [answer.outputs[0] for answer in llm.chat(chats, settings, use_tqdm=False)]


def check_same(plain: list[Any], drafted: list[Any]) -> int:
    """Equal ids, or a first difference at a near tie of the plain run; how many answers have one."""
    ties = 0
    for one, other in zip(plain, drafted, strict=True):
        a, b = list(one.token_ids), list(other.token_ids)
        if a == b:
            continue
        place = next(i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
        best = sorted((entry.logprob for entry in one.logprobs[place].values()), reverse=True)
        assert best[0] - best[1] < NOISE, f"token {place}: {best[0] - best[1]:.5f} apart, and another one was said"
        ties += 1
    return ties


def test_concurrent_requests_say_the_same(plain: Any, drafted: Any) -> None:
    """Over 20,000 tokens, 32 requests at a time, of all lengths."""
    chats, most = prompts(168), lengths(168)
    wanted = say(plain, chats, most, logprobs=2, ignore_eos=True)
    got = say(drafted, chats, most, ignore_eos=True)
    tokens = sum(len(answer.token_ids) for answer in got)
    ties = check_same(wanted, got)
    counts = proposer(drafted).drafter.counts
    assert tokens >= 20_000
    assert ties <= 2
    assert counts.accepted.sum() > tokens / 10


def test_requests_end_as_they_would(plain: Any, drafted: Any) -> None:
    """End-of-sequence ids and stop strings inside accepted runs."""
    chats = prompts(24)
    for more in ({}, {"stop": ["\n", ". "]}, {"stop_token_ids": [28]}):
        wanted = say(plain, chats, [120] * 24, logprobs=2, **more)
        got = say(drafted, chats, [120] * 24, **more)
        assert check_same(wanted, got) <= 1
        same = [(a.finish_reason, a.stop_reason, a.text) == (b.finish_reason, b.stop_reason, b.text)
                for a, b in zip(wanted, got, strict=True) if list(a.token_ids) == list(b.token_ids)]  # fmt: skip
        assert all(same)


def test_samples_come_from_the_same_distribution(plain: Any, drafted: Any) -> None:
    """Frequencies of the second and third token over 600 draws each: chi-square over the common ones."""
    text = "one two three one two three one two"
    counts = []
    for llm in (plain, drafted):
        answers = say(llm, [[{"role": "user", "content": text}]] * 600, [3] * 600, temperature=1.0)
        counts.append([answer.token_ids[1] for answer in answers if len(answer.token_ids) > 1])
    common = [token for token in set(counts[0]) if counts[0].count(token) + counts[1].count(token) >= 12]
    seen = np.array([[draws.count(token) for token in common] for draws in counts], dtype=float)
    expected = seen.sum(0) * seen.sum(1, keepdims=True) / seen.sum()
    statistic = float(((seen - expected) ** 2 / expected).sum())
    freedom = len(common) - 1
    assert freedom >= 3
    assert statistic < freedom + 5 * (2 * freedom) ** 0.5, (statistic, freedom)


def test_aborted_requests_leave_nothing_behind(drafted: Any) -> None:
    from vllm import SamplingParams

    core = drafted.llm_engine
    for i in range(8):
        core.add_request(f"a{i}", "Count: 1 2 3 4 5 6 7 8", SamplingParams(max_tokens=200, ignore_eos=True))
    finished = 0
    for turn in range(400):
        if turn == 10:
            core.abort_request([f"a{i}" for i in range(4)])
        if not core.has_unfinished_requests():
            break
        finished += sum(answer.finished for answer in core.step())
    assert finished >= 4
    say(drafted, prompts(1), [24], ignore_eos=True)
    assert len(proposer(drafted).drafter.slots) <= 1


def test_preempted_requests_say_the_same(plain: Any) -> None:
    """Room for few keys and values: requests are put aside and resumed."""
    llm = engine(num_gpu_blocks_override=80, max_num_seqs=16, block_size=32, disable_log_stats=False)
    chats = prompts(16)
    wanted = say(plain, chats, [200] * 16, logprobs=2, ignore_eos=True)
    got = say(llm, chats, [200] * 16, ignore_eos=True)
    assert check_same(wanted, got) <= 1
    assert sum(metric.value for metric in llm.get_metrics() if metric.name == "vllm:num_preemptions") > 0


def test_a_proposer_that_fails_ends_drafting_only(plain: Any) -> None:
    llm = engine()
    ours = proposer(llm)
    working, calls = ours.drafter.propose, 0

    def fail(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise ValueError("broken on purpose")
        return working(*arguments)

    ours.drafter.propose = fail
    chats = prompts(6)
    with pytest.warns(DraftWarning, match="broken on purpose") as seen:
        got = say(llm, chats, [60] * 6, ignore_eos=True)
    assert len([one for one in seen if issubclass(one.category, DraftWarning)]) == 1
    assert check_same(say(plain, chats, [60] * 6, logprobs=2, ignore_eos=True), got) <= 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", DraftWarning)
        say(llm, chats, [20] * 6)
