"""Rows of an acknowledgement in ranges as columns, one entry per segment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.kcp.ack_ranges import AGE_US, LONGEST_AGE, LONGEST_ROW, REPEATED, RangeAck
from iperfpy.protocols.kcp.rtt_estimator import RttSamples
from iperfpy.protocols.kcp.wire import Int64s, expand_all


@dataclass(slots=True)
class Rows:
    """The segments of r rows, n in all.

    Attributes
    ----------
    numbers, stamps_us : int64 (n,), serial number, and the stamp of the row
    is_last, repeated : bool (n,), the last of its row; of a row of segments that had arrived before
    row : int64 (n,), index of the row
    ages_us : int64 (r,), time between arrival and acknowledgement, -1 if it was too long
    """

    numbers: Int64s
    stamps_us: Int64s
    is_last: NDArray[np.bool_]
    repeated: NDArray[np.bool_]
    row: Int64s
    ages_us: Int64s


def expand_rows(ack: RangeAck, una: int, now_us: int) -> Rows:
    """The rows of `ack`, at least one, segment by segment in order of arrival. Serial numbers are those
    nearest to `una`, stamps nearest to `now_us`."""
    columns = np.array(ack.rows, np.int64)
    counts = columns[:, 1] & LONGEST_ROW
    ends = np.cumsum(counts)
    first = expand_all(columns[:, 0].astype(np.uint32), una)
    row = np.repeat(np.arange(len(counts)), counts)
    numbers: Int64s = np.arange(ends[-1]) + (first - ends + counts)[row]
    is_last = np.zeros(len(numbers), np.bool_)
    is_last[ends - 1] = True
    ages = columns[:, 2]
    return Rows(
        numbers,
        expand_all(columns[:, 3].astype(np.uint32), now_us)[row],
        is_last,
        (columns[:, 1] >= REPEATED)[row],
        row,
        np.where(ages == LONGEST_AGE, -1, ages * AGE_US),
    )


def row_samples(rows: Rows, echoes_us: Int64s, at: NDArray[np.intp], now_us: int) -> RttSamples | None:
    """Round-trip times of the segments at the places `at`, (m,), that have these echoes, (n,); None if no row
    gives one. A row has one age, the mean of its segments: so the smallest RTT is that of a row."""
    row = rows.row[at]
    counts = np.bincount(row, minlength=len(rows.ages_us))
    sums_us = np.bincount(row, (now_us - echoes_us[at]).astype(np.float64), minlength=len(counts))
    rtts_us = sums_us / np.maximum(counts, 1) - rows.ages_us
    # An echo may be garbage.
    known = (counts > 0) & (rows.ages_us >= 0) & (rtts_us >= 0) & (rtts_us < 60e6)
    segments = int(counts[known].sum())
    if not segments:
        return None
    mean_us = float((rtts_us[known] * counts[known]).sum()) / segments
    return RttSamples(segments, mean_us, int(rtts_us[known].min()))


def row_delays(rows: Rows, echoes_us: Int64s, at: NDArray[np.intp], now_us: int) -> NDArray[np.float64]:
    """Round-trip times of the segments at the places `at`, (m,), by the age of their row; NaN if the peer
    held it back for too long."""
    ages_us = rows.ages_us[rows.row[at]]
    delays_us: NDArray[np.float64] = np.where(ages_us >= 0, now_us - echoes_us[at] - ages_us, np.nan)
    return delays_us
