"""Encoding and decoding of iperf3's datagrams, byte for byte."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iperfpy.protocols.udp.packets import (
    NARROW_BYTES,
    NUMBER_BITS,
    WIDE_BYTES,
    Columns,
    Outgoing,
    headers,
    whole_datagrams,
)

NOW_US = 0x903 * 1_000_000 + 0x5E3C3


def parsed(datagram: bytes, *, wide: bool) -> tuple[int, int, int]:
    """(seconds, microseconds, number) of one datagram."""
    fields: tuple[int, int, int] = struct.unpack_from(">IIQ" if wide else ">III", datagram)
    return fields


def test_a_32_bit_header_has_iperf3s_bytes() -> None:
    """A datagram of iperf3 3.12: 00 00 09 03  00 05 e3 c3  00 00 00 01, then filler."""
    outgoing = Outgoing(64, repeating=True)
    assert bytes(outgoing.stamp(1, NOW_US))[:20] == bytes.fromhex("000009030005e3c300000001") + b"23456789"


def test_a_64_bit_header_has_iperf3s_bytes() -> None:
    outgoing = Outgoing(32, wide=True, repeating=True)
    header = bytes.fromhex("000009030005e3c30000000000000001")
    assert bytes(outgoing.stamp(1, NOW_US)) == header + b"6789012345678901"


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("block_bytes", [16, 1400, 9000, 65_507])
def test_numbers_are_successive_after_any_partial_send(block_bytes: int, wide: bool) -> None:
    """The kernel takes a part of a run, all of it or nothing, beyond the end of the buffer too."""
    outgoing = Outgoing(block_bytes, wide=wide)
    expected = 1
    for turn in range(600):
        wanted = 1 + turn * 7 % 64
        view = bytes(outgoing.stamp(wanted, NOW_US + turn))
        count = len(view) // block_bytes
        assert 1 <= count <= wanted
        assert len(view) % block_bytes == 0
        for index in (0, count - 1):
            datagram = view[index * block_bytes : (index + 1) * block_bytes]
            assert parsed(datagram, wide=wide) == (0x903, 0x5E3C3 + turn, expected + index)
        left = count if turn % 3 else count // 2
        outgoing.advance(left)
        expected += left
        assert outgoing.sent == expected - 1


@pytest.mark.parametrize("block_bytes", [11, 65_508])
def test_a_block_length_outside_a_datagram_is_refused(block_bytes: int) -> None:
    with pytest.raises(ValueError, match=f"a datagram has 12 to 65507 bytes, not {block_bytes}"):
        Outgoing(block_bytes)


def test_the_filler_is_random_bytes_or_the_repeated_digits() -> None:
    noise = bytes(Outgoing(1400).stamp(40, 0))
    assert len(zlib.compress(noise)) > 0.9 * len(noise)
    counted = bytes(Outgoing(1400, repeating=True).stamp(40, 0))
    assert len(zlib.compress(counted)) < 0.1 * len(counted)


@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))),
    st.booleans(),
    st.integers(0, 40),
)
def test_headers_are_read_as_they_were_written(
    fields: list[tuple[int, int, int]], wide: bool, filler: int
) -> None:
    layout = struct.Struct(">IIQ" if wide else ">III")
    fields = [(seconds, rest, number & (1 << 8 * (8 if wide else 4)) - 1) for seconds, rest, number in fields]
    data = b"".join(layout.pack(*each) + bytes(filler) for each in fields)
    sent_us, numbers = headers(data, layout.size + filler, len(fields), wide=wide)
    assert sent_us.tolist() == [seconds * 1_000_000 + rest for seconds, rest, _ in fields]
    assert numbers.tolist() == [number & (1 << NUMBER_BITS) - 1 for _, _, number in fields]


@given(st.integers(0, 5000), st.integers(16, 1500), st.booleans())
def test_only_datagrams_with_a_complete_header_are_counted(size: int, stride: int, wide: bool) -> None:
    header_bytes = WIDE_BYTES if wide else NARROW_BYTES
    lengths = [min(stride, size - start) for start in range(0, size, stride)]
    complete = [length for length in lengths if length >= header_bytes]
    assert whole_datagrams(size, stride, wide=wide) == (len(complete), sum(complete))


def test_columns_are_views_of_the_buffer() -> None:
    buffer = bytearray(4096)
    columns = Columns(buffer, 2 * 100 + 50, 100)
    assert (columns.count, columns.size) == (3, 250)
    for index in range(3):
        struct.pack_into(">III", buffer, 100 * index, 7, 8, 9 + index)
    assert columns.stamps() == struct.pack(">II", 7, 8) * 3
    assert columns.numbers() == struct.pack(">III", 9, 10, 11)
