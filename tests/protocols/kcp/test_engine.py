"""The transmissions of an engine, their times, and its reactions to arrivals."""

from __future__ import annotations

from typing import Any

import pytest

from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.packet_blocks import ROWS
from iperfpy.protocols.kcp.sender_limits import SenderLimit
from tests.protocols.kcp.ends import (
    ACK,
    PUSH,
    WASK,
    WINS,
    Fixed,
    Half,
    Sink,
    ack,
    batch,
    datagrams_of,
    engine,
    numbers_of,
    parse,
    push,
    seg,
    segments_of,
    stock_recovery,
)

MSS = Half.MSS
NOW_US = 5_000_000


def _commands(one: Engine, now_us: int) -> list[int]:
    return [segment.cmd for segment in segments_of(one.transmit(now_us))]


def _limit(half: Half) -> SenderLimit:
    return half.engine.limited_by


def _receive(one: Engine, now_us: int, *segments: bytes) -> None:
    for segment in segments:
        one.receive(batch(segment), now_us)


# -------------------------------------------------------------------------------- short segments


def test_a_short_segment_waits_while_anything_is_in_flight() -> None:
    half = Half()
    assert half.send(2.5, NOW_US) == [0, 1]
    assert half.transmit(NOW_US + 10) == []
    half.acked(NOW_US + 40_000, 0, 1, una=2)
    assert half.transmit(NOW_US + 40_000) == [2]


def test_a_short_segment_alone_leaves_at_once() -> None:
    half = Half()
    assert half.send(0.5, NOW_US) == [0]
    assert half.send(0.5, NOW_US + 1) == []


def test_a_short_segment_that_fills_up_leaves() -> None:
    half = Half()
    half.send(1.5, NOW_US)
    assert half.send(0.25, NOW_US + 1) == []
    assert half.send(0.25, NOW_US + 2) == [1]


def test_a_corked_tail_waits_for_its_writer() -> None:
    """Nothing is in flight: without the cork the tail would leave alone."""
    half = Half()
    half.engine.cork()
    assert half.send(0.5, NOW_US) == []
    assert half.engine.deadline_us() is None
    assert _limit(half) is SenderLimit.APPLICATION
    assert half.send(0.75, NOW_US + 1) == [0]
    half.acked(NOW_US + 2, 0, una=1)
    half.engine.uncork()
    assert half.transmit(NOW_US + 3) == [1]


def test_without_nagle_nothing_waits() -> None:
    half = Half(nagle=False)
    assert [half.send(0.5, NOW_US + i) for i in range(3)] == [[0], [1], [2]]


def test_short_segments_have_datagrams_of_their_own_size() -> None:
    sink = Sink()
    one, other = engine(nagle=False, mtu=100), engine(None, None, sink, mtu=100)
    data = bytes(range(200)) + bytes(30)
    sizes = [76 * 2 + 11, 5, 1, 61]
    start = 0
    for size in sizes:
        one.write(memoryview(data[start : start + size]), NOW_US)
        one.receive(batch(seg(WINS, wnd=0)), NOW_US)  # keep it all in the ring
        start += size
    _receive(one, NOW_US, seg(WINS, wnd=100))
    sent = one.transmit(NOW_US)
    assert [len(datagram) for datagram in datagrams_of(sent)] == [100, 100, 100, 26]
    for merged in sent:
        other.receive(merged, NOW_US)
    assert bytes(sink.data) == data[:start]


def test_rows_of_many_sizes_leave_in_one_transmission() -> None:
    sink = Sink()
    half = Half(nagle=False)
    other = engine(None, None, sink, mtu=100)
    written = 0
    for size in (1.5, 2, 0.25, 3):
        half.write(size, NOW_US)
        half.engine.sending.tail_fill = 0  # as if this segment had been sent short
        written += round(size * MSS)
    sent = half.engine.transmit(NOW_US)
    sizes = [len(datagram) - 24 for datagram in datagrams_of(sent)]
    assert sizes == [76, 38, 76, 76, 19, 76, 76, 76]
    for merged in sent:
        other.receive(merged, NOW_US)
    assert len(sink.data) == written
    assert other.receiving.segments == 8


# ------------------------------------------------------------------------------- the peer's window


def test_a_closed_window_is_probed_ever_more_slowly() -> None:
    """500 ms, growing by half, up to two minutes."""
    one = engine(stock_recovery())
    _receive(one, NOW_US, seg(WINS, wnd=0))
    one.write(memoryview(bytes(5_000)), NOW_US)
    assert _commands(one, NOW_US) == []
    # Fifteen minutes of silence: long enough for the two-minute limit.
    asked = []
    while NOW_US + 900_000_000 > (at_us := one.deadline_us() or 0) > 0:
        if repeated := _commands(one, at_us):
            assert repeated == [WASK]
            asked.append(at_us)
    gaps = [later - earlier for earlier, later in zip([NOW_US, *asked], asked, strict=False)]
    assert gaps[:5] == [500_000, 750_000, 1_125_000, 1_687_500, 2_531_250]
    assert gaps[-1] == 120_000_000
    assert gaps == sorted(gaps)


def test_an_opened_window_releases_data_and_ends_probing() -> None:
    one = engine(stock_recovery())
    _receive(one, NOW_US, seg(WINS, wnd=0))
    one.write(memoryview(bytes(1_376 * 5)), NOW_US)
    one.transmit(NOW_US)
    assert one.deadline_us() == NOW_US + 500_000
    _receive(one, NOW_US + 600_000, seg(WINS, wnd=3))
    assert _commands(one, NOW_US + 600_000) == [PUSH] * 3
    assert one.limited_by is SenderLimit.RECEIVE_WINDOW
    _receive(
        one, NOW_US + 610_000, *(ack(n, (NOW_US + 600_000) & 0xFFFF_FFFF, n + 1, wnd=0) for n in range(3))
    )
    assert _commands(one, NOW_US + 610_000) == []
    assert one.deadline_us() == NOW_US + 610_000 + 500_000  # from the start again


@pytest.mark.parametrize("recovery", [None, stock_recovery()])
def test_segments_in_flight_are_retransmitted_into_a_closed_window(recovery: Any) -> None:
    half = Half(recovery)
    half.send(3, NOW_US)
    _receive(half.engine, NOW_US + 10, seg(WINS, wnd=0))
    left = half.wait(NOW_US + 3_000_000)
    assert {number for _, numbers in left for number in numbers} == {0, 1, 2}


def test_new_data_keeps_within_the_peers_window() -> None:
    half = Half(receive_window=8)
    assert half.send(20, NOW_US) == list(range(8))
    assert _limit(half) is SenderLimit.RECEIVE_WINDOW
    half.acked(NOW_US + 40_000, 0, una=1)
    half.engine.receive(batch(seg(WINS, una=1, wnd=9)), NOW_US + 40_000)
    assert half.transmit(NOW_US + 40_000) == [8, 9]


# --------------------------------------------------------------------------------------- probes


def test_a_window_probe_is_answered_once() -> None:
    one = engine(receive_window=77)
    _receive(one, NOW_US, push(0, b"abc"))
    one.transmit(NOW_US)
    _receive(one, NOW_US, seg(WASK) + seg(WASK), seg(WASK))
    (segment,) = segments_of(one.transmit(NOW_US))
    assert (segment.cmd, segment.wnd, segment.una, segment.payload) == (WINS, 77, 1, b"")
    assert _commands(one, NOW_US + 1) == []


def test_an_answer_to_a_window_probe_is_not_answered() -> None:
    one = engine()
    _receive(one, NOW_US, seg(WINS))
    assert _commands(one, NOW_US) == []


def test_a_probe_associates_two_ends_before_any_data() -> None:
    one, other = engine(), engine()
    one.probe()
    (asked,) = one.transmit(NOW_US)
    other.receive(asked, NOW_US)
    (answer,) = other.transmit(NOW_US)
    assert answer.size <= asked.size
    one.receive(answer, NOW_US)
    assert one.counts.datagrams_received == 1
    assert one.transmit(NOW_US) == other.transmit(NOW_US) == []


# ------------------------------------------------------------------------------ acknowledgements


def test_segments_in_order_are_acknowledged_with_one_ack() -> None:
    one = engine(mtu=100)
    one.receive(batch(*(push(n, bytes(40), ts=n // 3) for n in range(9))), NOW_US)
    (segment,) = segments_of(one.transmit(NOW_US))
    assert (segment.cmd, segment.sn, segment.ts, segment.una) == (ACK, 8, 2, 9)
    assert one.counts.acks_sent == 1


def test_a_run_whose_stamps_do_not_fit_is_acknowledged_segment_by_segment() -> None:
    one = engine(mtu=100)
    one.receive(batch(*(push(n, bytes(40), ts=100 + n) for n in (5, 6, 7))), NOW_US)
    segments = segments_of(one.transmit(NOW_US))
    assert [(segment.sn, segment.ts) for segment in segments] == [(5, 105), (6, 106), (7, 107)]


def test_early_and_repeated_segments_are_acknowledged_one_by_one() -> None:
    one = engine(mtu=100)
    _receive(one, NOW_US, *(push(n, bytes(40), ts=100 + n) for n in (0, 2, 4, 2)))
    segments = segments_of(one.transmit(NOW_US))
    assert [(segment.sn, segment.ts, segment.una) for segment in segments] == [
        (2, 102, 1),
        (4, 104, 1),
        (2, 102, 1),
        (0, 100, 1),
    ]


def test_acks_fill_datagrams() -> None:
    one = engine(mtu=1_400)
    one.receive(batch(*(push(n, bytes(40)) for n in range(1, 61))), NOW_US)
    one.receive(batch(*(push(n, bytes(40)) for n in range(61, 121))), NOW_US)
    sizes = [len(datagram) for datagram in datagrams_of(one.transmit(NOW_US))]
    assert sizes == [58 * 24, 58 * 24, 4 * 24]


def test_delayed_acks_wait_for_the_tick_and_leave_together() -> None:
    one = engine(tick_us=10_000, ack_nodelay=False, mtu=100)
    one.transmit(NOW_US)
    for at in range(5):
        _receive(one, NOW_US + 1_000 * at, push(at, bytes(40)), push(at + 10, bytes(40)))
        assert _commands(one, NOW_US + 1_000 * at) == []
        assert one.deadline_us() == NOW_US + 10_000
    segments = segments_of(one.transmit(NOW_US + 10_000))
    assert [segment.sn for segment in segments] == [10, 1, 11, 2, 12, 3, 13, 4, 14, 0]
    assert {segment.una for segment in segments} == {5}
    assert one.deadline_us() is None


def test_data_waits_for_the_tick_if_the_option_is_set() -> None:
    half = Half(write_delay=True, tick_us=10_000)
    half.transmit(NOW_US)
    assert half.send(2, NOW_US + 1_000) == []
    assert half.engine.deadline_us() == NOW_US + 10_000
    assert half.transmit(NOW_US + 10_000) == [0, 1]


@pytest.mark.parametrize(("limit", "advertised"), [(1, 1), (300, 300), (65_535, 65_535), (70_000, 65_535)])
def test_the_advertised_window_is_the_receive_window(limit: int, advertised: int) -> None:
    one = engine(receive_window=limit)
    _receive(one, NOW_US, push(0, b"abc"))
    (segment,) = segments_of(one.transmit(NOW_US))
    assert segment.wnd == advertised


def _early(one: Engine, *numbers: int) -> list[int]:
    _receive(one, NOW_US, *(push(n, bytes(40), ts=n) for n in numbers))
    return [segment.sn for segment in segments_of(one.transmit(NOW_US))]


def test_acks_are_repeated_towards_iperfpy() -> None:
    one = engine(ack_repeats=2, mtu=100)
    assert _early(one, 5) == [5]
    assert _early(one, 7) == [5, 7]
    assert _early(one, 9, 11) == [5, 7, 9, 11]
    assert _early(one, 13) == [7, 9, 11, 13]
    # ACKs that una covers by now need no repeating.
    repeated = _early(one, *range(9))
    assert not {5, 7} & set(repeated[:-9])
    assert {9, 11, 13} & set(repeated)


def test_acks_are_not_repeated_towards_stock_kcp() -> None:
    one = engine(ack_repeats=0, mtu=100)
    assert [_early(one, 5), _early(one, 7), _early(one, 9)] == [[5], [7], [9]]


# ------------------------------------------------------------- acknowledgements that cannot be true


@pytest.mark.parametrize("recovery", [None, stock_recovery()])
def test_an_ack_for_a_segment_never_sent_is_counted_and_ignored(recovery: Any) -> None:
    half = Half(recovery)
    half.send(3, NOW_US)
    stamp = half.stamps[0][0]
    _receive(half.engine, NOW_US + 1_000, ack(3, stamp, 0), ack(2_000_000_000, stamp, 0) + ack(9, stamp, 0))
    assert half.counts.impossible == 3
    assert half.engine.sending.sacked == 0
    assert half.engine.rtt.samples == 0
    half.transmit(NOW_US + 1_000)
    half.acked(NOW_US + 2_000, 0, 1, 2, una=3)
    assert half.engine.sending.una == 3
    assert half.engine.rtt.samples == 1


@pytest.mark.parametrize("recovery", [None, stock_recovery()])
@pytest.mark.parametrize("una", [4, 2_000_000_000])
def test_a_una_beyond_the_last_segment_sent_is_counted_and_ignored(recovery: Any, una: int) -> None:
    half = Half(recovery)
    half.send(3, NOW_US)
    _receive(half.engine, NOW_US + 1_000, seg(WINS, una=una), ack(1, half.stamps[1][0], una))
    assert (half.counts.impossible, half.counts.foreign) == (2, 0)
    assert (half.engine.sending.una, half.engine.sending.sacked) == (0, 0)
    half.acked(NOW_US + 2_000, 2, una=3)
    assert half.engine.sending.una == 3


@pytest.mark.parametrize("cmd", [PUSH, ACK, WASK, WINS])
def test_nothing_of_a_segment_with_an_impossible_una_is_taken(cmd: int) -> None:
    """Neither its window, nor its payload, nor its question: only what comes with it in other segments."""
    half = Half()
    half.send(3, NOW_US)
    before = half.engine.peer_window
    false = seg(cmd, sn=0, una=4, wnd=7, payload=int(cmd == PUSH))
    _receive(half.engine, NOW_US + 1_000, false, seg(PUSH, sn=1, una=1, wnd=9, payload=1))
    assert before != 9
    assert half.engine.peer_window == 9
    assert (half.engine.sending.una, half.counts.impossible) == (1, 1)
    assert (half.engine.receiving.nxt, half.engine.receiving.stored) == (0, 1)
    _receive(half.engine, NOW_US + 1_000, false)
    assert half.engine.peer_window == 9


def test_an_old_una_changes_nothing() -> None:
    half = Half()
    half.send(5, NOW_US)
    half.acked(NOW_US + 1_000, 3, una=4)
    half.acked(NOW_US + 1_500, 1, una=2)
    assert half.engine.sending.una == 4
    assert half.recovery.in_flight == 1
    assert half.engine.delivery.delivered == 4


def test_an_acknowledgement_counts_once() -> None:
    control = Fixed()
    half = Half(control=control)
    half.send(5, NOW_US)
    for _ in range(3):
        half.acked(NOW_US + 1_000, 1, 2, una=0)
    half.acked(NOW_US + 1_100, 0, una=3)
    assert [one.acked for one in control.acks] == [2, 1]
    assert control.acks[-1].delivered == 3
    assert control.acks[-1].advanced == 3


# ------------------------------------------------------------------- the accounting for controllers


def test_rate_samples_equal_the_rate_of_a_steady_path() -> None:
    """A segment a millisecond, 40 ms of path: 1000 segments per second, RTT 40 ms."""
    control = Fixed(40)
    half = Half(control=control)
    half.write(400, NOW_US)
    in_flight = half.transmit(NOW_US)
    at_us = NOW_US + 40_000
    while in_flight:
        half.acked(at_us, in_flight[0], una=in_flight[0] + 1)
        in_flight = in_flight[1:] + half.transmit(at_us)
        at_us += 1_000
    rates = [one.delivery_rate for one in control.acks if one.delivery_rate and one.flight is not None]
    assert rates[len(rates) // 2 :] == pytest.approx([1_000.0] * len(rates[len(rates) // 2 :]), rel=0.03)
    assert max(rates) <= 1_030
    assert {one.rtt_us for one in control.acks[100:] if one.rtt_us} == {40_000}
    # Of a window of 40, one is acknowledged at a time, and a new one follows; the last 40 are not replaced.
    assert [one.in_flight for one in control.acks] == [39] * 361 + [*range(38, -1, -1)]


def test_the_limit_of_the_sender_is_named() -> None:
    control = Fixed(4, rate=1_000.0, burst=2)
    half = Half(control=control, send_window=6)
    half.send(1, NOW_US)
    assert _limit(half) is SenderLimit.APPLICATION
    half.write(3, NOW_US)
    half.transmit(NOW_US)
    assert _limit(half) is SenderLimit.PACING
    half.wait(NOW_US + 20_000)
    half.write(2, NOW_US + 20_000)
    half.transmit(NOW_US + 20_000)
    assert _limit(half) is SenderLimit.CONGESTION_WINDOW
    control.window = 100
    half.transmit(NOW_US + 30_000)
    assert _limit(half) is SenderLimit.SEND_WINDOW


def test_a_writer_that_waits_is_not_the_limit() -> None:
    """It stopped to let others have the loop: the segments in flight measure the path."""
    control = Fixed(100)
    half = Half(control=control)
    half.write(3, NOW_US)
    half.transmit(NOW_US, writer_waits=True)
    assert _limit(half) is SenderLimit.PROCESSOR
    half.send(2, NOW_US + 10)
    assert _limit(half) is SenderLimit.APPLICATION
    half.send(1, NOW_US + 20)
    for number in (2, 4, 5):
        half.acked(NOW_US + 1_000, number, una=number + 1)
    flights = [one.flight for one in control.acks if one.flight is not None]
    assert [flight.app_limited for flight in flights] == [False, False, True]


@pytest.mark.parametrize(
    ("windows", "limit", "limited"),
    [((8, 100), SenderLimit.SEND_WINDOW, True), ((100, 8), SenderLimit.CONGESTION_WINDOW, False)],
    ids=["send window", "congestion window"],
)
def test_flights_sent_while_a_kcp_window_is_full_are_marked(
    windows: tuple[int, int], limit: SenderLimit, limited: bool
) -> None:
    """Until more is delivered than was in flight then: samples of that may be less than the path could do."""
    control = Fixed(windows[1], burst=100)
    half = Half(control=control, send_window=windows[0])
    half.write(8, NOW_US)
    half.transmit(NOW_US)
    assert _limit(half) is limit
    at_us = NOW_US + 40_000
    half.acked(at_us, 3, una=4)
    half.write(4, at_us)
    assert half.transmit(at_us) == [8, 9, 10, 11]
    half.acked(at_us + 40_000, 11, una=12)
    for number in (13, 15):
        at_us += 40_000
        half.write(2, at_us)
        half.transmit(at_us)
        half.acked(at_us + 40_000, number, una=number + 1)
    flights = [one.flight for one in control.acks if one.flight is not None]
    assert [flight.window_limited for flight in flights] == [False, limited, limited, False]


def test_pacing_spreads_segments_over_time() -> None:
    control = Fixed(1_000, rate=1_000.0, burst=4)
    half = Half(control=control)
    half.write(8, NOW_US)
    half.transmit(NOW_US)
    left = [(NOW_US, list(half.stamps))]
    while half.engine.sending.nxt < 100:
        half.engine.write(memoryview(bytes(20 * MSS)), left[-1][0])
        at_us = half.engine.deadline_us()
        assert at_us is not None
        if sent := half.transmit(at_us):
            left.append((at_us, sent))
    took_us = left[-1][0] - NOW_US
    assert took_us == pytest.approx(100 * 1_000, rel=0.1)
    assert max(len(numbers) for _, numbers in left) <= 6


def test_a_pacing_deadline_ends_with_its_data() -> None:
    """Given up, held back by the pacer, and then it arrives after all: nothing is left to wake for."""
    control = Fixed(64)
    half = Half(control=control)
    for number in range(20):
        half.send(1, NOW_US + number * 1_000)
    control.pacing_rate, control.burst = 1.0, 64
    for number in range(1, 20):
        at_us = NOW_US + number * 1_000 + 40_000
        half.acked(at_us, number, una=0)
    half.transmit(at_us)
    assert half.recovery.pending
    assert _limit(half) is SenderLimit.PACING
    assert half.engine.deadline_us() is not None
    half.acked(at_us + 10, 0, una=20)
    assert half.transmit(at_us + 10) == []
    assert half.engine.deadline_us() is None


@pytest.mark.parametrize(("size", "segments"), [(100, 16), (1_400, 8)])
def test_the_pacer_counts_the_datagrams_of_messages(size: int, segments: int) -> None:
    """Of a burst of 8 datagrams. All 16 short messages that may be queued share two; those longer than a
    segment share none, however short their last segment is."""
    sender = engine(control=Fixed(rate=1_000.0, burst=8), boundaries=True, nagle=False)
    while sender.write(memoryview(bytes(size)), NOW_US):
        pass
    assert sender.sending.queued == 16
    assert len(numbers_of(sender.transmit(NOW_US))) == segments


def test_a_message_does_not_grow_once_the_size_of_datagrams_has_changed() -> None:
    sender = engine(boundaries=True)
    sender.write(memoryview(bytes(100)), NOW_US)
    sender.sending.set_mtu(1_200)
    sender.write(memoryview(bytes(100)), NOW_US)
    assert sender.sending.end == 2


def test_waiting_before_the_first_transmission_is_measured() -> None:
    half = Half(control=Fixed(2))
    half.write(4, NOW_US)
    half.transmit(NOW_US + 300)
    half.acked(NOW_US + 40_300, 1, una=2)
    half.transmit(NOW_US + 40_300)
    assert half.counts.queued_segments == 4
    assert half.counts.queue_us == 2 * 300 + 2 * 40_300


def test_a_pause_of_the_application_is_reported() -> None:
    control = Fixed(100)
    half = Half(control=control)
    half.send(2, NOW_US)
    half.acked(NOW_US + 40_000, 1, una=2)
    half.transmit(NOW_US + 40_000)
    half.send(2, NOW_US + 3_000_000)
    assert control.idles == [NOW_US + 3_000_000]
    half.acked(NOW_US + 3_040_000, 3, una=4)
    assert control.acks[-1].flight is not None
    assert control.acks[-1].flight.app_limited


def test_every_datagram_and_byte_is_counted() -> None:
    one, other = engine(mtu=100, nagle=False), engine(mtu=100)
    one.write(memoryview(bytes(76 * 3 + 10)), NOW_US)
    sent = one.transmit(NOW_US)
    assert one.counts.datagrams_sent == 4
    assert one.counts.wire_bytes_sent == 3 * 100 + 34
    for merged in sent:
        other.receive(merged, NOW_US)
    assert other.counts.datagrams_received == 4
    assert other.counts.wire_bytes_received == 334
    answers = other.transmit(NOW_US + 1)
    assert sum(len(parse(datagram)) for datagram in datagrams_of(answers)) == other.counts.acks_sent


def test_an_acknowledgement_renews_the_answer_that_the_pacer_gave_at_the_same_time() -> None:
    """Data that is written at the time at which the pacer stopped waits with the rest, without a question."""
    control = Fixed(rate=1_000.0, burst=1)
    half = Half(control=control)
    assert half.send(4, 1_000) == [0]
    assert half.engine.deadline_us() == 2_000
    assert half.send(1, 1_000) == []
    assert half.engine.deadline_us() == 2_000
    assert half.engine.limited_by is SenderLimit.PACING
    control.pacing_rate = 4_000.0
    half.acked(1_000, 0)
    assert half.transmit(1_000) == []
    assert half.engine.deadline_us() == 1_250


def test_datagrams_that_wait_for_the_socket_stay_what_they_are() -> None:
    """All streams share the memory of datagrams, and a peer may acknowledge what it cannot have."""
    half, other = Half(), Half()
    half.write(ROWS, NOW_US)
    waiting = half.engine.transmit(NOW_US)
    before = [bytes(out.data) for out in waiting]
    half.engine.receive(batch(seg(WASK, una=ROWS)), NOW_US)
    assert half.engine.sending.una == ROWS
    other.write(ROWS, NOW_US)
    other.transmit(NOW_US + 1)
    assert [bytes(out.data) for out in waiting] == before
