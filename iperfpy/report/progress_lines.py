"""The progress of a long experiment on standard error: a bar on a terminal, else a line for each step.

Neither is part of the report: standard output has the result alone.
"""

from __future__ import annotations

import contextlib
import shutil
import textwrap
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from iperfpy.report.screen import NARROWEST, printable, write_line
from iperfpy.report.status_row import ERASE, can_have_row

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class ProgressView(Protocol):
    """Shows where an experiment is. A context: on leaving, a bar is taken off the terminal."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def step(self, text: str, elapsed_s: float, total_s: float) -> None:
        """A step begins."""

    def remark(self, text: str) -> None:
        """A line that stays."""

    def advance(self, elapsed_s: float, total_s: float) -> None:
        """The present step goes on."""

    def hidden(self) -> AbstractContextManager[None]:
        """A context without the bar, which the next step or advance draws again."""


class PlainProgress:
    """A line for each step and each remark. A stream that takes no more lines is left alone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Every line has been written."""

    def step(self, text: str, elapsed_s: float, total_s: float) -> None:
        self._line(f"{elapsed_s:5.1f} of {total_s:.0f} s: {text}")

    def remark(self, text: str) -> None:
        """A terminal without a cursor gets whole words; a pipe gets whole lines."""
        if self._stream.closed or not self._stream.isatty():
            self._line(text)
            return
        # A last column that is written makes some terminals begin a line of their own.
        width = max(NARROWEST, shutil.get_terminal_size().columns - 1)
        for line in textwrap.wrap(printable(text), width, break_on_hyphens=False, break_long_words=False):
            self._line(line)

    def advance(self, elapsed_s: float, total_s: float) -> None:
        """A pipe gets no bar."""

    def hidden(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def _line(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            write_line(self._stream, printable(text))


class BarProgress:
    """A bar with the seconds so far, those of the whole and those that are left, and the step."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        console = Console(file=self._stream, highlight=False, emoji=False, markup=False)
        self._bar = Progress(
            BarColumn(bar_width=20),
            TextColumn("{task.fields[times]}", markup=False),
            TextColumn("{task.description}", markup=False),
            console=console,
            transient=True,
            # The event loop calls often enough; a thread of rich's own would disturb the measurement.
            auto_refresh=False,
        )
        self._bar.start()
        self._task = self._bar.add_task("", total=None, times="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.stop()

    def step(self, text: str, elapsed_s: float, total_s: float) -> None:
        self._update(elapsed_s, total_s, description=printable(text))

    def remark(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(printable(text), markup=False)

    def advance(self, elapsed_s: float, total_s: float) -> None:
        self._update(elapsed_s, total_s)

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        # Rich begins each drawing of its one line with the same sequence.
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            self._stream.write(ERASE)
            self._stream.flush()
        yield

    def _update(self, elapsed_s: float, total_s: float, description: str | None = None) -> None:
        if self._bar is None or self._task is None:
            return
        left_s = max(0.0, total_s - elapsed_s)
        times = f"{elapsed_s:.0f} of {total_s:.0f} s, {left_s:.0f} s left"
        done = min(elapsed_s, total_s)
        with contextlib.suppress(OSError):
            self._bar.update(self._task, completed=done, total=total_s, times=times, description=description)
            self._bar.refresh()


def progress_for(stream: TextIO) -> ProgressView:
    """The view that suits the stream: a terminal that cannot move its cursor gets lines, as a pipe."""
    return BarProgress(stream) if can_have_row(stream) else PlainProgress(stream)
