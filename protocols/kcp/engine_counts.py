"""Counters of an engine: plain integers, which grow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp.inbound import Inbound
from iperfpy.protocols.kcp.loss_recovery.recovery import Cause

_BYTES_PER_WORK = 2048
"""Bytes that take about as long as one record. Thousands of ACKs may be one record."""


@dataclass(slots=True)
class Counts:
    """Totals since the engine was made.

    Attributes
    ----------
    datagrams_sent, datagrams_received : UDP datagrams
    sent_before_data, received_before_data : those of them that came before all data: the handshake, and
        probes for the size of datagrams
    wire_bytes_sent, wire_bytes_received : their UDP payload
    segments_sent : data segments, every transmission
    lost, early, fast : retransmissions by cause, as kcp-go names them (see `Cause`)
    retransmitted : the sum of these three
    queued_segments, queue_us : first transmissions, and the time between write and that, summed over them
    acks_sent : ACK segments, or acknowledgements in ranges
    foreign : datagrams that are not KCP of this conversation, or not as far as their end
    impossible : segments that acknowledge a segment never sent, or contradict themselves
    work : records of arrived datagrams, about 5 us each, and one more for each 2 KiB
    """

    datagrams_sent: int = 0
    datagrams_received: int = 0
    sent_before_data: int = 0
    received_before_data: int = 0
    wire_bytes_sent: int = 0
    wire_bytes_received: int = 0
    segments_sent: int = 0
    lost: int = 0
    early: int = 0
    fast: int = 0
    retransmitted: int = 0
    queued_segments: int = 0
    queue_us: int = 0
    acks_sent: int = 0
    foreign: int = 0
    impossible: int = 0
    work: int = 0

    def arrive(self, datagrams: int, size: int, inbound: Inbound, *, before_data: bool) -> None:
        """Count a batch of `size` bytes that arrived. `before_data`: no data has come yet."""
        self.datagrams_received += datagrams
        self.wire_bytes_received += size
        self.foreign += inbound.foreign
        self.impossible += inbound.impossible
        self.work += inbound.decoded + size // _BYTES_PER_WORK
        if before_data:
            self.received_before_data = self.datagrams_received

    def leave(self, batches: Iterable[DatagramBatch]) -> None:
        """Count datagrams as sent."""
        self._count(batches, 1)

    def never_left(self, batches: Iterable[DatagramBatch]) -> None:
        """Take datagrams back that were counted as sent, and that no socket has taken."""
        self._count(batches, -1)

    def _count(self, batches: Iterable[DatagramBatch], times: int) -> None:
        for batch in batches:
            self.datagrams_sent += times * batch.count
            self.wire_bytes_sent += times * batch.size
        if not self.segments_sent:
            self.sent_before_data = self.datagrams_sent

    def count_resend(self, cause: Cause, segments: int) -> None:
        """Add retransmissions to the counter of their cause."""
        self.retransmitted += segments
        if cause is Cause.FAST:
            self.fast += segments
        elif cause is Cause.EARLY:
            self.early += segments
        else:
            self.lost += segments
