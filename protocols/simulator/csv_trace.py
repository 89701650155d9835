"""Turns a table of times and rates into a trace of opportunities."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from io import BufferedReader
from math import ceil

import numpy as np
from numpy.typing import NDArray

from iperfpy.protocols.simulator.rate_trace import OPPORTUNITY_BYTES, TRACE_HEADER_BYTES
from iperfpy.protocols.simulator.trace_file import (
    LATEST_MS,
    MOST_STAMPS,
    TraceError,
    errors_of,
    opened,
    uncompressed,
    whole_lines,
)

MOST_ROWS = 5_000_000
HIGHEST_RATE = 1e12
_SEPARATOR = re.compile(r"[,;\t]")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,30}\.?[0-9]{0,30}|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,3})?")
_OPPORTUNITY_BITS = 8 * (OPPORTUNITY_BYTES - TRACE_HEADER_BYTES)

Floats = NDArray[np.float64]


def stamps_from_csv(
    file: str,
    *,
    ms_per_unit: float,
    bits_per_s_per_unit: float,
    columns: tuple[int, int] = (1, 2),
    stream: BufferedReader | None = None,
) -> NDArray[np.int32]:
    """Read rows of a time and a rate; return the times of opportunities, milliseconds.

    Each rate holds from its time until that of the next row, the last one for as long as the one before it.
    Times count from the first row. Lines that are empty or begin with `#` are left out, and the first row may
    be a header.

    Parameters
    ----------
    columns : numbers of the columns of times and rates, from 1
    stream : read instead of opening `file`, which then only names it in errors

    Raises TraceError.
    """
    with errors_of(file):
        times, rates, lines = _table(_lines(file, stream), file, columns)
    if len(times) < 2:
        raise TraceError(f"{file}: at least two rows with a time and a rate are needed, not {len(times)}")
    # The last rate has no row behind it that ends it.
    times_ms = (times - times[0]) * ms_per_unit
    lengths_ms = np.diff(times_ms, append=2 * times_ms[-1] - times_ms[-2])
    if (lengths_ms <= 0).any():
        at = int(np.flatnonzero(lengths_ms <= 0)[0]) + 1
        raise TraceError(
            f"{file}, line {lines[at]}: the times must rise, and {times[at]:g} follows {times[at - 1]:g}"
        )
    rates = rates * bits_per_s_per_unit
    if rates.max() > HIGHEST_RATE:
        at = int(rates.argmax())
        raise TraceError(f"{file}, line {lines[at]}: a rate is at most 1000 Gbit/s, not {rates[at]:g} bit/s")
    return _opportunities(file, lengths_ms, rates)


def _opportunities(file: str, lengths_ms: Floats, rates: Floats) -> NDArray[np.int32]:
    """Times at which another 1,500 bytes have been served."""
    edges_ms = np.concatenate(([0.0], lengths_ms.cumsum()))
    # The rounding of a sum of floats must not lengthen the trace by a millisecond.
    period_ms = ceil(edges_ms[-1] - 1e-6)
    served = np.concatenate(([0.0], (lengths_ms * rates / 1_000).cumsum())) / _OPPORTUNITY_BITS
    if period_ms > LATEST_MS:
        raise TraceError(f"{file}: the trace would last {period_ms} ms; at most {LATEST_MS} are allowed")
    if served[-1] > MOST_STAMPS - 1:
        raise TraceError(
            f"{file}: the trace would have {served[-1]:.0f} lines; at most {MOST_STAMPS} are allowed"
        )
    numbers = np.arange(1, int(served[-1] + 1e-6) + 1)
    # Where the rate is 0 nothing is served: the left edge of such a stretch is the time of the last byte.
    at = np.maximum(1, served.searchsorted(numbers - 1e-6))
    rest = (numbers - served[at - 1]) / np.maximum(1e-12, served[at] - served[at - 1])
    times_ms = edges_ms[at - 1] + np.minimum(1.0, rest) * (edges_ms[at] - edges_ms[at - 1])
    stamps = np.ceil(times_ms - 1e-6)
    # The last time is also the length: one opportunity there, for the rest of the bytes, keeps the length.
    if not len(stamps) or stamps[-1] < period_ms:
        stamps = np.append(stamps, period_ms)
    whole: NDArray[np.int32] = stamps.astype(np.int32)
    return whole


def _table(
    rows: Iterable[tuple[int, str]], file: str, columns: tuple[int, int]
) -> tuple[Floats, Floats, list[int]]:
    """Times, rates, and the numbers of their lines."""
    times: list[float] = []
    rates: list[float] = []
    lines: list[int] = []
    header = True
    for number, text in rows:
        if not text or text.startswith("#"):
            continue
        cells = [cell.strip().strip('"').strip() for cell in _SEPARATOR.split(text)]
        found = [cells[column - 1] if column <= len(cells) else None for column in columns]
        if None not in found and all(_NUMBER.fullmatch(cell or "") for cell in found):
            time, rate = (float(cell or "") for cell in found)
            if not (abs(time) < 1e18 and 0 <= rate < 1e18):
                raise TraceError(
                    f"{file}, line {number}: {'a rate' if rate < 0 else 'a value'} is out of range"
                )
            if len(times) == MOST_ROWS:
                raise TraceError(f"{file}: a table has at most {MOST_ROWS} rows")
            times.append(time)
            rates.append(rate)
            lines.append(number)
        # A header has words; a first row of numbers that lacks a column has another fault.
        elif not header or (None in found and len(cells) == 1 and _NUMBER.fullmatch(cells[0])):
            raise TraceError(f"{file}, line {number}: {_trouble(found, columns)}")
        header = False
    return np.array(times), np.array(rates), lines


def _lines(file: str, given: BufferedReader | None) -> Iterator[tuple[int, str]]:
    number = 0
    with nullcontext(uncompressed(given)) if given else opened(file) as stream:
        for text in whole_lines(file, stream):
            for line in text.decode("utf-8-sig" if not number else "utf-8", "replace").split("\n")[:-1]:
                number += 1
                yield number, line.strip()


def _trouble(found: list[str | None], columns: tuple[int, int]) -> str:
    for column, name, cell in zip(columns, ("time", "rate"), found, strict=True):
        if cell is None:
            return f"there is no column {column} with the {name}"
        if not _NUMBER.fullmatch(cell):
            shown = ascii(cell[:20]) + ("..." if len(cell) > 20 else "")
            return f"the {name} in column {column} is no number: {shown}"
    raise AssertionError("both are numbers")
