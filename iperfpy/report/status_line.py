"""The status of a running test in one line: time, the latest rates as bars, and the part that is left.

    12/30 s ▂▄▅▇█▇▇▆▇█▇ 18 s left

The time is that of the local clock: it goes on while the peer is silent. A bar is one interval, and its
height the share of the highest rate among those shown. `_` is an interval without any payload, `-` one of an
unknown rate. With both directions at once, each has its bars.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from iperfpy.plan import UNSIZED_BYTES, Direction, EndCondition, Role
from iperfpy.protocols.units import format_size
from iperfpy.records import Row, RunStarted
from iperfpy.report.columns import NOT_AVAILABLE
from iperfpy.report.screen import Span
from iperfpy.sampling.sums import by_direction, total

MOST_BARS = 60
"""Intervals that the line shows, if the terminal has the room."""
BLOCK_BARS, ASCII_BARS = "▁▂▃▄▅▆▇█", ".:~=+*#@"
"""Bars from low to high, and those of a terminal with an encoding that lacks the first ones."""
NOTHING = "_"
MINUTES_FROM_S = 600
"""Duration from which times are in minutes, and hours."""
FEWEST_BARS = 5
"""Room for bars below which they are left out."""


class StatusLine:
    """Collects the figures of a test for its status.

    Parameters
    ----------
    start : the test
    now_s : the present time of a monotonic clock, as in every method
    bars : characters from low to high
    """

    def __init__(self, start: RunStarted, now_s: float, bars: str = BLOCK_BARS) -> None:
        self._plan = start.plan
        self._role = start.role
        self._bars = bars
        self._began_s = now_s
        self._rates: dict[Direction, deque[float | None]] = {
            way: deque(maxlen=MOST_BARS) for way in _ways(start.plan.direction)
        }
        self._carried = dict.fromkeys(self._rates, 0)
        self._measured = False

    def take(self, rows: Sequence[Row], now_s: float) -> None:
        """Take the rows of an interval."""
        for group in by_direction(rows):
            whole = total(group).local
            rates = self._rates.get(group[0].direction)
            if rates is None:
                continue
            rates.append(whole.bits_per_second)
            # The omitted period does not count towards an amount.
            if not whole.omitted:
                self._carried[group[0].direction] += whole.bytes
            # The first interval tells the moment at which data began to flow; it may arrive late.
            before_s = 0 if whole.omitted else self._plan.omit_us / 1e6
            began_s = now_s - whole.end_us / 1e6 - before_s
            self._began_s = min(self._began_s, began_s) if self._measured else began_s
        self._measured = True

    def elapsed_s(self, now_s: float) -> float:
        """Seconds since data began to flow."""
        return max(0.0, now_s - self._began_s)

    def next_change_s(self, now_s: float) -> float:
        """Seconds until the line shows another time."""
        return 1.0 - self.elapsed_s(now_s) % 1.0

    def spans(self, now_s: float, width: int) -> list[Span]:
        """The line, in at most `width` characters if its times fit."""
        time, left = self._time(now_s), self._left(now_s)
        room = width - len(time) - len(left) - 3  # a blank in front, and one on each side of the bars
        spans: list[Span] = [(f" {time} ", "")]
        share = room // len(self._rates)
        for way, rates in self._rates.items():
            tag = f"{self._tag(way)} " if len(self._rates) > 1 else ""
            most = min(MOST_BARS, share - len(tag) - 1 if tag else room)
            if most >= FEWEST_BARS:
                spans += [(tag, "muted"), *self._sparkline(list(rates)[-most:]), (" ", "")]
        return [*spans, (left, "muted")]

    def _time(self, now_s: float) -> str:
        elapsed_s, total_s = self.elapsed_s(now_s), self._total_s
        if total_s is None:
            return _clock(int(elapsed_s), elapsed_s)
        return f"{_clock(int(elapsed_s), total_s, '')}/{_clock(total_s, total_s)}"

    @property
    def _total_s(self) -> float | None:
        """Planned seconds with the omitted ones; None if something else ends the test."""
        if self._plan.ends_by is not EndCondition.TIME:
            return None
        return (self._plan.omit_us + self._plan.duration_us) / 1e6

    def _left(self, now_s: float) -> str:
        """The rest of the test."""
        if self._plan.ends_by is EndCondition.INTERRUPT:
            return "until Ctrl-C"
        if self._total_s is not None:
            left_s = self._total_s - self.elapsed_s(now_s)
            return f"{_clock(math.ceil(left_s), self._total_s)} left" if left_s > 0 else "ending"
        if self._plan.amount_bytes >= UNSIZED_BYTES:  # a pipe that is sent: its end is not known
            return f"{NOT_AVAILABLE} left"
        if not self._measured:
            return f"{format_size(self._plan.amount_bytes)} left"
        left = max(self._plan.amount_bytes - carried for carried in self._carried.values())
        return f"{format_size(left)} left" if left > 0 else "ending"

    def _tag(self, way: Direction) -> str:
        return "TX" if (way is Direction.FORWARD) == (self._role is Role.CLIENT) else "RX"

    def _sparkline(self, rates: Sequence[float | None]) -> list[Span]:
        """A bar for each rate. Before the first interval nothing is known."""
        highest = max((rate for rate in rates if rate is not None), default=0.0)
        spans: list[Span] = []
        for rate in rates or (None,):
            if rate is None:
                spans.append((NOT_AVAILABLE, "muted"))
            elif rate <= 0:
                spans.append((NOTHING, "alarm"))
            else:
                step = math.ceil(rate / highest * len(self._bars))
                spans.append((self._bars[max(step, 1) - 1], "calm"))
        return spans


def bars_for(encoding: str | None) -> str:
    """The bars that a stream of this encoding can print."""
    try:
        BLOCK_BARS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII_BARS
    return BLOCK_BARS


def _ways(direction: Direction) -> tuple[Direction, ...]:
    if direction is Direction.BIDIRECTIONAL:
        return Direction.FORWARD, Direction.REVERSE
    return (direction,)


def _clock(seconds: float, longest_s: float, unit: str = " s") -> str:
    """`12 s`, `2.5 s` or, if the longest time asks for it, `1:02:03`."""
    if longest_s < MINUTES_FROM_S:
        return f"{seconds:g}{unit}"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if longest_s >= 3600 else f"{minutes}:{rest:02}"
