"""A test as a data file of Flent, version 4 of its format: gzip of JSON (`.flent.gz`).

    direction       test of Flent        series
    up              tcp_1up              TCP upload, Ping (ms) ICMP
    down            tcp_1down            TCP download, Ping (ms) ICMP
    both            tcp_bidirectional    all three

Flent finds its plots by the name of the test, and the lines in them by the names of the series, whatever the
transport was. The ping is the sender's round-trip time of each interval, in both directions that of the
client's data; the file's NOTE says so. The format is that of Flent's own `resultset.py`, and nothing of Flent
is used.

Flent pings the idle path for 5 s before and after its data, and leaves both out of its boxes, bars and
distributions. So the measured time is from `LEAD_S` to `LEAD_S` before TOTAL_LENGTH here, too: an omitted
period (-O) lies before it, otherwise nothing.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from iperfpy.plan import Direction
from iperfpy.report.pictures.page_model import Number
from iperfpy.report.pictures.run_timeline import ROUND_TRIP, started_of, timeline_of, ways_of
from iperfpy.store.interval_series import arrived_rate, first_known, values_of
from iperfpy.store.stored_run import Run

VERSION, SUFFIX = 4, ".flent.gz"
TESTS = {
    Direction.FORWARD: "tcp_1up",
    Direction.REVERSE: "tcp_1down",
    Direction.BIDIRECTIONAL: "tcp_bidirectional",
}
"""Direction of a test -> the test of Flent with its plots."""
RATES = {Direction.FORWARD: "TCP upload", Direction.REVERSE: "TCP download"}
PING = "Ping (ms) ICMP"
LEAD_S = 5.0
"""Time before and after the data of a test of Flent: its setting DELAY. Of a longer omitted period, the last
part stands there."""
FLENT_VERSION = "2.3.0"
"""A version of Flent that writes this format; Flent shows it."""


def flent_of(run: Run) -> bytes:
    """The file of a test that started."""
    # Without a time in the header, equal runs make equal files.
    return gzip.compress(json.dumps(flent_document(run), indent=2, sort_keys=True).encode(), mtime=0)


def flent_document(run: Run) -> dict[str, Any]:
    """The content of the file: JSON values only."""
    start, timeline = started_of(run), timeline_of(run)
    edges = [] if timeline is None else [*timeline.starts_s, timeline.end_s]
    # An omitted period has times below 0 in the timeline, and the time of day counts from its beginning.
    begin_unix = start.unix_time - LEAD_S - (edges[0] if edges else 0.0)
    # The time of a file has no negative part.
    early = sum(edge < -LEAD_S for edge in edges)
    edges = edges[early:]
    times = [LEAD_S + (begin + end) / 2 for begin, end in pairwise(edges)]
    results = {name: _finite(values)[early:] for name, values in _series(run).items()}
    return {
        "version": VERSION,
        "metadata": _metadata(run, begin_unix, edges[-1] if edges else 0.0, results),
        "x_values": times,
        "results": results,
        "raw_values": {
            name: [
                {"t": begin_unix + time, "val": value, "dur": end - begin}
                for time, value, (begin, end) in zip(times, values, pairwise(edges), strict=True)
                if value is not None
            ]
            for name, values in results.items()
        },
    }


def _series(run: Run) -> dict[str, list[Number]]:
    """Rates in Mbit/s by direction, and round-trip times in ms of the first direction."""
    series: dict[str, list[Number]] = {}
    ways = ways_of(run)
    for way in ways:
        rates = values_of(run, way.direction, arrived_rate)
        series[RATES[way.direction]] = [None if rate is None else rate / 1e6 for rate in rates]
    delays = (
        values_of(run, ways[0].direction, first_known(f"{ROUND_TRIP}_mean", ROUND_TRIP))
        if ROUND_TRIP in run.figures
        else ()
    )
    series[PING] = [None if delay is None else delay / 1e3 for delay in delays] or [None] * len(run.intervals)
    return series


def _metadata(
    run: Run, begin_unix: float, length_s: float, results: dict[str, list[Number]]
) -> dict[str, Any]:
    """Facts about the test.

    Parameters
    ----------
    begin_unix : the file's time 0, seconds since 1970
    length_s : measured time
    """
    start, plan = started_of(run), run.plan
    host, name = str(start.peer[0]), TESTS[run.plan.direction]
    when = _time_text(start.unix_time)
    title = plan.title or f"{plan.transport} to {host}"
    units = {PING: "ms"}
    return {
        "NAME": name,
        "TITLE": title,
        "NOTE": f"{run.version}, --proto {plan.transport}: no TCP stream or ping of Flent's. The ping is the"
        " round-trip time that the sender measured under load",
        "HOST": host,
        "HOSTS": [host],
        "LOCAL_HOST": str(start.connected[0].local[0]) if start.connected else "",
        "TIME": when,
        "T0": _time_text(begin_unix),
        "LENGTH": round(length_s, 3),
        "TOTAL_LENGTH": round(length_s + 2 * LEAD_S, 3),
        "STEP_SIZE": (plan.interval_us or 1e6) / 1e6,
        "IP_VERSION": 6 if ":" in (str(start.connected[0].remote[0]) if start.connected else host) else 4,
        "FLENT_VERSION": FLENT_VERSION,
        "DATA_FILENAME": f"{name}-{when.replace(':', '')}{SUFFIX}",
        "SERIES_META": {
            series: {"UNITS": units.get(series, "Mbits/s"), "MEAN_VALUE": _mean(values)}
            for series, values in results.items()
        },
    }


def _time_text(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _mean(values: Sequence[Number]) -> Number:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _finite(values: Sequence[Number]) -> list[Number]:
    """The values without NaN and infinities, which JSON does not have."""
    return [value if value is not None and abs(value) < float("inf") else None for value in values]
