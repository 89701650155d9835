"""The measured time of one end, the watch over its progress, and the times of polls."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast

import pytest

from iperfpy.errors import LateError, PathError
from iperfpy.plan import Direction, Plan, Role
from iperfpy.protocols.contract import Stream
from iperfpy.protocols.settings import Settings
from iperfpy.runtime.abort_scope import AbortScope
from iperfpy.runtime.deadlines import Deadlines
from iperfpy.traffic.counting_time import SENDER_GRACE_US, CountingTime
from iperfpy.traffic.ending import EndRule
from iperfpy.traffic.poll_times import END_POLL_US, PER_STREAM_US, PollTimes
from iperfpy.traffic.progress_watch import ProgressWatch

SECOND_US = 1_000_000
DEADLINES = Deadlines(stall_s=5.0, receive_s=3.0)


@dataclass
class Moving:
    """The counters of a stream."""

    seen_bytes: int = 0


@dataclass
class Carried:
    """A stream while it is measured."""

    stream: Stream
    is_done: bool = False
    has_sent: bool = False
    snapshots: Moving = field(default_factory=Moving)


def make_stream(*, sends: bool) -> Carried:
    return Carried(Stream(id=1, index=0, conv=0, sends=sends))


def watch_over(
    *streams: Carried,
    ends_by_amount: bool = False,
    has_planned_end: bool = False,
    deadlines: Deadlines = DEADLINES,
) -> tuple[ProgressWatch, AbortScope]:
    scope = AbortScope()
    watched = cast("Any", streams)
    watch = ProgressWatch(
        watched, 0, scope, deadlines, ends_by_amount=ends_by_amount, has_planned_end=has_planned_end
    )
    return watch, scope


def time_of(role: Role, *, only_receives: bool, **changes: Any) -> CountingTime:
    settings = {"duration_us": 10 * SECOND_US, "direction": Direction.FORWARD, **changes}
    plan = Plan("any", Settings(), **settings)
    rule = EndRule.of(role, plan, peer_is_iperfpy=True)
    return CountingTime(plan, rule, 0, only_receives=only_receives)


def quiet_since(time_us: int) -> tuple[Carried, ProgressWatch]:
    """A receiver of 1,000 bytes, the last of them at that time, and the watch over it."""
    receiver = make_stream(sends=False)
    progress, _ = watch_over(receiver)
    receiver.snapshots.seen_bytes = 1000
    progress.check(time_us, peer_finished=False)
    return receiver, progress


async def test_a_sender_ends_when_it_learns_of_the_end() -> None:
    sender = make_stream(sends=True)
    progress, _ = watch_over(sender)
    time = time_of(Role.CLIENT, only_receives=False)
    time.end(10_400_000, progress, 0)
    assert time.ended_us == 10_400_000


async def test_a_receiver_of_a_file_ends_with_its_last_data() -> None:
    _, progress = quiet_since(300_000)
    time = time_of(Role.CLIENT, only_receives=True)
    time.ends_early = True
    time.end(400_000, progress, 1000)
    assert time.ended_us == 300_000


async def test_a_receiver_without_late_data_ends_at_the_planned_time() -> None:
    _, progress = quiet_since(9_800_000)
    time = time_of(Role.SERVER, only_receives=True)
    time.end(10_400_000, progress, 1000)
    assert time.ended_us == 10 * SECOND_US


async def test_a_receiver_with_late_data_ends_with_it() -> None:
    receiver, progress = quiet_since(9_800_000)
    late = time_of(Role.SERVER, only_receives=True)
    late.end(10_400_000, progress, 1001)
    assert late.ended_us == 10_400_000
    receiver.snapshots.seen_bytes = 2000
    progress.check(10_200_000, peer_finished=False)
    seen = time_of(Role.SERVER, only_receives=True)
    seen.end(10_400_000, progress, 2000)
    assert seen.ended_us == 10_200_000


async def test_a_receiver_never_ends_before_its_last_tick() -> None:
    receiver = make_stream(sends=False)
    progress, _ = watch_over(receiver)
    receiver.snapshots.seen_bytes = 1000
    progress.check(4_000_000, peer_finished=False)
    time = time_of(Role.SERVER, only_receives=True, duration_us=0, total_bytes=1000)
    time.ticked_us = 5_000_000
    time.end(7_000_000, progress, 1000)
    assert time.ended_us == 5_000_000


@pytest.mark.parametrize(
    ("heard_us", "ticked_us", "until_us"),
    [
        (9_800_000, 9_000_000, 10_000_000),
        (10_200_000, 9_000_000, 10_200_000),
        (9_800_000, 10_100_000, 10_100_000),
        (10_500_000, 9_000_000, 10_400_000),
    ],
)
async def test_beside_streams_that_it_sends_a_receiver_ends_with_its_last_data(
    heard_us: int, ticked_us: int, until_us: int
) -> None:
    """But not before the planned time, nor before its last tick."""
    _, progress = quiet_since(heard_us)
    time = time_of(Role.CLIENT, only_receives=False, direction=Direction.BIDIRECTIONAL)
    time.ticked_us = ticked_us
    time.end(10_400_000, progress, 1000)
    assert (time.ended_us, time.received_until_us) == (10_400_000, until_us)


async def test_without_a_duration_all_streams_end_together() -> None:
    _, progress = quiet_since(300_000)
    both = {"direction": Direction.BIDIRECTIONAL, "duration_us": 0, "total_bytes": 1000}
    time = time_of(Role.CLIENT, only_receives=False, **both)
    time.end(400_000, progress, 1000)
    assert time.received_until_us is None


def test_the_first_data_is_awaited_until_the_planned_end() -> None:
    """Between 1 and 2 s, if this end knows the planned end."""
    reverse = {"direction": Direction.REVERSE}
    knows = time_of(Role.CLIENT, only_receives=True, duration_us=1_500_000, **reverse)
    assert knows.first_data_limit_us(0) == 1_500_000
    assert knows.first_data_limit_us(900_000) == 1_000_000
    omits = time_of(Role.CLIENT, only_receives=True, duration_us=1_500_000, omit_us=SECOND_US, **reverse)
    assert omits.first_data_limit_us(0) == 2_000_000
    assert omits.first_data_limit_us(700_000) == 1_800_000
    amount = {"duration_us": 0, "total_bytes": 1000}
    assert time_of(Role.SERVER, only_receives=True, **amount).first_data_limit_us(0) == 2_000_000


async def test_only_a_server_that_receives_for_a_duration_stops_by_its_clock() -> None:
    assert time_of(Role.SERVER, only_receives=True).stops_us == 10 * SECOND_US
    assert time_of(Role.CLIENT, only_receives=False).stops_us is None
    omitting = time_of(Role.SERVER, only_receives=True, omit_us=SECOND_US)
    assert omitting.stops_us is None
    moved = time_of(Role.SERVER, only_receives=True)
    moved.begin(300_000)
    assert moved.stops_us == 10_300_000
    ended = time_of(Role.SERVER, only_receives=True)
    ended.ended_us = 10_300_000
    assert ended.stops_us is None
    assert ended.tick_due_us is None


async def test_a_server_that_sends_for_a_duration_stops_sending_by_its_clock() -> None:
    """Its client's TEST_END may wait behind what the server itself has queued on the path."""
    reverse = {"direction": Direction.REVERSE}
    planned = 10 * SECOND_US + SENDER_GRACE_US
    assert time_of(Role.SERVER, only_receives=False, **reverse).senders_stop_us == planned
    assert time_of(Role.CLIENT, only_receives=True, **reverse).senders_stop_us is None
    assert time_of(Role.SERVER, only_receives=False, omit_us=SECOND_US, **reverse).senders_stop_us is None


async def test_a_stall_aborts_the_test() -> None:
    sender = make_stream(sends=True)
    progress, scope = watch_over(sender)
    sender.snapshots.seen_bytes = 10
    progress.check(SECOND_US, peer_finished=False)
    progress.check(6 * SECOND_US, peer_finished=False)
    assert scope.error is None
    progress.check(6 * SECOND_US + 1, peer_finished=False)
    assert isinstance(scope.error, PathError)
    assert str(scope.error) == "no data has moved for 5 s"


async def test_a_receiver_that_gets_nothing_aborts_while_the_other_direction_moves() -> None:
    sender, receiver = make_stream(sends=True), make_stream(sends=False)
    progress, scope = watch_over(sender, receiver)
    for second in range(1, 5):
        sender.snapshots.seen_bytes += 10
        progress.check(second * SECOND_US, peer_finished=False)
    assert isinstance(scope.error, LateError)
    assert str(scope.error) == "no data has come for 3 s"


@pytest.mark.parametrize("sends", [False, True])
async def test_a_silence_before_the_planned_end_aborts_nothing(sends: bool) -> None:
    progress, scope = watch_over(make_stream(sends=sends), has_planned_end=True, deadlines=Deadlines())
    progress.check(10_000 * SECOND_US, peer_finished=False)
    assert scope.error is None


async def test_the_limit_of_the_user_holds_before_the_planned_end() -> None:
    progress, scope = watch_over(make_stream(sends=False), has_planned_end=True)
    progress.check(3 * SECOND_US + 1, peer_finished=False)
    assert str(scope.error) == "no data has come for 3 s"


async def test_without_a_planned_end_120_s_without_payload_abort_the_test() -> None:
    for receive_only in (False, True):
        progress, scope = watch_over(make_stream(sends=not receive_only), deadlines=Deadlines())
        progress.check(120 * SECOND_US, peer_finished=False)
        assert scope.error is None
        progress.check(120 * SECOND_US + 1, peer_finished=False)
        assert "for 120 s" in str(scope.error)


async def test_payload_that_was_looked_at_twice_counts_as_heard() -> None:
    receiver = make_stream(sends=False)
    progress, scope = watch_over(receiver)
    assert progress.heard_us(SECOND_US) is None
    receiver.snapshots.seen_bytes = 1
    assert progress.heard_us(2 * SECOND_US) == 2 * SECOND_US
    progress.check(5 * SECOND_US, peer_finished=False)
    assert scope.error is None
    progress.check(5 * SECOND_US + 1, peer_finished=False)
    assert str(scope.error) == "no data has come for 3 s"


@pytest.mark.parametrize("peer_finished", [False, True])
async def test_a_receiver_waits_for_no_data_of_a_peer_that_has_finished(peer_finished: bool) -> None:
    receiver = make_stream(sends=False)
    progress, scope = watch_over(receiver)
    progress.check(4 * SECOND_US, peer_finished=peer_finished)
    assert (scope.error is None) is peer_finished


async def test_a_sender_that_has_sent_its_amount_is_not_aborted_by_a_stall() -> None:
    sender = make_stream(sends=True)
    progress, scope = watch_over(sender, ends_by_amount=True)
    sender.is_done = True
    for second in range(0, 60, 4):
        progress.check(second * SECOND_US, peer_finished=False)
    assert scope.error is None


async def test_a_sender_whose_last_data_is_not_acknowledged_is_aborted() -> None:
    sender = make_stream(sends=True)
    progress, scope = watch_over(sender, ends_by_amount=True)
    sender.has_sent = True
    progress.check(5 * SECOND_US, peer_finished=False)
    assert scope.error is None
    progress.check(6 * SECOND_US, peer_finished=False)
    assert isinstance(scope.error, PathError)
    assert str(scope.error) == "the last data was sent, and nothing of it was acknowledged for 5 s"


def test_pauses_between_polls_vary_around_their_mean() -> None:
    polls = PollTimes(Plan("any", Settings()), 1, only_receives=False)
    times = [0]
    for _ in range(200):
        times.append(polls.next_us(times[-1], omitting=False))
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert 37_500 <= min(pauses) < 38_500
    assert 61_500 < max(pauses) <= 62_500
    assert sum(pauses) / len(pauses) == pytest.approx(50_000, rel=0.01)


def test_many_streams_are_polled_less_often() -> None:
    """The looks at 128 streams must not take more time than those at 50."""
    timed, amount = Plan("any", Settings()), Plan("any", Settings(), duration_us=0, total_bytes=1000)
    for plan in (timed, amount):
        polls = PollTimes(plan, 128, only_receives=True)
        assert polls.next_us(0, omitting=False) >= 0.75 * 128 * PER_STREAM_US


def test_a_receiver_of_an_amount_polls_often_after_the_omitted_period() -> None:
    plan = Plan("any", Settings(), duration_us=0, total_bytes=1000)
    polls = PollTimes(plan, 1, only_receives=True)
    assert polls.next_us(0, omitting=False) <= 1.25 * END_POLL_US
    assert polls.next_us(0, omitting=True) >= 0.75 * 50_000
