"""When to look for more bandwidth (draft-ietf-ccwg-bbr-05, 5.3.3.5)."""

from __future__ import annotations

import random

from iperfpy.protocols.congestion.bbr.loss_floor import ENOUGH

SHORTEST_WAIT_US, LONGEST_WAIT_US = 2_000_000, 3_000_000
LONGEST_WAIT_ROUNDS = 63
FIRST_WAIT_US, FIRST_WAIT_RTTS = 300_000.0, 3
"""The first probe after STARTUP comes soon: what that found on a lossy path, whose noise it did not know yet,
may be too little. But not before a round trip without STARTUP's queue taught what the noise is."""


class ProbeWait:
    """Parameters
    ----------
    seed : of the dither in the wait, which keeps flows out of step
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._since_us = 0
        self._wait_us = 0.0
        self._rounds, self._wait_rounds = 0, 0
        self._probed = False  # a first time

    def wait(self, now_us: int, bdp: float, rtt_us: float, policed: bool) -> None:
        """BBRPickProbeWait (5.3.3.5.3): DOWN begins, and the wait with it. Where losses without a queue ended
        the last probe it is twice as long. A CRUISE is long enough for its losses to be judged, where Reno's
        rounds are fewer."""
        self._since_us = now_us
        self._rounds = self._random.randint(0, 1)
        self._wait_us = self._random.uniform(SHORTEST_WAIT_US, LONGEST_WAIT_US)
        if policed:
            self._wait_us *= 2
        if not self._probed:
            self._wait_us = max(FIRST_WAIT_US, FIRST_WAIT_RTTS * rtt_us)
        self._wait_rounds = int(min(max(bdp, ENOUGH / max(bdp, 1.0)), LONGEST_WAIT_ROUNDS))

    def hasten(self) -> None:
        """What ended STARTUP turned out to be noise: the first probe need not wait."""
        if not self._probed:
            self._wait_us = 0.0

    def end_round(self) -> None:
        """A packet-timed round is over."""
        self._rounds += 1

    def begin(self) -> None:
        """REFILL begins."""
        self._probed = True

    def due(self, now_us: int, policed: bool) -> bool:
        """BBRIsTimeToProbeBW. The rounds of a flow that fills a queue (Reno, 5.3.3.5.1) do not count where
        losses without a queue ended the last probe: one costs a policed flow a quarter of two round trips,
        and finds nothing."""
        return now_us - self._since_us > self._wait_us or (self._rounds >= self._wait_rounds and not policed)
