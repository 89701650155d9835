"""Packet-timed round trips and the samples of the round in progress (draft 5.5.1, 5.5.10.3)."""

from __future__ import annotations

from iperfpy.protocols.congestion.congestion_control import Ack


class Rounds:
    """Packet-timed rounds (5.5.1). A round ends when a segment sent after its beginning is acknowledged.

    Attributes
    ----------
    count : rounds so far (BBR.round_count)
    started : True if the current ACK started a round (BBR.round_start)
    """

    def __init__(self) -> None:
        self.count = 0
        self.started = False
        self._next_delivered = 0  # BBR.next_round_delivered
        self._delivered = 0  # C.delivered

    def update(self, ack: Ack) -> None:
        """BBRUpdateRound: check if `ack` ends the round in progress."""
        self._delivered = ack.delivered
        self.started = ack.flight is not None and ack.flight.delivered >= self._next_delivered
        if self.started:
            self.count += 1
            self.restart()

    def restart(self) -> None:
        """BBRStartRound: let the round in progress end with the segments sent from now on."""
        self._next_delivered = self._delivered


class RoundSamples:
    """Largest samples of the round in progress, and whether the sender used up its window in it.

    Attributes
    ----------
    send_rate : greatest sending rate, segments per second
    inflight_latest : greatest number of segments carried between two acknowledged ones (BBR.inflight_latest)
    best_delivery_rate : greatest delivery rate since the connection began, segments per second
    window_full : True if the window was used up in this round
    """

    def __init__(self) -> None:
        self.send_rate = 0.0
        self.inflight_latest = 0.0
        self.best_delivery_rate = 0.0
        self.window_full = False
        self._last_window_full = False

    @property
    def window_limited(self) -> bool:
        """True if the window was used up in this round or in the last one (C.is_cwnd_limited)."""
        return self.window_full or self._last_window_full

    def end_round(self) -> None:
        """BBRAdvanceLatestDeliverySignals (5.5.10.3)."""
        self.send_rate = self.inflight_latest = 0.0
        self.window_full, self._last_window_full = False, self.window_full
