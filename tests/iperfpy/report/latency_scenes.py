"""A result of `iperfpy latency` made by hand."""

from __future__ import annotations

import numpy as np

from iperfpy.records import UNANSWERED, MessageTimes
from iperfpy.sampling.clock_difference import Basis, ClockDifference
from iperfpy.sampling.latency_report import IDLE, LatencyReport, LatencyRow
from iperfpy.sampling.message_figures import figures
from iperfpy.sampling.way_split import WaySplit

COUNT, PER_S = 1_200, 100
DRIFT = 2e-5


def latency_report() -> LatencyReport:
    """Two rounds of two transports, idle and beside kcp, in an order that is not that of the table."""
    rows = (
        _row("tcp bbr", 40_000, held_us=50_000),
        _row("kcp fast", 20_000, settings={"mode": "fast"}),
        _row("tcp bbr", 90_000, "kcp", "up"),
        _row("kcp fast", 60_000, "kcp", "up", lost=30),
    )
    return LatencyReport(
        *("vpn.example", 5201, 1_795_966_017.25, 55.0, 2),
        version="iperfpy 9",
        system_info="Linux",
        server_version="iperfpy 8",
        server_system_info="Linux 6.1 x86_64",
        rows=rows,
        ways=WaySplit(Basis.SYMMETRIC, DRIFT),
    )


def _row(
    name: str,
    base_us: int,
    load: str = IDLE,
    direction: str = "",
    *,
    held_us: int = 40,
    lost: int = 0,
    settings: dict[str, str] | None = None,
) -> LatencyRow:
    clock = ClockDifference(1e12, DRIFT)
    times = tuple(_times(base_us + number, held_us, lost) for number in range(2))
    return LatencyRow(
        name=name,
        transport=name.partition(" ")[0],
        settings=settings or {},
        size_bytes=100,
        per_s=PER_S,
        seconds=COUNT / PER_S,
        load=load,
        direction=direction,
        figures=figures(*times, clocks=[clock] * len(times)),
        times=times,
        offset_us=clock.offset_us,
        load_rate={direction: 18.4e6} if direction else {},
    )


def _times(base_us: int, held_us: int, lost: int) -> MessageTimes:
    trips = (base_us + 7 * np.arange(COUNT)).astype(np.uint32)
    there = trips.astype(np.int64) // 3 + 10**12
    trips[:lost], there[:lost] = UNANSWERED, 0
    return MessageTimes(
        *(100, 1e6 / PER_S, COUNT, trips, 1, (200 * COUNT, 180 * COUNT)),
        there_us=there,
        held_us=np.full(COUNT, held_us, np.uint32),
    )
