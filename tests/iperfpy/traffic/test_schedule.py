"""Boundaries of the intervals and of the test."""

from __future__ import annotations

import pytest

from iperfpy.traffic.schedule import Schedule

S = 1_000_000


def ticks(schedule: Schedule, late_us: int = 0, limit: int = 100) -> list[tuple[int, bool]]:
    """Return (time, True if the omitted period ended) of every tick until the end of the test."""
    found: list[tuple[int, bool]] = []
    while (due := schedule.next_us) is not None and len(found) < limit:
        found.append((due + late_us, schedule.ticked(due + late_us)))
    return found


@pytest.mark.parametrize(
    ("interval", "omit", "duration", "expected"),
    [
        (S, 0, 3 * S, [S, 2 * S]),
        (S, 0, 3 * S + 99_999, [S, 2 * S]),  # a runt would follow 3 s
        (S, 0, 3 * S + 100_000, [S, 2 * S, 3 * S]),
        (3 * S, 0, 10 * S, [3 * S, 6 * S, 9 * S]),
        (0, 0, 10 * S, []),
        (S, 2 * S, 2 * S, [S, 2 * S, 3 * S]),
        (S, S + 50_000, 2 * S, [S + 50_000, 2 * S + 50_000]),
        (0, S, S, [S]),
        (5 * S, S, S, [S]),
    ],
)
def test_intervals_end_at_the_expected_boundaries(
    interval: int, omit: int, duration: int, expected: list[int]
) -> None:
    assert [at for at, _ in ticks(Schedule(0, interval, omit, duration))] == expected


def test_the_end_of_the_omitted_period_restarts_the_schedule() -> None:
    schedule = Schedule(100, S, 2 * S, 5 * S)
    assert schedule.omitting
    assert ticks(schedule, late_us=7, limit=2) == [(S + 107, False), (2 * S + 107, True)]
    assert not schedule.omitting
    assert schedule.next_us == 3 * S + 107
    assert schedule.end_us == 7 * S + 107


def test_late_ticks_do_not_accumulate_delay() -> None:
    assert [at for at, _ in ticks(Schedule(0, S, 0, 0), late_us=300, limit=3)] == [
        S + 300,
        2 * S + 300,
        3 * S + 300,
    ]


def test_missed_intervals_are_skipped() -> None:
    schedule = Schedule(0, S, 0, 0)
    schedule.ticked(5 * S + 10)
    assert schedule.next_us == 6 * S


def test_a_schedule_without_end_ticks_without_limit() -> None:
    assert len(ticks(Schedule(0, S, 0, 0), limit=50)) == 50


def test_all_boundaries_move_with_the_first_data() -> None:
    schedule = Schedule(100, S, S, 2 * S)
    schedule.begin(50_100)
    assert schedule.started_us == 50_100
    assert ticks(schedule) == [(S + 50_100, True), (2 * S + 50_100, False)]
    assert schedule.end_us == 3 * S + 50_100
