"""The three standard descriptors and their text streams, whatever the parent process left of them.

A parent may start the program with a descriptor closed (`<&-`, `2>&-`, a service manager). The next socket
or file would then get its number, and messages for people would go into it. A terminal's encoding may lack
characters of a title. Neither ends a test.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from iperfpy.cli.terminal_stop import stopping_within
from iperfpy.report.status_row import StatusRow, can_have_row, is_in_foreground, lead_to_one_terminal

STDOUT = "this is standard output"
"""The note on an `OSError` of standard output: errors of other files do not have it."""


def prepare() -> None:
    """Make `sys.stdin`, `sys.stdout` and `sys.stderr` usable. Runs before anything else opens a file."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is this one: those below it are open.
            os.open(os.devnull, os.O_RDWR)
    # The interpreter has no object for a descriptor that was closed when it started.
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115 - it stays open
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - it stays open
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115 - it stays open
    _rebuild_stdout()


def is_failed_stdout(error: OSError) -> bool:
    """True if the error is that of a write to standard output."""
    return STDOUT in getattr(error, "__notes__", ())


def silence_stdout() -> None:
    """Redirect standard output to the null device once it can no longer be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def settle_stderr() -> None:
    """Give up lines that standard error does not take, as on a full disk: the interpreter would flush them at
    its end, fail, and change the exit status to 120."""
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def abandon(name: str) -> None:
    """Leave a standard stream ("stdout", "stderr") to a thread that waits in a write to it.

    That thread holds the lock of the stream's buffer, and an interpreter that flushes the stream at its end
    would abort.
    """
    setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - it lasts as long as the process


@contextlib.contextmanager
def status_row() -> Iterator[StatusRow | None]:
    """A row below everything that this process prints on its terminal, while the context lasts. None if
    standard output is no terminal, or one that cannot move its cursor."""
    out, errors = sys.stdout, sys.stderr
    if not can_have_row(out):
        yield None
        return
    row = StatusRow(out, lambda: is_in_foreground(out))
    below = sys.stdout = row.beside(out)
    if lead_to_one_terminal(out, errors):
        sys.stderr = row.beside(errors)
    try:
        with stopping_within(row.hidden):
            yield row
    finally:
        # An abandoned stream belongs to a thread that waits in a write, and holds the lock of the row.
        if sys.stdout is below:
            with contextlib.suppress(OSError, ValueError):
                row.clear()
            sys.stdout, sys.stderr = out, errors


def share_a_file() -> bool:
    """True if standard output and standard error, or a part of it (`--logfile`), go to one file."""
    try:
        taken = _identity(sys.stdout)
        return any(_identity(one) == taken for one in getattr(sys.stderr, "streams", (sys.stderr,)))
    except (OSError, ValueError):
        return False


def _identity(stream: TextIO) -> tuple[int, int]:
    found = os.fstat(stream.fileno())
    return found.st_dev, found.st_ino


def _rebuild_stdout() -> None:
    """Put a buffer under standard output, and let it replace characters that its encoding lacks.

    With PYTHONUNBUFFERED the text layer stands on the bare file and drops the rest of a short write, so a
    long document into a pipe would end at 64 KiB. Every report is flushed all the same.
    """
    stream = sys.stdout
    # A stream of another class belongs to the caller, such as the capture of a test.
    if type(stream) is not io.TextIOWrapper:
        return
    file = getattr(stream.buffer, "raw", stream.buffer)
    if isinstance(file, io.RawIOBase):
        stream.flush()
        encoding, errors = stream.encoding, "replace" if stream.errors == "strict" else stream.errors
        buffer = io.BufferedWriter(_NotedFile(file, stream))
        sys.stdout = io.TextIOWrapper(buffer, encoding, errors, line_buffering=True)


class _NotedFile(io.RawIOBase):
    """Standard output. Its errors say so, so that they are told from the errors of everything else."""

    def __init__(self, file: io.RawIOBase, replaced: TextIO) -> None:
        self._file = file
        self._replaced = replaced  # its end would close the file

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._file.isatty()

    def fileno(self) -> int:
        return self._file.fileno()

    def write(self, data: Any) -> int | None:
        try:
            return self._file.write(data)
        except OSError as error:
            error.add_note(STDOUT)
            raise
