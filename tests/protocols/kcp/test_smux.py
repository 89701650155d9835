"""The bytes of smux, and one stream of it between two ends."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iperfpy.protocols.errors import StreamPeerError
from iperfpy.protocols.kcp.smux import (
    FIRST_STREAM,
    FIRST_WINDOW,
    LONGEST_PSH,
    MOST_PAYLOAD,
    MOST_PENDING,
    MOST_REFUSED,
    VERSIONS,
    WINDOW,
    Command,
    FrameReader,
    SmuxStream,
    frame,
    update,
)
from iperfpy.protocols.kcp.snappy_stream import IDENTIFIER

SYN, FIN, PSH, NOP, UPD = Command


def read(reader: FrameReader, data: bytes) -> list[tuple[Command, int, bytes]]:
    """The pieces of `data`, with those of one payload joined."""
    joined: list[tuple[Command, int, bytes]] = []
    for command, stream, payload in reader.feed(memoryview(data)):
        if command is PSH and joined and joined[-1][:2] == (PSH, stream):
            joined[-1] = (PSH, stream, joined[-1][2] + bytes(payload))
        else:
            joined.append((command, stream, bytes(payload)))
    return joined


def stream(version: int = 1, *, dials: bool = True, begins: bool = False) -> tuple[SmuxStream, bytearray]:
    """An end, and the payload that arrives there."""
    end, got = SmuxStream(version, dials=dials, begins=begins), bytearray()
    end.deliver = got.extend
    return end, got


def taken(end: SmuxStream) -> bytes:
    """Everything that waits to be written."""
    data = bytes(end.pending)
    end.pending.clear()
    return data


# -- the bytes


def test_frames_are_those_of_smux() -> None:
    assert frame(1, SYN, 3).hex() == "0100000003000000"
    assert frame(1, FIN, 3).hex() == "0101000003000000"
    assert frame(1, PSH, 3, b"abc").hex() == "0102030003000000616263"
    assert frame(2, NOP, 0).hex() == "0203000000000000"
    assert update(3, 0x0102, 0x40000).hex() == "02040800030000000201000000000400"
    assert update(3, 2**32 + 5, 1) == update(3, 5, 1)


def test_the_longest_frame_is_read_and_no_longer_one_is_made() -> None:
    longest = frame(1, PSH, 3, bytes(MOST_PAYLOAD))
    assert read(FrameReader(1), longest) == [(PSH, 3, bytes(MOST_PAYLOAD))]
    with pytest.raises(ValueError, match="65535"):
        frame(1, PSH, 3, bytes(MOST_PAYLOAD + 1))


@given(st.data(), st.sampled_from(VERSIONS))
def test_frames_come_back_however_they_are_cut(data: st.DataObject, version: int) -> None:
    commands = [SYN, FIN, PSH, NOP] + [UPD] * (version > 1)
    sent, wire = [], b""
    for _ in range(data.draw(st.integers(1, 6))):
        command = data.draw(st.sampled_from(commands))
        number = data.draw(st.integers(0, 2**32 - 1))
        payload = b""
        if command is PSH:
            payload = data.draw(st.binary(min_size=1, max_size=200))
        elif command is UPD:
            payload = data.draw(st.binary(min_size=8, max_size=8))
        sent.append((command, number, payload))
        wire += frame(version, command, number, payload)
    reader, pieces, at = FrameReader(version), list[tuple[Command, int, bytes]](), 0
    while at < len(wire):
        size = data.draw(st.integers(1, len(wire) - at))
        pieces += [(c, n, bytes(p)) for c, n, p in reader.feed(memoryview(wire[at : at + size]))]
        at += size
    expected = [each for each in sent if each[0] is not PSH]
    assert [each for each in pieces if each[0] is not PSH] == expected
    assert b"".join(p for c, _, p in pieces if c is PSH) == b"".join(p for c, _, p in sent if c is PSH)


@pytest.mark.parametrize("cut", range(len(update(3, 1, 2)) + len(frame(2, PSH, 3, b"xyz")) + 1))
def test_a_stream_may_be_cut_at_every_byte(cut: int) -> None:
    wire = update(3, 1, 2) + frame(2, PSH, 3, b"xyz")
    reader = FrameReader(2)
    pieces = read(reader, wire[:cut]) + read(reader, wire[cut:])
    assert pieces[0] == (UPD, 3, struct.pack("<II", 1, 2))
    assert b"".join(payload for command, _, payload in pieces if command is PSH) == b"xyz"


@pytest.mark.parametrize(
    ("version", "wire", "sentence"),
    [
        (1, b"\x01\x04\x08\x00\x03\x00\x00\x00", "unknown command 4 of smux version 1"),
        (2, b"\x02\x05\x00\x00\x03\x00\x00\x00", "unknown command 5 of smux version 2"),
        (1, b"\x01\xff\x00\x00\x03\x00\x00\x00", "unknown command 255"),
        (1, b"\x01\x00\xff\xff\x03\x00\x00\x00", "a smux SYN of 65535 bytes, not 0"),
        (1, b"\x01\x01\x01\x00\x03\x00\x00\x00", "a smux FIN of 1 bytes, not 0"),
        (1, b"\x01\x03\x01\x00\x03\x00\x00\x00", "a smux NOP of 1 bytes, not 0"),
        (2, b"\x02\x04\x07\x00\x03\x00\x00\x00", "a smux UPD of 7 bytes, not 8"),
        (2, b"\x02\x04\xff\xff\x03\x00\x00\x00", "a smux UPD of 65535 bytes, not 8"),
        (1, frame(2, NOP, 0), "smux version 2: give --smux 2"),
        (2, frame(1, SYN, 3), "smux version 1: give --smux 1"),
        (1, b"\x03\x00\x00\x00\x00\x00\x00\x00", "not smux"),
        (
            1,
            b"GET / HTTP/1.1\r\n",
            r"\(474554202f204854\): is it kcptun",
        ),
        (1, IDENTIFIER, "give --compress, or kcptun --nocomp"),
        (2, IDENTIFIER[:8], "give --compress, or kcptun --nocomp"),
    ],
)
def test_bytes_that_break_the_format_are_a_sentence(version: int, wire: bytes, sentence: str) -> None:
    with pytest.raises(StreamPeerError, match=sentence):
        read(FrameReader(version), wire)
    reader = FrameReader(version)
    with pytest.raises(StreamPeerError, match=sentence):
        list(map(read, [reader] * len(wire), (bytes([byte]) for byte in wire)))


@given(st.binary(max_size=300), st.sampled_from(VERSIONS), st.booleans())
def test_any_bytes_are_frames_or_a_sentence(data: bytes, version: int, dials: bool) -> None:
    end, _ = stream(version, dials=dials)
    if dials:
        end.open()
    with contextlib.suppress(StreamPeerError):
        end.receive(memoryview(data))
    assert end.received_bytes <= len(data)


# -- one stream


@given(st.lists(st.binary(min_size=1, max_size=100), min_size=1, max_size=20), st.sampled_from(VERSIONS))
def test_payload_arrives_and_is_counted(blocks: list[bytes], version: int) -> None:
    (here, _), (there, got) = stream(version), stream(version, dials=False)
    here.open()
    wire = b"".join(here.wrap(memoryview(block)) for block in blocks)
    here.finish()
    there.receive(memoryview(wire + taken(here)))
    assert bytes(got) == b"".join(blocks)
    assert there.received_bytes == here.sent_bytes == len(got)
    assert there.number == FIRST_STREAM
    assert there.peer_finished


def test_acknowledged_bytes_are_payload_without_headers() -> None:
    here, _ = stream()
    here.open()
    wire = here.wrap(memoryview(b"abc"))
    here.keep_alive()
    wire += here.wrap(memoryview(b"defg"))
    payload = [False] * 16 + [True] * 3 + [False] * 16 + [True] * 4  # SYN and header; NOP and header
    assert len(wire) == len(payload)
    found = [here.payload_acked(acked) for acked in range(len(wire) + 1)]
    assert found == [sum(payload[:acked]) for acked in range(len(wire) + 1)]
    # What follows is no payload.
    here.finish()
    assert here.payload_acked(len(wire) + len(here.pending)) == 7


def test_the_rest_of_a_frame_leaves_before_fin() -> None:
    (here, _), (there, got) = stream(), stream(dials=False)
    here.open()
    wire = here.wrap(memoryview(bytes(100)))
    here.keep_alive()
    here.finish(wire[50:])
    here.finish(b"once only")
    there.receive(memoryview(wire[:50] + taken(here)))
    assert len(got) == 100
    assert there.peer_finished
    assert here.payload_acked(len(wire) + 16) == 100


def test_version_2_sends_as_much_as_the_peer_takes() -> None:
    here, _ = stream(2)
    here.open()
    assert here.room_bytes == LONGEST_PSH
    while here.room_bytes:
        here.wrap(memoryview(bytes(here.room_bytes)))
    assert here.sent_bytes == FIRST_WINDOW
    assert not here.is_told
    here.receive(memoryview(update(FIRST_STREAM, FIRST_WINDOW - 10, 30)))
    assert here.is_told
    assert here.room_bytes == 20
    here.receive(memoryview(update(FIRST_STREAM, FIRST_WINDOW, 0)))
    assert here.room_bytes == 0
    here.receive(memoryview(update(FIRST_STREAM, FIRST_WINDOW, 0xFFFF_FFFF)))
    assert here.room_bytes == LONGEST_PSH
    with pytest.raises(StreamPeerError, match="has consumed more"):
        here.receive(memoryview(update(FIRST_STREAM, FIRST_WINDOW + 1, 1000)))


def test_version_2_tells_what_it_has_taken() -> None:
    there, _ = stream(2, dials=False)
    there.receive(memoryview(frame(2, SYN, 3)))
    assert taken(there) == update(3, 0, WINDOW)
    block = frame(2, PSH, 3, bytes(MOST_PAYLOAD))
    for _ in range(-(-WINDOW // 8 // MOST_PAYLOAD)):
        assert not there.pending
        there.receive(memoryview(block))
    assert taken(there) == update(3, there.received_bytes, WINDOW)


def test_version_1_has_no_window() -> None:
    here, _ = stream()
    here.open()
    assert taken(here) == frame(1, SYN, FIRST_STREAM)
    for _ in range(20):
        here.wrap(memoryview(bytes(here.room_bytes)))
    assert here.room_bytes == LONGEST_PSH


def test_further_streams_are_refused_up_to_a_limit() -> None:
    there, got = stream(dials=False)
    there.receive(
        memoryview(frame(1, SYN, 3) + frame(1, SYN, 5) + frame(1, PSH, 5, b"no") + frame(1, FIN, 5))
    )
    assert taken(there) == frame(1, FIN, 5)
    there.receive(memoryview(frame(1, PSH, 3, b"yes")))
    assert bytes(got) == b"yes"
    assert there.refused == 1
    opened = b"".join(frame(1, SYN, number) for number in range(7, 7 + 2 * MOST_REFUSED, 2))
    there.receive(memoryview(opened))
    with pytest.raises(StreamPeerError, match="more than 64 smux streams open"):
        there.receive(memoryview(frame(1, SYN, 5)))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_peer_that_does_not_take_the_answers_fills_no_memory(version: int) -> None:
    there, _ = stream(version, dials=False)
    pairs = (frame(version, SYN, 3) + frame(version, FIN, 3)) * 50_000
    with pytest.raises(StreamPeerError, match="does not take the answers"):
        there.receive(memoryview(pairs))
    assert MOST_PENDING < len(there.pending) <= MOST_PENDING + len(update(3, 0, 0))
    # If it takes them, it may go on.
    there, _ = stream(version, dials=False)
    for _ in range(100):
        there.receive(memoryview(pairs[: len(pairs) // 100]))
        taken(there)


@pytest.mark.parametrize(
    ("dials", "wire", "sentence"),
    [
        (True, frame(1, SYN, 2), "opened the smux stream 2, which it may not"),
        (False, frame(1, SYN, 3) * 2, "opened the smux stream 3, which it may not"),
        (False, frame(1, PSH, 3, b"x"), "a smux PSH of stream 3, which is not open"),
        (True, frame(1, FIN, 9), "a smux FIN of stream 9, which is not open"),
        (True, frame(1, FIN, 3) + frame(1, PSH, 3, b"x"), "payload on a smux stream that it had closed"),
    ],
)
def test_a_peer_that_breaks_the_protocol_is_a_sentence(dials: bool, wire: bytes, sentence: str) -> None:
    end, _ = stream(dials=dials)
    if dials:
        end.open()
    with pytest.raises(StreamPeerError, match=sentence):
        end.receive(memoryview(wire))


def test_a_connection_without_payload_is_not_the_one_that_is_measured() -> None:
    there, got = stream(dials=False)
    there.receive(memoryview(frame(1, SYN, 3) + frame(1, FIN, 3)))
    assert taken(there) == frame(1, FIN, 3)
    assert not there.peer_finished
    there.receive(memoryview(frame(1, SYN, 5) + frame(1, PSH, 5, b"x")))
    assert bytes(got) == b"x"
    # An end that sends first may have begun by then.
    source, _ = stream(dials=False, begins=True)
    source.receive(memoryview(frame(1, SYN, 3) + frame(1, FIN, 3)))
    assert source.peer_finished
