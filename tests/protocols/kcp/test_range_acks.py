"""Two engines that acknowledge in ranges: RTTs, losses on either way, needless copies, and hostile peers."""

from __future__ import annotations

import random
from typing import Any

import pytest

from iperfpy.protocols.kcp.ack_ranges import AGE_US, RangeAck, Row, write_ranges
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.engine_factory import stock, with_bbr
from iperfpy.protocols.kcp.engine_options import MAX_WINDOW
from iperfpy.protocols.kcp.inbound import read_batch
from iperfpy.protocols.kcp.owed_ranges import MOST_ROWS
from iperfpy.protocols.kcp.settings import KcpBbrSettings, KcpSettings
from tests.protocols.kcp.ends import (
    CONV,
    WASK,
    Fixed,
    Recount,
    Seg,
    batch,
    batches,
    check,
    datagrams_of,
    engine,
    parse,
    seg,
    stock_recovery,
)

MSS, ACK_RANGES, START_US, WAY_US, GAP_US = 76, 86, 1_000_000, 10_000, 1_000
RTT_US = 2 * WAY_US


class Pair:
    """A sender and a receiver; the test is the path.

    Attributes
    ----------
    control : the sender's, with all that it was told
    """

    def __init__(self, window: int = 4_096, **options: Any) -> None:
        options = {
            "mtu": MSS + 24, "send_window": window, "receive_window": window,
            "ack_ranges": True, "ack_share": 0.02, **options,
        }  # fmt: skip
        self.control = Fixed()
        self.first_sn = options.get("first_sn", 0)
        self.sender = engine(None, self.control, None, **options)
        self.receiver = engine(None, None, None, **options)

    def send(self, segments: int, now_us: int) -> list[bytes]:
        """Write and transmit so many segments; their datagrams."""
        self.sender.write(memoryview(bytes(segments * MSS)), now_us)
        return self.transmit(now_us)

    def transmit(self, now_us: int) -> list[bytes]:
        """The datagrams of data that leave the sender now."""
        sent = datagrams_of(self.sender.transmit(now_us))
        check(self.sender, now_us, self.first_sn)
        return sent

    def arrive(self, datagrams: list[bytes], now_us: int) -> list[bytes]:
        """Data arrives; the acknowledgements that leave at once."""
        for merged in batches(datagrams):
            self.receiver.receive(merged, now_us)
        return self.acknowledgements(now_us)

    def acknowledgements(self, now_us: int) -> list[bytes]:
        return datagrams_of(self.receiver.transmit(now_us))

    def acknowledge(self, datagrams: list[bytes], now_us: int) -> None:
        """Acknowledgements arrive."""
        for one in datagrams:
            self.sender.receive(batch(one), now_us)


def range_ack(
    pair: Pair, una: int, rows: list[Row], ranges: list[tuple[int, int]], *, serial: int = 0
) -> bytes:
    stamp = pair.sender.delivery.stamp_us
    ack = RangeAck(stamp, una, 5, 0, serial, rows, ranges)
    return write_ranges(CONV, 128, una, ack).tobytes()


def heard(datagram: bytes) -> tuple[Seg, RangeAck]:
    (segment,) = parse(datagram)
    (arrived,), _ = read_batch(batch(datagram), CONV, 0, 0)
    assert arrived.ranges is not None
    return segment, arrived.ranges


def test_an_acknowledgement_that_was_held_back_gives_the_times_of_the_path() -> None:
    """Two segments leave and arrive a millisecond apart, and are acknowledged when the interval is over."""
    pair = Pair()
    pair.acknowledge(pair.arrive(pair.send(1, START_US), START_US + WAY_US), START_US + RTT_US)
    began_us = START_US + RTT_US
    pair.acknowledge(pair.arrive(pair.send(1, began_us), began_us + WAY_US), began_us + RTT_US)
    told = len(pair.control.acks)
    for number in (1, 2):
        left_us = began_us + number * GAP_US
        assert not pair.arrive(pair.send(1, left_us), left_us + WAY_US)
    at_us = pair.receiver.deadline_us() or 0
    assert RTT_US / 8 <= at_us - began_us - WAY_US <= RTT_US / 8 * 1.1
    pair.acknowledge(pair.acknowledgements(at_us), at_us + WAY_US)
    (ack,) = pair.control.acks[told:]
    assert ack.acked == ack.rtt_samples == 2
    figures = (ack.rtt_us, ack.rtt_min_us, ack.rtt_mean_us, pair.sender.delivery.mean_rtt.value_us)
    assert figures == pytest.approx((RTT_US,) * 4, abs=AGE_US)


def test_a_hole_is_told_at_once_and_not_again() -> None:
    pair = Pair()
    pair.acknowledge(pair.arrive(pair.send(1, START_US), START_US), START_US + RTT_US)
    sent = pair.send(6, START_US + RTT_US)
    now_us = START_US + RTT_US + WAY_US
    assert pair.arrive(sent[:1], now_us)
    (told,) = pair.arrive(sent[2:3], now_us + 10)
    _, ack = heard(told)
    assert (ack.rows[-1][:2], ack.ranges) == ((3, 1), [(1, 2)])
    assert not pair.arrive(sent[3:4], now_us + 20)
    (told,) = pair.arrive(sent[1:2], now_us + 30)  # the hole is filled
    segment, ack = heard(told)
    assert (segment.una, ack.ranges) == (5, [])


def test_a_lost_acknowledgement_is_repaired_by_the_ranges_of_the_next_one() -> None:
    """Nothing is sent again for it, and nothing is taken for reordered."""
    pair = Pair()
    pair.acknowledge(pair.arrive(pair.send(4, START_US), START_US + WAY_US), START_US + RTT_US)
    now_us = START_US + RTT_US
    sent = pair.send(20, now_us)
    assert pair.arrive(sent[1:8], now_us + WAY_US)  # tells of the hole, and is lost
    later_us = now_us + 6_000
    second = pair.arrive([*sent[9:12], *sent[13:], *pair.send(1, later_us)], later_us + WAY_US)
    pair.acknowledge(second, later_us + RTT_US)
    assert pair.sender.delivery.way_back.lost == 1
    assert pair.sender.sending.sacked == 18
    again = pair.transmit(later_us + RTT_US)
    assert {parse(datagram)[0].sn for datagram in again} == {4, 12, 16}


def test_what_only_ranges_tell_is_no_sign_of_reordering() -> None:
    """Two acknowledgements later: newer transmissions are known to have arrived by then."""
    pair = Pair()
    pair.acknowledge(pair.arrive(pair.send(1, START_US), START_US + WAY_US), START_US + RTT_US)
    width_us = pair.sender.recovery.reordering.width_us  # type: ignore[attr-defined]
    pair.send(10, START_US + RTT_US)
    pair.send(1, START_US + RTT_US + 9_000)
    now_us = START_US + 2 * RTT_US + 9_000
    stamp = pair.sender.delivery.stamp_us & 0xFFFF_FFFF
    pair.acknowledge([range_ack(pair, 1, [(11, 1, 0, stamp)], [], serial=2)], now_us)
    pair.acknowledge([range_ack(pair, 1, [], [(1, 11)], serial=3)], now_us)
    assert pair.sender.sending.sacked == 10
    assert pair.sender.recovery.reordering.width_us == width_us  # type: ignore[attr-defined]


def test_a_needless_copy_is_found_by_the_stamp_of_the_original() -> None:
    """The original arrives late, after its copy has left."""
    pair = Pair()
    pair.acknowledge(pair.arrive(pair.send(4, START_US), START_US + WAY_US), START_US + RTT_US)
    first = pair.send(1, START_US + RTT_US)
    others = pair.send(6, START_US + RTT_US + 9_000)
    acks = pair.arrive(others, START_US + RTT_US + 9_000 + WAY_US)
    pair.acknowledge(acks, START_US + 2 * RTT_US + 9_000)
    copy = pair.transmit(START_US + 2 * RTT_US + 9_000)
    assert len(copy) == 1
    assert pair.sender.counts.fast == 1
    acks = pair.arrive(first, START_US + 2 * RTT_US + 9_000)
    pair.acknowledge(acks, START_US + 3 * RTT_US)
    assert (pair.sender.recovery.spurious, pair.sender.recovery.spurious_losses) == (1, 1)
    acks = pair.arrive(copy, START_US + 3 * RTT_US)
    pair.acknowledge(acks, START_US + 4 * RTT_US)
    assert (pair.sender.recovery.spurious, pair.sender.recovery.spurious_losses) == (1, 1)
    assert pair.receiver.receiving.duplicates == 1
    check(pair.sender, START_US + 4 * RTT_US)


@pytest.mark.parametrize("by_path", [False, True], ids=["needless", "copied by the path"])
def test_the_receiver_tells_of_a_copy_whose_original_was_never_reported(by_path: bool) -> None:
    """All acknowledgements of the original were lost; or the copy alone arrived, twice."""
    pair = Pair()
    pair.acknowledge(pair.arrive(pair.send(4, START_US), START_US + WAY_US), START_US + RTT_US)
    now_us = START_US + RTT_US
    (original,) = pair.send(1, now_us)
    if not by_path:
        assert pair.arrive([original], now_us + 50_000)  # lost
    copy: list[bytes] = []
    while not copy:
        now_us = pair.sender.deadline_us() or 0
        copy = pair.transmit(now_us)
    acks = pair.arrive(copy, now_us + WAY_US)
    if by_path:
        acks += pair.arrive(copy, now_us + WAY_US + 50_000)
    pair.acknowledge(acks, now_us + RTT_US + 50_000)
    assert pair.sender.recovery.spurious == (0 if by_path else 1)
    assert pair.receiver.receiving.duplicates == 1
    check(pair.sender, now_us + RTT_US + 50_000)


def test_the_newest_stamp_survives_the_loss_of_its_acknowledgement() -> None:
    pair = Pair()
    pair.acknowledge(pair.arrive(pair.send(4, START_US), START_US + WAY_US), START_US + RTT_US)
    now_us = START_US + RTT_US
    sent = pair.send(3, now_us)
    newer = pair.send(1, now_us + 1)
    assert pair.arrive([sent[0], *newer], now_us + WAY_US)  # lost
    acks = pair.arrive([sent[1]], now_us + WAY_US + 3_000)
    pair.acknowledge(acks, now_us + RTT_US + 3_000)
    assert pair.sender.delivery.newest_us == now_us + 1
    assert pair.sender.rtt.srtt_us == pytest.approx(RTT_US, rel=0.001)  # no part of the 3 ms


def test_rows_of_any_number_leave_in_datagrams_of_the_size() -> None:
    """Every second segment arrives: a row each, far more than one datagram holds."""
    pair = Pair(mtu=100)
    pair.acknowledge(pair.arrive(pair.send(1, START_US), START_US + WAY_US), START_US + RTT_US)
    sent = pair.send(400, START_US + RTT_US)
    acks = pair.arrive(sent[::2], START_US + RTT_US + WAY_US)
    assert len(acks) > 20
    assert max(map(len, acks)) <= 100
    pair.acknowledge(acks, START_US + 2 * RTT_US)
    assert pair.sender.sending.sacked == 199
    assert pair.sender.sending.una == 2


def test_a_flood_of_rows_does_not_wait() -> None:
    """More holes than one acknowledgement has rows for are told at once: the rows take memory."""
    pair = Pair()
    pair.receiver._acks.timing.left(1, 10_000, START_US)  # type: ignore[union-attr]
    sent = pair.send(200, START_US)
    for at, datagram in enumerate(sent[::2]):
        pair.arrive([datagram], START_US + at)
        assert len(pair.receiver._acks._rows) < MOST_ROWS  # type: ignore[union-attr]


# ------------------------------------------------------------------ what is agreed


def test_the_sender_asks_for_an_eighth_of_the_round_trip() -> None:
    pair = Pair()
    (first,) = pair.send(1, START_US)
    assert parse(first)[0].frg == 0
    pair.acknowledge(pair.arrive([first], START_US + WAY_US), START_US + RTT_US)
    (second,) = pair.send(1, START_US + RTT_US)
    pair.arrive([second], START_US + RTT_US + WAY_US)
    timing = pair.receiver._acks.timing
    assert timing is not None
    assert timing.interval_us == pytest.approx(RTT_US / 8, rel=0.1)


def test_without_the_agreement_nothing_of_it_is_on_the_wire() -> None:
    """Towards an older iperfpy: ACK segments, and no interval in the data."""
    pair = Pair(ack_ranges=False)
    sent = pair.send(9, START_US)
    acks = pair.arrive(sent[:3] + sent[5:], START_US + WAY_US)
    pair.acknowledge(acks, START_US + RTT_US)
    again = pair.transmit(START_US + 2 * RTT_US) + pair.send(2, START_US + 2 * RTT_US)
    segments = [segment for datagram in (*sent, *acks, *again) for segment in parse(datagram)]
    assert {segment.cmd for segment in segments} <= {81, 82, 83, 84}
    assert {segment.frg for segment in segments} == {0}


@pytest.mark.parametrize("kind", ["kcp", "kcp-bbr"])
def test_a_peer_that_did_not_agree_is_not_believed(kind: str) -> None:
    older = with_bbr(CONV, KcpBbrSettings(), ack_ranges=False)
    one = stock(CONV, KcpSettings()) if kind == "kcp" else older
    one.write(memoryview(bytes(14_000)), 0)
    one.transmit(0)
    una, wnd = one.sending.una, one.peer_window
    ack = write_ranges(CONV, 3, 2, RangeAck(0, 1, 0, 0, 0, [(0, 2, 0, 0)], []))
    one.receive(batch(ack.tobytes()), 10_000)
    assert (one.sending.una, one.peer_window, one.counts.impossible) == (una, wnd, 1)


def test_stock_kcp_is_the_same_on_the_wire() -> None:
    """An ACK for each segment behind a hole, at once; its data has no interval."""
    one, other = (engine(stock_recovery(), None, None, mtu=MSS + 24) for _ in range(2))
    one.write(memoryview(bytes(6 * MSS)), 0)
    sent = datagrams_of(one.transmit(0))
    assert {parse(datagram)[0].frg for datagram in sent} == {0}
    for at in (1, 3, 4):
        other.receive(batch(sent[at]), at)
        (answer,) = datagrams_of(other.transmit(at))
        assert [(each.cmd, each.sn) for each in parse(answer)] == [(82, at)]


def test_an_older_sender_is_asked_for_the_round_trip_time() -> None:
    pair = Pair(ack_ranges=False)
    acks = pair.arrive(pair.send(1, START_US), START_US + WAY_US)
    segments = [segment for datagram in acks for segment in parse(datagram)]
    assert [segment.cmd for segment in segments].count(WASK) == 1
    pair.acknowledge(acks, START_US + RTT_US)
    answers = pair.transmit(START_US + RTT_US)
    pair.arrive(answers, START_US + RTT_US + WAY_US)
    timing = pair.receiver._acks.timing
    assert timing is not None
    assert timing.interval_us == RTT_US // 8


# ------------------------------------------------------------------ hostile peers


_FAR = 0xFFFF_FFFF


@pytest.mark.parametrize(
    ("una", "rows", "ranges"),
    [
        (0, [(20, 1, 0, 0)], []),
        (0, [(19, 2, 0, 0)], []),
        (0, [(5, 16, 0, 0), (3, 1, 0, 0)], []),
        (0, [(0x7FFF_0000, 5, 0, 0)], []),
        (21, [], []),
        (0, [], [(3, 21)]),
        (0, [], [(1, MAX_WINDOW)]),
    ],
    ids=["next", "over the end", "one of two", "far", "una", "a range over the end", "a wide range"],
)
def test_an_acknowledgement_of_what_was_never_sent_changes_nothing(
    una: int, rows: list[Row], ranges: list[tuple[int, int]]
) -> None:
    pair = Pair()
    pair.send(20, START_US)
    before = Recount.of(pair.sender)
    pair.acknowledge([range_ack(pair, una, rows, ranges)], START_US + RTT_US)
    assert (pair.sender.sending.una, pair.sender.counts.impossible) == (0, 1)
    assert Recount.of(pair.sender) == before
    assert not pair.control.acks


def test_a_malformed_acknowledgement_changes_nothing() -> None:
    pair = Pair()
    pair.send(20, START_US)
    pair.acknowledge([seg(ACK_RANGES, bytes(9), una=5, wnd=3)], START_US + RTT_US)
    assert (pair.sender.sending.una, pair.sender.counts.impossible) == (0, 1)
    assert pair.sender.peer_window == 4_096


@pytest.mark.parametrize(
    "rows",
    [
        [(3, 4, 0, 1), (5, 4, 0, 2), (3, 1, 0, 3)],
        [(_FAR - 5, 3, 0, 1)],
        [(_FAR - 2, 6, 0, 1)],
        [(0, 0x8000 | 15, 65_535, 9)],
    ],
    ids=["overlapping", "long ago", "across una", "repeats alone"],
)
def test_odd_rows_of_segments_that_were_sent_keep_the_sums_right(rows: list[Row]) -> None:
    pair = Pair(first_sn=1 << 32)
    pair.send(20, START_US)
    for serial in range(3):
        pair.acknowledge([range_ack(pair, 0, rows, [(2, 5), (7, 19)], serial=5 * serial)], START_US + RTT_US)
        pair.transmit(START_US + RTT_US + serial)
        recount = Recount.of(pair.sender)
        assert pair.sender.recovery.in_flight == recount.in_flight
        assert pair.sender.sending.sacked == recount.sacked


def test_time_for_huge_counts_is_charged() -> None:
    """A few bytes that name tens of thousands of segments count as the work that they make."""
    pair = Pair(window=60_000)
    block = memoryview(bytes(1_000 * MSS))
    while pair.sender.sending.nxt < 60_000:
        pair.sender.write(block, START_US)
        pair.sender.transmit(START_US)
    rows: list[Row] = [(1, 30_000, 0, 1), (30_001, 29_990, 0, 1)]
    before = pair.sender.counts.work
    pair.acknowledge([range_ack(pair, 0, rows, [])], START_US + RTT_US)
    assert pair.sender.counts.work - before > 200


def _random_ack(rng: random.Random, one: Engine) -> bytes:
    una, nxt, stamp = one.sending.una, one.sending.nxt, one.delivery.stamp_us
    rows: list[Row] = []
    for _ in range(rng.randrange(4)):
        first = rng.choice((una, nxt)) + rng.randrange(-9, 9)
        count = rng.randrange(1, 9) | rng.choice((0, 0x8000))
        rows.append((first & _FAR, count, rng.randrange(9), rng.choice((stamp, 0, 77)) & _FAR))
    edges = sorted(rng.sample(range(1, 30), 2 * rng.randrange(4)))
    ranges = list(zip(edges[::2], edges[1::2], strict=True))
    ack = RangeAck(stamp, una + rng.randrange(-9, 9), 5, 0, rng.randrange(9), rows, ranges)
    made = bytearray(write_ranges(CONV, 128, una + rng.randrange(-2, 4), ack).tobytes())
    if rng.random() < 0.3:
        made[rng.randrange(5, len(made))] = rng.randrange(256)
    return bytes(made)


def test_nearly_valid_acknowledgements_do_not_harm_an_engine() -> None:
    rng, pair = random.Random(5), Pair(window=64)
    now_us = START_US
    for _ in range(3_000):
        pair.sender.write(memoryview(bytes(rng.randrange(1, 300))), now_us)
        pair.sender.transmit(now_us)
        now_us += rng.choice((0, 10, 1_000, 50_000))
        pair.acknowledge([_random_ack(rng, pair.sender)], now_us)
        recount = Recount.of(pair.sender)
        assert pair.sender.recovery.in_flight == recount.in_flight
        assert pair.sender.sending.sacked == recount.sacked
        assert pair.sender.recovery.spurious_losses <= pair.sender.delivery.marked_lost
    assert pair.sender.sending.una > 100
    assert pair.sender.counts.impossible > 100
