"""The segment header against vectors written by hand, and numbers that wrap."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp import wire
from tests.protocols.kcp.ends import ACK, CONV, PUSH, WASK, ack, batch, engine, parse, push, seg

GOLDEN = Path(__file__).parents[2] / "golden" / "kcp" / "segments.txt"
U32 = st.integers(0, wire.MASK)


class Vector(NamedTuple):
    name: str
    conv: int
    cmd: int
    frg: int
    wnd: int
    ts: int
    sn: int
    una: int
    payload: bytes
    data: bytes


def _vectors() -> list[Vector]:
    found = []
    for line in GOLDEN.read_text().splitlines():
        if line.startswith("#"):
            continue
        name, fields, data = (part.strip() for part in line.split("|"))
        conv, *numbers, payload = fields.split()
        cmd, frg, wnd, ts, sn, una = map(int, numbers)
        carried = b"" if payload == "-" else bytes.fromhex(payload)
        found.append(Vector(name, int(conv, 16), cmd, frg, wnd, ts, sn, una, carried, bytes.fromhex(data)))
    return found


def _bytes(data: bytes) -> wire.Bytes:
    return np.frombuffer(data, np.uint8)


@pytest.mark.parametrize("vector", _vectors(), ids=lambda vector: vector.name)
def test_vectors_are_read(vector: Vector) -> None:
    (segment,) = wire.walk(_bytes(vector.data), vector.conv)
    assert segment.payload.tobytes() == vector.payload
    assert (segment.cmd, segment.frg, segment.wnd) == (vector.cmd, vector.frg, vector.wnd)
    assert (segment.ts, segment.sn, segment.una) == (vector.ts, vector.sn, vector.una)
    assert wire.conv_of(_bytes(vector.data)) == vector.conv


@pytest.mark.parametrize("vector", [v for v in _vectors() if not v.payload and v.cmd != PUSH])
def test_vectors_are_written(vector: Vector) -> None:
    made = wire.control_segment(vector.conv, vector.cmd, vector.wnd, vector.una, vector.ts, vector.sn)
    assert made == vector.data
    if vector.cmd == ACK:
        # As an array writes it, from unbounded numbers beyond the wrap.
        sn = np.array([vector.sn + (1 << 32)])
        ts = np.array([vector.ts + (3 << 32)])
        many = wire.ack_segments(vector.conv, vector.wnd, vector.una + (1 << 32), sn, ts)
        assert many.tobytes() == vector.data


def test_an_engine_writes_the_push_vector() -> None:
    vector = _vectors()[0]
    one = engine(first_sn=7, receive_window=128, nagle=False)
    one.receiving.nxt = 5
    one.write(memoryview(vector.payload), 0)
    (sent,) = one.transmit(1_000)
    assert sent.data[: sent.size].tobytes() == vector.data


@given(reference=st.integers(0, 1 << 62), offset=st.integers(-(1 << 31), (1 << 31) - 1))
def test_numbers_grow_back(reference: int, offset: int) -> None:
    wanted = reference + offset
    low = wanted & wire.MASK
    assert wire.expand(low, reference) == wanted
    assert wire.expand_all(np.array([low], np.uint32), reference).tolist() == [wanted]


@given(lows=st.lists(U32, min_size=1, max_size=50), reference=st.integers(0, 1 << 62))
def test_arrays_grow_back_as_numbers_do(lows: list[int], reference: int) -> None:
    many = wire.expand_all(np.array(lows, np.uint32), reference)
    assert many.tolist() == [wire.expand(low, reference) for low in lows]
    assert all((number & wire.MASK) == low for number, low in zip(many.tolist(), lows, strict=True))


# ------------------------------------------------------------------------------------- shapes


def _run(first: int, count: int, size: int = 40, **fields: int) -> list[bytes]:
    return [push((first + i) & wire.MASK, bytes([i % 251]) * size, **fields) for i in range(count)]


@pytest.mark.parametrize("first", [0, 7, wire.MASK - 3])
@pytest.mark.parametrize("frg", [0, 3])
def test_a_run_is_recognised_across_the_wrap(first: int, frg: int) -> None:
    run = wire.recognise(batch(*_run(first, 9, ts=5, una=6, wnd=7, frg=frg)), CONV)
    assert isinstance(run, wire.Run)
    assert (run.first, run.count, run.una, run.wnd) == (first, 9, 6, 7)
    assert run.ts.tolist() == [5] * 9
    assert [row.tobytes() for row in run.rows] == [bytes([i]) * 40 for i in range(9)]


def test_runs_that_left_one_after_the_other_are_one_run() -> None:
    stamps = [wire.MASK, wire.MASK, 0, 0, 7]
    datagrams = [push(wire.MASK - 2 + i & wire.MASK, bytes(40), ts=ts) for i, ts in enumerate(stamps)]
    run = wire.recognise(batch(*datagrams), CONV)
    assert isinstance(run, wire.Run)
    assert (run.first, run.ts.tolist()) == (wire.MASK - 2, stamps)


def test_message_fragments_are_a_byte_stream_too() -> None:
    """A sender in message mode counts fragments down; the run is not uniform, but it is data."""
    messages = [push(i, bytes([i]) * 30, frg=2 - i % 3) for i in range(6)]
    assert isinstance(wire.recognise(batch(*messages), CONV), wire.Pushes)


@pytest.mark.parametrize("change", ["gap", "repeat", "una", "wnd", "order"])
def test_what_is_not_a_run_is_pushes(change: str) -> None:
    datagrams = _run(10, 5)
    if change == "gap":
        datagrams[3] = _run(14, 1)[0]
    elif change == "repeat":
        datagrams[3] = datagrams[2]
    elif change == "order":
        datagrams[2], datagrams[3] = datagrams[3], datagrams[2]
    else:
        datagrams[3] = push(13, b"x" * 40, **{change: 99})
    shape = wire.recognise(batch(*datagrams), CONV)
    assert isinstance(shape, wire.Pushes)
    assert shape.sn.tolist() == [parse(datagram)[0].sn for datagram in datagrams]
    assert shape.ts.tolist() == [parse(datagram)[0].ts for datagram in datagrams]
    assert [row.tobytes() for row in shape.rows] == [datagram[24:] for datagram in datagrams]


@pytest.mark.parametrize(
    "strange",
    [
        push(2, b"x" * 40, conv=CONV + 1),
        seg(WASK, b"x" * 40),
        push(2, b"x" * 40, length=39),
        push(2, b"x" * 40, length=41),
        push(2, b"x" * 16) + ack(1, 1) + b"",
    ],
)
@pytest.mark.parametrize("at", [0, 1, 4])
def test_a_stranger_spoils_the_shape(strange: bytes, at: int) -> None:
    datagrams = _run(0, 5)
    datagrams[at] = strange
    assert wire.recognise(batch(*datagrams), CONV) is None


def test_acks_are_recognised_whatever_their_grouping() -> None:
    segments = [ack(10 + i, 100 + i, una=10, wnd=50 + i) for i in range(7)]
    full = b"".join(segments[:3])
    for one in (
        batch(full, b"".join(segments[3:6]), segments[6]),
        batch(*segments),
        batch(b"".join(segments)),
    ):
        acks = wire.recognise(one, CONV)
        assert isinstance(acks, wire.Acks)
        assert acks.sn.tolist() == list(range(10, 17))
        assert acks.ts.tolist() == list(range(100, 107))
        assert (acks.una, acks.wnd) == (10, 56)


@pytest.mark.parametrize("unas", [[5, 9, 7], [wire.MASK, 3, 1], [9, 9, 9], [9, 1, 2]])
def test_the_furthest_una_counts(unas: list[int]) -> None:
    """Datagrams overtake one another; una never goes back."""
    furthest = 3 if wire.MASK in unas else 9
    acks = wire.recognise(batch(*(ack(1, 1, una=una) for una in unas)), CONV)
    assert isinstance(acks, wire.Acks)
    assert acks.una == furthest
    pushes = wire.recognise(batch(*(push(1, b"abc", una=una, ts=i) for i, una in enumerate(unas))), CONV)
    assert isinstance(pushes, wire.Pushes)
    assert pushes.una == furthest


@pytest.mark.parametrize("strange", [ack(1, 1, conv=9), seg(WASK), ack(1, 1, length=1), ack(1, 1)[:23]])
def test_acks_with_a_stranger_are_not_only_acks(strange: bytes) -> None:
    assert wire.recognise(batch(ack(0, 0) + strange), CONV) is None


def test_a_short_tail_is_cut_off() -> None:
    one = batch(*_run(0, 4), push(4, b"tail"))
    assert wire.recognise(one, CONV) is None
    parts = wire.split_tail(one)
    assert parts is not None
    body, tail = parts
    assert isinstance(wire.recognise(body, CONV), wire.Run)
    assert [segment.payload.tobytes() for segment in wire.walk(tail.data, CONV)] == [b"tail"]
    assert wire.split_tail(body) is None


def test_a_buffer_longer_than_its_batch_is_not_read() -> None:
    """Receivers hand over views of larger buffers."""
    real = b"".join(_run(0, 3))
    longer = np.frombuffer(real + push(3, b"x" * 40) + b"rest", np.uint8)
    run = wire.recognise(DatagramBatch(longer, 64, 3, 64), CONV)
    assert isinstance(run, wire.Run)
    assert run.rows.shape == (3, 40)
    acks = np.frombuffer(ack(1, 1) * 2 + b"rest", np.uint8)
    shape = wire.recognise(DatagramBatch(acks, 24, 2, 24), CONV)
    assert isinstance(shape, wire.Acks)
    assert len(shape.sn) == 2


@pytest.mark.parametrize(
    ("datagram", "good"),
    [
        (push(1, b"ab") + push(2, b"c"), 2),
        (push(1, b"ab") + push(2, b"c")[:20], 1),
        (push(1, b"ab") + push(2, b"c", length=2), 1),
        (push(1, b"ab") + push(2, b"c", length=wire.MASK), 1),
        (push(1, b"ab") + push(2, b"c", conv=CONV ^ 1) + push(3, b"d"), 1),
        (push(1, b"ab") + seg(80) + push(3, b"d"), 1),
        (push(1, b"ab") + seg(85), 1),
        (b"x" * 23, 0),
    ],
)
def test_what_comes_before_a_fault_stands(datagram: bytes, good: int) -> None:
    taken = []
    if good == 2:
        taken = list(wire.walk(_bytes(datagram), CONV))
    else:
        with pytest.raises(ValueError, match=r"KCP|conversation|header"):
            taken.extend(wire.walk(_bytes(datagram), CONV))
    assert len(taken) == good


def test_conv_of_a_runt_is_none() -> None:
    assert wire.conv_of(_bytes(b"x" * 23)) is None
    assert wire.conv_of(memoryview(push(1, b"z"))) == CONV
