"""Who may ask, for what, and how much: keys, each with its namespace and its limits."""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import tomllib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hierdraft.databases.namespace import check_name
from hierdraft.errors import UsageError
from hierdraft.server.failures import ApiError

MINUTE = 60.0


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    key: Annotated[str, Field(min_length=16)] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    namespace: str
    requests: Annotated[int, Field(ge=1)] = 16
    tokens_per_minute: Annotated[int, Field(ge=1)] | None = None


@dataclass(slots=True)
class Tenant:
    """Who asks with one key, and what is going on for it."""

    namespace: str
    requests: int = 1 << 30
    tokens_per_minute: int | None = None
    running: int = 0
    _spent: deque[tuple[float, int]] = field(default_factory=deque)
    _expected: int = 0

    def admit(self, count: int, tokens: int) -> None:
        """So many answers begin, with `tokens` at most. Raises ApiError (429) where that is more than may."""
        if count > self.requests:
            raise ApiError(400, f"n may be at most {self.requests} with this key, not {count}.", param="n")
        if self.running + count > self.requests:
            said = f"{self.running} requests of this key are running, and {self.requests} may: try again later."
            raise ApiError(429, said, "rate_limit_error", code="too_many_requests", headers={"Retry-After": "1"})
        wait = self._wait()
        if wait > 0.0:
            said = f"This key has used its {self.tokens_per_minute} tokens a minute: try again in {math.ceil(wait)} s."
            headers = {"Retry-After": f"{math.ceil(wait)}"}
            raise ApiError(429, said, "rate_limit_error", code="rate_limit_exceeded", headers=headers)
        self.running += count
        self._expected += tokens

    def ended(self, count: int, tokens: int, expected: int) -> None:
        """So many are over, after `tokens` in all, where `expected` were the most."""
        self.running -= count
        self._expected -= expected
        if self.tokens_per_minute is not None:
            self._spent.append((monotonic(), tokens))

    def _wait(self) -> float:
        """Seconds until there are tokens again; what runs counts as if it said all that it may."""
        now, most = monotonic(), self.tokens_per_minute
        while self._spent and self._spent[0][0] <= now - MINUTE:
            self._spent.popleft()
        if most is None:
            return 0.0
        left = self._expected + sum(tokens for _, tokens in self._spent)
        if left < most or not self._spent:
            return 1.0 if left >= most else 0.0
        for ended, tokens in self._spent:
            left -= tokens
            if left < most:
                return ended + MINUTE - now
        return 1.0


class Keys:
    """The keys of a file; without one, everybody is the same tenant."""

    def __init__(self, tenants: Mapping[bytes, Tenant], everybody: Tenant | None) -> None:
        """`tenants`: by the SHA-256 of their keys; `everybody`: who asks without a key."""
        self._tenants = dict(tenants)
        self._everybody = everybody

    @classmethod
    def none(cls, namespace: str) -> Keys:
        """No key is needed."""
        return cls({}, Tenant(namespace))

    @classmethod
    def read(cls, path: Path) -> Keys:
        """Those of a TOML file with a table `[[key]]` for each. Raises UsageError."""
        try:
            rows = tomllib.loads(path.read_text(encoding="utf-8")).get("key", [])
            parsed = [_Row.model_validate(row) for row in rows]
        except ValidationError as error:
            fault = error.errors()[0]
            name = ".".join(map(str, fault["loc"]))
            raise UsageError(f"A key in {path} is wrong at {name}: {fault['msg']}.") from error
        except (OSError, ValueError, AttributeError) as error:
            raise UsageError(f"The keys in {path} cannot be read: {str(error).splitlines()[0]}.") from error
        tenants: dict[bytes, Tenant] = {}
        for row in parsed:
            if (row.key is None) == (row.sha256 is None):
                raise UsageError(f"Every key in {path} needs either key or sha256.")
            check_name(row.namespace)
            digest = hashlib.sha256(row.key.encode()).digest() if row.key else bytes.fromhex(row.sha256 or "")
            if digest in tenants:
                raise UsageError(f"A key stands twice in {path}.")
            tenants[digest] = Tenant(row.namespace, row.requests, row.tokens_per_minute)
        if not tenants:
            raise UsageError(f"There are no keys in {path}.")
        return cls(tenants, None)

    def tenant(self, headers: Mapping[str, str]) -> Tenant:
        """Who asks. Raises ApiError (401). All keys are compared, whichever it is."""
        if self._everybody is not None:
            return self._everybody
        found = re.fullmatch(r"[Bb]earer +(\S+)", headers.get("authorization", "").strip())
        given = found[1] if found else headers.get("x-api-key", "")
        digest = hashlib.sha256(given.encode()).digest()
        match = None
        for known, tenant in self._tenants.items():
            if hmac.compare_digest(known, digest):
                match = tenant
        if match is None or not given:
            said = "No key of this server was given: send it as Authorization: Bearer KEY."
            raise ApiError(401, said, "authentication_error", code="invalid_api_key",
                           headers={"WWW-Authenticate": "Bearer"})  # fmt: skip
        return match
