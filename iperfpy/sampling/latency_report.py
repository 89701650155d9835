"""The result of `iperfpy latency`: a row for each transport, size, rate and load, its rounds pooled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from iperfpy.records import RoundTrips
from iperfpy.sampling.message_figures import MessageFigures, figures, round_trips
from iperfpy.sampling.way_split import NOT_SPLIT, WaySplit

IDLE = "none"
"""The load of a row without one."""
OWN = "own"
"""The load of transports that each run beside their own bulk data."""
CDF_POINTS = 400
NO_FIGURES = figures()


class Loaded(Protocol):
    """A row with messages beside a load, or none."""

    @property
    def name(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def per_s(self) -> int: ...
    @property
    def load(self) -> str: ...
    @property
    def direction(self) -> str: ...


R = TypeVar("R", bound=Loaded)


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """The messages of one transport, size, rate and load.

    Parameters
    ----------
    name : the transport with the settings that the user chose
    settings : those that differ from the defaults
    load : `IDLE`, or the name of the transport that carries the load
    direction : of the load: "up", "down" or "both"; empty: idle
    figures : of all rounds together
    times : of each round
    offset_us : the server's clock less the client's when the row was measured first, see `clock_difference`
    load_rate : mean payload rate of the load over the rounds, bits per second, by direction
    error : the sentence of the last round that failed, or empty
    """

    name: str
    transport: str
    settings: Mapping[str, Any]
    size_bytes: int
    per_s: int
    seconds: float
    load: str = IDLE
    direction: str = ""
    figures: MessageFigures = NO_FIGURES
    times: tuple[RoundTrips, ...] = ()
    offset_us: float | None = None
    load_rate: Mapping[str, float] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True)
class LatencyReport:
    """The result of `iperfpy latency`.

    Parameters
    ----------
    version, system_info : this program and machine
    server_version, server_system_info : those of the server, as far as it told them
    rows : in the order in which they were measured first
    ways : the knowledge behind the two ways of the rows
    error : the sentence that ended it early, or empty; `stopped`: by the user
    """

    host: str
    port: int
    unix_time: float = 0.0
    seconds: float = 0.0
    rounds: int = 1
    version: str = ""
    system_info: str = ""
    server_version: str = ""
    server_system_info: str = ""
    rows: tuple[LatencyRow, ...] = ()
    ways: WaySplit = NOT_SPLIT
    warnings: tuple[str, ...] = ()
    error: str = ""
    stopped: bool = False

    @property
    def measured(self) -> bool:
        """True if a message was answered."""
        return any(row.figures.answered for row in self.rows)


def by_kind(rows: Sequence[R]) -> dict[tuple[int, int, str, str], list[R]]:
    """Rows that are compared with each other, by size, rate, load and direction, in their order.

    The load of transports that each run beside their own bulk data is `OWN`. A load that another transport
    has as well was named by the user, also beside the transport of that name.
    """

    def key(row: R, load: str) -> tuple[int, int, str, str]:
        return row.size_bytes, row.per_s, load, row.direction

    beside: dict[tuple[int, int, str, str], set[str]] = {}
    for row in rows:
        beside.setdefault(key(row, row.load), set()).add(row.name)
    found: dict[tuple[int, int, str, str], list[R]] = {}
    for row in rows:
        own = beside[key(row, row.load)] == {row.load}
        found.setdefault(key(row, OWN if own else row.load), []).append(row)
    return found


def groups(report: LatencyReport) -> list[list[LatencyRow]]:
    """The rows of one size, rate and load together, each group by its 99th percentile, or the highest one
    that is known of all its rows."""
    return [sorted(rows, key=_order(rows)) for rows in by_kind(report.rows).values()]


def _order(rows: list[LatencyRow]) -> Any:
    shown = {id(row): row.figures for row in rows}
    answered = [one for one in shown.values() if one.answered]
    figure = next(
        (
            name
            for name in ("p99_us", "p90_us", "p50_us")
            if all(getattr(one, name) is not None for one in answered)
        ),
        "max_us",
    )

    def key(row: LatencyRow) -> float:
        value = getattr(shown[id(row)], figure)
        return float("inf") if value is None else float(value)

    return key


def cdf(times: tuple[RoundTrips, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(round trips, share of the messages due that took longer or were lost), at most `CDF_POINTS` each.

    Microseconds, ascending, and shares between 0 and 1, which do not rise. Points are dense in the tail:
    their distance grows with the number of samples beyond them.
    """
    due = sum(len(one.round_trip_us) for one in times)
    samples = np.sort(np.concatenate([round_trips(one) for one in times])) if times else np.empty(0)
    if not len(samples):
        return np.empty(0), np.empty(0)
    # Half of the points by rank, half by the logarithm of the number of samples beyond.
    ranks = np.linspace(0, len(samples) - 1, CDF_POINTS // 2)
    tail = len(samples) - np.geomspace(1, len(samples), CDF_POINTS // 2)
    at = np.unique(np.concatenate((ranks, tail)).astype(np.int64))
    return samples[at], 1.0 - (at + 1) / due
