"""Streams are visited in turns: a clock and a loop that are lists, no socket."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from iperfpy.protocols import clock
from iperfpy.protocols.datagrams import stream_rounds as module
from iperfpy.protocols.datagrams.stream_rounds import SLICE_NS, StreamRounds

US = 1_000


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

    def call_later(self, wait_s: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(self.now_us + round(wait_s * 1e6), callback)
        self.timers.append(timer)
        return timer

    def turn(self) -> list[str]:
        """One turn of the loop; the streams visited in it."""
        self.visits.clear()
        due = [timer for timer in self.timers if timer.time_us <= self.now_us and not timer.cancelled]
        self.timers = [timer for timer in self.timers if timer not in due and not timer.cancelled]
        callbacks, self.soon[:] = [*self.soon, *(timer.callback for timer in due)], []
        for callback in callbacks:
            callback()
        return list(self.visits)

    def sleep(self) -> list[str]:
        """Let time pass until the next timer."""
        self.now_us = min(timer.time_us for timer in self.timers if not timer.cancelled)
        return self.turn()


class Timer:
    def __init__(self, time_us: int, callback: Callable[[], None]) -> None:
        self.time_us, self.callback, self.cancelled = time_us, callback, False

    def cancel(self) -> None:
        self.cancelled = True


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
    return StreamRounds(machine)  # type: ignore[arg-type]


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
    assert len([timer for timer in machine.timers if not timer.cancelled]) == 1
    seen: list[str] = []
    while any(not timer.cancelled for timer in machine.timers):
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
    assert not [timer for timer in machine.timers if not timer.cancelled]


def test_a_deadline_that_is_past_leaves_the_loop_a_millisecond(
    machine: Machine, rounds: StreamRounds
) -> None:
    rounds.at(Stream(machine, rounds, "a"), machine.now_us - 5)
    assert machine.turn() == []
    began_us = machine.now_us
    assert machine.sleep() == ["a"]
    assert machine.now_us == began_us + 1_000


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
    assert not [timer for timer in machine.timers if not timer.cancelled]


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
