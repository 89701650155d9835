"""The wait for a peer after the planned end, by a clock that the test moves."""

from __future__ import annotations

import asyncio

import pytest

from iperfpy.errors import LateError
from iperfpy.protocols import path_events
from iperfpy.protocols.path_events import Consequence, Consequences, Sign
from iperfpy.runtime import hearing
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.runtime.deadlines import Deadlines
from iperfpy.runtime.hearing import Hearing, Patience

SECOND_US = 1_000_000
BEGAN_US = 100 * SECOND_US


class World:
    """A clock, the last arrival, and the errors of the network. Times are seconds into the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        self.heard_s: float | None = None
        self.signs: list[tuple[float, str]] = []
        monkeypatch.setattr(hearing, "now_us", lambda: BEGAN_US + round(self.now_s * SECOND_US))
        self.hearing = Hearing("the server", self._heard_us, lambda: BEGAN_US, self._signs)

    def _heard_us(self) -> int | None:
        return None if self.heard_s is None else BEGAN_US + round(self.heard_s * SECOND_US)

    def _signs(self, since_us: int) -> list[str]:
        return [text for at_s, text in self.signs if BEGAN_US + at_s * SECOND_US > since_us]

    def patience(self, end_s: float) -> Patience:
        return Patience(self.hearing, BEGAN_US + round(end_s * SECOND_US), quiet_s=10, longest_s=120)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_a_silence_of_ten_seconds_after_the_planned_end_is_the_limit(world: World) -> None:
    world.heard_s, world.now_s = 2.4, 10
    patience = world.patience(10)
    assert patience.left_s() == pytest.approx(10)
    world.now_s = 20
    assert patience.left_s() == pytest.approx(0)
    assert patience.sentence("x") == "nothing has come from the server since 2.4 s into the test"


def test_a_planned_end_to_come_does_not_count_as_silence(world: World) -> None:
    world.heard_s, world.now_s = 2.4, 3
    assert world.patience(10).left_s() == pytest.approx(17)


def test_an_arrival_extends_the_wait_up_to_a_limit(world: World) -> None:
    patience = world.patience(10)
    world.heard_s = world.now_s = 19
    assert patience.left_s() == pytest.approx(10)
    world.heard_s = world.now_s = 128
    assert patience.left_s() == pytest.approx(2)
    world.heard_s = world.now_s = 130
    assert patience.left_s() == pytest.approx(0)
    assert patience.sentence("the server did not send its results").startswith(
        "the server did not send its results within 120 s after the test, although"
    )


def test_the_sentence_tells_the_errors_since_the_peer_was_heard(world: World) -> None:
    assert world.hearing.sentence() == "nothing has come from the server since the test began"
    world.heard_s = 4
    world.signs = [(3, "192.0.2.1 answered oddly"), (5, "192.0.2.1 was reported to be unreachable")]
    assert world.hearing.sentence() == (
        "nothing has come from the server since 4.0 s into the test; 192.0.2.1 was reported to be unreachable"
    )


async def test_a_wait_asks_how_much_is_left_before_it_ends() -> None:
    left, asked = iter([0.01, 0.01, 0.0]), []

    def left_s() -> float:
        asked.append(next(left))
        return asked[-1]

    with pytest.raises(LateError, match="silent"):
        await AbortScope().wait(asyncio.Event().wait(), left_s, lambda: "silent")
    assert asked == [0.01, 0.01, 0.0]


async def test_a_result_ends_a_wait_that_is_extended() -> None:
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(0.03, done.set)
    assert await AbortScope().wait(done.wait(), lambda: 0.01, "late")


def test_the_table_says_if_a_silence_may_last(monkeypatch: pytest.MonkeyPatch) -> None:
    deadlines = Deadlines(stall_s=3.0)
    assert deadlines.silence_s(has_planned_end=True) is None
    assert deadlines.silence_s(has_planned_end=False) == 3.0
    ending = Consequences(*[Consequence.END_IN_TIME] * 3)
    monkeypatch.setattr(path_events, "CONSEQUENCES", {**path_events.CONSEQUENCES, Sign.SILENCE: ending})
    assert deadlines.silence_s(has_planned_end=True) == 3.0
