"""Streams are visited in turns: a clock and a loop that are lists, no socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest

from iperfpy.protocols import clock
from iperfpy.protocols.datagrams import stream_rounds as module
from iperfpy.protocols.datagrams.stream_rounds import SLICE_NS, StreamRounds

US = 1_000
SHORTEST_US = 70


class Machine:
    """An event loop of two lists, and the time that the visits take."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_us = 1_000_000
        self.soon: list[Callable[[], None]] = []
        self.timers: list[Timer] = []
        self.visits: list[str] = []
        monkeypatch.setattr(clock, "now_us", lambda: self.now_us)
        monkeypatch.setattr(module, "monotonic_ns", lambda: self.now_us * US)

    def call_soon(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.soon.append(callback)
        return callback

    def timer(self, ring: Callable[[], None]) -> Timer:
        timer = Timer(self, ring)
        self.timers.append(timer)
        return timer

    def turn(self) -> list[str]:
        """One turn of the loop; the streams visited in it."""
        self.visits.clear()
        callbacks, self.soon[:] = list(self.soon), []
        for timer in self.timers:
            if timer.due_us is not None and timer.due_us <= self.now_us:
                timer.due_us = None
                callbacks.append(timer.ring)
        for callback in callbacks:
            callback()
        return list(self.visits)

    def due_us(self) -> list[int]:
        """The times of the timers that run."""
        return [timer.due_us for timer in self.timers if timer.due_us is not None]

    def sleep(self) -> list[str]:
        """Let time pass until the next timer."""
        self.now_us = min(self.due_us())
        return self.turn()


class Timer:
    """What `LoopTimer` offers, in the machine's time."""

    shortest_us = SHORTEST_US

    def __init__(self, machine: Machine, ring: Callable[[], None]) -> None:
        self.machine, self.ring, self.due_us, self.closed = machine, ring, cast(int | None, None), False

    def start(self, wait_us: int) -> None:
        self.due_us, self.closed = self.machine.now_us + wait_us, False

    def close(self) -> None:
        self.due_us, self.closed = None, True


class Stream:
    """A stream: each visit takes `cost_us`, and it asks again `again` times."""

    def __init__(
        self, machine: Machine, rounds: StreamRounds, name: str, cost_us: int = 0, again: int = 0
    ) -> None:
        self.machine, self.rounds, self.name, self.cost_us, self.again = machine, rounds, name, cost_us, again

    def visit(self) -> None:
        self.machine.visits.append(self.name)
        self.machine.now_us += self.cost_us
        if self.again:
            self.again -= 1
            self.rounds.soon(self)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.fixture
def rounds(machine: Machine) -> StreamRounds:
    return StreamRounds(machine, machine.timer)  # type: ignore[arg-type]


def test_a_round_visits_each_stream_once_in_the_order_in_which_they_asked(
    machine: Machine, rounds: StreamRounds
) -> None:
    streams = [Stream(machine, rounds, name, again=1) for name in "abc"]
    for stream in (*streams, streams[0]):
        rounds.soon(stream)
    assert machine.turn() == ["a", "b", "c"]
    assert rounds.awaits(streams[0])
    assert machine.turn() == ["a", "b", "c"]
    assert machine.turn() == []
    assert not machine.soon


def test_a_round_goes_on_in_the_next_turn_when_its_slice_is_over(
    machine: Machine, rounds: StreamRounds
) -> None:
    cost_us = SLICE_NS // US
    for name in "abcd":
        rounds.soon(Stream(machine, rounds, name, cost_us // 2 + 1, again=1))
    # Other callbacks of the loop run between the turns, and no stream has a second visit before all have one.
    assert [machine.turn() for _ in range(4)] == [["a", "b"], ["c", "d"], ["a", "b"], ["c", "d"]]


def test_the_deadlines_of_all_streams_are_on_one_timer(machine: Machine, rounds: StreamRounds) -> None:
    streams = [Stream(machine, rounds, str(index)) for index in range(100)]
    for index, stream in enumerate(streams):
        rounds.at(stream, machine.now_us + 50_000 - 100 * (index // 10))
    assert len(machine.due_us()) == len(machine.timers) == 1
    seen: list[str] = []
    while machine.due_us():
        visited = machine.sleep()
        assert len(visited) == 10
        seen += visited
    assert len(seen) == len(set(seen)) == 100


def test_of_several_deadlines_of_a_stream_the_earliest_counts(machine: Machine, rounds: StreamRounds) -> None:
    stream, began_us = Stream(machine, rounds, "a"), machine.now_us
    for wait_us in (50_000, 20_000, 30_000):
        rounds.at(stream, began_us + wait_us)
    assert machine.sleep() == ["a"]
    assert machine.now_us == began_us + 20_000
    assert not machine.due_us()


def test_a_deadline_that_is_past_leaves_the_loop_the_shortest_time_of_its_timer(
    machine: Machine, rounds: StreamRounds
) -> None:
    rounds.at(Stream(machine, rounds, "a"), machine.now_us - 5)
    assert machine.turn() == []
    began_us = machine.now_us
    assert machine.sleep() == ["a"]
    assert machine.now_us == began_us + SHORTEST_US


def test_a_stream_that_is_forgotten_is_visited_no_more(machine: Machine, rounds: StreamRounds) -> None:
    a, b, c = (Stream(machine, rounds, name) for name in "abc")
    for stream in (a, b):
        rounds.soon(stream)
        rounds.at(stream, machine.now_us + 5_000)
    rounds.at(c, machine.now_us + 5_000)
    rounds.forget(a)
    assert machine.turn() == ["b"]
    rounds.forget(b)
    assert machine.sleep() == ["c"]
    rounds.forget(c)
    assert not machine.soon
    assert not machine.due_us()
    assert machine.timers[0].closed


def test_the_timer_is_closed_with_the_last_stream_also_if_that_awaits_no_time(
    machine: Machine, rounds: StreamRounds
) -> None:
    a, b = (Stream(machine, rounds, name) for name in "ab")
    rounds.at(a, machine.now_us + 5_000)
    rounds.soon(b)
    rounds.forget(b)
    assert not machine.timers[0].closed
    machine.sleep()
    rounds.forget(a)
    assert machine.timers[0].closed


def test_a_stream_that_another_one_forgets_in_the_round_is_not_visited(
    machine: Machine, rounds: StreamRounds
) -> None:
    b = Stream(machine, rounds, "b")

    class Closing(Stream):
        def visit(self) -> None:
            super().visit()
            rounds.forget(b)

    rounds.soon(Closing(machine, rounds, "a"))
    rounds.soon(b)
    assert machine.turn() == ["a"]
    assert not machine.soon
