"""A TCP sender's record of its path: samples of the kernel's counters, as often as the program looks at them.

The kernel tells how many segments left, and how many were lost, not which: so the record is coarser than that
of a transport which acknowledges by itself.

- A segment that the kernel has found to be lost was so a round trip before. One that the receiver reports to
  have had twice (DSACK, RFC 2883) was not.
- The delay is the kernel's smoothed round-trip time at the moment of a sample.
- Bins are as wide as samples are apart: 50 ms, with a report interval of a second.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.log_histogram import LogHistogram
from iperfpy.protocols.path_evidence import MOST_BINS, EvidenceLimit, FlightBins, PathEvidence
from iperfpy.protocols.tcp_info import TcpInfo

WIDTH_US = 50_000
"""Width of a bin, or more in a long test."""
MOST_SAMPLES = 4 * MOST_BINS
"""When there are more, every second one is dropped: counters lose nothing by it but detail."""
IPV4_HEADERS, IPV6_HEADERS, STAMPS = 40, 60, 12
"""Bytes of IP and TCP headers, and of the option with time stamps."""


class _Sample(NamedTuple):
    """Totals at one moment."""

    at_us: int
    segments: int
    payload_bytes: int
    lost: int
    rtt_us: int


class _PeerWindow:
    """The receive window that limited the sender.

    Kernels let a window grow as its program reads, which is slow at the start of a long or lossy path, and
    close it when the program does not read. Both limit the sender; the largest window announced *before*
    tells them apart.
    """

    def __init__(self) -> None:
        self._largest = self._until_us = self._limited_us = 0
        self._weighted = 0.0

    def add(self, window_bytes: int, until_us: int) -> None:
        """Take the window, and the time for which windows have limited so far."""
        if self._largest:
            self._limited_us += until_us - self._until_us
            self._weighted += (until_us - self._until_us) * self._largest
        self._until_us = until_us
        self._largest = max(self._largest, window_bytes)

    @property
    def bytes(self) -> int:
        """Mean of the largest window so far, over the time in which windows limited; else the largest."""
        return round(self._weighted / self._limited_us) if self._limited_us else self._largest


class LoadWaits:
    """Time for which the load had nothing to hand over, though the kernel had room for it.

    The kernel may still send what it has: congestion control that found no more than the rate of the load
    spreads each block over the time until the next one, so that the connection is busy all the time.
    """

    __slots__ = ("_state",)

    def __init__(self) -> None:
        # Begin of the present wait, None without one, and total of those before. It is replaced as a whole:
        # the thread that sends writes it, and the event loop reads it.
        self._state: tuple[int | None, int] = None, 0

    def begin(self, now_us: int) -> None:
        """The load has nothing; again, if it had nothing before."""
        since_us, total_us = self._state
        if since_us is None:
            self._state = now_us, total_us

    def end(self, now_us: int) -> None:
        """The load has a block, or its last one has gone."""
        self._state = None, self.total_us(now_us)

    def total_us(self, now_us: int) -> int:
        """Waits so far, with the present one."""
        since_us, total_us = self._state
        return total_us + (max(0, now_us - since_us) if since_us is not None else 0)


class PathSamples:
    """Takes samples of one connection.

    Parameters
    ----------
    ipv6 : True if its packets are IPv6

    Attributes
    ----------
    waits : of the load
    """

    def __init__(self, *, ipv6: bool) -> None:
        self.waits = LoadWaits()
        self._caught_up_us = 0  # waits until the kernel had last sent all that it was given
        self._headers = IPV6_HEADERS if ipv6 else IPV4_HEADERS
        self._samples: list[_Sample] = []
        self._every = self._skipped = 1
        self._began: tuple[int, TcpInfo] | None = None
        self._rtts = LogHistogram()
        self._peer_window = _PeerWindow()

    def begin(self, info: TcpInfo, now_us: int) -> None:
        """The load begins. The connection is older: until now it waited for the test, and for no limit."""
        self._began = (now_us, info)

    def take(self, info: TcpInfo, now_us: int) -> None:
        """Take a sample, if the kernel tells enough and data has left."""
        if not info.data_segs_out or info.bytes_sent is None or info.total_retrans is None:
            return
        self._peer_window.add(info.snd_wnd or 0, info.rwnd_limited_us or 0)
        if not info.notsent_bytes:
            self._caught_up_us = self.waits.total_us(now_us)
        if info.rtt_us is not None:
            self._rtts.add(info.rtt_us)
        self._skipped += 1
        if self._skipped < self._every:
            return
        self._skipped = 0
        sample = _Sample(now_us, info.data_segs_out, info.bytes_sent, info.found_lost or 0, info.rtt_us or 0)
        self._samples.append(sample)
        if len(self._samples) > MOST_SAMPLES:
            del self._samples[1::2]
            self._every *= 2

    def evidence(self, info: TcpInfo, now_us: int) -> PathEvidence | None:
        """The record so far; None if the kernel told nothing, or nothing was sent."""
        self._skipped = self._every
        self.take(info, now_us)
        if not self._samples:
            return None
        headers = self._headers + (STAMPS if info.uses_stamps else 0)
        return PathEvidence(
            flight=self._bins(headers),
            min_rtt_us=float(info.min_rtt_us) if info.min_rtt_us is not None else None,
            rtt_us=self._rtts.record(),
            displaced_packets=info.reord_seen,
            limited_us=self._limits(info, now_us),
            packet_bytes=info.snd_mss + headers if info.snd_mss else None,
            extra={"sampled": 1, "peer_window_bytes": self._peer_window.bytes},
        )

    def _limits(self, info: TcpInfo, now_us: int) -> dict[str, int]:
        """Time by limit since the load began. The kernel's busy time contains that of window and buffer.

        Waits of the load count until the kernel had last sent everything: behind a slow path its buffer fills
        for seconds before the load notices. A sender that has nothing in flight while its load does not wait
        waits for its own processor.
        """
        if self._began is None or info.busy_us is None:
            return {}
        began_us, first = self._began
        whole_us = max(0, now_us - began_us)
        idle_us = max(0, whole_us - (info.busy_us - (first.busy_us or 0)))
        limits: dict[str, int] = {
            EvidenceLimit.RECEIVE_WINDOW: (info.rwnd_limited_us or 0) - (first.rwnd_limited_us or 0),
            EvidenceLimit.SEND_BUFFER: (info.sndbuf_limited_us or 0) - (first.sndbuf_limited_us or 0),
            EvidenceLimit.APPLICATION: self._caught_up_us,
            EvidenceLimit.PROCESSOR: idle_us - self._caught_up_us,
        }
        limits = {key: us for key, us in limits.items() if us > 0}
        limits[EvidenceLimit.CONGESTION_WINDOW] = whole_us - sum(limits.values())
        return {key: us for key, us in limits.items() if us > 0}

    def _bins(self, headers: int) -> FlightBins | None:
        """The samples as bins. What left between two samples is spread evenly over that time."""
        samples = self._samples
        if len(samples) < 3:
            return None
        columns = np.array(samples, np.float64)
        at_us, rtt_us = columns[:, 0], columns[:, 4]
        span_us = at_us[-1] - at_us[0]
        # Both the bins and the number of samples bound the detail.
        width_us = max(WIDTH_US, int(span_us // min(MOST_BINS - 1, len(samples))) + 1)
        count = int(span_us // width_us)
        if count < 1:
            return None
        edges_us = at_us[0] + width_us * np.arange(count + 1)
        # A total that falls later, by the report of a duplicate, was too high before.
        found = np.minimum.accumulate(columns[::-1, 3])[::-1]
        sent = _differences(edges_us, at_us, columns[:, 1])
        size = _differences(edges_us, at_us, columns[:, 2]) + headers * sent
        lost_at_us = np.maximum.accumulate(at_us - rtt_us)
        lost = np.minimum(_differences(edges_us, lost_at_us, found), sent)
        mean = np.divide(size, sent, out=np.zeros(count), where=sent > 0)
        middles_us = edges_us[:-1] + width_us / 2
        delay_us = np.interp(middles_us, at_us - rtt_us, rtt_us)
        # The fate of the last round trip is not known yet.
        known = max(1, count - int(rtt_us[-1] // width_us) - 1)
        kept = slice(0, known)
        return FlightBins(
            start_us=0,
            width_us=width_us,
            sent_bytes=size[kept],
            arrived_bytes=np.rint(size - lost * mean).astype(np.int64)[kept],
            sent_packets=sent[kept],
            arrived_packets=(sent - lost)[kept],
            delay_us=np.where(delay_us > 0, delay_us, np.nan)[kept],
        )


def _differences(
    edges_us: NDArray[np.float64], at_us: NDArray[np.float64], totals: NDArray[np.float64]
) -> NDArray[np.int64]:
    """The growth of a total, known at the times `at_us`, between the edges: whole numbers, (n - 1,)."""
    reached: NDArray[np.int64] = np.rint(np.interp(edges_us, at_us, totals)).astype(np.int64)
    growth: NDArray[np.int64] = reached[1:] - reached[:-1]
    return growth
