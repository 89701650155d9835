"""The rate that the path carries while a queue stands.

The bandwidth filter keeps the best of many samples. Where delay varies, the best sample is too good, and a
queue remains. While a queue stands, the path is busy, and the mean rate of delivery is its rate.

The greatest of the last stretches with a queue counts: on a path with a varying rate, the least
would leave most of it unused.
"""

from __future__ import annotations

from collections import deque

from iperfpy.protocols.congestion.bbr.path_delay import PathDelay
from iperfpy.protocols.congestion.congestion_control import Ack

# not in the draft; chosen by simulation

QUEUE_SHARE = 1 / 8
"""Mean queue of a round, as a share of the path's round-trip time, that keeps the path busy."""
STANDING_ROUNDS, STANDING_US = 4, 500_000
"""Least length of a stretch, in rounds and in microseconds."""
STRETCHES = 4
"""Stretches that are remembered."""


class StandingQueue:
    """Stretches of rounds with a queue, one after another."""

    def __init__(self) -> None:
        self._rates: deque[float] = deque(maxlen=STRETCHES)
        self._rounds = 0
        self._since_us = self._delivered = 0

    def end_round(self, ack: Ack, delay: PathDelay, loss_floor: float) -> float | None:
        """End a packet-timed round.

        Returns
        -------
        Greatest rate carried in the last stretches, segments per second, if a stretch ends; else None
        """
        stands = delay.queue_share >= QUEUE_SHARE
        if not stands or not self._rounds:
            self._start(ack, rounds=int(stands))
            return None
        self._rounds += 1
        elapsed_us = ack.now_us - self._since_us
        if self._rounds <= STANDING_ROUNDS or elapsed_us < STANDING_US:
            return None
        self._rates.append((ack.delivered - self._delivered) / (1.0 - loss_floor) * 1e6 / elapsed_us)
        self._start(ack, rounds=1)
        return max(self._rates)

    def _start(self, ack: Ack, rounds: int) -> None:
        self._rounds, self._since_us, self._delivered = rounds, ack.now_us, ack.delivered
