"""The start of the program: standard output, the subcommand, the exit status.

    main.py              the first word names a subcommand (COMMANDS); without one, a test runs
       |
    commands/run.py      the five steps of a test, each in its own file, in this order:
       |
       |- 1  parse       command_line.py        words -> ParsedOptions (a question such as --help ends here)
       |- 2  request     request.py             ParsedOptions -> Request: a Plan and options
       |- 3  check       endpoint/preflight.py  can this machine run the plan, would a server accept it?
       |- 4  open        outputs.py             CSV file, sinks
       '- 5  run         endpoint/client.py, or endpoint/server.py (its clients describe the tests)

A step hands its result to the next one and is not entered again.

exit_status.py has the statuses, and the sentences that explain a failure. A subcommand is a file in
commands/; `iperfpy --version` is answered here, before any flag is loaded, because scripts ask it often.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence

from iperfpy import __version__
from iperfpy.cli.commands import COMMANDS, COMPLETION_VARIABLE, DEFAULT
from iperfpy.cli.exit_status import FAILED, complain, interrupted, silence_stdout


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    if sys.stdout is None:  # the program was started with standard output closed
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    _buffer_stdout()
    try:
        status = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except KeyboardInterrupt:
        # Without signal handlers (before a test runs, and on Windows) one Ctrl-C arrives as this exception.
        return interrupted("Ctrl-C")
    except BrokenPipeError:
        silence_stdout()
        return FAILED
    except OSError as error:
        silence_stdout()
        return complain(f"cannot write to standard output: {error.strerror}")
    return status


def _dispatch(words: list[str]) -> int:
    """Run the subcommand that the first word names, or else a test."""
    if words in (["-v"], ["--version"]):
        print(f"iperfpy {__version__}")
        return 0
    # OpenBLAS starts threads that spin when numpy is imported; this program multiplies no matrices.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    name = "completion" if COMPLETION_VARIABLE in os.environ else words[0] if words else ""
    command = COMMANDS.get(name)
    module = importlib.import_module(command.module if command else DEFAULT)
    status: int = module.main(words[1:] if command else words)
    return status


def _buffer_stdout() -> None:
    """Put a buffer under standard output if there is none.

    With PYTHONUNBUFFERED the text layer stands on the bare file and drops the rest of a short write, so a
    long document into a pipe would end at 64 KiB. Every report is flushed all the same.
    """
    raw = sys.stdout.buffer
    if isinstance(raw, io.RawIOBase):
        whole = io.BufferedWriter(raw)
        sys.stdout = io.TextIOWrapper(whole, sys.stdout.encoding, sys.stdout.errors, line_buffering=True)
