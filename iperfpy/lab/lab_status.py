"""Statuses and time of a run, with and without namespaces."""

from __future__ import annotations

import time

TIMED_OUT = 124
"""Status of timeout(1) for a command that took too long."""
NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""Statuses of a shell for a command that does not exist, or cannot be run."""
KILLED = 137


class LabTime:
    """The clock of a run: microseconds since the command began, 0.0 before."""

    def __init__(self) -> None:
        self._zero_ns: int | None = None

    def begin(self) -> None:
        """Let the time begin, unless it has begun."""
        # The path stands still until then: no event happens, and no draw of it is used.
        if self._zero_ns is None:
            self._zero_ns = time.monotonic_ns()

    def now_us(self) -> float:
        """The time since the beginning."""
        return 0.0 if self._zero_ns is None else (time.monotonic_ns() - self._zero_ns) / 1e3
