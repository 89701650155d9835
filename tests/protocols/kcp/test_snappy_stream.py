"""The compression of kcptun: chunks of Snappy's framing format, alone and around the frames of smux."""

from __future__ import annotations

import random
import sys
import tracemalloc

import pytest
from cramjam import snappy
from hypothesis import given
from hypothesis import strategies as st

from iperfpy.protocols.errors import SettingsError, StreamPeerError
from iperfpy.protocols.kcp.smux import MOST_PAYLOAD, VERSIONS, Command, SmuxStream, frame
from iperfpy.protocols.kcp.snappy_stream import (
    IDENTIFIER,
    MOST_CHUNK,
    MOST_DATA,
    Compression,
    check_package,
)

ZEROS = bytes(snappy.compress(bytes(MOST_DATA)))


def chunk(kind: int, rest: bytes) -> bytes:
    return bytes([kind]) + len(rest).to_bytes(3, "little") + rest


def read(reader: Compression, wire: bytes) -> bytes:
    return b"".join(map(bytes, reader.open(memoryview(wire))))


# -- the format


def test_a_stream_begins_once_and_each_piece_can_be_read_at_once() -> None:
    writer, reader = Compression(), Compression()
    # "abc" is too short to become shorter: type 1, the masked CRC-32C, the data.
    assert writer.seal(b"abc").hex() == "ff060000734e61507059" + "01070000" + "6e57f121" + "616263"
    second = writer.seal(bytes(1000))
    assert second[0] == 0
    assert len(second) < 100
    assert read(reader, IDENTIFIER + second) == bytes(1000)
    assert read(reader, second) == bytes(1000)


@given(st.data(), st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=6))
def test_data_comes_back_however_the_stream_is_cut(data: st.DataObject, pieces: list[bytes]) -> None:
    writer, reader = Compression(), Compression()
    wire = b"".join(writer.seal(piece * data.draw(st.sampled_from([1, 50]))) for piece in pieces)
    expected, found, at = bytes(snappy.decompress(wire)), b"", 0
    while at < len(wire):
        size = data.draw(st.integers(1, len(wire) - at))
        found += read(reader, wire[at : at + size])
        at += size
    assert found == expected


def test_longer_data_becomes_several_chunks() -> None:
    data = random.Random(1).randbytes(3 * MOST_DATA)
    assert read(Compression(), Compression().seal(data)) == data


def test_chunks_that_may_be_passed_over_are() -> None:
    # Padding, an unknown one, and a repeated beginning, as of streams that were put together.
    wire = IDENTIFIER + chunk(254, bytes(100)) + chunk(128, bytes(MOST_CHUNK)) + Compression().seal(b"abc")
    assert read(Compression(), wire) == b"abc"


@pytest.mark.parametrize(
    ("wire", "sentence"),
    [
        (frame(1, Command.SYN, 3), "does not compress its stream: leave --compress out"),
        (frame(2, Command.SYN, 3), "does not compress its stream"),
        (ZEROS[len(IDENTIFIER) :], "does not compress its stream"),
        (chunk(255, b"LZ4Lz4"), "not compressed by Snappy"),
        (chunk(255, b""), "not compressed by Snappy"),
        (IDENTIFIER + chunk(2, b"x"), "a chunk of the unknown type 2"),
        (IDENTIFIER + chunk(127, b"x"), "a chunk of the unknown type 127"),
        (IDENTIFIER + b"\x01\xff\xff\xff", "a chunk of 16,777,215 bytes"),
        (IDENTIFIER + b"\xfe\xff\xff\xff", "a chunk of 16,777,215 bytes"),
        (IDENTIFIER + chunk(1, b"\x00\x00\x00\x00abc"), "damaged: .*checksum"),
        (IDENTIFIER + chunk(1, b"abc"), "damaged"),
        (IDENTIFIER + chunk(0, b""), "damaged"),
        (IDENTIFIER + chunk(1, bytes(4 + MOST_DATA + 1)), "damaged"),
        # It says that it has 2 GiB.
        (IDENTIFIER + chunk(0, bytes(4) + b"\xff\xff\xff\xff\x07" + bytes(50)), "damaged"),
    ],
)
def test_bytes_that_break_the_format_are_a_sentence(wire: bytes, sentence: str) -> None:
    with pytest.raises(StreamPeerError, match=sentence):
        read(Compression(), wire)
    reader = Compression()
    with pytest.raises(StreamPeerError, match=sentence):
        list(map(read, [reader] * len(wire), (bytes([byte]) for byte in wire)))


@given(st.binary(max_size=200))
def test_any_bytes_are_data_or_a_sentence(data: bytes) -> None:
    for begun in (b"", IDENTIFIER):
        try:
            read(Compression(), begun + data)
        except StreamPeerError:
            continue


def test_compressed_bytes_grow_by_a_limited_factor_and_one_chunk_at_a_time() -> None:
    bomb = ZEROS + ZEROS[len(IDENTIFIER) :] * 99
    reader, data_bytes = Compression(), 0
    tracemalloc.start()
    try:
        for data in reader.open(memoryview(bomb)):
            assert len(data) <= MOST_DATA
            data_bytes += len(data)
            del data
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert data_bytes == 100 * MOST_DATA < 22 * len(bomb)
    # Python's own memory: the bytes that came. The package has one chunk beside them.
    assert peak < 2 * len(bomb) + 100_000


def test_a_chunk_that_never_ends_keeps_no_more_than_it_may_have() -> None:
    reader = Compression()
    assert read(reader, IDENTIFIER + chunk(1, bytes(MOST_CHUNK))[:-1]) == b""
    with pytest.raises(StreamPeerError, match="damaged"):
        read(reader, b"\x00")


def test_the_package_is_named_if_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    check_package()
    monkeypatch.setitem(sys.modules, "cramjam", None)
    with pytest.raises(SettingsError, match=r"--compress needs the extra 'snappy' \(cramjam\)"):
        check_package()


# -- around smux


@given(
    st.lists(st.binary(min_size=1, max_size=100), min_size=1, max_size=20),
    st.sampled_from(VERSIONS),
    st.integers(1, 200),
)
def test_payload_is_counted_before_compression(blocks: list[bytes], version: int, step: int) -> None:
    here = SmuxStream(version, dials=True, compressed=True)
    there, got = SmuxStream(version, dials=False, compressed=True), bytearray()
    there.deliver = got.extend
    here.open()
    wire = b"".join(here.wrap(memoryview(block)) for block in blocks)
    here.finish()
    wire += bytes(here.pending)
    for at in range(0, len(wire), step):
        there.receive(memoryview(wire[at : at + step]))
        # The peer has read exactly what counts as acknowledged with these bytes.
        assert here.payload_acked(min(at + step, len(wire))) == len(got)
    assert bytes(got) == b"".join(blocks)
    assert there.received_bytes == here.sent_bytes == len(got)
    assert there.compression is not None
    assert there.compression.arrived_bytes == len(wire)
    assert there.peer_finished


def test_a_compressed_stream_is_shorter_than_its_payload() -> None:
    here = SmuxStream(1, dials=True, compressed=True)
    here.open()
    assert len(here.wrap(memoryview(bytes(MOST_PAYLOAD)))) < MOST_PAYLOAD / 10


def test_frames_are_no_more_than_their_bytes_allow() -> None:
    """Each is work: 22 times as many as the same bytes have without compression would hold up the program."""
    nops = frame(1, Command.NOP, 0) * (MOST_DATA // 8)
    there, sealing = SmuxStream(1, dials=False, compressed=True), Compression()
    wire = b"".join(sealing.seal(nops) for _ in range(30))
    with pytest.raises(StreamPeerError, match="more frames than it may without compression"):
        there.receive(memoryview(wire))
    assert 8 * there._reader.frames < len(wire) + 3 * MOST_DATA
    # One chunk for each, as of kcptun.
    there, sealing = SmuxStream(1, dials=False, compressed=True), Compression()
    there.receive(memoryview(b"".join(sealing.seal(nops[:8]) for _ in range(20_000))))


def test_the_rest_of_a_compressed_frame_leaves_before_fin() -> None:
    here = SmuxStream(1, dials=True, compressed=True)
    there = SmuxStream(1, dials=False, compressed=True)
    here.open()
    wire = here.wrap(memoryview(random.Random(1).randbytes(100)))
    here.keep_alive()
    here.finish(wire[50:])
    there.receive(memoryview(wire[:50] + bytes(here.pending)))
    assert there.received_bytes == 100
    assert there.peer_finished
