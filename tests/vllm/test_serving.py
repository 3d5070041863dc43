"""A real vLLM on a CPU with our proposer: the same tokens, whatever happens to the requests. `make test-vllm`.

Every engine is a process of its own, and nothing here imports numba before one is started: vLLM 0.32 looks through all
modules when it begins, and what llvmlite has in them stops it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),
]

ROOT = Path(__file__).resolve().parents[2]
CLASS = "hierdraft.integrations.vllm.Proposer"
NOISE = 2e-3
"""Two log probabilities closer than this may change places when the shape of a pass changes (float32)."""


@pytest.fixture(scope="module", autouse=True)
def _environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("VLLM_CPU_KVCACHE_SPACE", "1"), ("VLLM_NO_USAGE_STATS", "1"), ("VLLM_WORKER_MULTIPROC_METHOD", "spawn"),
            ("PYTHONPATH", str(ROOT)),
        ):  # fmt: skip
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def start(real_cache_dir: Path) -> Any:
    """Starts an engine; `proposer` None: without drafts."""

    def run(proposer: str | None = CLASS, **more: Any) -> Any:
        from vllm import LLM

        if proposer:
            more["speculative_config"] = {"method": "custom_class", "model": proposer, "num_speculative_tokens": 6}
            more["additional_config"] = {"hierdraft": {"model": "smollm2-135m"}}
        more.setdefault("max_num_seqs", 32)
        model = str(real_cache_dir / "models" / "smollm2-135m")
        return LLM(
            model, dtype="float32", max_model_len=1024, enable_prefix_caching=False, seed=0, disable_log_stats=False,
            **more,
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def plain(start: Any) -> Any:
    return start(None)


@pytest.fixture(scope="module")
def watched(start: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    os.environ["PROBE"] = str(tmp_path_factory.mktemp("probe") / "state.json")
    return start("tests.vllm.probes.Watched")


def state() -> dict[str, int]:
    """What the watched proposer knew after its last step."""
    found: dict[str, int] = json.loads(Path(os.environ["PROBE"]).read_text())
    return found


def metric(llm: Any, name: str) -> float:
    return float(sum(one.value for one in llm.get_metrics() if one.name == name))


def prompts(count: int) -> list[list[dict[str, str]]]:
    """Chats of very different lengths."""
    lines = (ROOT / "src" / "hierdraft" / "data" / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line)["prompt"] for line in lines if line.strip()]
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


def test_concurrent_requests_say_the_same(plain: Any, watched: Any) -> None:
    """Over 20,000 tokens, 32 requests at a time, of all lengths."""
    chats, most = prompts(168), lengths(168)
    wanted = say(plain, chats, most, logprobs=2, ignore_eos=True)
    got = say(watched, chats, most, ignore_eos=True)
    tokens = sum(len(answer.token_ids) for answer in got)
    ties = check_same(wanted, got)
    taken = metric(watched, "vllm:spec_decode_num_accepted_tokens")
    assert tokens >= 20_000
    assert ties <= 2
    assert taken > tokens / 10


def test_requests_end_as_they_would(plain: Any, watched: Any) -> None:
    """End-of-sequence ids and stop strings inside accepted runs."""
    chats = prompts(24)
    for more in ({}, {"stop": ["\n", ". "]}, {"stop_token_ids": [28]}):
        wanted = say(plain, chats, [120] * 24, logprobs=2, **more)
        got = say(watched, chats, [120] * 24, **more)
        assert check_same(wanted, got) <= 1
        same = [(a.finish_reason, a.stop_reason, a.text) == (b.finish_reason, b.stop_reason, b.text)
                for a, b in zip(wanted, got, strict=True) if list(a.token_ids) == list(b.token_ids)]  # fmt: skip
        assert all(same)


def test_samples_come_from_the_same_distribution(plain: Any, watched: Any) -> None:
    """Frequencies of the second and third token over 600 draws each: chi-square over the common ones."""
    text = "one two three one two three one two"
    counts = []
    for llm in (plain, watched):
        answers = say(llm, [[{"role": "user", "content": text}]] * 600, [3] * 600, temperature=1.0)
        counts.append([answer.token_ids[1] for answer in answers if len(answer.token_ids) > 1])
    common = [token for token in set(counts[0]) if counts[0].count(token) + counts[1].count(token) >= 12]
    seen = np.array([[draws.count(token) for token in common] for draws in counts], dtype=float)
    expected = seen.sum(0) * seen.sum(1, keepdims=True) / seen.sum()
    statistic = float(((seen - expected) ** 2 / expected).sum())
    freedom = len(common) - 1
    assert freedom >= 3
    assert statistic < freedom + 5 * (2 * freedom) ** 0.5, (statistic, freedom)


def test_aborted_requests_leave_nothing_behind(watched: Any) -> None:
    from vllm import SamplingParams

    core = watched.llm_engine
    settings = SamplingParams(max_tokens=200, ignore_eos=True)
    for i in range(8):
        core.add_request(f"a{i}", "Count: 1 2 3 4 5 6 7 8", settings)
    finished = turn = 0
    while core.has_unfinished_requests():
        turn += 1
        if turn == 10:
            core.abort_request([f"a{i}" for i in range(4)], internal=False)
        finished += sum(answer.finished for answer in core.step())
    assert finished >= 4
    say(watched, prompts(1), [24], ignore_eos=True)
    assert state()["requests"] <= 1


def test_preempted_requests_say_the_same(start: Any, plain: Any) -> None:
    """Room for few keys and values: requests are put aside and resumed."""
    llm = start(num_gpu_blocks_override=80, max_num_seqs=16, block_size=32)
    chats = prompts(16)
    wanted = say(plain, chats, [200] * 16, logprobs=2, ignore_eos=True)
    got = say(llm, chats, [200] * 16, ignore_eos=True)
    assert check_same(wanted, got) <= 1
    assert metric(llm, "vllm:num_preemptions") > 0


def test_tensor_parallel_ranks_say_the_same(start: Any, plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three ranks, since the model has three heads of keys and values."""
    cores = sorted(os.sched_getaffinity(0))
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "|".join(str(cores[rank % len(cores)]) for rank in range(3)))
    llm = start(tensor_parallel_size=3, enforce_eager=True)
    chats = prompts(6)
    got = say(llm, chats, [60] * 6, ignore_eos=True)
    assert check_same(say(plain, chats, [60] * 6, logprobs=2, ignore_eos=True), got) <= 1
    assert metric(llm, "vllm:spec_decode_num_accepted_tokens") > 0


def test_a_proposer_that_fails_ends_drafting_only(start: Any, plain: Any, capfd: pytest.CaptureFixture[str]) -> None:
    llm = start("tests.vllm.probes.Broken")
    chats = prompts(6)
    got = say(llm, chats, [60] * 6, ignore_eos=True)
    drafted = metric(llm, "vllm:spec_decode_num_draft_tokens")
    say(llm, chats, [20] * 6)
    assert metric(llm, "vllm:spec_decode_num_draft_tokens") == drafted <= 6 * 6 * 6
    assert check_same(say(plain, chats, [60] * 6, logprobs=2, ignore_eos=True), got) <= 1
    said = capfd.readouterr()
    assert (said.out + said.err).count("vLLM continues without drafts") == 1
