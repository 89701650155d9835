"""The log of a link in mahimahi's format, from simulated runs."""

from __future__ import annotations

import io
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest

from iperfpy.protocols.simulator import Change, CoDel, Link, Path, Silent, Simulation, Truth
from iperfpy.protocols.simulator.link_log import LinkLog, queue_text
from iperfpy.protocols.simulator.path_language import parse
from tests.protocols.simulator.dummy import Catcher, Emitter

EVENT = re.compile(r"\d+ (?:# 1504|\+ \d+|- \d+ \d+|d \d+ \d+)")


def logged(path: Path, emitter: Emitter, seconds: float) -> tuple[list[str], list[int], Truth]:
    """Run a sender over a path; give the lines of its log, the arrivals and the truth."""
    simulation, catcher, stream = Simulation(1, 0.0), Catcher(), io.StringIO()
    link = simulation.link(path)
    link.keep_log(LinkLog(stream, "uplink", "a path", queue_text(path), file="up.log"))
    flow = simulation.flow(emitter, catcher, link, simulation.link(Path()), Silent())
    simulation.run(int(seconds * 1e6))
    link.write_log(simulation.now_us)
    return stream.getvalue().splitlines(), catcher.times_us, flow.forward.truth


def test_the_log_of_a_trace_is_that_of_mahimahi() -> None:
    path = parse("trace=constant:6M,queue=2p")[0]
    lines, _, _ = logged(path, Emitter(1_472, 1_000, burst=3, total=4), 0.0075)
    assert lines == [
        "# mahimahi mm-link (uplink) [a path] > up.log",
        "# command line: iperfpy lab a path",
        "# queue: droptail [packets=2]",
        "# init timestamp: 0",
        "# base timestamp: 0",
        "0 + 1504",
        "0 + 1504",
        "0 + 1504",
        "0 d 1 1504",
        "1 + 1504",
        "1 d 1 1504",
        "2 # 1504",
        "2 - 1504 2",
        "4 # 1504",
        "4 - 1504 4",
        "6 # 1504",
    ]


PATHS = {
    "trace": Path(trace=parse("trace=poisson:9M/3")[0].trace, buffer_bytes=30_000, delay_us=5_000),
    "rate": Path(rate_bits_per_s=9e6, buffer_bytes=30_000, delay_us=5_000),
    "walk": parse("9M,walk=20ms/0.5/0.8,queue=30p,delay=5ms")[0],
    "codel": Path(rate_bits_per_s=9e6, buffer_bytes=90_000, codel=CoDel(), delay_us=5_000),
    "change": Path(
        rate_bits_per_s=9e6,
        buffer_bytes=30_000,
        delay_us=5_000,
        changes=(
            Change(300_000, {"rate_bits_per_s": 4e6}),
            Change(900_000, {"rate_bits_per_s": None, "trace": parse("trace=constant:7M")[0].trace}),
            Change(1_500_000, {"rate_bits_per_s": 9e6, "trace": None}),
        ),
    ),
    "nothing": Path(delay_us=5_000),
}


@pytest.mark.parametrize("name", PATHS)
def test_a_log_has_every_event_once_and_in_order(name: str) -> None:
    lines, times_us, truth = logged(PATHS[name], Emitter(972, 800, burst=2), 2.0)
    events = [line.split() for line in lines if not line.startswith("# ")]
    assert all(EVENT.fullmatch(line) for line in lines if not line.startswith("# "))
    stamps = [int(event[0]) for event in events]
    assert stamps == sorted(stamps)
    arrivals = [int(event[0]) for event in events if event[1] == "+"]
    departures = [(int(event[0]), int(event[3])) for event in events if event[1] == "-"]
    dropped = sum(int(event[2]) for event in events if event[1] == "d")
    assert len(arrivals) == truth.sent == 5_002
    assert dropped == truth.overflowed + truth.codel
    # The last 5 ms of departures have not arrived yet.
    assert [time_us // 1_000 - 5 for time_us in times_us] == [ms for ms, _ in departures[: len(times_us)]]
    assert not Counter(ms - wait for ms, wait in departures) - Counter(arrivals)
    opportunities = sum(event[1] == "#" for event in events)
    assert opportunities == 0 if name == "nothing" else opportunities >= len(departures) * 1_000 / 1_504 - 40


def test_the_opportunities_of_a_rate_are_full_packets() -> None:
    lines, _, _ = logged(Path(rate_bits_per_s=6e6), Emitter(100, 1e9), 1.0)
    stamps = [int(line.split()[0]) for line in lines if " # " in line]
    assert stamps == list(range(2, 1_001, 2))


def test_a_stream_that_fails_stops_the_log_and_not_the_link() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    link = Link(Path(rate_bits_per_s=1e6), np.random.SeedSequence(1))
    log = LinkLog(Full(), "uplink", "a path", "infinite")
    link.keep_log(log)
    link.write_log(1_000.0)
    assert log.error is not None
    assert log.error.errno == 28


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "infinite"),
        ({"buffer_bytes": 9_000}, "droptail [bytes=9000]"),
        ({"codel": CoDel()}, "codel [target=5, interval=100]"),
        ({"codel": CoDel(), "buffer_datagrams": 7}, "codel [packets=7, target=5, interval=100]"),
    ],
)
def test_the_queue_is_described_in_mahimahis_words(fields: dict[str, Any], text: str) -> None:
    assert queue_text(Path(**fields)) == text
