"""A link with a trace against mahimahi's loop, written out byte by byte, and against arithmetic."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.simulator import Change, CoDel, Link, Path, RateTrace, Silent, Simulation, Truth
from iperfpy.protocols.simulator.inbox import DatagramRun, Inbox
from iperfpy.protocols.simulator.path_language import parse
from tests.protocols.simulator.dummy import Catcher, Emitter

IP_AND_UDP, TUN = 28, 4


def trace(*stamps_ms: int) -> RateTrace:
    return RateTrace("a trace", np.array(stamps_ms, np.int32))


@dataclass
class Mahimahi:
    """The link queue of mahimahi: a droptail queue, and a packet that is under way byte by byte."""

    stamps_ms: Sequence[int]
    packets: int | None = None
    bytes: int | None = None
    queue: deque[tuple[int, int]] = field(default_factory=deque)
    base_ms: int = 0
    at: int = 0
    under_way: int = 0
    left: int = 0
    departures_us: dict[int, int] = field(default_factory=dict)

    def rationalize(self, now_ms: int) -> None:
        """Use every opportunity up to now."""
        while self.base_ms + self.stamps_ms[self.at] <= now_ms:
            time_ms = self.base_ms + self.stamps_ms[self.at]
            self.at += 1
            if self.at == len(self.stamps_ms):
                self.at, self.base_ms = 0, self.base_ms + self.stamps_ms[-1]
            for _ in range(1_504):
                if not self.left:
                    if not self.queue:
                        break
                    self.under_way, self.left = self.queue.popleft()
                self.left -= 1
                if not self.left:
                    self.departures_us[self.under_way] = 1_000 * time_ms

    def enqueue(self, now_us: int, number: int, size: int) -> None:
        """Take a packet; `size` includes the header of the TUN device."""
        self.rationalize(now_us // 1_000)
        waiting = sum(size for _, size in self.queue)
        if self.packets is not None and len(self.queue) + 1 > self.packets:
            return
        if self.bytes is not None and waiting + size > self.bytes:
            return
        self.queue.append((number, size))


class Ledger(Inbox):
    """Notes the arrival of each datagram by the number in its first bytes."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.arrivals_us: dict[int, float] = {}

    def add(self, run: DatagramRun, ascending: bool = True, second_way: bool = False) -> None:
        super().add(run, ascending, second_way)
        numbers = run.rows[:, :4].copy().view(np.int32)[:, 0].tolist()
        self.arrivals_us |= dict(zip(numbers, run.exits.tolist(), strict=True))


_stamps = st.lists(st.integers(0, 9), min_size=1, max_size=12).map(sorted).filter(lambda one: one[-1] > 0)
_arrivals = st.lists(
    st.tuples(st.integers(0, 6_000), st.integers(4, 1_472), st.integers(1, 5)), min_size=1, max_size=25
)
_limits: st.SearchStrategy[dict[str, int]] = st.one_of(
    st.just({}),
    st.integers(1, 6).map(lambda one: {"buffer_datagrams": one}),
    st.integers(10, 8_000).map(lambda one: {"buffer_bytes": one}),
)


@settings(max_examples=60, deadline=None)
@given(_stamps, _arrivals, _limits, st.booleans())
def test_departures_are_those_of_mahimahi(
    stamps: list[int], arrivals: list[tuple[int, int, int]], limits: dict[str, int], whole_ms: bool
) -> None:
    link = Link(Path(trace=trace(*stamps), delay_us=250.0).with_(**limits), np.random.SeedSequence(1))
    peer = Mahimahi(stamps, limits.get("buffer_datagrams"), limits.get("buffer_bytes"))
    ledger, truth, now_us, number = Ledger(), Truth(), 0, 0
    for pause_us, payload, count in arrivals:
        now_us += pause_us // 1_000 * 1_000 if whole_ms else pause_us
        rows = np.zeros((count, payload), np.uint8)
        rows[:, :4].view(np.int32)[:, 0] = np.arange(number, number + count)
        link.carry(now_us, DatagramBatch.of(rows.reshape(-1), payload), ledger, truth, 0.0)
        for one in range(number, number + count):
            peer.enqueue(now_us, one, payload + IP_AND_UDP + TUN)
        number += count
    now_ms = now_us // 1_000
    while peer.queue or peer.left:
        now_ms += 1
        peer.rationalize(now_ms)
    assert {one: at - 250.0 for one, at in ledger.arrivals_us.items()} == peer.departures_us
    assert truth.overflowed == number - len(peer.departures_us)


def departures(path: Path, emitter: Emitter, seconds: float) -> tuple[list[int], list[int], Truth]:
    simulation, catcher = Simulation(1, 0.0), Catcher()
    flow = simulation.flow(emitter, catcher, simulation.link(path), simulation.link(Path()), Silent())
    simulation.run(int(seconds * 1e6))
    return catcher.numbers, catcher.times_us, flow.forward.truth


def test_a_full_packet_takes_an_opportunity_and_leaves_after_the_time_at_which_it_came() -> None:
    path = Path(trace=trace(0, 1, 1, 5))
    _, times_us, _ = departures(path, Emitter(1_472, 1_000, burst=8, total=8), 0.1)
    assert times_us == [1_000, 1_000, 5_000, 5_000, 6_000, 6_000, 10_000, 10_000]


def test_a_longer_packet_takes_several_opportunities() -> None:
    _, times_us, _ = departures(Path(trace=trace(2)), Emitter(2_000, 1_000, burst=2, total=2), 0.1)
    assert times_us == [4_000, 6_000]  # 2,032 and 4,064 bytes


def test_waits_are_those_before_the_first_byte_is_served() -> None:
    _, _, truth = departures(Path(trace=trace(10)), Emitter(720, 1_000, burst=4, total=4), 0.1)
    assert truth.queued_us == 10_000 + 10_000 + 20_000 + 20_000
    assert truth.longest_us == 20_000


def test_an_event_gives_the_waiting_datagrams_another_service() -> None:
    slow = Path(trace=trace(10), changes=(Change(25_000, {"trace": trace(1)}),))
    numbers, times_us, truth = departures(slow, Emitter(1_472, 1_000_000, burst=6, total=6), 0.2)
    assert numbers == list(range(6))
    assert times_us == [10_000, 20_000, 26_000, 27_000, 28_000, 29_000]
    assert truth.queued_us == sum((10_000, 20_000, 26_000, 27_000, 28_000, 29_000))
    assert truth.longest_us == 29_000


@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_datagrams_that_wait_follow_a_change_from_a_trace_to_a_rate_and_back(loss: float) -> None:
    there = Path(trace=trace(10), loss=loss, delay_us=3_000, duplicate=0.2)
    changes = (
        Change(25_000, {"trace": None, "rate_bits_per_s": 1_500 * 8 / 0.004}),
        Change(34_000, {"trace": trace(2), "rate_bits_per_s": None}),
    )
    numbers, times_us, truth = departures(
        there.with_(changes=changes), Emitter(1_472, 1_000_000, burst=9, total=9), 0.2
    )
    # The trace has served 0 and 1; the rate serves 1,504 bytes as such in 4.01 ms: 2 and 3, and a part of 4.
    expected = {0: 10, 1: 20, 2: 29.01, 3: 33.02, 4: 36, 5: 38, 6: 40, 7: 42, 8: 44}
    known = dict(zip(numbers, times_us, strict=True))
    assert truth.lost == 0 if not loss else truth.lost > 0
    assert len(numbers) == 9 - truth.lost + truth.duplicated
    for number, time_us in known.items():
        assert time_us == pytest.approx(1_000 * expected[number] + 3_000, abs=15)


def test_without_a_bottleneck_the_waiting_datagrams_leave_at_once() -> None:
    path = Path(trace=trace(10), changes=(Change(15_000, {"trace": None}),))
    _, times_us, _ = departures(path, Emitter(1_472, 1_000_000, burst=4, total=4), 0.1)
    assert times_us == [10_000, 15_000, 15_000, 15_000]


def test_codel_drops_from_the_queue_of_a_trace_as_from_that_of_its_rate() -> None:
    queue = Path(codel=CoDel(5_000, 100_000), buffer_bytes=10**6)
    _, _, traced = departures(queue.with_(trace=trace(1)), Emitter(1_472, 500), 2.0)
    _, _, rated = departures(queue.with_(rate_bits_per_s=12e6), Emitter(1_472, 500), 2.0)
    assert traced.codel == pytest.approx(rated.codel, rel=0.02)
    assert traced.delivered == pytest.approx(2_000, rel=0.01)
    assert traced.mean_queue_us == pytest.approx(rated.mean_queue_us, rel=0.05)


def test_codel_and_a_limit_in_packets_keep_mahimahis_count() -> None:
    # CoDel that never drops is a droptail queue.
    never = CoDel(60e6, 60e6)
    for limit in ({"buffer_datagrams": 7}, {"buffer_bytes": 7_000}):
        path = Path(trace=trace(1, 2, 2, 9)).with_(**limit)
        plain = departures(path, Emitter(900, 700, burst=3), 1.0)
        managed = departures(path.with_(codel=never), Emitter(900, 700, burst=3), 1.0)
        assert managed[:2] == plain[:2]
        assert managed[2].overflowed == plain[2].overflowed > 100


def test_the_service_of_a_trace_counts_its_opportunities() -> None:
    link = Link(parse("trace=constant:6M")[0], np.random.SeedSequence(1))
    times_us = np.array([0.0, 1_999.0, 2_000.0, 7_000.0])
    assert link.served_us(times_us).tolist() == [0.0, 0.0, 2_000.0, 6_000.0]
