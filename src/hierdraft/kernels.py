"""numba's `njit` with a cache that a read-only installation, a full disk or a damaged file cannot turn into an error.

Compiled code is kept beside the sources, as numba does, else below hierdraft's cache folder, else nowhere.
"""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import numba
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    InTreeCacheLocator,
    UserProvidedCacheLocator,
    UserWideCacheLocator,
)
from platformdirs import user_cache_path

_log = logging.getLogger(__name__)

TELL_SECONDS = 15.0
"""How long it is compiled without a word."""

Function = TypeVar("Function", bound=Callable[..., Any])


def njit(**options: Any) -> Callable[[Function], Function]:
    """`numba.njit(**options)` whose compiled code is kept between processes where that is possible."""

    def decorate(function: Function) -> Function:
        kernel: Any = numba.njit(**options)(function)
        try:
            kernel._cache = _KernelCache(function)
        except RuntimeError:  # no folder can be written; the warning shows once, for the first kernel
            warnings.warn(
                "Compiled kernels cannot be kept, so every start takes minutes: set HIERDRAFT_CACHE_DIR to a folder "
                "that can be written.",
                RuntimeWarning,
                stacklevel=1,
            )
        compiled: Function = kernel
        return compiled

    return decorate


def kernel_folder() -> Path:
    """Where kernels are kept if not beside their sources. The settings file is not read for it."""
    named = os.environ.get("HIERDRAFT_CACHE_DIR")
    return (Path(named).expanduser() if named else user_cache_path("hierdraft")) / "kernels"


@cache
def _sources() -> str:
    """A digest of all files with kernels: one that calls another has it compiled in, across files."""
    found = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        source = file.read_bytes()
        if b"njit" in source or b"@overload" in source or file.name in ("levels.py", "tree.py"):
            found.update(source)
    return found.hexdigest()


class _Stamp:
    """Code is compiled anew when a file with kernels has changed, not only the kernel's own."""

    def get_source_stamp(self) -> str:
        """What the cached code was made of."""
        return _sources()


class _Named(_Stamp, UserProvidedCacheLocator):  # type: ignore[misc]
    """NUMBA_CACHE_DIR."""


class _Beside(_Stamp, InTreeCacheLocator):  # type: ignore[misc]
    """`__pycache__` beside the source."""


class _Below(_Stamp, UserWideCacheLocator):  # type: ignore[misc]
    """Hierdraft's cache folder."""

    def __init__(self, function: Callable[..., Any], file: str) -> None:
        super().__init__(function, file)
        self._cache_path = str(kernel_folder() / self.get_suitable_cache_subpath(file))


class _Places(CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (_Named, _Beside, _Below)


class _Telling:
    """Says that kernels are compiled, and from time to time how many are: on a slow machine all take minutes."""

    def __init__(self) -> None:
        self._compiled = 0
        self._said: float | None = None

    def begins(self) -> None:
        """A kernel is not there yet."""
        if self._said is None:
            self._said = monotonic()
            _log.info("Compiling the drafting kernels: this is done once, and may take some minutes.")

    def ends(self) -> None:
        """One more is."""
        self._compiled += 1
        if self._said is not None and monotonic() - self._said >= TELL_SECONDS:
            self._said = monotonic()
            _log.info("Still compiling: kernel number %d is done.", self._compiled)


@cache
def _telling() -> _Telling:
    """One for the process."""
    return _Telling()


class _KernelCache(FunctionCache):  # type: ignore[misc]
    """A cache that cannot be read is an empty one, and one that cannot be written is left as it is."""

    _impl_class = _Places

    def load_overload(self, signature: Any, context: Any) -> Any:
        """The compiled code for a signature, None if it is not there."""
        try:
            found = super().load_overload(signature, context)
            if found is None:
                _telling().begins()
            return found
        except Exception:  # noqa: BLE001 - damaged bytes end in errors of any kind, and the code can be made again
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Keep it, where the disk has room."""
        _telling().ends()
        with suppress(OSError):
            super().save_overload(signature, compiled)
