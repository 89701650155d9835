"""Encoding and decoding of control messages; every case is also fed one byte at a time."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iperfpy.control import framing
from iperfpy.control.framing import (
    Closed,
    Cookie,
    Decoder,
    Document,
    Expect,
    Message,
    ServerError,
    Signal,
    State,
)
from iperfpy.control.peer_text import DocumentLimit
from iperfpy.errors import ProtocolError

COOKIE = "abcdefghijklmnopqrstuvwxyz234567abcd"


def take_all(
    data: bytes,
    expect: Expect,
    *,
    chunk: int = 0,
    eof: bool = False,
    extended: bool = False,
    instead: frozenset[State] = frozenset(),
) -> list[Message]:
    """Return every message in `data`, fed in chunks of `chunk` bytes (0: all at once)."""
    # Taken after every chunk: a message must be complete with its last byte.
    decoder = Decoder("the client", extended=extended)
    found: list[Message] = []
    size = chunk or max(1, len(data))
    for start in range(0, len(data), size):
        decoder.feed(data[start : start + size])
        while (message := decoder.take(expect, instead)) is not None:
            found.append(message)
    if eof:
        decoder.feed_eof()
        message = decoder.take(expect, instead)
        assert message is not None
        found.append(message)
    return found


@pytest.mark.parametrize("chunk", [0, 1, 3])
@pytest.mark.parametrize(
    ("data", "expect", "messages"),
    [
        (COOKIE.encode() + b"\0", Expect.COOKIE, [Cookie(COOKIE)]),
        (b"host.1234.5678.abc".ljust(37, b"\0"), Expect.COOKIE, [Cookie("host.1234.5678.abc")]),
        (b"\x09\x0a\x01\x02", Expect.STATE, [Signal(State(each)) for each in (9, 10, 1, 2)]),
        (b"\xff", Expect.STATE, [Signal(State.ACCESS_DENIED)]),
        (b"\xfe\0\0\0\x07\0\0\0\x6b\x0e", Expect.STATE, [ServerError(7, 107), Signal(State.DISPLAY_RESULTS)]),
        (b'\0\0\0\x0c{"tcp":true}', Expect.DOCUMENT, [Document({"tcp": True})]),
        (b'\0\0\0\x05\n{ }\n', Expect.DOCUMENT, [Document({})]),
    ],
)  # fmt: skip
def test_each_message_is_decoded(data: bytes, expect: Expect, messages: list[Message], chunk: int) -> None:
    assert take_all(data, expect, chunk=chunk) == messages


@pytest.mark.parametrize("chunk", [0, 1])
def test_an_extension_state_carries_a_document(chunk: int) -> None:
    data = framing.encode_extension(State.STATS, {"a": [1, None]}) + b"\x0d"
    assert take_all(data, Expect.STATE, chunk=chunk, extended=True) == [
        Signal(State.STATS, {"a": [1, None]}),
        Signal(State.EXCHANGE_RESULTS),
    ]


def test_an_extension_state_from_a_stock_peer_is_refused() -> None:
    with pytest.raises(ProtocolError, match="the client sent the unknown state 65"):
        take_all(framing.encode_extension(State.STATS, {}), Expect.STATE)


@pytest.mark.parametrize("chunk", [0, 1])
def test_a_server_error_with_one_number_ends_with_the_connection(chunk: int) -> None:
    found = take_all(b"\xfe\0\0\0\x8e", Expect.STATE, chunk=chunk, eof=True)
    assert found == [ServerError(142, None)]


@pytest.mark.parametrize(("data", "inside"), [(b"", False), (b"\xfe\0\0", True), (b"\0\0\0\x09{", True)])
def test_a_closed_connection_says_if_a_message_was_cut_off(data: bytes, inside: bool) -> None:
    expect = Expect.STATE if data.startswith(b"\xfe") else Expect.DOCUMENT
    assert take_all(data, expect, eof=True) == [Closed(inside)]


def test_only_an_allowed_state_may_replace_a_document() -> None:
    instead = frozenset({State.CLIENT_TERMINATE})
    assert take_all(b"\x0c", Expect.DOCUMENT, instead=instead) == [Signal(State.CLIENT_TERMINATE)]
    with pytest.raises(ProtocolError):
        take_all(b"\x0d\0\0\0", Expect.DOCUMENT, instead=instead)


@pytest.mark.parametrize("chunk", [0, 1])
@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"\xff\xff\xff\xff", "announced a message of 16 MiB or more"),
        (b"\0\0\0\0", "announced a message of 0 bytes"),
        (b"\0\0\x20\x01", "announced a message of 8193 bytes"),
        (b"\0\0\0\x02[]", "not an object"),
        (b"\0\0\0\x04null", "not an object"),
        (b"\0\0\0\x03{,}", "not JSON"),
        (b"\0\0\0\x02\xff\xfe", "not JSON"),
        (b'\0\0\0\x09{"a":NaN}', "not JSON"),
        (b'\0\0\0\x0b{"a":1e999}', "not JSON"),
        (struct.pack(">I", 8000) + b"[" * 8000, "not JSON"),
        (struct.pack(">I", 6006) + b'{"a":' + b"9" * 6000 + b"}", "not JSON"),
    ],
)
def test_a_malformed_document_is_refused(data: bytes, complaint: str, chunk: int) -> None:
    with pytest.raises(ProtocolError, match=f"the client .*{complaint}"):
        take_all(data, Expect.DOCUMENT, chunk=chunk)


@pytest.mark.parametrize(
    "raw", [b"GET / HTTP/1.1\r\nHost: example\r\nAccept:", b"\x16\x03\x01" + bytes(34), b"x" * 36, b"x" * 38]
)
def test_the_first_bytes_of_another_protocol_are_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError, match="does not speak iperf3's protocol"):
        framing.decode_cookie(raw)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"x" * 37, "x" * 37),
        (b"a cookie with spaces".ljust(37, b"\0"), "a cookie with spaces"),
        (b"host.1\0" + b"rest" * 7 + b"\0\0", "host.1"),
        (b"\0" * 37, ""),
        (b"\xe9" * 36 + b"\0", "\xe9" * 36),
    ],
)
def test_a_cookie_is_read_as_iperf3_reads_it(raw: bytes, text: str) -> None:
    assert framing.decode_cookie(raw).text == text


@pytest.mark.parametrize("value", [0, 3, 17, 63, 0x80])
def test_an_unknown_state_is_refused(value: int) -> None:
    with pytest.raises(ProtocolError, match="unknown state"):
        take_all(bytes([value]), Expect.STATE, extended=True)


def test_a_length_above_the_limit_is_refused_before_the_body_arrives() -> None:
    decoder = Decoder("the server")
    decoder.feed(struct.pack(">I", framing.PARAMETERS_LIMIT_BYTES + 1))
    with pytest.raises(ProtocolError, match="the server announced"):
        decoder.take(Expect.DOCUMENT)


def test_a_raised_limit_admits_a_longer_document() -> None:
    decoder = Decoder("the server")
    decoder.document_limit = DocumentLimit.of_bytes(30_000)
    body = {"text": "x" * 20_000}
    decoder.feed(framing.encode_document(body))
    assert decoder.take(Expect.DOCUMENT) == Document(body)


def test_encoded_bytes_are_iperf3s() -> None:
    assert framing.encode_cookie(COOKIE) == COOKIE.encode() + b"\0"
    assert framing.encode_state(State.ACCESS_DENIED) == b"\xff"
    assert framing.encode_server_error(7, 9) == bytes.fromhex("fe 00000007 00000009")
    assert framing.encode_document({"tcp": True, "omit": 0}) == b'\0\0\0\x15{"tcp":true,"omit":0}'


def test_infinity_and_nan_are_encoded_as_null() -> None:
    data = framing.encode_document({"a": float("inf"), "b": [float("nan"), 1.5]})
    assert json.loads(data[4:]) == {"a": None, "b": [None, 1.5]}


texts = st.text(max_size=20).filter(str.isprintable)  # others do not arrive as they were: test_peer_text.py
documents = st.dictionaries(texts, st.none() | st.booleans() | st.integers(-(2**63), 2**63) | texts)


@given(documents, st.integers(1, 50))
def test_documents_survive_any_chunking(body: dict[str, Any], chunk: int) -> None:
    assert take_all(framing.encode_document(body), Expect.DOCUMENT, chunk=chunk) == [Document(body)]


@given(st.binary(max_size=200), st.sampled_from(list(Expect)), st.booleans())
def test_garbage_raises_nothing_but_protocol_errors(data: bytes, expect: Expect, extended: bool) -> None:
    whole = outcome(data, expect, 0, extended)
    assert outcome(data, expect, 1, extended) == whole


def outcome(data: bytes, expect: Expect, chunk: int, extended: bool) -> object:
    try:
        return take_all(data, expect, chunk=chunk, eof=True, extended=extended)
    except ProtocolError as error:
        return str(error)
