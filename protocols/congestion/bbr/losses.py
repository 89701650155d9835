"""The losses of about the last round trip, with their bursts taken out.

A path that is overdriven loses evenly: a full queue or an empty bucket takes every fifth of what exceeds it
by a fourth, all the time. A burst (a fading radio, a rerouted link) takes twenty in a row and then none.
So what was resolved is kept in blocks, eight or more to a round trip, and before a loss rate
is judged the worst fifth of the blocks is left out.
"""

from __future__ import annotations

from collections import deque

from protocols.congestion.bbr.noise import Tally

LEAST_BLOCKS = 8
SMALLEST_BLOCK = 8
_LEFT_OUT = 5  # one in so many


class RecentLosses:
    """Blocks of resolved transmissions, in order of resolution."""

    def __init__(self) -> None:
        self._blocks: deque[tuple[int, Tally]] = deque()
        self._open = Tally()
        self._delivered = self._lost = 0

    def update(self, delivered: int, lost: int, window: int, now_us: int) -> bool:
        """Take totals. True when a block was completed."""
        gone = lost - self._lost
        self._open.sent += delivered - self._delivered + gone
        self._open.lost += gone
        self._delivered, self._lost = delivered, lost
        if self._open.sent < max(SMALLEST_BLOCK, window // (2 * LEAST_BLOCKS)):
            return False
        self._blocks.append((now_us, self._open))
        self._open = Tally()
        return True

    def since(self, start_us: int) -> Tally | None:
        """The blocks completed after `start_us`, or the last few if those are more, without the worst; None
        when there are too few to say anything. Earlier ones are forgotten."""
        blocks = self._blocks
        while len(blocks) > LEAST_BLOCKS and blocks[0][0] <= start_us:
            blocks.popleft()
        if len(blocks) < LEAST_BLOCKS:
            return None
        tallies = [tally for _, tally in blocks]
        if any(tally.lost for tally in tallies):
            tallies.sort(key=lambda tally: tally.rate)
        rest = Tally()
        for tally in tallies[: -(-len(tallies) * (_LEFT_OUT - 1) // _LEFT_OUT)]:
            rest.add(tally)
        return rest

    def restart(self, delivered: int, lost: int) -> None:
        """What happened up to here says nothing."""
        self._blocks.clear()
        self._open = Tally()
        self._delivered, self._lost = delivered, lost
