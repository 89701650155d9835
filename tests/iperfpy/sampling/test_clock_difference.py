"""Both ways of messages by clocks that are synchronised, one, wrong, or unknown: made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from iperfpy.records import UNANSWERED, HostClock, MessageTimes
from iperfpy.sampling.clock_difference import Basis, drift_of, fault, split, symmetric, told
from iperfpy.sampling.message_figures import MessageFigures, figures
from iperfpy.sampling.way_split import RowMessages, WaySplit, clocks_of

SECOND = 1_000_000
OFFSET_US = 7_000_000_000_123
"""The server's monotonic clock less the client's."""
UP_US, DOWN_US = 30_000, 10_000
CLIENT, SERVER = HostClock(OFFSET_US + 5_000), HostClock(5_000)
"""Wall clocks that agree: the monotonic clocks differ by the rest."""


def messages(
    begun_s: float = 0.0,
    seconds: float = 10.0,
    *,
    drift: float = 0.0,
    up_us: NDArray[np.float64] | float = UP_US,
    down_us: NDArray[np.float64] | float = DOWN_US,
    clocks: tuple[HostClock, HostClock] | None = (CLIENT, SERVER),
    seed: int = 1,
) -> MessageTimes:
    """A hundred messages per second, delayed by up to 2 ms more each way; the server's clock drifts."""
    rng, count = np.random.default_rng(seed), round(100 * seconds)
    up, down = (way + rng.exponential(500.0, count).clip(0, 2_000) for way in (up_us, down_us))
    left_us = begun_s * SECOND + np.arange(count) * 10_000.0
    there = OFFSET_US + (up + drift * left_us).astype(np.int64)
    return MessageTimes(
        size_bytes=100,
        interval_us=10_000.0,
        sent=count,
        round_trip_us=(up + down).astype(np.uint32),
        there_us=there,
        held_us=np.zeros(count, np.uint32),
        begun_us=round(begun_s * SECOND),
        clocks=clocks,
    )


def assert_medians(found: MessageFigures, there_us: float, back_us: float) -> None:
    assert found.there_p50_us == pytest.approx(there_us, abs=100)
    assert found.back_p50_us == pytest.approx(back_us, abs=100)


def split_by(*tests: Sequence[MessageTimes], owd: bool) -> tuple[list[MessageFigures], WaySplit]:
    """The figures of rows; each argument has the rounds of one, and all but the first are beside a load."""
    rows = [RowMessages("kcp", not at, times) for at, times in enumerate(tests)]
    clocks, ways = clocks_of(rows, owd=owd)
    return [figures(*times, clocks=one) for times, one in zip(tests, clocks, strict=True)], ways


def test_synchronised_clocks_give_the_ways_of_an_asymmetric_path() -> None:
    (row,), ways = split_by([messages()], owd=True)
    assert ways.basis is Basis.SYNCHRONISED
    assert_medians(row, UP_US + 350, DOWN_US + 350)
    (row,), ways = split_by([messages()], owd=False)
    assert ways.basis is Basis.SYMMETRIC
    assert_medians(row, 20_350, 20_350)


def test_two_ends_of_one_host_have_one_clock() -> None:
    """Its wall clock may be wrong, and may be set."""
    name = "0123456789abcdef"
    one = messages(clocks=(HostClock(5, 90_000, name), HostClock(6, 90_000, name)))
    one = replace(one, there_us=one.there_us - OFFSET_US)
    (row,), ways = split_by([one], owd=True)
    assert (ways.basis, ways.fault) == (Basis.SAME_HOST, "")
    assert_medians(row, UP_US + 350, DOWN_US + 350)


@pytest.mark.parametrize("named", [("", ""), ("a", "b"), ("", "b")])
def test_clocks_without_a_common_name_are_two(named: tuple[str, str]) -> None:
    found = told(messages(clocks=(replace(CLIENT, host=named[0]), replace(SERVER, host=named[1]))))
    assert found is not None
    assert found.basis is Basis.SYNCHRONISED


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"clocks": None}, "the server does not tell its clock: update its iperfpy"),
        (
            {"clocks": (replace(CLIENT, wall_us=CLIENT.wall_us - 12_000), SERVER)},
            "the clocks are not synchronised: messages arrive at this host up to 2.00 ms before they left",
        ),
        (
            {"clocks": (replace(CLIENT, wall_us=CLIENT.wall_us + 33_000), SERVER)},
            "the clocks are not synchronised: messages arrive at the server up to 3.00 ms before they left",
        ),
        (
            {"clocks": (CLIENT, replace(SERVER, wall_step_us=-250_000))},
            "the clock of the server was set by -250.0 ms during a test",
        ),
        ({"drift": 3e-4}, "the clocks are not synchronised: they drift by 3.0 ms during the tests"),
    ],
    ids=["not told", "client fast", "client slow", "set", "drift"],
)
def test_clocks_that_cannot_be_right_split_nothing(changed: dict[str, object], sentence: str) -> None:
    found, ways = split_by([messages(**changed)], owd=True)  # type: ignore[arg-type]
    # Times of a real path are exact to some tens of microseconds.
    assert ways.basis is None
    assert _rounded(ways.fault) == _rounded(sentence)
    assert found[0].there_p50_us is None


def _rounded(sentence: str) -> str:
    """The sentence with its numbers to a tenth of a millisecond."""
    words = sentence.split()
    return " ".join(f"{float(word):.1f}" if word[:1].isdigit() else word for word in words)


def test_a_monotonic_clock_that_is_not_steered_is_corrected_by_the_wall_clock() -> None:
    """The server's monotonic clock gains 40 ppm, so its wall clock falls behind it by as much."""
    one = messages(drift=4e-5, clocks=(CLIENT, replace(SERVER, wall_step_us=-400)))
    (row,), ways = split_by([one], owd=True)
    assert ways.basis is Basis.SYNCHRONISED
    assert_medians(row, UP_US + 350, DOWN_US + 350)


def test_a_drift_between_the_rounds_is_taken_out() -> None:
    """60 parts per million are 12 ms after 200 s: longer than a way of the path."""
    path = {"drift": 6e-5, "up_us": 20_000.0, "down_us": 20_000.0}
    tests = [messages(50.0 * at, seed=at + 1, **path) for at in range(5)]  # type: ignore[arg-type]
    assert drift_of(tests) == pytest.approx(6e-5, rel=0.03)
    (row,), ways = split_by(tests, owd=False)
    assert ways.drift == pytest.approx(6e-5, rel=0.03)
    assert row.there_p99_us == pytest.approx(22_000, abs=300)
    assert row.back_p99_us == pytest.approx(22_000, abs=300)


def test_a_queue_of_one_way_is_no_drift() -> None:
    """It grows during the tests, and lengthens the round trip."""
    queue = np.linspace(0.0, 20_000.0, 1_000)
    assert drift_of([messages(up_us=UP_US + queue)]) == 0.0
    assert drift_of([messages(down_us=DOWN_US + queue)]) == 0.0
    assert drift_of([messages()]) == 0.0
    assert fault([messages(up_us=UP_US + queue)], [told(messages())]) == ""


def test_loaded_messages_follow_the_idle_ones_of_their_transport() -> None:
    idle, loaded = (
        messages(up_us=20_000.0, down_us=20_000.0),
        messages(20.0, up_us=90_000.0, down_us=20_000.0),
    )
    found, _ = split_by([idle], [loaded], owd=False)
    assert_medians(found[1], 90_350, 20_350)


def test_messages_without_an_answer_have_no_ways() -> None:
    lost = messages()
    lost = replace(lost, round_trip_us=np.full_like(lost.round_trip_us, UNANSWERED))
    assert symmetric(lost) is None
    assert drift_of([lost]) == drift_of([]) == 0.0
    assert split_by([lost], owd=True)[0][0].there_p50_us is None
    known = told(lost)
    assert known is not None
    assert len(split(lost, known)[0]) == 0
