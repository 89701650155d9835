"""Idle and loaded latency: computation, and reports, which have the responsiveness beside it."""

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
from iperfpy.records import Latency, Responsiveness, Row, RpmConfidence, Sample
from iperfpy.report.csv_columns import LATENCY, header
from iperfpy.report.csv_file import CsvFile
from iperfpy.report.csv_report import CsvSink
from iperfpy.report.json_report import JsonSink
from iperfpy.report.terminal import bufferbloat_line, latency_line
from iperfpy.sampling.loaded_latency import APART_US, idle_us, latency
from iperfpy.store.document_part import DocumentPart
from iperfpy.store.document_reader import _latency as latency_of
from tests.iperfpy.report.scenes import forward

LOADED = "8.71 ms loaded (4.20 to 19.3)"
MEASURED = Latency(
    31, 4_200, 8_000, 19_300, Responsiveness(2000, 600, RpmConfidence.LOW, 20, 40), reverse_rtt_us_p95=15_031
)


def row(stream: int, values: Mapping[str, Value] | None, *, sends: bool = True) -> Row:
    """Return the row of a stream with these values of its sender; None: there is no sample of the sender."""
    receiver = Sample(stream, Side.RECEIVER, 0, 1_000_000, 10)
    if values is None:
        return Row(stream, receiver)
    sender = Sample(stream, Side.SENDER, 0, 1_000_000, 10, values)
    return Row(stream, sender, receiver) if sends else Row(stream, receiver, sender, Direction.REVERSE)


def spread(low: float, mean: float, high: float) -> dict[str, Value]:
    return {"rtt_us": mean, "rtt_us_min": low, "rtt_us_mean": mean, "rtt_us_max": high}


def test_latency_spans_several_streams_in_both_directions() -> None:
    rows = [row(1, spread(5_000, 20_000, 90_000)), row(3, spread(7_000, 40_000, 80_000), sends=False)]
    assert latency(4_000, rows) == Latency(4_000, 5_000, 30_000, 90_000)
    # A round-trip time of the load is no responsiveness: that has probes of its own.
    assert latency(4_000, rows).responsiveness_rpm is None
    assert latency(4_000, rows, MEASURED.responsiveness).responsiveness_rpm == 1300


def test_datagrams_tell_the_idle_time_where_a_relay_ends_the_control_connection() -> None:
    """The relay is 0.03 ms away, the server 170 ms; the opening was repeated once, data has queued since."""
    rows = [row(1, {**spread(181_000, 190_000, 240_000), "min_rtt_us": 170_900})]
    assert idle_us(30, [271_000], rows) == 170_900
    assert idle_us(30, [None, 171_200], [row(1, spread(181_000, 190_000, 240_000))]) == 171_200
    assert idle_us(30, [171_200], [row(1, None)]) == 171_200


@pytest.mark.parametrize(
    ("connection_us", "opening_us", "low"),
    [
        (30, 9_000, 8_000),  # a busy machine
        (80_000, 81_000, 81_000),
        (80_000, 400_000, 81_000),  # the opening was repeated
        (80_000, 81_000, 900_000),  # the load fills the queue from its first datagram on
        (30, None, 171_000),  # a server: it opens nothing
        (None, 171_000, 171_000),
    ],
)
def test_else_the_idle_time_is_that_of_the_control_connection(
    connection_us: float | None, opening_us: int | None, low: float
) -> None:
    rows = [row(1, spread(low, low + 9_000, low + 90_000))]
    assert idle_us(connection_us, [opening_us], rows) == connection_us


def test_the_bound_lies_above_twice_the_connections_time() -> None:
    bound = round(2 * 40_000 + APART_US)
    assert idle_us(40_000, [bound], []) == 40_000
    assert idle_us(40_000, [bound + 1], []) == bound + 1


@pytest.mark.parametrize("values", [None, {}, {"rtt_us": None, "rtt_us_mean": None}])
def test_a_stream_without_rtt_samples_is_ignored(values: Mapping[str, Value] | None) -> None:
    assert latency(None, [row(1, values)]) == Latency()
    assert latency(None, [row(1, values)]).responsiveness_rpm is None
    assert latency(9, [row(1, values), row(3, spread(1, 2, 3))]) == Latency(9, 1, 2, 3)


@pytest.mark.parametrize(
    ("measured", "line"),
    [
        (Latency(), ""),
        (Latency(31), "RTT: 0.031 ms idle"),
        (Latency(31, 4_200, 8_710, 19_300), f"RTT: 0.031 ms idle, {LOADED}"),
        (Latency(None, 4_200, 8_710, 19_300), f"RTT: {LOADED}"),
    ],
)
def test_the_latency_line_shows_the_known_figures(measured: Latency, line: str) -> None:
    assert latency_line(measured) == line


def test_bufferbloat_is_the_95th_percentile_less_the_idle_time_of_each_direction() -> None:
    rows = [
        row(1, {**spread(5_000, 20_000, 90_000), "rtt_us_p95": 60_000}),
        row(3, {**spread(5_000, 20_000, 90_000), "rtt_us_p95": 70_000}),
        row(4, {**spread(5_000, 20_000, 30_000), "rtt_us_p95": 3_500}, sends=False),
    ]
    assert latency(4_000, rows).bufferbloat_us == {Direction.FORWARD: 66_000, Direction.REVERSE: 0}
    assert latency(4_000, rows[2:]).bufferbloat_us == {Direction.REVERSE: 0}
    # Without the idle time, or without a percentile, it is not known.
    assert latency(None, rows).bufferbloat_us == {}
    assert latency(4_000, [row(1, spread(5_000, 20_000, 90_000))]).bufferbloat_us == {}


@pytest.mark.parametrize(
    ("measured", "line"),
    [
        (Latency(4_000), ""),
        (
            Latency(4_000, reverse_rtt_us_p95=61_200),
            "Bufferbloat: +57.2 ms down (95th percentile of the loaded RTT less the idle RTT)",
        ),
        (
            Latency(4_000, forward_rtt_us_p95=61_200, reverse_rtt_us_p95=4_100),
            "Bufferbloat: +57.2 ms up, +0.100 ms down (95th percentile of the loaded RTT less the idle RTT)",
        ),
    ],
)
def test_the_bufferbloat_line_has_a_number_for_each_direction_and_no_letter(
    measured: Latency, line: str
) -> None:
    assert bufferbloat_line(measured) == line


def test_json_has_the_latency_at_its_end() -> None:
    scene, stream = forward(), io.StringIO()
    sink = JsonSink(stream)
    sink.start(scene.start)
    sink.end(replace(scene.end, latency=MEASURED))
    sink.close()
    assert json.loads(stream.getvalue())["end"]["latency"] == {
        "idle_rtt_us": 31,
        "loaded_rtt_us": 8_000,
        "loaded_rtt_us_min": 4_200,
        "loaded_rtt_us_max": 19_300,
        "forward_rtt_us_p95": None,
        "reverse_rtt_us_p95": 15_031,
        "forward_bufferbloat_us": None,
        "reverse_bufferbloat_us": 15_000,
        "responsiveness_rpm": 1300,
        "responsiveness_confidence": "Low",
        "foreign_responsiveness_rpm": 2000,
        "loaded_responsiveness_rpm": 600,
        "foreign_probes": 20,
        "self_probes": 40,
    }


def test_csv_has_the_latency_only_in_the_sum(tmp_path: Path) -> None:
    scene, path = forward(), tmp_path / "x.csv"
    file = CsvFile(path, header())
    sink = CsvSink(file)
    sink.start(scene.start)
    sink.end(replace(scene.end, latency=MEASURED))
    file.close()
    with path.open() as stream:
        figures = {each["type"]: tuple(each[key] for key in LATENCY) for each in csv.DictReader(stream)}
    rtts = ("31", "", "15031", "", "15000")
    assert figures == {"summary": ("",) * 9, "sum": (*rtts, "1300", "Low", "2000", "600")}


def test_a_stored_run_has_its_responsiveness_and_an_old_one_none() -> None:
    scene, stream = forward(), io.StringIO()
    sink = JsonSink(stream)
    sink.start(scene.start)
    sink.end(replace(scene.end, latency=MEASURED))
    sink.close()
    stored = DocumentPart(json.loads(stream.getvalue())["end"]["latency"])
    assert latency_of(stored) == MEASURED
    # Before there were probes, this name meant 60 s over the loaded round-trip time.
    measured = Latency(31, 4_200, 8_000, 19_300)
    kept = ("idle_rtt_us", "loaded_rtt_us", "loaded_rtt_us_min", "loaded_rtt_us_max")
    rtts = {key: measured.record()[key] for key in kept}
    assert latency_of(DocumentPart({**rtts, "responsiveness_rpm": 7500})) == measured
