"""The losses of about the last round trip, without the bursts among them.

Observation: an overloaded path loses evenly. A full queue or an empty token bucket drops every fifth segment,
all the time, when the sender exceeds the rate by a fourth. A burst (a fading radio, a rerouted link) drops
twenty segments in a row and then none.

Rule: resolved transmissions are kept in blocks, at least eight to a round trip, in the order in which they
were resolved. A loss rate is taken from the middle half of the blocks by loss rate: the worst quarter is left
out because bursts fall into it, and the best quarter so that the rate of independent losses stays unbiased.

If a round trip is no longer than a burst, the blocks do not suffice: see `MAX_CONGESTION_RUN`.
"""

from __future__ import annotations

from collections import deque

from iperfpy.protocols.congestion.bbr.loss_tally import LossTally

# not in the draft; chosen by simulation

MIN_BLOCKS = 8
"""Blocks that a loss rate is taken from, at least: half of them is then a sample of four."""
MIN_BLOCK = 8
"""Transmissions in a block, at least: in fewer, the loss rate of a block is mostly chance."""
MAX_CONGESTION_RUN = 4
"""Mean length of a run of losses on a path that is sent five times its capacity, besides the segments that
leave in one burst. Longer runs are not caused by congestion."""


class RecentLosses:
    """Blocks of resolved transmissions, in order of resolution."""

    def __init__(self) -> None:
        self._blocks: deque[tuple[int, LossTally]] = deque()  # time of completion, block
        self._open = LossTally()
        self._delivered = self._lost = self._runs = 0

    def update(self, delivered: int, lost: int, runs: int, window: int, now_us: int) -> bool:
        """Take the transport's totals; True if a block was completed."""
        block, lost_now = self._open, lost - self._lost
        sent = block.sent = block.sent + delivered - self._delivered + lost_now
        block.lost += lost_now
        block.runs += runs - self._runs
        self._delivered, self._lost, self._runs = delivered, lost, runs
        # A sixteenth of the window: a window has twice `MIN_BLOCKS` blocks.
        if sent < MIN_BLOCK or sent < window // (2 * MIN_BLOCKS):
            return False
        self._blocks.append((now_us, block))
        self._open = LossTally()
        return True

    def since(self, start_us: int) -> LossTally | None:
        """Sum of the middle half of the blocks completed after `start_us`; None if there are too few.

        At least the last `MIN_BLOCKS` blocks are used, even if they are older. Earlier ones are dropped.
        """
        blocks = self._blocks
        while len(blocks) > MIN_BLOCKS and blocks[0][0] <= start_us:
            blocks.popleft()
        if len(blocks) < MIN_BLOCKS:
            return None
        tallies = [tally for _, tally in blocks]
        if any(tally.lost for tally in tallies):  # otherwise all quarters are alike
            tallies.sort(key=lambda tally: tally.loss_rate)
            quarter = len(tallies) // 4
            tallies = tallies[quarter : len(tallies) - quarter]
        total = LossTally()
        for tally in tallies:
            total.add(tally)
        return total

    def restart(self, delivered: int, lost: int, runs: int) -> None:
        """Drop all blocks and count from these totals on."""
        self._blocks.clear()
        self._open = LossTally()
        self._delivered, self._lost, self._runs = delivered, lost, runs
