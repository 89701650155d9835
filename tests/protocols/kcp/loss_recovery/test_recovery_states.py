"""The states of a segment under time-ordered recovery, as a table, and random paths that walk it."""

from __future__ import annotations

import enum
import random
from functools import cache

from iperfpy.protocols.congestion.congestion_control import Flight
from iperfpy.protocols.kcp.loss_recovery.rack import Rack
from iperfpy.protocols.kcp.loss_recovery.recovery import Cause, Resend
from iperfpy.protocols.kcp.rtt_estimator import RttEstimator
from iperfpy.protocols.kcp.send_window import SendWindow
from iperfpy.protocols.kcp.wire import Int64s
from tests.protocols.kcp.ends import Fixed, engine
from tests.protocols.kcp.exchange import Exchange, Stream, Way

WALKS = 30


class State(enum.Enum):
    IN_FLIGHT = "transmitted once"
    LOST = "given up, and waits to be sent again"
    RESENT = "transmitted again"
    LOST_AGAIN = "given up after that"
    ARRIVED = "acknowledged"
    SPURIOUS = "acknowledged by an earlier transmission than the last"


class Event(enum.Enum):
    OVERDUE = "something sent later arrived (RFC 8985, 6.2)"
    TIMEOUT = "nothing did for too long (RFC 6298, 5.4)"
    SENT = "the window admitted it"
    PROBE = "it was the tail when a probe was due (RFC 8985, 7.3), or held up a full window for long"
    ACK = "it was acknowledged, by itself or by una"
    OLD_ECHO = "an earlier stamp of it was echoed"


TABLE = {
    (State.IN_FLIGHT, Event.OVERDUE): State.LOST,
    (State.IN_FLIGHT, Event.TIMEOUT): State.LOST,
    (State.IN_FLIGHT, Event.PROBE): State.RESENT,
    (State.IN_FLIGHT, Event.ACK): State.ARRIVED,
    (State.LOST, Event.SENT): State.RESENT,
    (State.LOST, Event.ACK): State.ARRIVED,
    (State.RESENT, Event.OVERDUE): State.LOST_AGAIN,
    (State.RESENT, Event.TIMEOUT): State.LOST_AGAIN,
    (State.RESENT, Event.PROBE): State.RESENT,
    (State.RESENT, Event.ACK): State.ARRIVED,
    (State.LOST_AGAIN, Event.SENT): State.RESENT,
    (State.LOST_AGAIN, Event.ACK): State.ARRIVED,
    (State.ARRIVED, Event.OLD_ECHO): State.SPURIOUS,
}
PROBED = {
    (State.LOST, Event.PROBE): State.RESENT,
    (State.LOST_AGAIN, Event.PROBE): State.RESENT,
}
"""Further steps by a probe: `test_rack` makes them happen, random paths hardly do."""


class Watched(Rack):
    """Rack that follows the state of every segment through its calls and decisions."""

    def __init__(self, window: SendWindow, rtt: RttEstimator) -> None:
        super().__init__(window, rtt)
        self.where: dict[int, State] = {}
        self.steps: set[tuple[State, Event]] = set()

    def _step(self, numbers: list[int], event: Event) -> None:
        for number in numbers:
            step = self.where[number], event
            self.steps.add(step)
            self.where[number] = (TABLE | PROBED)[step]

    def sent(self, first: int, last: int, flight: Flight) -> None:
        assert not self.where.keys() & set(range(first, last)), "a segment is new once"
        self.where.update(dict.fromkeys(range(first, last), State.IN_FLIGHT))
        super().sent(first, last, flight)

    def resent(self, resend: Resend, flight: Flight) -> None:
        self._step(resend.numbers.tolist(), Event.PROBE if resend.cause is Cause.EARLY else Event.SENT)
        super().resent(resend, flight)

    def _give_up(self, numbers: Int64s, cause: Cause) -> None:
        self._step(numbers.tolist(), Event.TIMEOUT if cause is Cause.TIMEOUT else Event.OVERDUE)
        super()._give_up(numbers, cause)

    def acknowledged(self, fresh: Int64s, echoes_us: Int64s, now_us: int) -> None:
        self._step(fresh.tolist(), Event.ACK)
        super().acknowledged(fresh, echoes_us, now_us)

    def found_spurious(self, numbers: Int64s, echoes_us: Int64s, now_us: int) -> None:
        below = [number for number in numbers.tolist() if self._open(number)]
        self._step(below, Event.ACK)  # una says so in the same datagram
        self._step(numbers.tolist(), Event.OLD_ECHO)
        super().found_spurious(numbers, echoes_us, now_us)

    def advanced(self, segments: int, lost: int, now_us: int) -> None:
        self._step([n for n in self.where if n < self._window.una and self._open(n)], Event.ACK)
        super().advanced(segments, lost, now_us)

    def _open(self, number: int) -> bool:
        return self.where[number] not in (State.ARRIVED, State.SPURIOUS)


def _walk(seed: int) -> Watched:
    rng = random.Random(seed)
    outages = rng.choice(((), ((200_000, 1_400_000),)))
    there = Way(20_000, rng.choice((0, 0, 15_000)), rng.choice((0.05, 0.3)), outages=outages)
    back = Way(20_000, rng.choice((0, 15_000)), rng.choice((0.0, 0.3)))
    streams = Stream(rng.randrange(20, 300) * 276, seed, 276 * 4, rng.choice((0, 9_000))), Stream(0, 0)
    left = engine(Watched, Fixed(rng.choice((4, 64))), mtu=300)
    right = engine(None, None, streams[0].deliver, mtu=300)
    exchange = Exchange(left, right, there, back, streams, seed=seed)
    exchange.run()
    exchange.drain()  # late echoes may still show that a retransmission was spurious
    recovery = left.recovery
    assert isinstance(recovery, Watched)
    assert not any(map(recovery._open, recovery.where))
    assert sum(state is State.SPURIOUS for state in recovery.where.values()) <= recovery.spurious
    return recovery


@cache
def _steps() -> frozenset[tuple[State, Event]]:
    return frozenset(step for seed in range(WALKS) for step in _walk(seed).steps)


def test_no_transition_is_outside_the_table() -> None:
    assert _steps() <= (TABLE | PROBED).keys()


def test_every_row_of_the_table_is_used() -> None:
    missing = TABLE.keys() - _steps()
    assert not missing, f"never seen: {missing}"
