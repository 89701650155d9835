"""The row below the last line of a terminal: it is erased before anything is printed, and drawn again below.

    show(text) ----------------------> the row
    beside(stream).write("line\n") --> the row is erased, the line printed, the row drawn: one write

The cursor rests on the first cell of the row. So one sequence erases the whole row, from the cursor to the
end of the screen, also after the terminal became narrower and folded the row. While the row is drawn, the
terminal wraps nothing (DECAWM off), so that the row never takes two lines.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from typing import TextIO, cast

from iperfpy.protocols.operating_system import WINDOWS

ERASE = "\r\x1b[J"
"""Cursor to the first cell, then "erase in display" from there (ECMA-48, ED)."""
NO_WRAP, WRAP = "\x1b[?7l", "\x1b[?7h"
INCAPABLE = ("", "dumb", "unknown")
"""Values of TERM of terminals that cannot move their cursor."""
PATIENCE_S = 0.1
"""Longest wait of `hidden` for a thread that prints; a terminal that the user has stopped takes no text."""


class StatusRow:
    """A row that stays below all output of a terminal. Several threads may use it.

    Parameters
    ----------
    terminal : where the row is drawn
    in_foreground : False while the row must not be drawn, because the terminal belongs to another job
    """

    def __init__(self, terminal: TextIO, in_foreground: Callable[[], bool] = lambda: True) -> None:
        self._terminal = terminal
        self._in_foreground = in_foreground
        self._lock = threading.RLock()  # a signal handler interrupts its own thread, also while that holds it
        self._text = ""
        self._drawn = False
        self._line_open = False

    def show(self, text: str) -> None:
        """Draw this text, with its escape sequences, in place of the one before. Raises OSError."""
        with self._lock:
            self._text = text
            if not self._line_open:
                self._write(self._terminal, "")

    def clear(self) -> None:
        """Take the row off the terminal. Raises OSError."""
        self.show("")

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """A context without the row, in which no other thread prints. The next text draws the row again.

        A signal handler may use it: it waits for no thread that cannot print.
        """
        held = self._lock.acquire(timeout=PATIENCE_S)
        try:
            if held and self._drawn:
                self._drawn = False
                # A RuntimeError: the interrupted thread was in a write to the same buffer.
                with contextlib.suppress(OSError, ValueError, RuntimeError):
                    self._terminal.write(ERASE)
                    self._terminal.flush()
            yield
        finally:
            if held:
                self._lock.release()

    def beside(self, stream: TextIO) -> TextIO:
        """The stream, which leads to the same terminal, with the row kept below everything written to it."""
        return cast(TextIO, _Beside(stream, self))

    def write(self, stream: TextIO, text: str) -> None:
        """Print a text above the row. While its last line has no end, the row is away. Raises OSError."""
        with self._lock:
            if text:
                self._line_open = not text.endswith("\n")
                self._write(stream, text)

    def _write(self, stream: TextIO, text: str) -> None:
        """Erase, print and draw in one write, so that no other process sees half of it."""
        # Another job's shell has moved the cursor: this row is no longer below it.
        foreground = self._in_foreground()
        before = ERASE if self._drawn and foreground else ""
        draws = bool(self._text) and foreground and not self._line_open
        after = f"{NO_WRAP}{self._text}{WRAP}\r" if draws else ""
        self._drawn = draws
        if before or text or after:
            stream.write(f"{before}{text}{after}")
        if before or after:
            stream.flush()
        self._drawn = draws  # a signal handler may have erased the row before it was drawn


class _Beside(io.TextIOBase):
    """A text stream of a terminal that has a status row."""

    def __init__(self, stream: TextIO, row: StatusRow) -> None:
        self._stream = stream
        self._row = row

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self._stream.errors

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        self._row.write(self._stream, text)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


def can_have_row(stream: TextIO) -> bool:
    """True if the stream is a terminal that can move its cursor."""
    if not stream.isatty():
        return False
    if WINDOWS:
        from rich.console import detect_legacy_windows

        return not detect_legacy_windows()
    return os.environ.get("TERM", "") not in INCAPABLE


def is_in_foreground(terminal: TextIO) -> bool:
    """True unless the terminal belongs to another job, as after `iperfpy ... &`."""
    # An OSError: not the terminal of this session. An AttributeError: a system without job control.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    return True


def lead_to_one_terminal(one: TextIO, other: TextIO) -> bool:
    """True if both streams are of the same terminal."""
    with contextlib.suppress(OSError, ValueError):
        first, second = os.fstat(one.fileno()), os.fstat(other.fileno())
        return one.isatty() and other.isatty() and first.st_rdev == second.st_rdev
    return False
