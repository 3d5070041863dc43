"""What is counted, in Prometheus' text form: vLLM's names where it has them, ours beside them."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from hierdraft.language_model import LanguageModel
    from hierdraft.server.service import Running
    from hierdraft.stream import Generation

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_DEEPEST = 16


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self, model: LanguageModel, name: str) -> None:
        """`name`: of the model, as its clients know it."""
        self._model, self._name = model, name
        self.registry = CollectorRegistry()
        self._requests = self._counter("vllm:request_success", "Requests that are over", "finished_reason")
        self._prompt = self._counter("vllm:prompt_tokens", "Tokens of prompts")
        self._generated = self._counter("vllm:generation_tokens", "Tokens of answers")
        self._drafts = self._counter("vllm:spec_decode_num_drafts", "Forwards after the prompts")
        self._drafted = self._counter("vllm:spec_decode_num_draft_tokens", "Drafted tokens that were scored")
        self._accepted = self._counter("vllm:spec_decode_num_accepted_tokens", "Drafted tokens in answers")
        self._at = self._counter(
            "vllm:spec_decode_num_accepted_tokens_per_pos", "Drafted tokens in answers, by their place", "position"
        )
        self._proposed_of = self._counter("hierdraft:proposed_tokens", "Drafted tokens that were scored", "level")
        self._accepted_of = self._counter("hierdraft:accepted_tokens", "Drafted tokens in answers", "level")
        self._spent = self._counter("hierdraft:seconds", "Where the time of requests went", "part")
        self._failed = self._counter("hierdraft:draft_failures", "Answers whose drafting failed: decoded plainly")
        self._first = self._histogram("vllm:time_to_first_token_seconds", "Until something came")
        self._between = self._histogram("vllm:inter_token_latency_seconds", "Between pieces that came")
        self._whole = self._histogram("vllm:e2e_request_latency_seconds", "Until all had come")
        self._gauge("vllm:num_requests_running", "Requests in flight", lambda: model.load.running)
        self._gauge("vllm:num_requests_waiting", "Requests that wait", lambda: model.load.waiting)
        self._gauge("vllm:kv_cache_usage_perc", "Part of the blocks of keys and values that is in use", self._used)
        blocks = Gauge("hierdraft:cache_blocks", "Blocks of keys and values", ["state"], registry=self.registry)
        blocks.labels("all").set_function(lambda: self._blocks()[0])
        blocks.labels("used").set_function(lambda: self._blocks()[1])
        tokens = Gauge("hierdraft:database_tokens", "Tokens in a database", ["name", "level"], registry=self.registry)
        for pack in model.databases.packs:
            tokens.labels(pack.path.stem, pack.info.level).set(pack.info.tokens)

    def _counter(self, name: str, about: str, *labels: str) -> Any:
        made = Counter(name, about, ["model_name", *labels], registry=self.registry)
        return made if labels else made.labels(self._name)

    def _histogram(self, name: str, about: str) -> Any:
        return Histogram(name, about, ["model_name"], buckets=_SECONDS, registry=self.registry).labels(self._name)

    def _gauge(self, name: str, about: str, value: Any) -> None:
        Gauge(name, about, ["model_name"], registry=self.registry).labels(self._name).set_function(value)

    def _blocks(self) -> tuple[int, int]:
        """All, and those in use; of an engine without blocks none."""
        found: tuple[int, int] = getattr(self._model.engine, "cache_blocks", (0, 0))
        return found

    def _used(self) -> float:
        blocks, used = self._blocks()
        return used / blocks if blocks else 0.0

    def ended(self, running: Running) -> None:
        """A request is over."""
        self._whole.observe(time.perf_counter() - running.began)
        for answer in running.answers:
            if answer.times:
                self._first.observe(answer.times[0] - running.began)
            for before, after in pairwise(answer.times):
                self._between.observe(after - before)
            self._count(answer.result)

    def _count(self, result: Generation) -> None:
        self._requests.labels(self._name, result.finish or "abort").inc()
        self._prompt.inc(result.prompt_tokens)
        self._generated.inc(len(result.token_ids))
        self._drafts.inc(result.steps)
        for level, counts in result.by_level.items():
            self._proposed_of.labels(self._name, level).inc(counts["proposed"])
            self._accepted_of.labels(self._name, level).inc(counts["accepted"])
            self._drafted.inc(counts["proposed"])
            self._accepted.inc(counts["accepted"])
        for tokens in result.step_tokens:
            for place in range(min(tokens - 1, _DEEPEST)):
                self._at.labels(self._name, str(place)).inc()
        for part in ("draft", "forward", "rest", "prefill"):
            self._spent.labels(self._name, part).inc(getattr(result, f"{part}_seconds"))
        if result.draft_error is not None:
            self._failed.inc()

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self.registry)
