"""The wait between two probes for bandwidth (draft-ietf-ccwg-bbr-05, 5.3.3.5)."""

from __future__ import annotations

import random

from iperfpy.protocols.congestion.bbr.loss_tally import RELIABLE_SAMPLE

# draft 5.3.3.5.3

MIN_WAIT_US, MAX_WAIT_US = 2_000_000, 3_000_000
"""Bounds of the random wait (BBR.bw_probe_wait)."""
MAX_WAIT_ROUNDS = 63
"""Most rounds between two probes, for coexistence with Reno on paths with a large BDP."""

# not in the draft; chosen by simulation

FIRST_WAIT_US, FIRST_WAIT_RTTS = 300_000.0, 3
"""Wait for the first probe, whichever is longer. STARTUP may underestimate the bandwidth of a lossy path,
because it does not know the loss floor yet, so the first probe comes soon; but only after a round trip
without STARTUP's queue has measured the floor."""
POLICED_WAIT_FACTOR = 2
"""Factor on the wait behind a suspected policer: each probe there loses segments and finds nothing."""


class ProbeWait:
    """Time and rounds until the next probe.

    Parameters
    ----------
    seed : seed of the random part of the wait, which keeps flows from probing in step
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._since_us = 0  # BBR.cycle_stamp
        self._wait_us = 0.0
        self._rounds, self._wait_rounds = 0, 0
        self._probed_before = False

    def start(self, now_us: int, bdp: float, min_rtt_us: float, policed: bool) -> None:
        """BBRPickProbeWait (5.3.3.5.3): start the wait, at the beginning of DOWN.

        Parameters
        ----------
        bdp : segments
        policed : True if losses without a queue ended the last probe
        """
        self._since_us = now_us
        self._rounds = self._random.randint(0, 1)
        self._wait_us = self._random.uniform(MIN_WAIT_US, MAX_WAIT_US)
        if policed:
            self._wait_us *= POLICED_WAIT_FACTOR
        if not self._probed_before:
            self._wait_us = max(FIRST_WAIT_US, FIRST_WAIT_RTTS * min_rtt_us)
        # With a BDP of a few segments, Reno's rounds would be too few to evaluate the losses of CRUISE.
        self._wait_rounds = int(min(max(bdp, RELIABLE_SAMPLE / max(bdp, 1.0)), MAX_WAIT_ROUNDS))

    def hasten(self) -> None:
        """Let the next wait be as short as the first."""
        self._probed_before = False

    def skip_first_wait(self) -> None:
        """Let the first probe begin at once: the losses that ended STARTUP were below the loss floor."""
        if not self._probed_before:
            self._wait_us = 0.0

    def end_round(self) -> None:
        """Count a packet-timed round (BBR.rounds_since_bw_probe)."""
        self._rounds += 1

    def start_probe(self) -> None:
        """Note that REFILL begins."""
        self._probed_before = True

    def due(self, now_us: int, policed: bool) -> bool:
        """BBRIsTimeToProbeBW: True if the wait is over.

        The rounds for coexistence with Reno (5.3.3.5.1) do not count behind a suspected policer: a probe
        there costs the flow a quarter of two round trips.
        """
        return now_us - self._since_us > self._wait_us or (self._rounds >= self._wait_rounds and not policed)
