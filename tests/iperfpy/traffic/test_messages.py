"""Both ends of a message test: due times, echoes, and the limits that a server keeps."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest

from iperfpy.errors import ProtocolError
from iperfpy.plan import Plan
from iperfpy.protocols.registry import transport
from iperfpy.records import UNANSWERED
from iperfpy.traffic import messages
from iperfpy.traffic.messages import HEADER, MessageEcho, MessageSource

CONV = 0x1234_5678


class Clock:
    """The clock of the module under test."""

    def __init__(self) -> None:
        self.now_us = 1_000_000

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(messages, "now_us", made)
    return made


def plan(per_s: int = 100, size_bytes: int = 100, seconds: float = 1.0) -> Plan:
    settings = transport("tcp").settings()
    duration_us = round(seconds * 1e6)
    return Plan("tcp", settings, duration_us=duration_us, block_bytes=size_bytes, messages_per_s=per_s)


def source(clock: Clock, wanted: Plan, *, datagrams: bool = False) -> MessageSource:
    return MessageSource(wanted, CONV, clock.now_us, datagrams=datagrams)


def echo(wanted: Plan, wake: Callable[[], None] = lambda: None, *, datagrams: bool = False) -> MessageEcho:
    return MessageEcho(wanted, CONV, wake, datagrams=datagrams)


def message(number: int, size_bytes: int = 100, conv: int = CONV) -> bytes:
    return HEADER.pack(number, 77, conv) + bytes(size_bytes - HEADER.size)


def sent_by(made: MessageSource, clock: Clock) -> list[bytes]:
    """Every message, each taken at the time that the source asked for."""
    taken = []
    while (wait_us := made.wait_us(clock.now_us)) >= 0:
        if wait_us:
            clock.now_us += wait_us
        else:
            taken.append(bytes(made.take()))
    return taken


def test_messages_are_an_interval_apart_on_average_and_keep_step_with_no_timer(clock: Clock) -> None:
    began_us = clock.now_us
    due_us = [HEADER.unpack_from(one)[1] - began_us for one in sent_by(source(clock, plan()), clock)]
    assert len(due_us) == 100
    assert due_us[0] == 0
    gaps = np.diff(due_us)
    assert (gaps > 0).all()
    assert np.mean(gaps) == pytest.approx(10_000, rel=0.01)
    # The phases within a tick of 10 ms are spread evenly: each tenth of it has about a tenth of them.
    counts = np.bincount(np.array(due_us) % 10_000 // 1_000, minlength=10)
    assert counts.min() >= 8
    assert counts.max() <= 12


def test_a_message_is_measured_from_its_due_time_though_the_transport_had_no_room(clock: Clock) -> None:
    made = source(clock, plan())
    assert made.wait_us(clock.now_us) == 0
    began_us = clock.now_us
    first = bytes(made.take())
    clock.now_us += 500_000  # no room for half a second: about fifty messages have become due
    waiting = []
    while made.wait_us(clock.now_us) == 0:
        waiting.append(bytes(made.take()))
    assert 45 <= len(waiting) <= 52
    clock.now_us += 1_000
    for one in (first, *waiting):
        made.arrived(memoryview(one))
    times = made.times()
    assert times.round_trip_us[0] == 501_000
    second_due_us = HEADER.unpack_from(waiting[0])[1] - began_us
    assert times.round_trip_us[1] == 501_000 - second_due_us
    assert times.held_us[1] == 500_000 - second_due_us


def test_messages_that_were_due_and_never_left_are_unanswered(clock: Clock) -> None:
    made = source(clock, plan())
    made.wait_us(clock.now_us)
    made.take()
    clock.now_us += 2_000_000
    times = made.times()
    assert times.sent == 1
    assert len(times.round_trip_us) == 100
    assert (times.round_trip_us == UNANSWERED).all()


@pytest.mark.parametrize("cut", [1, 7, 99, 100, 101, 250])
def test_a_byte_stream_may_be_cut_anywhere(clock: Clock, cut: int) -> None:
    wanted = plan()
    there, back = source(clock, wanted), echo(wanted)
    stream = b"".join(sent_by(there, clock))
    for begin in range(0, len(stream), cut):
        back.arrived(memoryview(stream[begin : begin + cut]))
    echoed = bytearray()
    while back.wait_us(0) == 0:
        echoed += back.take()
    assert len(echoed) == len(stream)
    clock.now_us += 5_000
    for begin in range(0, len(echoed), cut):
        there.arrived(memoryview(echoed[begin : begin + cut]))
    times = there.times()
    assert (times.round_trip_us != UNANSWERED).all()
    assert times.round_trip_us[-1] == 5_000


def test_an_echo_says_when_the_message_arrived_at_the_server(clock: Clock) -> None:
    wanted = plan()
    there, back = source(clock, wanted), echo(wanted)
    there.wait_us(clock.now_us)
    sent = bytes(there.take())
    clock.now_us += 3_000
    back.arrived(memoryview(sent))
    clock.now_us += 4_000
    there.arrived(back.take())
    times = there.times()
    assert (times.there_us[0], times.round_trip_us[0]) == (3_000, 7_000)


def test_every_arrival_wakes_the_sender_of_echoes() -> None:
    woken = []
    back = echo(plan(), lambda: woken.append(True))
    back.arrived(memoryview(message(0)[:50]))
    assert not woken
    back.arrived(memoryview(message(0)[50:]))
    assert len(woken) == 1


def test_an_echo_that_comes_again_counts_once(clock: Clock) -> None:
    made = source(clock, plan(), datagrams=True)
    made.wait_us(clock.now_us)
    sent = bytes(made.take())
    clock.now_us += 100
    made.arrived(memoryview(sent))
    clock.now_us += 100
    made.arrived(memoryview(sent))
    times = made.times()
    assert times.repeated == 1
    assert times.round_trip_us[0] == 100


@pytest.mark.parametrize(
    "strange",
    [message(0, conv=CONV + 1), message(100), message(2**32 - 1)],
    ids=["another conversation", "one more than the test has", "the largest number"],
)
def test_bytes_that_are_no_message_end_a_stream_and_are_ignored_as_a_datagram(strange: bytes) -> None:
    with pytest.raises(ProtocolError, match="the client sent bytes that are not a message"):
        echo(plan()).arrived(memoryview(strange))
    back = echo(plan(), datagrams=True)
    back.arrived(memoryview(strange))
    assert back.wait_us(0) > 0


def test_a_datagram_of_another_size_is_ignored() -> None:
    back = echo(plan(), datagrams=True)
    for size in (16, 99, 101, 1_000):
        back.arrived(memoryview(message(0, size)))
    assert back.wait_us(0) > 0


def test_an_echo_of_a_message_that_was_not_sent_ends_the_stream(clock: Clock) -> None:
    made = source(clock, plan())
    with pytest.raises(ProtocolError, match="the server sent bytes that are not the echo"):
        made.arrived(memoryview(message(0)))


def test_a_server_refuses_messages_faster_than_agreed(clock: Clock) -> None:
    back = echo(plan(per_s=10, seconds=100.0))
    for number in range(50):  # five seconds' worth
        back.arrived(memoryview(message(number)))
        back.take()
    burst = b"".join(message(number) for number in range(50, 60))
    with pytest.raises(ProtocolError, match="faster than it asked for"):
        back.arrived(memoryview(burst))


def test_a_server_bounds_the_echoes_that_wait(clock: Clock) -> None:
    wanted = plan(per_s=10_000, size_bytes=65_507, seconds=1.0)
    back, lossy = echo(wanted), echo(wanted, datagrams=True)
    burst = b"".join(message(number, 65_507) for number in range(100))
    with pytest.raises(ProtocolError, match="more slowly than the client sends"):
        back.arrived(memoryview(burst))
    for number in range(100):
        lossy.arrived(memoryview(message(number, 65_507)))
    kept = 0
    while lossy.wait_us(0) == 0:
        kept += len(lossy.take())
    assert 0 < kept <= messages.MOST_WAITING_BYTES


def test_the_client_waits_for_answers_as_long_as_they_may_come(clock: Clock) -> None:
    for datagrams, quiet_us in ((True, messages.QUIET_LOSSY_US), (False, messages.QUIET_US)):
        made = source(clock, plan(), datagrams=datagrams)
        taken = sent_by(made, clock)
        last_us = clock.now_us
        for one in taken[:-1]:
            made.arrived(memoryview(one))
        assert not made.is_over(last_us + quiet_us - 1_000)
        late_us = 4 * int(made.times().round_trip_us[:-1].max())
        assert made.is_over(last_us + max(quiet_us, min(late_us, messages.QUIET_US)) + 2_000)
        made.arrived(memoryview(taken[-1]))
        assert made.is_over(last_us)


def test_a_source_that_is_stopped_or_blocked_comes_to_an_end(clock: Clock) -> None:
    made = source(clock, plan())
    assert not made.is_over(clock.now_us + 1_000_000)
    assert made.is_over(clock.now_us + 1_000_000 + messages.LONGEST_REST_US)
    made.stop()
    assert made.wait_us(clock.now_us) == -1


def test_the_header_has_sixteen_bytes() -> None:
    assert HEADER.size == struct.calcsize(">IQI") == 16
