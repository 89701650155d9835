"""Records packets by the time at which they left, in bounded memory; see `path_evidence.FlightBins`.

    sent(stamp_us, packets, size)            in the order of time
    arrived_together(first, last, ...)       packets that left within one bin: no array is made
    arrived(stamps_us, sizes, delay_us)      packets that left at any time
    bins(until_us)                           the record, without what left later

One call per batch of packets costs less than a microsecond, however many packets the batch has. The record
begins with bins of one millisecond. When `MOST_BINS` of them are full, neighbours are merged.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.log_histogram import LogHistogram
from iperfpy.protocols.path_evidence import MOST_BINS, FlightBins

FIRST_WIDTH_US = 1_000
_FEWEST_BINS = 256
_GATHERED = 2_048
"""Packets that wait to be counted together, and arrays of them: numpy costs as much for one as for many."""
_NEAR_BINS = 64
"""Bins within which a packet with a guessed time may really have left."""
_NEVER = -(1 << 62)

Int64s = NDArray[np.int64]
Floats = NDArray[np.float64]


class FlightRecorder:
    """Sums of packets and bytes per bin. Stamps are microseconds of the sender's clock.

    Parameters
    ----------
    one_way : True if delays are one-way delays above an unknown offset: `bins` subtracts the least one

    Attributes
    ----------
    width_us : width of a bin
    delays : the delays of all packets that arrived
    """

    __slots__ = (
        "_arrived", "_arrived_at", "_base_us", "_delay", "_end_us", "_from_us", "_one_way", "_sent",
        "_sent_at", "_sums", "_until_us", "_used", "_waiting", "_waiting_packets", "delays", "width_us",
    )  # fmt: skip

    def __init__(self, *, one_way: bool = False) -> None:
        self.width_us = FIRST_WIDTH_US
        self.delays = LogHistogram()
        self._one_way = one_way
        self._base_us = _NEVER
        # Rows: packets and bytes sent, packets and bytes arrived, packets with a delay; and sums of delays.
        self._sums = np.zeros((5, _FEWEST_BINS), np.int64)
        self._delay = np.zeros(_FEWEST_BINS)
        self._used = 0
        # Sums of the bins at which packets leave and arrive now: plain numbers cost a fifth of an element of
        # an array. `_end_us`: the end of the former; the latter is [_from_us, _until_us).
        self._sent_at, self._end_us, self._sent = 0, _NEVER, [0, 0]
        self._from_us = self._until_us = _NEVER
        self._arrived_at, self._arrived = -1, [0, 0, 0, 0.0]
        # Arrays of arrivals that wait to be counted together.
        self._waiting: list[tuple[Int64s, int | Int64s, float | Floats | Int64s | None]] = []
        self._waiting_packets = 0

    # -- departures

    def sent(self, stamp_us: int, packets: int, size: int) -> None:
        """Packets leave, `size` bytes in all. Stamps do not fall from call to call."""
        if stamp_us >= self._end_us:
            self._open(stamp_us)
        sums = self._sent
        sums[0] += packets
        sums[1] += size

    def sent_at(self, stamps_us: Int64s, packets: Int64s, sizes: Int64s) -> None:
        """Packets left at these times, (n,) each, n > 0, none much older than the newest so far."""
        latest_us = int(stamps_us.max())
        if latest_us >= self._end_us:
            if self._base_us == _NEVER:
                self._open(int(stamps_us.min()))
            if latest_us >= self._end_us:
                self._open(latest_us)
        at = np.maximum((stamps_us - self._base_us) // self.width_us, 0)
        np.add.at(self._sums[0], at, packets)
        np.add.at(self._sums[1], at, sizes)

    def _open(self, stamp_us: int) -> None:
        """Begin the bin of `stamp_us`, which is behind all others."""
        if self._base_us == _NEVER:
            self._base_us = stamp_us
        self._keep_sent()
        at = (stamp_us - self._base_us) // self.width_us
        if at >= MOST_BINS:
            self._go_to(-1)
            while at >= MOST_BINS:
                self._merge()
                at = (stamp_us - self._base_us) // self.width_us
        if at >= len(self._delay):
            self._grow(at + 1)
        self._used, self._sent_at = at + 1, at
        self._end_us = self._base_us + (at + 1) * self.width_us

    def _keep_sent(self) -> None:
        sums, at = self._sent, self._sent_at
        self._sums[0, at] += sums[0]
        self._sums[1, at] += sums[1]
        sums[0] = sums[1] = 0

    def _merge(self) -> None:
        """Merge neighbouring bins; the record keeps its length, with its second half empty."""
        if len(self._delay) < MOST_BINS:
            self._grow(MOST_BINS)
        half = MOST_BINS // 2
        self._sums[:, :half] = self._sums.reshape(5, half, 2).sum(axis=2)
        self._delay[:half] = self._delay.reshape(half, 2).sum(axis=1)
        self._sums[:, half:], self._delay[half:] = 0, 0.0
        self.width_us *= 2

    def _grow(self, bins: int) -> None:
        size = len(self._delay)
        while size < bins:
            size *= 2
        sums, delay = np.zeros((5, size), np.int64), np.zeros(size)
        sums[:, : len(self._delay)], delay[: len(self._delay)] = self._sums, self._delay
        self._sums, self._delay = sums, delay

    # -- arrivals

    def arrived_together(
        self, first_us: int, last_us: int, packets: int, size: int, delay_us: float | None
    ) -> bool:
        """Packets arrived, `size` bytes in all, that left between these times. `delay_us`: the mean of them,
        None if it is not known. Returns False if the times are of different bins: then nothing is counted."""
        if not self._from_us <= first_us <= last_us < self._until_us:
            at = (first_us - self._base_us) // self.width_us
            if at != (last_us - self._base_us) // self.width_us:
                return False
            self._go_to(at)
        sums = self._arrived
        sums[0] += packets
        sums[1] += size
        if delay_us is not None:
            if delay_us < 0 and not self._one_way:
                delay_us = 0.0  # see `_count_waiting`
            sums[2] += packets
            sums[3] += packets * delay_us
            self.delays.add(delay_us, packets)
        return True

    def _go_to(self, at: int) -> None:
        """Add the sums of arrivals to their bin, and go on with those of the bin `at`."""
        sums, before = self._arrived, self._arrived_at
        # A stamp that was never sent belongs to no bin.
        if 0 <= before < self._used:
            bins = self._sums
            bins[2, before] += int(sums[0])
            bins[3, before] += int(sums[1])
            bins[4, before] += int(sums[2])
            self._delay[before] += sums[3]
        self._arrived, self._arrived_at = [0, 0, 0, 0.0], at
        self._from_us = self._base_us + at * self.width_us
        self._until_us = self._from_us + self.width_us

    def arrived(
        self, stamps_us: Int64s, sizes: int | Int64s, delays_us: float | Floats | Int64s | None
    ) -> None:
        """Packets arrived that left at these times, (n,), with these bytes and delays, one for all or (n,)
        each. A delay that is NaN is not known. The arrays are kept: no caller may change them."""
        self._waiting.append((stamps_us, sizes, delays_us))
        self._waiting_packets += len(stamps_us)
        if self._waiting_packets >= _GATHERED or len(self._waiting) >= _GATHERED:
            self._count_waiting()

    def _count_waiting(self) -> None:
        """Count the arrivals that wait, all at once."""
        if not self._waiting:
            return
        stamps_us = np.concatenate([stamps_us for stamps_us, _, _ in self._waiting])
        sizes = np.concatenate([_column(size, stamps) for stamps, size, _ in self._waiting])
        delays_us = np.concatenate([_column(delay, stamps) for stamps, _, delay in self._waiting])
        self._waiting.clear()
        self._waiting_packets = 0
        if not self._one_way:
            # Stamps that name one transmission each run ahead of a clock that stands still, by microseconds:
            # over loopback an answer may come before its stamp.
            delays_us = np.maximum(delays_us, 0)
        at = (stamps_us - self._base_us) // self.width_us
        inside = (at >= 0) & (at < self._used)
        if not inside.all():
            at, sizes, delays_us = at[inside], sizes[inside], delays_us[inside]
            if not len(at):
                return
        first = int(at.min())
        at -= first
        packets = np.bincount(at)
        span = slice(first, first + len(packets))
        self._sums[2, span] += packets
        self._sums[3, span] += np.bincount(at, sizes).astype(np.int64)
        known = ~np.isnan(delays_us)
        if not known.all():
            at, delays_us = at[known], delays_us[known]
        self._sums[4, span] += np.bincount(at, minlength=len(packets))
        self._delay[span] += np.bincount(at, delays_us, len(packets))
        self.delays.add_all(delays_us)

    # -- the record

    def bins(self, until_us: float, header_bytes: int = 0) -> FlightBins | None:
        """The bins that end by `until_us`; None if there is none.

        Parameters
        ----------
        header_bytes : added to the bytes of each packet
        """
        self._keep_sent()
        self._go_to(-1)
        self._count_waiting()
        if self._base_us == _NEVER:
            return None
        count = int(min(self._used, (until_us - self._base_us) // self.width_us))
        if count <= 0:
            return None
        sums = self._sums[:, :count].copy()
        _settle(sums)
        with np.errstate(divide="ignore", invalid="ignore"):
            delay_us = np.where(sums[4] > 0, self._delay[:count] / sums[4], np.nan)
        least_us = None
        if self._one_way and (sums[4] > 0).any():
            least_us = float(np.nanmin(delay_us))
            delay_us -= least_us
        return FlightBins(
            start_us=0,
            width_us=self.width_us,
            sent_bytes=sums[1] + header_bytes * sums[0],
            arrived_bytes=sums[3] + header_bytes * sums[2],
            sent_packets=sums[0],
            arrived_packets=sums[2],
            delay_us=delay_us,
            one_way=self._one_way,
            least_us=least_us,
        )


def _settle(sums: Int64s) -> None:
    """Move packets to a bin in which more arrived than left. The time of a packet that was missed is guessed;
    if the packet comes after all, its own time may be of the next bin."""
    sent, sent_bytes, arrived, arrived_bytes = sums[:4]
    for at in np.flatnonzero(arrived > sent).tolist():
        for distance in range(1, _NEAR_BINS):
            for other in (at - distance, at + distance):
                if 0 <= other < len(sent) and arrived[at] > sent[at]:
                    moved = min(arrived[at] - sent[at], max(0, sent[other] - arrived[other]))
                    size = moved * (sent_bytes[other] // max(1, sent[other]))
                    sent[at], sent[other] = sent[at] + moved, sent[other] - moved
                    sent_bytes[at], sent_bytes[other] = sent_bytes[at] + size, sent_bytes[other] - size
    np.minimum(arrived, sent, out=arrived)
    np.minimum(arrived_bytes, sent_bytes, out=arrived_bytes)


def _column(value: float | NDArray[Any] | None, stamps_us: Int64s) -> NDArray[Any]:
    """The value of each packet, (n,): given by itself, once for all of them, or unknown."""
    if isinstance(value, np.ndarray):
        return value
    return np.full(len(stamps_us), np.nan if value is None else value)


def with_fewer_bins(bins: FlightBins) -> FlightBins:
    """Merge neighbours: half as many bins, twice as wide."""

    def added(values: NDArray[Any]) -> NDArray[Any]:
        padded = np.concatenate((values, np.zeros(len(values) % 2, values.dtype)))
        summed: NDArray[Any] = padded.reshape(-1, 2).sum(axis=1)
        return summed

    # A mean of means, by the packets that each of them stands for.
    weights = np.where(np.isnan(bins.delay_us), 0, np.maximum(bins.arrived_packets, 1))
    sums_us, counts = added(np.nan_to_num(bins.delay_us) * weights), added(weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        delay_us: Floats = np.where(counts > 0, sums_us / counts, np.nan)
    return FlightBins(
        bins.start_us,
        2 * bins.width_us,
        added(bins.sent_bytes),
        added(bins.arrived_bytes),
        added(bins.sent_packets),
        added(bins.arrived_packets),
        delay_us,
        bins.one_way,
        bins.least_us,
    )
