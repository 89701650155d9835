"""The lab's relay in virtual time: the same fates as in the simulator, whenever it gets the processor."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from math import inf

import numpy as np
import pytest

from iperfpy.lab.frame_ring import HEADER_BYTES
from iperfpy.lab.lab_status import LabTime
from iperfpy.lab.relay import TURN_US, UNCLEAN_US, JoinedWay, Relay
from iperfpy.lab.way import Way
from iperfpy.protocols.simulator import Silent, Simulation, Truth
from iperfpy.protocols.simulator.inbox import Rows
from iperfpy.protocols.simulator.path_language import parse
from tests.protocols.simulator.dummy import Catcher, Emitter

SEED, TOTAL, INTERVAL_US = 7, 600, 1_000
PAYLOAD = 972
FRAME = PAYLOAD + 28 + HEADER_BYTES


class Clock:
    """A time that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def now_us(self) -> float:
        return self.now


class Script:
    """Numbered frames that arrive one per `INTERVAL_US`, and become known when the relay reads."""

    def __init__(self, total: int = TOTAL) -> None:
        self.total, self.read_frames, self.lost = total, 0, 0

    def due_us(self) -> float:
        return float(self.read_frames * INTERVAL_US) if self.read_frames < self.total else inf

    def read(self, now_us: float) -> Iterator[tuple[float, Rows]]:
        buffer = np.zeros((1, FRAME), np.uint8)
        while self.due_us() <= now_us:
            buffer[0, :8] = np.frombuffer(self.read_frames.to_bytes(8, "little"), np.uint8)
            self.read_frames += 1
            yield float((self.read_frames - 1) * INTERVAL_US), buffer
        buffer[:] = 255

    def dropped(self) -> int:
        return self.lost


class Record:
    """Numbers of the frames that left, and the time of each."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.numbers: list[int] = []
        self.times_us: list[float] = []
        self.refusing = 0

    def send(self, pieces: Sequence[Rows]) -> int:
        for rows in pieces:
            self.numbers += [int.from_bytes(row[:8].tobytes(), "little") for row in rows]
            self.times_us += [self.clock.now] * len(rows)
        return self.refusing


def directions(text: str, clock: Clock, sources: Sequence[Script]) -> list[JoinedWay]:
    seeds = np.random.SeedSequence(SEED).spawn(2)
    ways = [Way(path, seed, -HEADER_BYTES) for path, seed in zip(parse(text), seeds, strict=True)]
    return [JoinedWay.of(way, source, Record(clock)) for way, source in zip(ways, sources, strict=True)]


def relayed(text: str, delay_us: Callable[[], float], until_us: float = 5e6) -> tuple[Relay, list[JoinedWay]]:
    """Run the relay; each turn comes as much too late as `delay_us()` says."""
    clock, sources = Clock(), [Script(), Script(0)]
    both = directions(text, clock, sources)
    relay = Relay(both, clock.now_us)
    while clock.now < until_us:
        relay.turn()
        clock.now += relay.rest_us()
        due_us = min(relay.due_us(), *(source.due_us() for source in sources))
        clock.now = max(clock.now, min(due_us, until_us)) + delay_us()
    return relay, both


def simulated(text: str) -> tuple[Truth, Catcher]:
    simulation = Simulation(SEED, 0.0)
    there, back = (simulation.link(path) for path in parse(text))
    catcher = Catcher()
    flow = simulation.flow(Emitter(PAYLOAD, INTERVAL_US, total=TOTAL), catcher, there, back, Silent())
    simulation.run(5_000_000)
    return flow.forward.truth, catcher


def counts(truth: Truth) -> dict[str, int]:
    return {
        field.name: getattr(truth, field.name)
        for field in dataclasses.fields(truth)
        if field.type == "int" and "bytes" not in field.name
    }


class Slow(Script):
    """Reading takes a millisecond of the clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(1)
        self.clock, self.asked_us = clock, -1.0

    def read(self, now_us: float) -> Iterator[tuple[float, Rows]]:
        self.asked_us = now_us
        self.clock.now += 1_000
        return super().read(now_us)


def test_each_direction_is_read_with_the_time_of_its_reading() -> None:
    """With the time before the first one, the frames of the second would arrive a millisecond early."""
    clock = Clock()
    sources = [Slow(clock), Slow(clock)]
    Relay(directions("20M,delay=20ms", clock, sources), clock.now_us).turn()
    assert [source.asked_us for source in sources] == [0.0, 1_000.0]


PATHS = [
    "20M,delay=20ms,loss=10,ge=2/30",
    "6M,delay=20ms,queue=20p",
    "6M,delay=20ms,queue=20p,codel=1ms/20ms",
    "0,delay=20ms,police=6M/10k",
    "20M,delay=20ms,jitter=5ms,reorder=1,dup=5",
    "20M,delay=20ms,agg=5ms/20ms,alt=10ms/30",
    "9M,delay=20ms,walk=50ms/0.5/0.9 @100ms:rate=4M @200ms:loss=20 @300ms:delay=40ms @400ms:outage=1",
]


@pytest.mark.parametrize("text", PATHS)
def test_every_frame_meets_its_fate_of_the_simulator(text: str) -> None:
    truth, catcher = simulated(text)
    relay, (there, _) = relayed(text, lambda: 0.0)
    assert counts(there.way.truth) == counts(truth)
    assert isinstance(there.sink, Record)
    assert there.sink.numbers == catcher.numbers
    # The relay moderates its turns, and is never early.
    late = np.array(there.sink.times_us) - np.array(catcher.times_us)
    assert late.min() >= -1.0
    assert late.max() <= TURN_US + 1.0
    assert relay.why_unclean() == ""


@pytest.mark.parametrize("text", [text for text in PATHS if "codel" not in text])
def test_a_late_relay_delays_frames_and_changes_nothing_else(text: str) -> None:
    truth, catcher = simulated(text)
    chance = np.random.default_rng(3)
    relay, (there, _) = relayed(text, lambda: float(chance.exponential(2_000.0)))
    assert counts(there.way.truth) == counts(truth)
    assert isinstance(there.sink, Record)
    assert sorted(there.sink.numbers) == sorted(catcher.numbers)
    assert relay.late.quantile_us(0.5) > 100.0


def test_a_codel_queue_decides_when_the_relay_was_held_up() -> None:
    """Its decisions wait for all arrivals until then, so that a stall changes none of them."""
    text = PATHS[2]
    truth, _ = simulated(text)
    chance = np.random.default_rng(3)
    _, (there, _) = relayed(text, lambda: float(chance.exponential(2_000.0)))
    assert counts(there.way.truth) == counts(truth)


def test_a_run_is_unclean_above_ten_milliseconds_of_lateness() -> None:
    relay, _ = relayed("20M,delay=20ms", lambda: 2 * UNCLEAN_US)
    assert "ms late (p99)" in relay.why_unclean()


def test_packets_that_the_machine_lost_make_a_run_unclean() -> None:
    relay, (_, back) = relayed("20M,delay=20ms", lambda: 0.0)
    assert relay.why_unclean(lost=3) == "this machine lost 3 packets behind the path"
    assert isinstance(back.source, Script)
    back.source.lost = 2
    assert relay.why_unclean() == "this machine lost 2 packets before the path"
    clock = Clock()
    both = directions("20M", clock, [Script(1), Script(0)])
    assert isinstance(both[0].sink, Record)
    both[0].sink.refusing = 1
    relay = Relay(both, clock.now_us)
    relay.turn()
    clock.now += relay.due_us()
    relay.turn()
    assert relay.why_unclean() == "this machine lost 1 packet behind the path"


def test_the_path_stands_still_until_the_command_begins() -> None:
    time = LabTime()
    relay = Relay(directions("20M @1us:outage=1", Clock(), [Script(0), Script(0)]), time.now_us)
    for _ in range(3):
        relay.turn()
        assert relay.due_us() == 1.0
    time.begin()
    while not time.now_us():
        pass
    relay.turn()
    assert relay.due_us() == inf


def test_an_idle_relay_waits_for_the_next_event() -> None:
    clock = Clock()
    relay = Relay(directions("20M @5s:rate=10M", clock, [Script(0), Script(0)]), clock.now_us)
    relay.turn()
    assert relay.due_us() == 5e6
    clock.now = 5e6
    relay.turn()
    assert relay.due_us() == inf
