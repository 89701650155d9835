"""Idle and loaded round trips, and how many fit into a minute: computed, and in every format."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from iperfpy.plan import Direction
from iperfpy.protocols.metrics import Side, Value
from iperfpy.records import Latency, Row, Sample
from iperfpy.report.csv_report import CsvFile, CsvSink
from iperfpy.report.json_report import JsonSink
from iperfpy.report.terminal import latency_line
from iperfpy.sampling.loaded_latency import latency
from tests.iperfpy.report.scenes import forward

LOADED = "8.71 ms loaded (4.20 to 19.3); responsiveness 6889 RPM"


def row(stream: int, values: Mapping[str, Value] | None, *, sends: bool = True) -> Row:
    """A stream whose sender measured `values`; None: nothing is known of the sender."""
    receiver = Sample(stream, Side.RECEIVER, 0, 1_000_000, 10)
    if values is None:
        return Row(stream, receiver)
    sender = Sample(stream, Side.SENDER, 0, 1_000_000, 10, values)
    return Row(stream, sender, receiver) if sends else Row(stream, receiver, sender, Direction.REVERSE)


def spread(low: float, mean: float, high: float) -> dict[str, Value]:
    return {"rtt_us": mean, "rtt_us_min": low, "rtt_us_mean": mean, "rtt_us_max": high}


def test_round_trips_per_minute() -> None:
    """60 s / loaded round trip: 60 at one second, 6000 at 10 ms."""
    assert latency(None, [row(1, spread(1, 1e6, 2e6))]).responsiveness_rpm == 60
    assert latency(None, [row(1, spread(1, 10_000, 2e6))]).responsiveness_rpm == 6000


def test_of_several_streams_whichever_end_sends() -> None:
    rows = [row(1, spread(5_000, 20_000, 90_000)), row(3, spread(7_000, 40_000, 80_000), sends=False)]
    assert latency(4_000, rows) == Latency(4_000, 5_000, 30_000, 90_000)
    assert latency(4_000, rows).responsiveness_rpm == 2000


@pytest.mark.parametrize("values", [None, {}, {"rtt_us": None, "rtt_us_mean": None}])
def test_a_stream_without_round_trips_is_left_out(values: Mapping[str, Value] | None) -> None:
    assert latency(None, [row(1, values)]) == Latency()
    assert latency(None, [row(1, values)]).responsiveness_rpm is None
    assert latency(9, [row(1, values), row(3, spread(1, 2, 3))]) == Latency(9, 1, 2, 3)


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (Latency(), ""),
        (Latency(31), "RTT: 0.031 ms idle"),
        (Latency(31, 4_200, 8_710, 19_300), f"RTT: 0.031 ms idle, {LOADED}"),
        (Latency(None, 4_200, 8_710, 19_300), f"RTT: {LOADED}"),
    ],
)
def test_the_line_under_the_summary(told: Latency, line: str) -> None:
    assert latency_line(told) == line


def test_in_json() -> None:
    scene, stream = forward(), io.StringIO()
    sink = JsonSink(stream)
    sink.start(scene.start)
    sink.end(replace(scene.end, latency=Latency(31, 4_200, 8_000, 19_300)))
    sink.close()
    assert json.loads(stream.getvalue())["end"]["latency"] == {
        "idle_rtt_us": 31,
        "loaded_rtt_us": 8_000,
        "loaded_rtt_us_min": 4_200,
        "loaded_rtt_us_max": 19_300,
        "responsiveness_rpm": 7500,
    }


def test_in_csv(tmp_path: Path) -> None:
    scene, path = forward(), tmp_path / "x.csv"
    sink = CsvSink(lambda plan: CsvFile(path), pytest.fail)
    sink.start(scene.start)
    sink.end(replace(scene.end, latency=Latency(31, 4_200, 8_000, 19_300)))
    sink.close()
    with path.open() as file:
        told = {
            (each["type"], each["side"]): (each["idle_rtt_us"], each["responsiveness_rpm"])
            for each in csv.DictReader(file)
        }
    assert told.pop(("sum", "sender")) == ("31", "7500")
    assert set(told.values()) == {("", "")}
