"""Each shape of a batch becomes the record that inbound.py's table promises, and strangers spoil no other."""

from __future__ import annotations

import numpy as np
import pytest

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp.inbound import FEW, Acks, Arrived, Pushes, ack_columns, decode_each, read_batch
from iperfpy.protocols.kcp.wire import MASK
from tests.protocols.kcp.ends import CONV, WASK, WINS, ack, batch, parse, push, seg

WRAP = 1 << 32


def _one(whole: DatagramBatch, next_sn: int = 0, una: int = 0) -> Arrived:
    """The only record of a batch that has nothing foreign."""
    (arrived,), foreign = read_batch(whole, CONV, next_sn, una)
    assert foreign == 0
    return arrived


def _pushes(whole: DatagramBatch, next_sn: int = 0) -> Pushes:
    pushes = _one(whole, next_sn).pushes
    assert pushes is not None
    return pushes


def _acks(whole: DatagramBatch) -> Acks:
    acks = _one(whole).acks
    assert acks is not None
    return acks


def _run(first: int, count: int, size: int = 40, **fields: int) -> list[bytes]:
    return [push((first + i) & MASK, bytes([i % 251]) * size, **fields) for i in range(count)]


@pytest.mark.parametrize("first", [0, 7, MASK - 3])
@pytest.mark.parametrize("frg", [0, 3])
def test_a_run_is_recognised_across_the_wrap(first: int, frg: int) -> None:
    arrived = _one(batch(*_run(first, 9, ts=5, una=6, wnd=7, frg=frg)), first + 2)
    run = arrived.pushes
    assert run is not None
    assert run.sn is None
    assert (run.first, run.last, run.last_ts, arrived.una, arrived.wnd) == (first, first + 8, 5, 6, 7)
    assert run.numbers().tolist() == [*range(first, first + 9)]
    assert run.stamps().tolist() == [5] * 9
    assert [row.tobytes() for row in run.rows] == [bytes([i]) * 40 for i in range(9)]


def test_runs_that_left_one_after_the_other_are_one_run() -> None:
    stamps = [MASK, MASK, 0, 0, 7]
    datagrams = [push(MASK - 2 + i & MASK, bytes(40), ts=ts) for i, ts in enumerate(stamps)]
    run = _pushes(batch(*datagrams), MASK)
    assert run.sn is None
    assert (run.first, run.last, run.stamps().tolist()) == (MASK - 2, MASK + 2, stamps)


def test_message_fragments_are_a_byte_stream_too() -> None:
    """A sender in message mode counts fragments down; the run is not uniform, but it is data."""
    messages = [push(i, bytes([i]) * 30, frg=2 - i % 3) for i in range(6)]
    pushes = _pushes(batch(*messages))
    assert pushes.sn is not None
    assert pushes.numbers().tolist() == [*range(6)]


@pytest.mark.parametrize("change", ["gap", "repeat", "una", "wnd", "order"])
def test_segments_that_are_no_run_have_a_column_of_numbers(change: str) -> None:
    datagrams = _run(10, 5)
    if change == "gap":
        datagrams[3] = _run(14, 1)[0]
    elif change == "repeat":
        datagrams[3] = datagrams[2]
    elif change == "order":
        datagrams[2], datagrams[3] = datagrams[3], datagrams[2]
    else:
        datagrams[3] = push(13, b"x" * 40, **{change: 99})
    pushes = _pushes(batch(*datagrams))
    assert pushes.sn is not None
    segments = [parse(datagram)[0] for datagram in datagrams]
    assert pushes.numbers().tolist() == [segment.sn for segment in segments]
    assert pushes.stamps().tolist() == [segment.ts for segment in segments]
    assert (pushes.first, pushes.last) == (segments[0].sn, segments[-1].sn)
    assert [row.tobytes() for row in pushes.rows] == [datagram[24:] for datagram in datagrams]


@pytest.mark.parametrize(
    ("strange", "records"),
    [
        (push(2, b"x" * 40, conv=CONV + 1), 0),
        (seg(WASK, b"x" * 40), 1),
        (push(2, b"x" * 40, length=39), 1),
        (push(2, b"x" * 40, length=41), 0),
        (push(2, b"x" * 16) + ack(1, 1) + b"", 2),
    ],
)
@pytest.mark.parametrize("at", [0, 1, 4])
def test_a_foreign_datagram_spoils_the_shape_and_nothing_else(strange: bytes, records: int, at: int) -> None:
    """The others come one by one; `records` of the strange datagram are segments of ours."""
    datagrams = _run(0, 5)
    datagrams[at] = strange
    arrived, foreign = read_batch(batch(*datagrams), CONV, 0, 0)
    assert len(arrived) == 4 + records
    assert foreign == (records != 2 and strange[4] != WASK)
    own = [each.pushes.rows.tobytes() for each in arrived if each.pushes is not None]
    assert [payload for payload in own if payload[:1] != b"x"] == [
        datagram[24:] for datagram in datagrams if datagram is not strange
    ]


@pytest.mark.parametrize("count", [7, FEW, FEW + 1, 60])
def test_acks_are_recognised_in_any_grouping(count: int) -> None:
    segments = [ack(10 + i, 100 + i, una=10, wnd=50 + i) for i in range(count)]
    thirds = [b"".join(segments[at : at + 3]) for at in range(0, count, 3)]
    for whole in (batch(*thirds), batch(*segments), batch(b"".join(segments))):
        arrived = _one(whole)
        acks = arrived.acks
        assert acks is not None
        assert len(acks) == count
        assert isinstance(acks, list) == (count <= FEW)
        numbers, echoes = ack_columns(acks, WRAP + 20, WRAP + 20)
        assert numbers.tolist() == [*range(WRAP + 10, WRAP + 10 + count)]
        assert echoes.tolist() == [*range(WRAP + 100, WRAP + 100 + count)]
        assert (arrived.una, arrived.wnd) == (10, 49 + count)


@pytest.mark.parametrize("unas", [[5, 9, 7], [MASK, 3, 1], [9, 9, 9], [9, 1, 2]])
@pytest.mark.parametrize("times", [1, FEW])
def test_the_furthest_una_counts(unas: list[int], times: int) -> None:
    """Datagrams overtake one another; una never goes back."""
    near = WRAP if MASK in unas else 0
    furthest = WRAP + 3 if near else 9
    acks = batch(*(ack(1, 1, una=una) for una in unas * times))
    assert _one(acks, una=near).una == furthest
    pushes = batch(*(push(1, b"abc", una=una, ts=i) for i, una in enumerate(unas)))
    assert _one(pushes, una=near).una == furthest


def test_an_old_una_is_ignored() -> None:
    assert _one(batch(ack(1, 1, una=3)), una=WRAP + 8).una == WRAP + 3


@pytest.mark.parametrize(
    ("strange", "foreign"),
    [(ack(1, 1, conv=9), 1), (seg(WASK), 0), (ack(1, 1, length=1), 1), (ack(1, 1)[:23], 1)],
)
def test_acks_with_another_segment_are_read_one_by_one(strange: bytes, foreign: int) -> None:
    arrived, strangers = read_batch(batch(ack(0, 0) + strange), CONV, 0, 0)
    assert strangers == foreign
    assert [each.acks is not None for each in arrived] == [True] + [False] * (not foreign)


@pytest.mark.parametrize("cmd", [WASK, WINS])
def test_a_window_probe_alone_is_recognised(cmd: int) -> None:
    arrived = _one(batch(seg(cmd, una=4, wnd=9)), una=3)
    assert arrived == Arrived(4, 9, None, None, cmd == WASK, tells=cmd == WINS)


@pytest.mark.parametrize("tail", [b"tail", b""])
def test_a_short_tail_is_cut_off(tail: bytes) -> None:
    records, foreign = read_batch(batch(*_run(0, 4), push(4, tail)), CONV, 0, 0)
    assert foreign == 0
    run, last = (arrived.pushes for arrived in records)
    assert run is not None
    assert last is not None
    assert (run.first, run.last, run.sn) == (0, 3, None)
    assert (last.first, last.rows.shape, last.rows.tobytes()) == (4, (1, len(tail)), tail)


def test_a_buffer_longer_than_its_batch_is_not_read() -> None:
    """Receivers hand over views of larger buffers."""
    real = b"".join(_run(0, 3))
    longer = np.frombuffer(real + push(3, b"x" * 40) + b"rest", np.uint8)
    assert _pushes(DatagramBatch(longer, 64, 3, 64)).rows.shape == (3, 40)
    for count in (2, FEW + 2):
        acks = np.frombuffer(ack(1, 1) * count + b"rest", np.uint8)
        assert len(_acks(DatagramBatch(acks, 24, count, 24))) == count


@pytest.mark.parametrize("size", [1, 23])
def test_a_batch_too_short_for_a_header_is_foreign(size: int) -> None:
    runts = DatagramBatch.of(np.zeros(3 * size, np.uint8), size)
    assert read_batch(runts, 0, 0, 0) == ([], 3)


@pytest.mark.parametrize(
    ("datagram", "good"),
    [
        (push(1, b"ab") + push(2, b"c"), 2),
        (push(1, b"ab") + push(2, b"c")[:20], 1),
        (push(1, b"ab") + push(2, b"c", length=2), 1),
        (push(1, b"ab") + push(2, b"c", length=MASK), 1),
        (push(1, b"ab") + push(2, b"c", conv=CONV ^ 1) + push(3, b"d"), 1),
        (push(1, b"ab") + seg(80) + push(3, b"d"), 1),
        (push(1, b"ab") + seg(87), 1),
        (b"x" * 23, 0),
    ],
)
def test_segments_before_a_fault_count(datagram: bytes, good: int) -> None:
    records, foreign = read_batch(batch(datagram), CONV, 0, 0)
    assert len(records) == good
    assert foreign == (good != 2)


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("datagrams", [1, 5])
def test_datagrams_full_of_small_segments_are_one_record(step: int, datagrams: int) -> None:
    """Segments of one byte took as long as whole datagrams, and came sixty times as often."""
    numbers = [*range(0, 56 * datagrams * step, step)]
    pushes = [push(number, b"x") for number in numbers]
    packed = [b"".join(pushes[at : at + 56]) for at in range(0, len(pushes), 56)]
    arrived = _one(batch(*packed))
    assert arrived.pushes is not None
    assert arrived.pushes.numbers().tolist() == numbers
    assert arrived.pushes.rows.shape == (len(numbers), 1)
    records = decode_each(batch(*packed), CONV, 0, 0)
    assert [each.pushes.first for each in records if each.pushes is not None] == numbers


def test_a_strange_segment_among_small_ones_is_read_one_by_one() -> None:
    pieces = [push(number, b"x") for number in range(8)]
    strange = pieces[3][:4] + bytes([WASK]) + pieces[3][5:]
    records, foreign = read_batch(batch(b"".join([*pieces[:3], strange, *pieces[4:]])), CONV, 0, 0)
    assert [each.pushes is not None for each in records] == [number != 3 for number in range(8)]
    assert foreign == 0
