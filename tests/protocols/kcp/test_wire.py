"""The segment header against vectors written by hand, and numbers that wrap."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iperfpy.protocols.kcp import Kcp, wire
from iperfpy.protocols.kcp.inbound import ack_columns, read_batch
from tests.protocols.kcp.ends import ACK, PUSH, WASK, batch, engine

GOLDEN = Path(__file__).parents[2] / "golden" / "kcp" / "segments.txt"
U32 = st.integers(0, wire.MASK)


def test_the_transport_declares_the_size_of_the_header() -> None:
    assert wire.HEADER.size == wire.HEADER_BYTES == Kcp.header_bytes


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


@pytest.mark.parametrize("vector", _vectors(), ids=lambda vector: vector.name)
def test_the_vectors_are_decoded(vector: Vector) -> None:
    (arrived,), foreign = read_batch(batch(vector.data), vector.conv, vector.sn, vector.una)
    assert (arrived.una, arrived.wnd, arrived.asks) == (vector.una, vector.wnd, vector.cmd == WASK)
    assert (arrived.pushes is not None, arrived.acks is not None) == (vector.cmd == PUSH, vector.cmd == ACK)
    if arrived.pushes is not None:
        assert arrived.pushes.rows.tobytes() == vector.payload
        assert (arrived.pushes.first, arrived.pushes.last_ts) == (vector.sn, vector.ts)
    if arrived.acks is not None:
        numbers, echoes = ack_columns(arrived.acks, vector.sn, vector.ts)
        assert (numbers.tolist(), echoes.tolist()) == ([vector.sn], [vector.ts])
    assert foreign == 0


@pytest.mark.parametrize("vector", [v for v in _vectors() if not v.payload and v.cmd != PUSH])
def test_the_vectors_are_encoded(vector: Vector) -> None:
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
def test_truncated_numbers_are_expanded_near_a_reference(reference: int, offset: int) -> None:
    wanted = reference + offset
    low = wanted & wire.MASK
    assert wire.expand(low, reference) == wanted
    assert wire.expand_all(np.array([low], np.uint32), reference).tolist() == [wanted]


@given(lows=st.lists(U32, min_size=1, max_size=50), reference=st.integers(0, 1 << 62))
def test_arrays_are_expanded_as_numbers_are(lows: list[int], reference: int) -> None:
    many = wire.expand_all(np.array(lows, np.uint32), reference)
    assert many.tolist() == [wire.expand(low, reference) for low in lows]
    assert all((number & wire.MASK) == low for number, low in zip(many.tolist(), lows, strict=True))
