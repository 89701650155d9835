"""Keeps the status of a running test on the row below its table.

start      --> the row appears, and is drawn again every second by the thread that prints the table
interval   --> another bar, at most `MOST_DRAWS_PER_S` times a second
end, error --> the row is gone before the summary or the error is printed
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from iperfpy.records import Row, RunEnded, RunStarted
from iperfpy.report.screen import RichScreen
from iperfpy.report.status_line import BLOCK_BARS, StatusLine
from iperfpy.report.status_row import StatusRow

log = logging.getLogger(__name__)

MOST_DRAWS_PER_S = 5

Repeat = Callable[[Callable[[], float | None]], None]
"""`OutputThread.repeat`."""


class StatusSink:
    """Draws the status. All its methods run in the thread that prints the table.

    Parameters
    ----------
    row : where the status is drawn
    screen : renders it, and knows the width of the terminal
    repeat : calls a function again after the seconds that it returns; None: no more
    bars : characters from low to high
    clock_s : monotonic
    """

    def __init__(
        self,
        row: StatusRow,
        screen: RichScreen,
        repeat: Repeat,
        bars: str = BLOCK_BARS,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._row = row
        self._screen = screen
        self._repeat = repeat
        self._bars = bars
        self._clock_s = clock_s
        self._line: StatusLine | None = None
        self._rows_drawn_s = -math.inf

    def start(self, start: RunStarted) -> None:
        self._line = StatusLine(start, self._clock_s(), self._bars)
        self._repeat(self._tick)

    def interval(self, rows: tuple[Row, ...]) -> None:
        if self._line is None:
            return
        now_s = self._clock_s()
        self._line.take(rows, now_s)
        if now_s - self._rows_drawn_s >= 1 / MOST_DRAWS_PER_S:
            self._rows_drawn_s = now_s
            self._draw(self._line, now_s)

    def end(self, end: RunEnded) -> None:
        self._stop()

    def error(self, message: str) -> None:
        self._stop()

    def close(self) -> None:
        self._stop()

    def _tick(self) -> float | None:
        """Draw the row; return the seconds until it shows another time, None once the test is over."""
        if self._line is None:
            return None
        now_s = self._clock_s()
        try:
            self._draw(self._line, now_s)
        except Exception as error:  # the thread prints the table as well, and has to go on
            log.debug("the status line ends", exc_info=error)
            self._line = None
            return None
        return self._line.next_change_s(now_s)

    def _draw(self, line: StatusLine, now_s: float) -> None:
        # The last cell stays free: some terminals show a cursor there that has wrapped already.
        width = self._screen.width or 80
        self._row.show(self._screen.rendered(*line.spans(now_s, width - 1)))

    def _stop(self) -> None:
        self._line = None
        self._row.clear()
