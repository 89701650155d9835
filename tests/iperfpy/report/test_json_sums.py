"""Sums in the JSON equal the sums of their parts for arbitrary counts, and a rate is bytes over seconds."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iperfpy.plan import Direction
from iperfpy.protocols.metrics import Side
from iperfpy.records import Row, RunEnded, Sample
from iperfpy.report.json_report import JsonSink
from tests.iperfpy.report.scenes import BOTH_CPU, Scene, start_of

STREAMS = 3
counted = st.tuples(st.integers(0, 2**53), st.integers(0, 2**40), st.integers(0, 2**40))
"""Bytes, retransmissions, segments."""
intervals = st.lists(st.lists(counted, min_size=STREAMS, max_size=STREAMS), min_size=1, max_size=5)


def sample(stream: int, start_us: int, end_us: int, figures: tuple[int, int, int]) -> Sample:
    size, retransmits, sent = figures
    return Sample(stream, Side.SENDER, start_us, end_us, size, {"retransmits": retransmits, "sent": sent})


def document_of(table: list[list[tuple[int, int, int]]], lengths_us: list[int]) -> dict[str, Any]:
    """Return the document of a test with these counts, per interval and stream."""
    # Streams have the numbers 1, 2, 3 here; no sum depends on them.
    starts = [sum(lengths_us[:index]) for index in range(len(table) + 1)]
    rows = [
        tuple(
            Row(index + 1, sample(index + 1, starts[at], starts[at + 1], one))
            for index, one in enumerate(streams)
        )
        for at, streams in enumerate(table)
    ]
    whole = []
    for index in range(STREAMS):
        size, retransmits, sent = (sum(streams[index][part] for streams in table) for part in range(3))
        whole.append(Row(index + 1, sample(index + 1, 0, starts[-1], (size, retransmits, sent))))
    out = io.StringIO()
    scene = Scene(start_of(Direction.FORWARD, streams=STREAMS), tuple(rows), RunEnded(tuple(whole), BOTH_CPU))
    scene.play(JsonSink(out))
    document = json.loads(out.getvalue())
    assert isinstance(document, dict)
    return document


@given(intervals, st.lists(st.integers(1, 10**9), min_size=5, max_size=5))
def test_streams_add_up_to_sums_and_intervals_to_totals(
    table: list[list[tuple[int, int, int]]], lengths_us: list[int]
) -> None:
    document = document_of(table, lengths_us[: len(table)])
    end = document["end"]
    for key in ("bytes", "retransmits", "sent"):
        for interval in document["intervals"]:
            assert interval["sum"][key] == sum(stream[key] for stream in interval["streams"])
        assert end["sum_sent"][key] == sum(stream["sender"][key] for stream in end["streams"])
        assert end["sum_sent"][key] == sum(interval["sum"][key] for interval in document["intervals"])
    # Rates are floats: equal up to rounding.
    figures = [one["sum"] for one in document["intervals"]] + [end["sum_sent"]]
    for one in (*figures, *(stream["sender"] for stream in end["streams"])):
        if one["seconds"] < 0.01:  # too short for a rate
            assert one["bits_per_second"] is None
            continue
        assert one["bits_per_second"] == pytest.approx(one["bytes"] * 8 / one["seconds"], rel=1e-15)
        assert one["seconds"] == pytest.approx(one["end"] - one["start"], rel=1e-9, abs=1e-9)
    ends = [0.0, *(interval["sum"]["end"] for interval in document["intervals"])]
    assert [interval["sum"]["start"] for interval in document["intervals"]] == ends[:-1]
