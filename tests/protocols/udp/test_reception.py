"""Figures of a receiver against their definition, datagram by datagram, and against known patterns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iperfpy.protocols.udp.reception import AHEAD, MOST_SOLID, WINDOW, Reception, Tally

BLOCK_BYTES = 100


class OneByOne:
    """A model of iperf3's receiver by its documentation, which also counts duplicates."""

    def __init__(self) -> None:
        self.highest = self.lost = self.late = self.duplicates = self.count = 0
        self.jitter_us = 0.0
        self.transit_us: float | None = None
        self.seen: set[int] = set()

    def take(self, number: int, transit_us: float) -> None:
        self.count += 1
        if number > self.highest:
            self.lost += number - 1 - self.highest
            self.highest = number
        elif number in self.seen:
            self.duplicates += 1
        else:
            self.late += 1
            self.lost = max(0, self.lost - 1)
        self.seen.add(number)
        if self.transit_us is not None:
            self.jitter_us += (abs(transit_us - self.transit_us) - self.jitter_us) / 16
        self.transit_us = transit_us


def add(reception: Reception, numbers: list[int], transits_us: list[float], *, wide: bool = False) -> None:
    """Return the numbers as the wire carries them."""
    mask = (1 << 62) - 1 if wide else (1 << 32) - 1
    wire = np.array([number & mask for number in numbers], np.int64)
    reception.add(wire, np.array(transits_us, np.float64), BLOCK_BYTES * len(numbers))


def add_run(reception: Reception, first: int, count: int, transit_us: float, *, wide: bool = False) -> bool:
    numbers = np.arange(first, first + count, dtype=np.int64).astype(">u8" if wide else ">u4")
    return reception.add_run(numbers.tobytes(), count, transit_us, BLOCK_BYTES * count)


def check(tally: Tally, expected: OneByOne) -> None:
    assert tally.datagrams == expected.count
    assert tally.bytes == expected.count * BLOCK_BYTES
    assert (tally.highest, tally.lost) == (expected.highest, expected.lost)
    assert (tally.late, tally.duplicates) == (expected.late, expected.duplicates)
    assert tally.jitter_us == pytest.approx(expected.jitter_us, rel=1e-9, abs=1e-6)


arrivals = st.lists(
    st.lists(
        st.tuples(st.integers(1, 60), st.floats(0, 1e6, allow_nan=False)),
        min_size=1,
        max_size=40,
    ),
    min_size=1,
    max_size=8,
)


@given(arrivals, st.booleans())
def test_any_order_of_numbers_gives_the_figures_of_the_definition(
    runs: list[list[tuple[int, float]]], wide: bool
) -> None:
    reception, expected = Reception(wide=wide), OneByOne()
    for run in runs:
        add(reception, [number for number, _ in run], [transit for _, transit in run], wide=wide)
        for number, transit_us in run:
            expected.take(number, transit_us)
        check(reception.tally, expected)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.integers(1, 64)),
        st.tuples(st.just("gap"), st.integers(1, 5)),
        st.tuples(st.just("again"), st.integers(1, 30)),
    ),
    max_size=30,
)


@given(steps, st.booleans())
def test_counting_a_run_at_once_gives_the_same_figures(steps: list[tuple[str, int]], wide: bool) -> None:
    """Runs without a gap, mixed with gaps and repeated numbers."""
    reception, expected = Reception(wide=wide), OneByOne()
    following = 1
    for index, (kind, size) in enumerate(steps):
        transit_us = 1000.0 + 37 * index % 11
        if kind == "gap":
            following += size
            continue
        # A run is counted at once only if all of its numbers are new.
        first = max(1, following - size) if kind == "again" else following
        numbers = list(range(first, first + size))
        quick = add_run(reception, first, size, transit_us, wide=wide)
        assert quick == (first > expected.highest)
        if not quick:
            add(reception, numbers, [transit_us] * size, wide=wide)
        for number in numbers:
            expected.take(number, transit_us)
        following = expected.highest + 1
        check(reception.tally, expected)


@pytest.mark.parametrize("wide", [False, True])
def test_runs_beyond_the_prepared_range_are_counted(wide: bool) -> None:
    reception = Reception(wide=wide)
    first = 1
    while first < 3 * AHEAD:
        assert add_run(reception, first, 45, 5.0, wide=wide)
        first += 45
    assert reception.tally == Tally(first - 1, (first - 1) * BLOCK_BYTES, first - 1, 0, 0, 0, 0.0)


def test_a_number_of_32_bits_wraps() -> None:
    reception = Reception()
    reached = 0
    for _ in range(5):  # no farther ahead than half the circle at a time
        reached += (1 << 30) - 1
        add(reception, [reached], [0.0])
    top = 1 << 32
    assert reached > top
    lost = reception.tally.lost
    assert lost == reached - 5
    assert add_run(reception, reached + 1, 40, 0.0)
    add(reception, [reached + 42], [0.0])
    add(reception, [reached + 41], [0.0])
    tally = reception.tally
    assert (tally.highest, tally.lost, tally.late) == (reached + 42, lost, 1)


def test_numbers_wrap_within_a_batch() -> None:
    reception = Reception()
    for number in (2**31 - 1, 2**32 - 20):
        add(reception, [number], [0.0])
    lost = reception.tally.lost
    assert add_run(reception, 2**32 - 19, 40, 0.0)
    assert (reception.tally.highest, reception.tally.lost) == (2**32 + 20, lost)


@pytest.mark.parametrize("wide", [False, True])
def test_lost_batches_are_counted_and_corrected_by_late_arrivals(wide: bool) -> None:
    """A slow reader misses every second batch, more batches than are stored as runs.

    Afterwards some of the missing numbers arrive, and some numbers a second time.
    """
    reception, count = Reception(wide=wide), 46
    for turn in range(MOST_SOLID + 200):
        assert add_run(reception, 1 + 2 * count * turn, count, 0.0, wide=wide)
    reached = count * (2 * (MOST_SOLID + 200) - 1)
    lost = count * (MOST_SOLID + 199)
    assert (reception.tally.highest, reception.tally.lost) == (reached, lost)
    assert not add_run(reception, reached - count + 1, count, 0.0, wide=wide)
    seen = [reached - back for back in (45, 92, 900, 1900, 2000, 50_000, 50_060)]
    known = [number for number in seen if (number - 1) // count % 2 == 0]
    assert 0 < len(known) < len(seen)
    add(reception, seen, [0.0] * len(seen), wide=wide)
    tally = reception.tally
    assert (tally.duplicates, tally.late) == (len(known), len(seen) - len(known))
    assert tally.lost == lost - tally.late


def test_a_forged_high_number_does_not_hide_later_losses() -> None:
    reception = Reception(wide=True)
    assert add_run(reception, 1, 40, 0.0, wide=True)
    forged = np.array([2**62 - 5, 7, 9], np.int64).astype(">u8").tobytes()
    assert not reception.add_run(forged, 3, 0.0, 300)
    assert add_run(reception, 41, 40, 0.0, wide=True)
    assert (reception.tally.highest, reception.tally.lost) == (80, 0)


def test_a_duplicate_does_not_reduce_the_losses() -> None:
    reception = Reception()
    add(reception, [1, 2, 4, 4, 2, 1], [0.0] * 6)
    tally = reception.tally
    assert (tally.lost, tally.late, tally.duplicates, tally.datagrams) == (1, 0, 3, 6)


def test_duplicates_from_before_a_long_batch_are_recognised() -> None:
    reception = Reception()
    assert add_run(reception, 1, 1000, 0.0)
    add(reception, [1002, 700, 1001], [0.0] * 3)
    tally = reception.tally
    assert (tally.lost, tally.late, tally.duplicates) == (0, 1, 1)


def test_a_late_number_at_the_edge_of_the_window_is_remembered() -> None:
    reception = Reception()
    add(reception, [1, *range(3, WINDOW + 2)], [0.0] * WINDOW)
    add(reception, [2], [0.0])
    add(reception, [2], [0.0])
    tally = reception.tally
    assert (tally.late, tally.duplicates) == (1, 1)


def test_a_number_older_than_the_window_counts_as_late() -> None:
    """The receiver stores a limited range of numbers, so an older one may be a duplicate or late."""
    reception = Reception()
    add(reception, [1, WINDOW + 10], [0.0] * 2)
    add(reception, [1, WINDOW + 10], [0.0] * 2)
    tally = reception.tally
    assert (tally.late, tally.duplicates, tally.lost) == (1, 1, WINDOW + 7)


numbers_of_a_stranger = st.lists(st.integers(0, 2**62 - 1), min_size=1, max_size=30)


@given(numbers_of_a_stranger, st.booleans())
def test_arbitrary_numbers_leave_valid_counters(numbers: list[int], wide: bool) -> None:
    """With any header content the counters stay valid, and the following batches are counted."""
    reception = Reception(wide=wide)
    for part in (numbers[:5], numbers[5:]):
        if part:
            add(reception, part, [0.0] * len(part), wide=wide)
    tally = reception.tally
    assert tally.datagrams == len(numbers)
    assert 0 <= tally.lost <= tally.highest < 2**63
    assert 0 <= tally.late + tally.duplicates <= len(numbers)
    if wide and tally.highest < 2**62 - 64:
        assert add_run(reception, tally.highest + 1, 10, 0.0, wide=True)


# ---------------------------------------------------------------------- truth


def virtual_path(
    count: int, loss: float, delays_us: np.ndarray[tuple[int], np.dtype[np.float64]], seed: int
) -> tuple[Reception, int, int]:
    """Send a datagram every 250 us over a path that drops and delays.

    Returns the number of datagrams sent, and of those dropped before the last arrival.
    """
    chance = np.random.default_rng(seed)
    numbers = np.arange(1, count + 1)
    arrives = chance.random(count) >= loss
    arrivals_us = (numbers * 250.0 + delays_us)[arrives]
    kept = numbers[arrives]
    order = np.argsort(arrivals_us, kind="stable")
    reception = Reception()
    transits_us = arrivals_us - kept * 250.0
    for start in range(0, len(order), 17):
        part = order[start : start + 17]
        add(reception, kept[part].tolist(), transits_us[part].tolist())
    return reception, count, int(count - arrives.sum())


@pytest.mark.parametrize("loss", [0.0, 0.001, 0.01, 0.05, 0.3])
def test_reported_loss_equals_the_loss_of_the_path(loss: float) -> None:
    """With reordering too; a receiver does not know losses after the last arrival."""
    count = 20_000
    delays_us = 20_000 + np.random.default_rng(3).exponential(400, count)
    reception, sent, dropped = virtual_path(count, loss, delays_us, seed=5)
    tally = reception.tally
    assert tally.late > 1000
    measured = 100 * tally.lost / tally.highest
    assert measured == pytest.approx(100 * dropped / sent, abs=0.01)


@pytest.mark.parametrize("spread_us", [50.0, 1_000.0, 20_000.0])
def test_the_jitter_of_two_alternating_delays_is_their_difference(spread_us: float) -> None:
    """All differences are equal, so the jitter is that difference (RFC 1889, A.8)."""
    count = 2_000
    delays_us = 30_000 + np.where(np.arange(count) % 2, spread_us, 0.0)
    reception = Reception()
    for number in range(1, count + 1):
        add(reception, [number], [float(delays_us[number - 1])])
    assert reception.tally.jitter_us == pytest.approx(spread_us, rel=0.001)


@pytest.mark.parametrize("width_us", [100.0, 3_000.0])
def test_the_jitter_of_uniform_delays_is_a_third_of_their_width(width_us: float) -> None:
    """The mean difference of two uniform delays is a third of their width.

    The jitter, read after every 16th datagram, has that mean.
    """
    count = 12_000
    delays_us = 30_000 + np.random.default_rng(11).uniform(0, width_us, count)
    reception = Reception()
    read: list[float] = []
    for number in range(1, count + 1):
        add(reception, [number], [float(delays_us[number - 1])])
        jitter_us = reception.tally.jitter_us
        if number > 200 and number % 16 == 0 and jitter_us is not None:
            read.append(jitter_us)
    assert np.mean(read) == pytest.approx(width_us / 3, rel=0.1)


def test_a_clock_that_was_set_is_no_jitter() -> None:
    reception = Reception()
    add(reception, [1, 2], [100.0, 100.0])
    reception.forget_transit()
    add(reception, [3, 4], [-5e9, -5e9])
    assert reception.tally.jitter_us == 0.0


def test_nothing_is_known_before_anything_came() -> None:
    assert Reception().tally == Tally()
