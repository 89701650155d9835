"""Packet-timed round trips (draft 5.5.1)."""

from __future__ import annotations

from iperfpy.protocols.congestion.congestion_control import Ack


class Rounds:
    """Packet-timed rounds: one is over when something sent after its begin is acknowledged (5.5.1)."""

    def __init__(self) -> None:
        self.count = 0
        self.started = False
        self._next_delivered = 0

    def update(self, ack: Ack) -> None:
        self.started = ack.flight is not None and ack.flight.delivered >= self._next_delivered
        if self.started:
            self.count += 1
            self.restart(ack.delivered)

    def restart(self, delivered: int) -> None:
        """BBRStartRound: the round in progress ends with what is sent from now on."""
        self._next_delivered = delivered
