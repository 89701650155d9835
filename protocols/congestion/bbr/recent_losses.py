"""The losses of about the last round trip, with their bursts taken out.

A path that is overdriven loses evenly: a full queue or an empty bucket takes every fifth of what exceeds it
by a fourth, all the time. A burst (a fading radio, a rerouted link) takes twenty in a row and then none.
So what was resolved is kept in blocks, eight or more to a round trip, and a loss rate is judged by the middle
half of them: without the worst quarter, and without the best, so that independent losses look no rarer.
Where a round trip is as short as a burst, that is not enough: see `LONGEST_RUN`.
"""

from __future__ import annotations

from collections import deque

from iperfpy.protocols.congestion.bbr.loss_tally import Tally

LEAST_BLOCKS = 8
SMALLEST_BLOCK = 8
LONGEST_RUN = 4
"""How many in a row a path loses, on average, that is sent five times what it carries, besides what leaves at
once. Longer runs are not congestion's."""


class RecentLosses:
    """Blocks of resolved transmissions, in order of resolution."""

    def __init__(self) -> None:
        self._blocks: deque[tuple[int, Tally]] = deque()
        self._open = Tally()
        self._delivered = self._lost = self._runs = 0
        self._since_us: int | None = None

    def update(self, delivered: int, lost: int, runs: int, window: int, now_us: int) -> bool:
        """Take totals. True when a block was completed."""
        if self._since_us is None:
            self._since_us = now_us
        gone = lost - self._lost
        self._open.sent += delivered - self._delivered + gone
        self._open.lost += gone
        self._open.runs += runs - self._runs
        self._delivered, self._lost, self._runs = delivered, lost, runs
        sent = self._open.sent
        if sent < SMALLEST_BLOCK or sent < window // (2 * LEAST_BLOCKS):
            return False
        self._open.us, self._since_us = now_us - self._since_us, now_us
        self._blocks.append((now_us, self._open))
        self._open = Tally()
        return True

    def since(self, start_us: int) -> Tally | None:
        """The middle half of the blocks completed after `start_us`, or of the last few if those are more;
        None when there are too few to say anything. Earlier ones are forgotten."""
        blocks = self._blocks
        while len(blocks) > LEAST_BLOCKS and blocks[0][0] <= start_us:
            blocks.popleft()
        if len(blocks) < LEAST_BLOCKS:
            return None
        tallies = [tally for _, tally in blocks]
        if any(tally.lost for tally in tallies):
            tallies.sort(key=lambda tally: tally.rate)
            aside = len(tallies) // 4
            tallies = tallies[aside : len(tallies) - aside]
        rest = Tally()
        for tally in tallies:
            rest.add(tally)
        return rest

    def restart(self, delivered: int, lost: int, runs: int) -> None:
        """What happened up to here says nothing."""
        self._blocks.clear()
        self._open, self._since_us = Tally(), None
        self._delivered, self._lost, self._runs = delivered, lost, runs
