"""Figures of message tests, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from iperfpy.records import UNANSWERED, MessageTimes
from iperfpy.sampling.clock_difference import symmetric
from iperfpy.sampling.message_figures import figures, ways


def times(
    round_trips_us: list[int],
    there_us: list[int] | None = None,
    wire: tuple[int, int] | None = None,
    sent: int | None = None,
) -> MessageTimes:
    count = len(round_trips_us)
    return MessageTimes(
        size_bytes=100,
        interval_us=10_000.0,
        sent=count if sent is None else sent,
        round_trip_us=np.array(round_trips_us, np.uint32),
        there_us=np.array(there_us if there_us is not None else [0] * count, np.int64),
        held_us=np.zeros(count if sent is None else sent, np.uint32),
        wire_bytes=wire,
    )


def test_a_percentile_needs_ten_samples_beyond_it() -> None:
    assert figures(times(list(range(999)))).p99_us is None
    found = figures(times(list(range(1_000))))
    assert found.p99_us == pytest.approx(989.01)
    assert found.p999_us is None
    assert figures(times(list(range(10_000)))).p999_us is not None


def test_rounds_are_pooled() -> None:
    found = figures(times(list(range(500))), times(list(range(500, 1_000))))
    assert found.answered == 1_000
    assert found.p99_us == pytest.approx(989.01)
    assert found.jitter_us == 1.0  # no step from the last of a round to the first of the next


def test_lost_messages_are_also_late() -> None:
    found = figures(times([1_000, UNANSWERED, 250_000, 200_000]))
    assert (found.due, found.answered, found.lost) == (4, 3, 1)
    assert found.lost_percent == 25.0
    assert found.late_percent == 50.0  # 200 ms are in time
    assert (found.min_us, found.max_us) == (1_000, 250_000)


def test_jitter_is_the_mean_step_between_answered_messages() -> None:
    assert figures(times([10, 30, UNANSWERED, 20])).jitter_us == 15.0


def test_overhead_counts_both_directions() -> None:
    found = figures(times([10, 20, UNANSWERED], wire=(500, 300)))
    assert found.wire_ratio == pytest.approx(800 / (100 * 5))
    assert figures(times([10], wire=None)).wire_ratio is None


def test_nothing_answered_gives_no_figure() -> None:
    found = figures(times([UNANSWERED] * 3))
    assert found.lost_percent == 100.0
    assert found.p50_us is found.min_us is found.jitter_us is found.stdev_us is None
    assert symmetric(times([UNANSWERED])) is None
    assert figures().due == 0


def test_the_ways_of_a_symmetric_path_are_found_whatever_the_clocks() -> None:
    """Most messages queue on the way there; the third without a queue tells the difference of the clocks."""
    offset, queue = 7_000_000_000_123, [0, 0, 0, 0, 5_000, 20_000, 30_000, 40_000, 50_000]
    one = times(
        [40_000 + extra for extra in queue],
        [20_000 + extra + offset for extra in queue],
    )
    found = symmetric(one)
    assert found is not None
    assert found.offset_us == pytest.approx(offset, abs=1)
    there, back = ways(one, found)
    assert there == pytest.approx([20_000 + extra for extra in queue], abs=1)
    assert back == pytest.approx([20_000] * 9, abs=1)


def test_an_earlier_offset_serves_a_loaded_test() -> None:
    """Every message of a loaded test queues: its own shortest third would be taken for symmetric."""
    idle = times([40_000] * 9, [20_000 + 500] * 9)
    loaded = times([140_000] * 20, [120_000 + 500] * 20)
    found = figures(loaded, clocks=[symmetric(idle)])
    assert found.there_p50_us == pytest.approx(120_000)
    assert found.back_p50_us == pytest.approx(20_000)
    assert figures(loaded).there_p50_us is None
