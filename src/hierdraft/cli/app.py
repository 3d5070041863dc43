"""The `hierdraft` command. Signals are heard before anything large is imported; whatever happens, it ends.

On a closed pipe quietly, on a full disk and every error raised on purpose with one sentence, on Ctrl-C and SIGTERM
within a second, each with its exit code, and with what was learned kept.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from hierdraft.cli.output import guard_output, shorten_warnings
from hierdraft.cli.stopping import behind, stoppable
from hierdraft.errors import HierdraftError


def main() -> None:
    """Run the command line and exit."""
    try:
        with stoppable():
            guard_output()
            shorten_warnings()
            code = told(_run)
            code = code or told(_flush)
    except BaseException as error:  # a signal may come wrapped in whatever was interrupted by it
        stopped = behind(error)
        if stopped is None:
            raise
        if not stopped.quiet:
            sys.stderr.write("hierdraft: stopped.\n")
        sys.stderr.flush()
        os._exit(stopped.exit_code)  # all is closed; threads that load or compile would only hold up the interpreter
    sys.exit(code)


def _run() -> int:
    from hierdraft.cli.commands import run

    return run()


def _flush() -> int:
    sys.stdout.flush()
    return 0


def told(call: Callable[[], int]) -> int:
    """Its exit code; an error raised on purpose is one sentence on stderr."""
    try:
        return call()
    except HierdraftError as error:
        sys.stderr.write(f"hierdraft: {error}\n")
        return error.exit_code
