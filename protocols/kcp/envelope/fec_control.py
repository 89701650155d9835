"""`--kcp-fec auto`: the geometry that suits the path and the stream, and the reason for it.

    transmission -> FecControl.steer(flow, datagrams, now_us), at most every `STEER_US` -> geometry, reason
    report       -> FecControl.loss.add

Parity saves a retransmission, which takes a round trip and more. It is worth its bytes if a stream waits for
single datagrams, and not for one that fills the path: there, parity takes the place of data, and a
retransmission costs one datagram for each one lost. For a stream whose application limits it,

- a set has as many data datagrams as leave within `WAIT_SHARE` of a round trip, so that its parity comes well
  before a retransmission would;
- it has the least parity that keeps the residual loss below `TARGET`; if none does, as much parity as data,
  in the sets that restore most: smaller ones where more than half is lost;
- it has no parity if that restores less than `LEAST_GAIN` of the data for each equal share of bytes added.

With losses from about 23 % on in sets of 10, and from 3.2 % on in sets of one, the target is out of reach.
Parity pays there all the same: 10:10 restores 33 of 100 datagrams at 40 % loss, 0.3 % for each per cent of
bytes, three times as much per byte as 10:2 at 2 %. From 50 % on, more of a set is lost than its parity can
restore, and the more surely the larger it is: at 60 %, 20:20 restores 6 of 100 datagrams, 1:1 24.
"""

from __future__ import annotations

from math import comb, exp
from typing import NamedTuple

from iperfpy.protocols.kcp.envelope.fec_encoder import LONGEST_GAP_US
from iperfpy.protocols.kcp.envelope.path_loss import PathLoss
from iperfpy.protocols.kcp.envelope.shard_codec import Geometry

TARGET = 0.001
"""Share of data datagrams that may stay lost. A retransmission holds up the messages of a round trip, 17 of
them at 100 a second and 170 ms; with this share, they are 1.7 % of all at most."""
OFF_BELOW, ON_ABOVE = TARGET / 2, TARGET
LEAST_GAIN = 0.01
"""Least share of the data that parity must restore, for each equal share of bytes that it adds; half of it
once there is parity. To double the bytes of a stream, one of a hundred datagrams has to be restored."""
STEER_US = 100_000
DATA_STEPS = (1, 2, 3, 4, 6, 8, 10, 14, 20)
"""Data shards of a set."""
WAIT_SHARE = 0.6
"""Share of a round trip that a set may take to fill."""
SETTLE_US = 1_000_000
"""Time for which other data shards, or less parity, must have been wanted before they are taken."""
BUSY_SHARE, BUSY_HOLD_US = 0.5, 3_000_000
"""Share of the time limited by something else than the application, from which a stream is bulk data, and the
time for which it then counts as such."""
AVERAGE_US = 1_000_000.0
SHORT_RTT_US = 10_000
"""Round trips up to this length are as short as a tick of stock KCP: messages hardly wait for a
retransmission."""


class Flow(NamedTuple):
    """The engine's knowledge of a stream: totals, and the round-trip time in microseconds, 0 if not known.

    Attributes
    ----------
    application_us, limited_us : time limited by the application, and by anything, since the load began
    segments : data segments sent for the first time
    overtaken : those of them that a later one overtook, as far as acknowledgements show it
    lost : transmissions given up for lost
    """

    rtt_us: float
    application_us: int
    limited_us: int
    segments: int
    overtaken: int
    lost: int


def residual(geometry: Geometry, loss: float) -> float:
    """The share of data datagrams lost for good, if each datagram is lost with this probability by itself:
    those that are lost together with as many others of their set as there is parity, or more."""
    others = geometry.shards - 1
    few = (comb(others, k) * loss**k * (1 - loss) ** (others - k) for k in range(geometry.parity))
    return loss * max(0.0, 1.0 - sum(few))


def least_parity(data: int, loss: float) -> int:
    """The least parity of so many data datagrams that reaches `TARGET`; as much as data if none does."""
    fits = (parity for parity in range(1, data) if residual(Geometry(data, parity), loss) <= TARGET)
    return next(fits, data)


def full_parity(most: int, loss: float) -> Geometry:
    """As much parity as data, in sets of at most so many data datagrams, so that the least stays lost."""
    sets = (Geometry(data, data) for data in reversed(DATA_STEPS) if data <= most)
    return min(sets, key=lambda geometry: residual(geometry, loss))


def gain(geometry: Geometry, loss: float) -> float:
    """The share of data datagrams that parity restores, for each equal share of bytes that it adds, if all
    datagrams are equally long."""
    return (loss - residual(geometry, loss)) * geometry.data / geometry.parity


class FecControl:
    """Decides on the geometry of one direction.

    Parameters
    ----------
    frame : the geometry of a peer that follows no other: its data shards are kept, and no more parity is
        used

    Attributes
    ----------
    loss : of the path, before any recovery
    geometry : that is wanted; without parity: off
    reason : for it, in words
    """

    def __init__(self, frame: Geometry | None = None) -> None:
        self.loss = PathLoss()
        self.geometry = Geometry(frame.data if frame else 8, 0)
        self.reason = "no data yet"
        self._frame = frame
        self._steered_us: int | None = None
        self._flow = Flow(0.0, 0, 0, 0, 0, 0)
        self._datagrams = 0
        self._busy: float | None = None  # average share of time limited by another thing than the application
        self._busy_until_us = -1
        self._per_us: float | None = None  # average rate of datagrams
        self._differs_since_us: int | None = None

    def is_due(self, now_us: int) -> bool:
        """True if it is time to decide anew."""
        return self._steered_us is None or now_us - self._steered_us >= STEER_US

    def steer(self, flow: Flow, datagrams: int, now_us: int) -> None:
        """Take the totals of the stream, and decide anew. `datagrams`: data datagrams that left."""
        if self._steered_us is not None:
            self._measure(flow, datagrams, now_us - self._steered_us, now_us)
        self._steered_us, self._flow, self._datagrams = now_us, flow, datagrams
        wanted, self.reason = self._wanted(flow, now_us)
        if self._is_taken(wanted, now_us):
            self.geometry, self._differs_since_us = wanted, None

    def _measure(self, flow: Flow, datagrams: int, elapsed_us: int, now_us: int) -> None:
        """Average the limits of the sender and the distance of datagrams."""
        before, weight = self._flow, 1.0 - exp(-elapsed_us / AVERAGE_US)
        limited_us = flow.limited_us - before.limited_us
        # Before the first data, the stream waits for its test. The times begin anew with the load.
        if limited_us > 0 and flow.segments > before.segments:
            busy = 1.0 - (flow.application_us - before.application_us) / limited_us
            self._busy = busy if self._busy is None else self._busy + weight * (busy - self._busy)
            if self._busy > BUSY_SHARE:
                self._busy_until_us = now_us + BUSY_HOLD_US
        per_us = (datagrams - self._datagrams) / elapsed_us
        self._per_us = per_us if self._per_us is None else self._per_us + weight * (per_us - self._per_us)

    def _wanted(self, flow: Flow, now_us: int) -> tuple[Geometry, str]:
        """The geometry for the stream as it is now, and the reason."""
        loss, off = self.loss.share, Geometry(self.geometry.data, 0)
        # Reasons against any parity, those that the path does not change first.
        if not flow.segments:
            return off, "this end sends acknowledgements only"
        if self._busy is None:
            return off, "the stream has just begun"
        if now_us < self._busy_until_us:
            return off, "resending bulk data costs fewer bytes"
        if not flow.rtt_us:
            return off, "the round-trip time is not known yet"
        if flow.rtt_us < SHORT_RTT_US:
            return off, f"a retransmission takes only {flow.rtt_us / 1000:.2g} ms here"
        if not self._per_us or self._per_us * LONGEST_GAP_US <= 1:
            return off, "the datagrams are so far apart that parity would come too late"
        if loss < (OFF_BELOW if self.geometry.parity else ON_ABOVE):
            return off, f"the path loses {100 * loss:.2g} %, which is within the target"
        data = self._frame.data if self._frame else self._data(flow.rtt_us)
        geometry = Geometry(data, least_parity(data, loss))
        if self._frame is not None:
            geometry = Geometry(data, min(geometry.parity, self._frame.parity))
        elif geometry.parity == data:
            geometry = full_parity(data, loss)
        brings = gain(geometry, loss)
        if brings < (LEAST_GAIN / 2 if self.geometry.parity else LEAST_GAIN):
            return off, (
                f"parity would restore {brings:.3f} % of the datagrams for each per cent of bytes added, and"
                f" is used from {LEAST_GAIN:g} % on"
            )
        lost, left = f"the path loses {100 * loss:.2g} %", 100 * residual(geometry, loss)
        if left <= 100 * TARGET:
            return geometry, f"{lost}, and {left:.2g} % stay lost"
        most = (
            "as much parity as data" if geometry.parity == geometry.data else "the parity of the peer's sets"
        )
        return geometry, (
            f"{lost}, and the target of {100 * TARGET:g} % cannot be met with at most {most}:"
            f" {left:.2g} % are left"
        )

    def _data(self, rtt_us: float) -> int:
        """As many data datagrams as leave within the time that a set may take."""
        most = 1 + int(WAIT_SHARE * rtt_us * (self._per_us or 0.0))
        return max(step for step in DATA_STEPS if step <= most)

    def _is_taken(self, wanted: Geometry, now_us: int) -> bool:
        """True if the wanted geometry holds from now on. More parity does at once, all else if it lasts."""
        now = self.geometry
        if wanted == now:
            self._differs_since_us = None
            return False
        stops = not wanted.parity or not now.parity
        if stops or (wanted.data == now.data and wanted.parity > now.parity):
            return True
        if self._differs_since_us is None:
            self._differs_since_us = now_us
        return now_us - self._differs_since_us >= SETTLE_US
