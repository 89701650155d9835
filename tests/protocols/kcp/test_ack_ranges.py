"""Acknowledgements in ranges on the wire: vectors written by hand, round trips, and damage."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iperfpy.protocols.kcp.ack_ranges import (
    INTERVALS_US,
    LONGEST_ROW,
    MOST_RANGES,
    MOST_SEGMENTS,
    REPEATED,
    RangeAck,
    age_of,
    interval_code,
    read_ranges,
    write_ranges,
)
from iperfpy.protocols.kcp.inbound import read_batch
from iperfpy.protocols.kcp.wire import HEADER, HEADER_BYTES
from tests.protocols.kcp.ends import CONV, batch, seg

GOLDEN = Path(__file__).parents[2] / "golden" / "kcp" / "ranges.txt"
U16, U32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF)


class Vector(NamedTuple):
    name: str
    conv: int
    wnd: int
    una: int
    ack: RangeAck
    data: bytes


def _numbers(text: str) -> list[list[int]]:
    return [] if text == "-" else [[int(word) for word in each.split()] for each in text.split(",")]


def _vectors() -> list[Vector]:
    found = []
    for line in GOLDEN.read_text().splitlines():
        if line.startswith("#"):
            continue
        name, fields, head, rows, ranges, data = (part.strip() for part in line.split("|"))
        conv, wnd, ts, sn, una = (int(word, 0) for word in fields.split())
        clock_us, age, serial = map(int, head.split())
        wide = [
            (first, count | repeated * REPEATED, row_age, row_ts)
            for first, count, repeated, row_age, row_ts in _numbers(rows)
        ]
        pairs = [(start, stop) for start, stop in _numbers(ranges)]
        ack = RangeAck(ts, sn, clock_us, age, serial, wide, pairs)
        found.append(Vector(name, conv, wnd, una, ack, bytes.fromhex(data)))
    return found


def _read(data: bytes) -> RangeAck | None:
    _, _, rows, _, ts, sn, _, size = HEADER.unpack_from(data)
    body = np.frombuffer(data, np.uint8)[HEADER_BYTES:]
    assert len(body) == size
    return read_ranges(ts, sn, rows, body)


@pytest.mark.parametrize("vector", _vectors(), ids=lambda vector: vector.name)
def test_the_vectors_are_written_and_read(vector: Vector) -> None:
    assert write_ranges(vector.conv, vector.wnd, vector.una, vector.ack).tobytes() == vector.data
    (arrived,), foreign = read_batch(batch(vector.data), vector.conv, 5, vector.una)
    assert (arrived.ranges, foreign) == (vector.ack, 0)
    assert (arrived.una, arrived.wnd, arrived.malformed) == (vector.una, vector.wnd, False)


_ROWS = st.lists(
    st.tuples(U32, st.integers(1, 1500), st.booleans(), U16, U32).map(
        lambda row: (row[0], row[1] | row[2] * REPEATED, row[3], row[4])
    ),
    max_size=40,
)
_RANGES = st.lists(st.integers(1, 0xFFFF), max_size=60, unique=True).map(
    lambda numbers: list(zip(*[iter(sorted(numbers))] * 2, strict=False))
)


@given(U32, U32, U32, U16, U16, _ROWS, _RANGES)
def test_a_segment_round_trips(
    ts: int,
    sn: int,
    clock_us: int,
    age: int,
    serial: int,
    rows: list[tuple[int, int, int, int]],
    ranges: list[tuple[int, int]],
) -> None:
    ack = RangeAck(ts, sn, clock_us, age, serial, rows, ranges)
    assert _read(write_ranges(CONV, 128, 77, ack).tobytes()) == ack


def test_numbers_beyond_32_bits_are_cut() -> None:
    wide, high = 1 << 32, 1 << 40
    ack = RangeAck(high + 5, wide + 6, high + 7, 1, 65536 + 2, [(wide + 3, 2, 0, high + 5)], [])
    assert _read(write_ranges(CONV, 1, wide, ack).tobytes()) == RangeAck(5, 6, 7, 1, 2, [(3, 2, 0, 5)], [])


def _body(rows: list[tuple[int, int]], ranges: list[tuple[int, int]]) -> bytes:
    return (
        struct.pack("<IHH", 1, 2, 3)
        + b"".join(struct.pack("<IHHI", first, count, 0, 0) for first, count in rows)
        + b"".join(struct.pack("<HH", *each) for each in ranges)
    )


@pytest.mark.parametrize(
    ("rows", "body"),
    [
        (0, b""),
        (0, bytes(7)),
        (1, _body([], [])),
        (255, _body([(0, 1)] * 254, [])),
        (0, _body([], []) + b"abc"),
        (1, _body([(0, 0)], [])),
        (1, _body([(0, REPEATED)], [])),
        (3, _body([(0, LONGEST_ROW)] * 3, [])),
        (0, _body([], [(0, 1)])),
        (0, _body([], [(3, 3)])),
        (0, _body([], [(3, 2)])),
        (0, _body([], [(1, 4), (4, 5)])),
        (0, _body([], [(5, 9), (6, 8)])),
        (0, _body([], [(5, 9), (1, 2)])),
        (0, _body([], [(2 * at + 1, 2 * at + 2) for at in range(MOST_RANGES + 1)])),
    ],
    ids=[
        "nothing", "half a head", "a row missing", "a row too few", "half a range", "an empty row",
        "an empty row of repeats", "too many segments", "a range at una", "an empty range",
        "a range backwards", "ranges that touch", "ranges that overlap", "ranges that descend",
        "too many ranges",
    ],
)  # fmt: skip
def test_a_segment_that_contradicts_itself_is_malformed(rows: int, body: bytes) -> None:
    assert read_ranges(0, 0, rows, np.frombuffer(body, np.uint8)) is None
    (arrived,), _ = read_batch(batch(seg(86, body, frg=rows)), CONV, 5, 5)
    assert arrived.malformed
    assert arrived.ranges is None


def test_the_bounds_hold_what_a_window_can_have() -> None:
    assert MOST_SEGMENTS >= 65_535
    body = _body([(0, LONGEST_ROW)] * 2, [(2 * at + 1, 2 * at + 2) for at in range(MOST_RANGES)])
    ack = read_ranges(0, 0, 2, np.frombuffer(body, np.uint8))
    assert ack is not None
    assert ack.segments == 2 * LONGEST_ROW


@given(st.floats(1, 5e8))
def test_an_interval_is_rounded_up_by_a_tenth_at_most(interval_us: float) -> None:
    code = interval_code(interval_us)
    assert 1 <= code <= 254  # 255 marks a probe
    assert interval_us * 0.98 - 1 <= INTERVALS_US[code] <= interval_us * 1.1


def test_ages_are_rounded_and_end() -> None:
    assert [age_of(us) for us in (-5, 0, 1, 2, 3, 2 * 65_535, 1 << 40)] == [0, 0, 1, 1, 2, 65_535, 65_535]
