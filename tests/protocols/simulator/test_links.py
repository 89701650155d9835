"""Lumps, the second way, CoDel and a rate that walks, against arithmetic and against the text of RFC 8289."""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from math import exp, inf, sqrt

import numpy as np
import pytest

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.simulator import (
    Bursts,
    Change,
    CoDel,
    Lumps,
    Path,
    RateWalk,
    SecondWay,
    Silent,
    SimulatedFlow,
    Simulation,
)
from iperfpy.protocols.simulator.release_moments import ReleaseMoments
from iperfpy.protocols.simulator.walking_rate import WalkingRate
from tests.protocols.simulator.dummy import Catcher, Emitter

SIZE = 972  # 1,000 bytes on the path


def run(path: Path, emitter: Emitter, seconds: float, seed: int = 1) -> tuple[SimulatedFlow, Catcher]:
    simulation = Simulation(seed, 0.0)
    catcher = Catcher()
    flow = simulation.flow(emitter, catcher, simulation.link(path), simulation.link(Path()), Silent())
    simulation.run(int(seconds * 1e6))
    return flow, catcher


# -- lumps


@pytest.mark.parametrize(("least_us", "most_us"), [(30_000, 30_000), (5_000, 30_000), (0, 10_000)])
def test_the_distances_of_release_moments_are_uniform(least_us: int, most_us: int) -> None:
    moments = ReleaseMoments(Lumps(least_us, most_us), np.random.default_rng(1), 0.0)
    times = np.arange(0.0, 50e6, 50.0)
    released = moments.after(times)
    gaps = np.diff(released)
    gaps = gaps[gaps != 0]
    # Two moments between two times count as one gap.
    assert gaps.min() >= least_us - 1e-3
    assert gaps.max() <= most_us + 50
    assert gaps.mean() == pytest.approx((least_us + most_us) / 2, rel=0.05)
    assert gaps.std() == pytest.approx((most_us - least_us) / 12**0.5, rel=0.05, abs=1e-3)
    waits = released - times
    assert waits.min() >= 0
    # The mean time from any moment to the next one of a renewal process: E[gap^2] / (2 E[gap]).
    mean, variance = (least_us + most_us) / 2, (most_us - least_us) ** 2 / 12
    assert waits.mean() == pytest.approx((mean**2 + variance) / (2 * mean), rel=0.05)
    assert np.array_equal(moments.after(times[500_000:]), released[500_000:])


def test_datagrams_wait_for_the_next_release_moment() -> None:
    path = Path(delay_us=4_000, jitter_us=1_000, lumps=Lumps(20_000, 20_000))
    _, catcher = run(path, Emitter(SIZE, 1_000, total=2_000), 3.0)
    assert catcher.numbers == list(range(2_000))
    assert set(np.diff(np.unique(catcher.times_us)).tolist()) <= {19_999, 20_000, 20_001}
    waits = np.array(catcher.times_us) - 1_000 * np.array(catcher.numbers) - 4_000
    assert waits.min() >= 0
    assert waits.max() <= 21_001
    assert waits.mean() == pytest.approx(10_500, abs=300)


def test_the_lumps_of_two_directions_and_of_two_seeds_have_phases_of_their_own() -> None:
    path = Path(lumps=Lumps(30_000, 30_000))
    phases = {run(path, Emitter(SIZE, 1_000), 0.2, seed)[1].times_us[-1] % 30_000 for seed in range(5)}
    assert len(phases) == 5
    simulation = Simulation(1, 0.0)
    emitter, catcher = Emitter(SIZE, 60_000, total=2), Catcher(echo=24)
    simulation.flow(emitter, catcher, simulation.link(path), simulation.link(path), Silent())
    simulation.run(1_000_000)
    assert emitter.arrivals == 2
    assert simulation.now_us == 1_000_000


def test_a_rate_rise_releases_queued_datagrams_at_earlier_moments() -> None:
    rise = Change(100_500, {"rate_bits_per_s": 80e6})
    path = Path(rate_bits_per_s=0.8e6, lumps=Lumps(7_000, 7_000), changes=(rise,))
    _, catcher = run(path, Emitter(SIZE, 1_000_000, burst=50, total=50), 0.9)
    assert catcher.numbers == list(range(50))
    assert max(catcher.times_us) <= 100_500 + 95 + 39 * 100 + 7_001
    assert set(np.diff(np.unique(catcher.times_us)) // 6_999) <= {1, 2}


# -- the second way


def test_every_second_datagram_takes_the_longer_way_and_each_way_keeps_its_order() -> None:
    path = Path(delay_us=10_000, second_way=SecondWay(40_000))
    flow, catcher = run(path, Emitter(SIZE, 1_000, total=1_000), 2.0)
    delays = np.array(catcher.times_us) - 1_000 * np.array(catcher.numbers)
    longer = delays == 50_000
    assert set(delays) == {10_000, 50_000}
    assert sorted(np.array(catcher.numbers)[longer]) == list(range(0, 1_000, 2))
    for way in (longer, ~longer):
        assert np.all(np.diff(np.array(catcher.numbers)[way]) == 2)
    assert flow.forward.truth.reordered == 500


def test_a_share_of_the_datagrams_takes_the_longer_way() -> None:
    path = Path(delay_us=10_000, jitter_us=2_000, second_way=SecondWay(40_000, 0.25))
    flow, catcher = run(path, Emitter(SIZE, 1_000, burst=8), 2.0)
    delays = np.array(catcher.times_us) - 1_000 * (np.array(catcher.numbers) // 8)
    longer = delays > 30_000
    share = np.count_nonzero(longer) / len(longer)
    assert share == pytest.approx(0.25, abs=4 * sqrt(0.25 * 0.75 / len(longer)) + 0.01)
    for way in (longer, ~longer):
        assert np.all(np.diff(np.array(catcher.numbers)[way]) > 0)
    assert flow.forward.truth.reordered == pytest.approx(0.25 * flow.forward.truth.sent, rel=0.05)


def test_only_the_first_way_has_lumps() -> None:
    path = Path(second_way=SecondWay(40_000), lumps=Lumps(20_000, 20_000))
    _, catcher = run(path, Emitter(SIZE, 1_000, total=200), 1.0)
    first = np.array([number % 2 == 1 for number in catcher.numbers])
    times, numbers = np.array(catcher.times_us), np.array(catcher.numbers)
    assert np.all(times[~first] == 40_000 + 1_000 * numbers[~first])
    assert np.all(np.diff(np.unique(times[first])) % 20_000 <= 1)


# -- CoDel


class Reference:
    """The pseudocode of RFC 8289, section 5, for one queue with a server of constant rate. Times in us."""

    def __init__(self, target_us: float, interval_us: float, service_us: float, size: int) -> None:
        self.target, self.interval, self.service, self.size = target_us, interval_us, service_us, size
        self.queue: deque[tuple[int, float]] = deque()
        self.dropped: list[int] = []
        self.passed: list[tuple[int, float]] = []
        self.busy = 0.0
        self.first_above_time = self.drop_next = 0.0
        self.count = self.lastcount = 0
        self.dropping = False

    def arrive(self, number: int, now: float) -> None:
        self.serve(now)
        self.queue.append((number, now))

    def serve(self, now: float) -> None:
        while self.queue and max(self.busy, self.queue[0][1]) <= now:
            start = max(self.busy, self.queue[0][1])
            taken = self.dequeue(start)
            assert taken is not None
            self.busy = start + self.service
            self.passed.append((taken[0], self.busy))

    def dodequeue(self, now: float) -> tuple[tuple[int, float] | None, bool]:
        if not self.queue:
            self.first_above_time = 0
            return None, False
        taken = self.queue.popleft()
        ok_to_drop = False
        if now - taken[1] < self.target or len(self.queue) * self.size <= 1_500:
            self.first_above_time = 0
        elif self.first_above_time == 0:
            self.first_above_time = now + self.interval
        elif now >= self.first_above_time:
            ok_to_drop = True
        return taken, ok_to_drop

    def control_law(self, now: float, count: int) -> float:
        return now + self.interval / sqrt(count)

    def drop(self, taken: tuple[int, float] | None) -> None:
        assert taken is not None
        self.dropped.append(taken[0])

    def dequeue(self, now: float) -> tuple[int, float] | None:
        taken, ok_to_drop = self.dodequeue(now)
        if self.dropping:
            if not ok_to_drop:
                self.dropping = False
            while now >= self.drop_next and self.dropping:
                self.drop(taken)
                self.count += 1
                taken, ok_to_drop = self.dodequeue(now)
                if not ok_to_drop:
                    self.dropping = False
                else:
                    self.drop_next = self.control_law(self.drop_next, self.count)
        elif ok_to_drop:
            self.drop(taken)
            taken, ok_to_drop = self.dodequeue(now)
            self.dropping = True
            delta = self.count - self.lastcount
            self.count = 1
            if delta > 1 and now - self.drop_next < 16 * self.interval:
                self.count = delta
            self.drop_next = self.control_law(now, self.count)
            self.lastcount = self.count
        return taken


class Waves(Emitter):
    """Sends bursts above the rate of the bottleneck for `busy_us`, then below it, in turn."""

    def __init__(self, gaps_us: tuple[int, int], busy_us: int, burst: int) -> None:
        super().__init__(SIZE, 1, burst)
        self._gaps_us, self._busy_us, self._due_us = gaps_us, busy_us, 0

    def deadline_us(self) -> int | None:
        return self._due_us

    def transmit(self, now_us: int) -> list[DatagramBatch]:
        if now_us < self._due_us:
            return []
        batches = super().transmit(now_us)
        self._due_us = now_us + self._gaps_us[now_us // self._busy_us % 2]
        return batches


@pytest.mark.parametrize("delay_us", [0, 20_000])
@pytest.mark.parametrize("burst", [1, 7, 40])
def test_codel_drops_the_datagrams_that_rfc_8289_drops(burst: int, delay_us: int) -> None:
    target_us, interval_us = 5_000, 40_000
    codel = CoDel(target_us, interval_us)
    path = Path(rate_bits_per_s=8e6, delay_us=delay_us, codel=codel)
    gaps, busy_us = (burst * 700, burst * 1_500), 700_000
    until_us = 2_500_000
    flow, catcher = run(path, Waves(gaps, busy_us, burst), until_us / 1e6)

    reference = Reference(target_us, interval_us, 1_000, 1_000)
    now, number = 0, 0
    while now <= until_us:
        for _ in range(burst):
            reference.arrive(number, now)
            number += 1
        now += gaps[now // busy_us % 2]
    reference.serve(until_us)
    expected = [(n, at + delay_us) for n, at in reference.passed if at + delay_us <= until_us]
    assert list(zip(catcher.numbers, catcher.times_us, strict=True)) == expected
    truth = flow.forward.truth
    decided = max(catcher.numbers)
    assert len(reference.dropped) > 50
    assert truth.codel == pytest.approx(sum(n <= decided for n in reference.dropped), abs=40)
    assert truth.sent == truth.delivered + truth.dropped + truth.on_the_way


def test_codel_drops_more_often_with_the_square_root_of_the_count() -> None:
    interval_us, rate = 100_000, 8e6
    path = Path(rate_bits_per_s=rate, codel=CoDel(5_000, interval_us))
    _, catcher = run(path, Emitter(SIZE, 900), 3.0)
    lost = np.setdiff1d(np.arange(max(catcher.numbers)), catcher.numbers)
    # A datagram is dropped in place of the next one's service, which the first of the next numbers began.
    arrival = dict(zip(catcher.numbers, catcher.times_us, strict=True))
    times = np.array([arrival[int(n) + 1] for n in lost], np.float64)
    expected = interval_us / np.sqrt(np.arange(1, len(times)))
    assert len(times) > 30
    assert np.diff(times) == pytest.approx(expected, abs=1_001)


def test_a_buffer_limits_a_queue_with_codel_too() -> None:
    path = Path(rate_bits_per_s=8e6, buffer_bytes=20_000, codel=CoDel(15_000, 10_000_000))
    flow, catcher = run(path, Emitter(SIZE, 500), 2.0)
    truth = flow.forward.truth
    assert len(catcher.numbers) == pytest.approx(2_000, abs=2)
    assert truth.codel == 0
    assert truth.overflowed == pytest.approx(2_000 - 20, abs=3)
    assert truth.longest_us == pytest.approx(19_000, abs=1_000)


def test_flows_that_share_a_queue_with_codel_share_its_drops() -> None:
    simulation = Simulation(1)
    link = simulation.link(Path(rate_bits_per_s=8e6, delay_us=3_000, codel=CoDel()))
    back = simulation.link(Path())
    flows = [
        simulation.flow(Emitter(SIZE, 1_600), Catcher(), link, back, Silent(), detour_us=detour)
        for detour in (0.0, 20_000.0)
    ]
    simulation.run(5_000_000)
    truths = [flow.forward.truth for flow in flows]
    assert sum(truth.delivered for truth in truths) == pytest.approx(5_000, rel=0.01)
    assert all(truth.codel > 50 for truth in truths)


@pytest.mark.parametrize("ending", [{"codel": None}, {"rate_bits_per_s": None}, {"rate_bits_per_s": 80e6}])
def test_the_queue_with_codel_goes_on_when_the_path_changes(ending: dict[str, object]) -> None:
    path = Path(
        rate_bits_per_s=0.8e6, delay_us=1_000, codel=CoDel(1e6, 1e6), changes=(Change(100_500, ending),)
    )
    flow, catcher = run(path, Emitter(SIZE, 1_000_000, burst=50, total=50), 0.9)
    assert catcher.numbers == list(range(50))
    steps = set(np.diff(catcher.times_us)[12:].tolist())
    assert steps == {10_000 if "codel" in ending else 0 if ending["rate_bits_per_s"] is None else 100}
    assert flow.forward.truth.on_the_way == 0


# -- a rate that walks


def test_the_walk_has_its_mean_its_deviation_and_its_memory() -> None:
    walk, periods = RateWalk(100_000, 0.5, 0.9), 100_000
    rate = WalkingRate(walk, np.random.default_rng(1), 0.0)
    rates = np.diff(rate.given(np.arange(periods + 1.0) * walk.period_us)) / walk.period_us
    # Standard error of the mean of an AR(1) process: sqrt(variance / n x (1 + memory) / (1 - memory)).
    grown = sqrt((1 + walk.memory) / (1 - walk.memory) / periods)
    assert rates.mean() == pytest.approx(1.0, abs=4 * sqrt(exp(0.25) - 1) * grown)
    x = np.log(rates)
    assert x.mean() == pytest.approx(-0.125, abs=4 * 0.5 * grown)
    assert x.std() == pytest.approx(0.5, rel=0.05)
    for lag in (1, 5, 10):
        correlation = np.corrcoef(x[:-lag], x[lag:])[0, 1]
        assert correlation == pytest.approx(0.9**lag, abs=0.05)


def test_the_service_given_has_an_inverse() -> None:
    rate = WalkingRate(RateWalk(10_000, 1.0, 0.5), np.random.default_rng(2), 0.0)
    times = np.random.default_rng(3).uniform(0, 1e7, 1_000)
    assert rate.times(rate.given(times)) == pytest.approx(times, abs=1e-3)
    assert np.all(np.diff(rate.given(np.sort(times))) > 0)


def test_an_overloaded_link_delivers_the_walking_rate() -> None:
    walk = RateWalk(50_000, 0.6, 0.8)
    path = Path(rate_bits_per_s=8e6, buffer_bytes=100_000, rate_walk=walk)
    flow, catcher = run(path, Emitter(SIZE, 10_000, burst=80), 30.0)
    per_period = np.bincount(np.array(catcher.times_us) // walk.period_us, minlength=600)[20:600]
    grown = sqrt((1 + walk.memory) / (1 - walk.memory) / len(per_period))
    assert per_period.mean() / 50 == pytest.approx(1.0, abs=4 * sqrt(exp(0.36) - 1) * grown)
    x = np.log(np.maximum(per_period, 0.5))
    assert x.std() == pytest.approx(0.6, rel=0.15)
    assert np.corrcoef(x[:-1], x[1:])[0, 1] == pytest.approx(0.8, abs=0.1)
    # No queue lasts longer than the service of the buffer at the lowest rate.
    assert flow.forward.truth.longest_us < 100_000 * 8 / (8 * per_period.min() / 50) * 1.5


def test_a_constant_walk_is_a_constant_rate() -> None:
    steady = Path(rate_bits_per_s=8e6, buffer_bytes=20_000, delay_us=1_000)
    walking = steady.with_(rate_walk=RateWalk(10_000, 0.0, 0.0))
    runs = [run(path, Emitter(SIZE, 700, burst=3), 1.0) for path in (steady, walking)]
    assert runs[0][1].numbers == runs[1][1].numbers
    assert runs[0][1].times_us == pytest.approx(runs[1][1].times_us, abs=1)
    truths = [flow.forward.truth for flow, _ in runs]
    assert truths[0].queued_us == pytest.approx(truths[1].queued_us, rel=1e-6)


@pytest.mark.parametrize("fields", [{"rate_walk": None}, {"rate_walk": RateWalk(10_000, 0.8, 0.5)}])
def test_a_change_of_the_walk_moves_what_waits(fields: dict[str, object]) -> None:
    path = Path(
        rate_bits_per_s=0.8e6, rate_walk=RateWalk(10_000, 0.5, 0.5), changes=(Change(100_500, fields),)
    )
    _, catcher = run(path, Emitter(SIZE, 1_000_000, burst=50, total=50), 5.0)
    assert catcher.numbers == list(range(50))
    gaps = np.diff(catcher.times_us)[15:]
    assert (set(gaps.tolist()) == {10_000}) == (fields["rate_walk"] is None)


# -- all of them

EVERYTHING = {
    "lumps": Lumps(1_000, 5_000),
    "second_way": SecondWay(9_000, 0.3),
    "codel": CoDel(5_000, 20_000),
    "rate_walk": RateWalk(20_000, 0.7, 0.8),
}


def combinations() -> list[dict[str, object]]:
    return [dict(chosen) for n in range(1, 5) for chosen in itertools.combinations(EVERYTHING.items(), n)]


@pytest.mark.parametrize("fields", combinations(), ids=lambda fields: "+".join(fields))
def test_every_combination_accounts_for_each_datagram_and_repeats(fields: dict[str, object]) -> None:
    path = Path(
        rate_bits_per_s=5e6,
        buffer_bytes=40_000,
        delay_us=3_000,
        jitter_us=500,
        bursts=Bursts.averaging(0.02, 3),
        duplicate=0.02,
        changes=(
            Change(300_000, dict.fromkeys(fields)),
            Change(500_000, {**fields, "rate_bits_per_s": 20e6}),
            Change(700_000, {"rate_bits_per_s": None}),
            Change(800_000, {"rate_bits_per_s": 3e6, "delay_us": 100}),
        ),
    ).with_(**fields)
    outcomes = []
    for seed in (1, 1, 2):
        flow, catcher = run(path, Emitter(SIZE, 3_000, burst=6, total=1_800), 20.0, seed)
        truth = flow.forward.truth
        assert truth.on_the_way == 0
        assert truth.delivered == len(catcher.numbers)
        assert len(set(catcher.numbers)) + truth.dropped == truth.sent
        assert catcher.times_us == sorted(catcher.times_us)
        outcomes.append((catcher.numbers, catcher.times_us))
    assert outcomes[0] == outcomes[1] != outcomes[2]


def test_a_new_kind_changes_no_draw_of_the_others() -> None:
    plain = Path(loss=0.05, bursts=Bursts.averaging(0.05, 4), duplicate=0.1)
    lost = []
    for path in (plain, plain.with_(lumps=EVERYTHING["lumps"], second_way=EVERYTHING["second_way"])):
        flow, catcher = run(path, Emitter(SIZE, 1_000, burst=3, total=3_000), 5.0)
        lost.append((sorted(catcher.numbers), flow.forward.truth.duplicated))
    assert lost[0] == lost[1]


def test_datagrams_of_several_sizes_arrive_unchanged_from_both_ways() -> None:
    class Sizes(Emitter):
        def transmit(self, now_us: int) -> list[DatagramBatch]:
            return [
                DatagramBatch.of(np.full(3 * size, size % 251, np.uint8), size)
                for batch in super().transmit(now_us)
                for size in (100 + batch.count, 700, 300)
            ]

    class Seen(Catcher):
        def __init__(self) -> None:
            super().__init__()
            self.sizes: list[int] = []

        def receive(self, batch: DatagramBatch, now_us: int) -> None:
            assert set(batch.data[: batch.count * batch.stride].tolist()) == {batch.stride % 251}
            self.sizes += [batch.stride] * batch.count

    simulation = Simulation(1, 5_000.0)
    seen = Seen()
    path = Path(delay_us=1_000, jitter_us=3_000, jitter_reorders=True, second_way=SecondWay(4_000))
    flow = simulation.flow(
        Sizes(SIZE, 1_000, total=200), seen, simulation.link(path), simulation.link(Path()), Silent()
    )
    simulation.run(2_000_000)
    assert {size: seen.sizes.count(size) for size in (101, 700, 300)} == {101: 600, 700: 600, 300: 600}
    assert flow.forward.truth.delivered == 1_800
    assert flow.forward.truth.delivered_bytes == 600 * 1_101


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Lumps, {"least_us": 5.0, "most_us": 1.0}),
        (Lumps, {"least_us": 0.0, "most_us": 0.0}),
        (Lumps, {"least_us": float("nan"), "most_us": 5_000.0}),
        (SecondWay, {"extra_us": -1.0}),
        (SecondWay, {"extra_us": 1.0, "share": 1.5}),
        (CoDel, {"target_us": 0.0}),
        (CoDel, {"interval_us": inf}),
        (RateWalk, {"period_us": 0.0, "deviation": 0.1, "memory": 0.5}),
        (RateWalk, {"period_us": 1e5, "deviation": float("nan"), "memory": 0.5}),
        (RateWalk, {"period_us": 1e5, "deviation": 0.1, "memory": 1.0}),
        (Path, {"delay_us": -1.0}),
        (Path, {"jitter_us": float("nan")}),
        (Path, {"loss": float("nan")}),
        (Path, {"rate_bits_per_s": inf}),
    ],
)
def test_values_that_no_path_has_are_refused(kind: type, fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        kind(**fields)


def test_truth_subtracts_the_new_cause() -> None:
    flow, _ = run(Path(rate_bits_per_s=8e6, codel=CoDel()), Emitter(SIZE, 800), 1.0)
    truth = flow.forward.truth
    assert truth.codel > 0
    assert (truth - truth.copy()).codel == 0
    assert "codel" in {field.name for field in dataclasses.fields(truth)}
