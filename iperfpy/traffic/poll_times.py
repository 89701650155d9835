"""The times at which a test looks at its counters between two ticks. Pure: times in, times out."""

from __future__ import annotations

from iperfpy.plan import Plan
from iperfpy.protocols.units import SECOND_US

POLLS_PER_INTERVAL = 20
SHORTEST_POLL_US, LONGEST_POLL_US = 10_000, 100_000
END_POLL_US = 5_000
"""Longest pause of a receiver while its data may end at any moment."""
PER_STREAM_US = 1_000
"""Shortest pause per stream. A look at a stream takes some 30 microseconds, so all looks take about 3 % of
the time of one processor, however many streams a test has."""
HELD_UP_US = 50_000
"""Delay of a look from which on the process was stopped, or got no processor."""
GOLDEN = (5**0.5 - 1) / 2
"""Pauses vary by multiples of the golden ratio, modulo 1, which spread evenly. Equal pauses could lock onto a
paced sender and always sample the same point of a burst."""


class PollTimes:
    """The next time to look, several times per interval.

    Attributes
    ----------
    held_up_us : time by which looks came late, if the process was held up
    """

    def __init__(self, plan: Plan, streams: int, *, only_receives: bool) -> None:
        interval_us = plan.interval_us or SECOND_US
        pause_us = min(max(interval_us // POLLS_PER_INTERVAL, SHORTEST_POLL_US), LONGEST_POLL_US)
        pause_us = max(pause_us, PER_STREAM_US * streams)
        self._omitting_us = self._measuring_us = pause_us
        if only_receives and not plan.duration_us:
            # An amount ends the test: its end is known no more exactly than the last look.
            self._measuring_us = min(pause_us, max(END_POLL_US, PER_STREAM_US * streams))
        self._count = 0
        self.held_up_us = 0

    def next_us(self, now_us: int, *, omitting: bool) -> int:
        """The next time to look: a pause between 0.75 and 1.25 of the usual one."""
        self._count += 1
        pause_us = self._omitting_us if omitting else self._measuring_us
        return now_us + round(pause_us * (0.75 + self._count * GOLDEN % 1 / 2))

    def looked(self, due_us: int, now_us: int) -> None:
        """Note a look that was due at one time, and happened at another."""
        if now_us - due_us >= HELD_UP_US:
            self.held_up_us += now_us - due_us
