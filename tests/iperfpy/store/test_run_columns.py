"""Figures of a run by name: columns over its intervals, and totals of the test."""

from __future__ import annotations

import math

import numpy as np
import pytest

from iperfpy.plan import Direction
from iperfpy.protocols.metrics import Side
from iperfpy.store.run_recorder import RunRecorder
from iperfpy.store.stored_run import Run, figure_of
from tests.iperfpy.report.scenes import (
    Scene,
    bidirectional,
    forward,
    parallel_interrupted,
    reverse_omit,
    server,
)

MIB = 1024 * 1024


def run_of(scene: Scene) -> Run:
    recorder = RunRecorder()
    scene.play(recorder)
    return recorder.run()


def test_a_column_has_a_number_for_every_interval() -> None:
    run = run_of(forward())
    column = run.column("rtt_us")
    assert column.shape == (2,)
    assert column.dtype == np.dtype(np.float64)
    assert column.tolist() == [165_000, 950]
    assert run.column("end").tolist() == [1.0003, 2]
    assert run.column("rtt_us_max").tolist() == [167_000, 2950]


def test_a_figure_that_was_not_measured_is_nan() -> None:
    run = run_of(forward())
    assert np.isnan(run.column("lost_percent")).tolist() == [False, True]
    assert np.isnan(run.column("duplicates")).all()  # counted by the receiver, which sent no samples
    assert np.isnan(run.column("bytes", side=Side.RECEIVER)).all()


def test_a_text_column_has_dtype_object_and_omitted_is_bool() -> None:
    run = run_of(reverse_omit())
    assert run.column("algorithm").tolist() == ["bbr", "bbr", None]
    omitted = run.column("omitted")
    assert omitted.dtype == np.dtype(np.bool_)
    assert omitted.tolist() == [True, False, False]


def test_bytes_are_those_of_this_end_unless_a_side_is_given() -> None:
    run = run_of(reverse_omit())
    assert run.column("bytes").tolist() == [int(2.0 * MIB), int(2.5 * MIB), int(2.5 * MIB)]
    sent = run.column("bytes", side=Side.SENDER)
    assert sent[:2].tolist() == [int(2.1 * MIB), int(2.5 * MIB)]
    assert np.isnan(sent[2])


def test_a_column_is_of_the_sum_or_of_one_stream() -> None:
    run = run_of(parallel_interrupted())
    assert run.column("retransmits").tolist() == [2, 4]
    assert run.column("retransmits", stream=1).tolist() == [2, 1]
    assert run.column("retransmits", stream=3).tolist() == [0, 3]
    assert np.isnan(run.column("retransmits", stream=9)).all()


def test_a_column_is_of_one_direction() -> None:
    run = run_of(bidirectional())
    assert run.column("bytes").tolist() == [10 * MIB, 10 * MIB]
    assert run.column("bytes", direction=Direction.REVERSE).tolist() == [5 * MIB, 5 * MIB]
    assert run.column("retransmits", direction=Direction.REVERSE).tolist() == [40, 40]


def test_a_total_is_the_receivers_if_it_is_known() -> None:
    run = run_of(forward())
    assert run.total("bytes") == int(3.5 * MIB)
    assert run.total("bytes", side=Side.SENDER) == int(3.73 * MIB)
    assert run.bits_per_second == pytest.approx(int(3.5 * MIB) * 8 / 2.01)
    assert run.total("retransmits") == 11
    interrupted = run_of(parallel_interrupted())
    assert interrupted.total("bytes") == 20 * MIB  # the sender's, because no results arrived
    assert interrupted.total("bytes", stream=3) == 11 * MIB
    assert math.isnan(interrupted.total("bytes", stream=2))
    assert run_of(bidirectional()).total("bytes", direction=Direction.REVERSE) == 10 * MIB


def test_an_unknown_name_lists_the_known_ones() -> None:
    run = run_of(forward())
    with pytest.raises(KeyError, match=r"no figure 'rtt'.*bits_per_second.*rtt_us_mean"):
        run.column("rtt")
    with pytest.raises(KeyError):
        run.total("rtt")
    for name in run.figures:
        assert run.column(name).shape == (2,)
        if name == "algorithm":
            with pytest.raises(KeyError, match="is a text"):
                run.total(name)
        else:
            assert isinstance(run.total(name), (int, float))


def test_a_run_without_intervals_or_end_has_empty_columns() -> None:
    run = Run(error="cannot connect")
    assert run.column("bytes").shape == (0,)
    assert math.isnan(run.total("bytes"))
    assert math.isnan(run.bits_per_second)
    assert (run.rows, run.sums, run.warnings) == ((), (), ())
    assert (run.failed, run.complete) == (True, False)


def test_a_run_has_addresses_and_processor_times_of_both_ends() -> None:
    run = run_of(forward())
    assert run.client.addresses == (("10.0.0.1", 40000),)
    assert run.server.addresses == (("10.0.0.2", 5201),)
    assert run.client.cpu_percent == {"total": 8.25, "user": 3.0, "system": 5.25}
    assert run.server.cpu_percent == {"total": 12.0, "user": 4.0, "system": 8.0}
    assert (run.client.congestion, run.server.congestion) == ("bbr", "")
    assert run.client.version.startswith("iperfpy ")
    assert run.server.version == ""
    at_server = run_of(server())
    assert at_server.server.addresses == (("10.0.0.1", 40000),)  # the scene's local end
    assert at_server.server.cpu_percent["total"] == 8.25
    assert at_server.client.cpu_percent == {}


def test_an_interval_has_figures_by_name() -> None:
    first, second = run_of(bidirectional()).intervals
    assert (first.start, first.end, first.seconds, first.omitted) == (0, 1, 1, False)
    assert first.bits_per_second == 80 * MIB
    assert first.figure("retransmits") == 0
    assert first.figure("retransmits", Direction.REVERSE) == 40
    with pytest.raises(KeyError, match="no figure 'rtt'"):
        first.figure("rtt")
    with pytest.raises(KeyError, match="is a text"):
        first.figure("algorithm")
    assert math.isnan(run_of(forward()).intervals[1].figure("lost_percent"))
    assert [row.direction for row in second.sums] == [Direction.FORWARD, Direction.REVERSE]
    assert figure_of(second.rows[1], "bytes", Side.SENDER) == 5 * MIB
