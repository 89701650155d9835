"""Flent's format: the keys that it reads, times, units, and the names that its plots ask for."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from iperfpy.plan import Direction
from iperfpy.report.pictures.flent_file import LEAD_S, PING, flent_document, flent_of
from iperfpy.store.stored_run import Run
from tests.iperfpy.report.pictures.picture_scenes import EVIL, kcp_run, scene_run

SERIES = {
    "tcp_1up": {"TCP upload", PING},
    "tcp_1down": {"TCP download", PING},
    "tcp_bidirectional": {"TCP upload", "TCP download", PING},
}
"""Test of Flent -> the series that its plots name."""


def runs() -> dict[str, Run]:
    return {
        "tcp_1up": kcp_run(),
        "tcp_1down": kcp_run(direction=Direction.REVERSE),
        "tcp_bidirectional": scene_run("bidirectional"),
    }


@pytest.mark.parametrize("name", SERIES)
def test_the_file_has_what_flent_reads(name: str) -> None:
    document = json.loads(gzip.decompress(flent_of(runs()[name])))
    assert set(document) == {"version", "metadata", "x_values", "results", "raw_values"}
    assert document["version"] == 4
    metadata = document["metadata"]
    assert metadata["NAME"] == name
    assert set(document["results"]) == SERIES[name]
    count = len(document["x_values"])
    assert document["x_values"] == sorted(document["x_values"])
    for series, values in document["results"].items():
        assert len(values) == count
        assert {"UNITS", "MEAN_VALUE"} <= set(metadata["SERIES_META"][series])
    for key in ("TITLE", "HOST", "HOSTS", "LOCAL_HOST", "TIME", "T0", "LENGTH", "TOTAL_LENGTH", "STEP_SIZE"):
        assert metadata[key] not in (None, "")
    for key in ("IP_VERSION", "FLENT_VERSION", "DATA_FILENAME"):
        assert metadata[key]


def test_raw_values_have_the_time_of_day() -> None:
    run = kcp_run()
    document = flent_document(run)
    assert run.started is not None
    metadata = document["metadata"]
    begin = datetime.fromisoformat(metadata["T0"]).timestamp()
    assert begin == pytest.approx(run.started.unix_time - LEAD_S, abs=1e-3)
    started = datetime.fromisoformat(metadata["TIME"]).timestamp()
    assert started == pytest.approx(run.started.unix_time, abs=1e-3)
    for series, values in document["raw_values"].items():
        assert [one["t"] - begin for one in values] == pytest.approx(document["x_values"], abs=1e-3)
        assert [one["val"] for one in values] == document["results"][series]
        assert {one["dur"] for one in values} == {0.5}


def test_rates_are_megabits_and_delays_milliseconds() -> None:
    run = kcp_run(3)
    results = flent_document(run)["results"]
    peer = run.intervals[1].rows[0].peer
    assert peer is not None
    assert results["TCP upload"][1] == pytest.approx((peer.bits_per_second or 0) / 1e6)
    assert results[PING][1] == pytest.approx(run.intervals[1].figure("rtt_us_mean") / 1e3)


def test_an_unmeasured_value_is_null() -> None:
    run = scene_run("server")
    document = flent_document(run)
    assert document["results"][PING] == [None]
    assert document["raw_values"][PING] == []


def kept_by_flent(document: dict[str, Any]) -> list[float]:
    """Times of the points in Flent's boxes, bars and distributions, whose `cutoff` is (DELAY, -DELAY)."""
    end = document["metadata"]["TOTAL_LENGTH"] - LEAD_S
    return [time for time in document["x_values"] if LEAD_S <= time <= end]


@pytest.mark.parametrize("name", SERIES)
def test_flents_boxes_and_distributions_have_the_whole_test(name: str) -> None:
    document = flent_document(runs()[name])
    assert document["x_values"]
    assert kept_by_flent(document) == document["x_values"]


def test_flents_boxes_and_distributions_leave_an_omitted_period_out() -> None:
    run = scene_run("reverse-omit-verbose")
    assert run.started is not None
    started = replace(run.started, plan=replace(run.started.plan, omit_us=1_000_000))
    document = flent_document(replace(run, started=started))
    assert document["x_values"] == [LEAD_S - 0.5, LEAD_S + 0.5, LEAD_S + 1.5]
    assert kept_by_flent(document) == [LEAD_S + 0.5, LEAD_S + 1.5]
    first = document["raw_values"]["TCP download"][0]
    assert first["t"] == pytest.approx(started.unix_time + 0.5)


def test_no_time_of_a_long_omitted_period_is_negative() -> None:
    run = scene_run("reverse-omit-verbose")
    assert run.started is not None
    started = replace(run.started, plan=replace(run.started.plan, omit_us=6_000_000))
    document = flent_document(replace(run, started=started))
    times = document["x_values"]
    assert times
    assert min(times) >= 0
    assert all(len(values) == len(times) for values in document["results"].values())
    for values in document["raw_values"].values():
        assert min(value["t"] for value in values) >= started.unix_time - LEAD_S


def test_the_title_is_that_of_the_user() -> None:
    run = kcp_run(2)
    assert run.started is not None
    started = replace(run.started, plan=replace(run.started.plan, title=EVIL))
    document = json.loads(gzip.decompress(flent_of(replace(run, started=started))))
    assert document["metadata"]["TITLE"] == EVIL


def test_equal_runs_make_equal_files() -> None:
    assert flent_of(kcp_run(4)) == flent_of(kcp_run(4))
