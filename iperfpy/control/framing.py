"""iperf3's control channel, as bytes: no socket, no clock, no state of the test.

    cookie     37 bytes: 36 characters and a NUL, sent once by the end that connects
    state      one signed byte
    error      the state -2, then two int32: i_errno and errno (older servers stop after the first)
    document   uint32 length, then that many bytes of JSON, always an object
    extension  a state from 64 up, then a document; only with iperfpy at both ends

Rules of this file. `Decoder.feed` takes any number of bytes; `Decoder.take` gives the next message
of the kind that the session expects, or None until it is whole. A length is checked before a byte of
the body is kept. Bytes that cannot be a message raise `ProtocolError`, with the sender in its text; nothing
else is raised for any input.
"""

from __future__ import annotations

import enum
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

from iperfpy.control.peer_text import DocumentLimit, document_of, text_of
from iperfpy.errors import ProtocolError
from iperfpy.records import finite

COOKIE_BYTES = 37
PROBE_PREFIX = "iperfpy-probe-"
"""Beginning of a cookie that belongs to no test: the server answers it with `PROBE_ANSWER`, and closes. The
cookie of a test never has a second hyphen."""
PROBE_ANSWER = b"!"
COOKIE_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
PARAMETERS_LIMIT_BYTES = 8192
HELLO_LIMIT_BYTES = 64 * 1024
SERVER_OUTPUT_LIMIT_BYTES = 64 * 1024 * 1024
"""Limit for the report of a stock server, which sends all of it, at times to a client that did not ask."""
SENTENCE_LIMIT_BYTES = 4096
EVIDENCE_LIMIT_BYTES = 512 * 1024
"""Limit for the records of the path in results, which are mostly text (evidence_codec.py)."""


def figures_limit(streams: int, keys: int) -> DocumentLimit:
    """The largest document of figures (results, or statistics of an interval) that a peer may send.

    Parameters
    ----------
    streams : data streams of the test
    keys : figures of one stream, as the transport declares them

    A peer of another version may have as many figures again, and a stream three objects and twenty figures
    more: iperf3's own.
    """
    values = 64 + 2 * keys
    return DocumentLimit(16 * 1024 + 64 * values * streams, 64 + 8 * streams, 1024 + values * streams)


class State(enum.IntEnum):
    """The state bytes; those from 64 up are iperfpy's own and carry a document."""

    TEST_START = 1
    TEST_RUNNING = 2
    TEST_END = 4
    PARAM_EXCHANGE = 9
    CREATE_STREAMS = 10
    SERVER_TERMINATE = 11
    CLIENT_TERMINATE = 12
    EXCHANGE_RESULTS = 13
    DISPLAY_RESULTS = 14
    IPERF_DONE = 16
    ACCESS_DENIED = -1
    SERVER_ERROR = -2
    HELLO = 64
    STATS = 65
    SENTENCE = 66


FIRST_EXTENSION = 64
_STATES = frozenset(int(state) for state in State)


class Expect(enum.Enum):
    """The kind of the next message, which the session knows and the bytes do not tell."""

    COOKIE = "a cookie"
    STATE = "a state"
    DOCUMENT = "a document"


@dataclass(frozen=True, slots=True)
class Cookie:
    """The characters that identify a test, 36 by iperf3's own clients, 0 to 37 by others."""

    text: str


@dataclass(frozen=True, slots=True)
class Signal:
    """A state byte, with its document when it is an extension."""

    state: State
    document: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ServerError:
    """iperf3's numbers for an error at the server; `errno` is None from an old server."""

    i_errno: int
    errno: int | None


@dataclass(frozen=True, slots=True)
class Document:
    """Parameters or results."""

    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Closed:
    """The peer closed the connection; `inside` is True if it did so in the middle of a message."""

    inside: bool


Message = Cookie | Signal | ServerError | Document | Closed


def encode_cookie(text: str) -> bytes:
    """`text`, cut or padded with NULs to 37 bytes."""
    return text.encode("ascii")[: COOKIE_BYTES - 1].ljust(COOKIE_BYTES, b"\0")


def encode_state(state: State) -> bytes:
    """One signed byte."""
    return struct.pack(">b", state)


def encode_document(body: Mapping[str, Any]) -> bytes:
    """The length, and the document as compact JSON. NaN and infinities become null."""
    text = json.dumps(finite(body), separators=(",", ":"), allow_nan=False).encode()
    return struct.pack(">I", len(text)) + text


def encode_extension(state: State, body: Mapping[str, Any]) -> bytes:
    """A state from 64 up and its document."""
    return encode_state(state) + encode_document(body)


def encode_server_error(i_errno: int, errno: int = 0) -> bytes:
    """The state -2 and its two numbers."""
    return encode_state(State.SERVER_ERROR) + struct.pack(">ii", i_errno, errno)


def decode_cookie(raw: bytes, sender: str = "the client") -> Cookie:
    """The cookie in 37 bytes, as far as the first NUL, which may be missing.

    iperf3 takes any 37 bytes. Control characters are refused here: they are the first bytes of a TLS or HTTP
    client, not of a test.
    """
    text = raw.partition(b"\0")[0]
    if len(raw) != COOKIE_BYTES or any(byte < 0x20 or byte == 0x7F for byte in text):
        raise ProtocolError(f"{sender} does not speak iperf3's protocol: its first bytes are no cookie")
    return Cookie(text_of(text, "latin-1"))


class Decoder:
    """The receiving half of a control connection.

    Parameters
    ----------
    sender : str
        Name of the peer in errors: "the client" or "the server".
    extended : bool
        True: extension states are messages; False: they are errors.

    Attributes
    ----------
    document_limit : largest document accepted
    extension_limits : largest document accepted with an extension state
    """

    def __init__(self, sender: str, *, extended: bool = False) -> None:
        self.sender = sender
        self.extended = extended
        self.document_limit = DocumentLimit.of_bytes(PARAMETERS_LIMIT_BYTES)
        self.extension_limits = {
            State.HELLO: DocumentLimit.of_bytes(HELLO_LIMIT_BYTES),
            State.STATS: figures_limit(1, 0),
            State.SENTENCE: DocumentLimit.of_bytes(SENTENCE_LIMIT_BYTES),
        }
        self._buffer = bytearray()
        self._ended = False

    def feed(self, data: bytes) -> None:
        """Append arrived bytes."""
        self._buffer += data

    def feed_eof(self) -> None:
        """Note that the peer will send no more."""
        self._ended = True

    def take(self, expect: Expect, instead: frozenset[State] = frozenset()) -> Message | None:
        """The next message, or None if more bytes are needed.

        Parameters
        ----------
        expect : kind of the next message
        instead : states that may come where a document is expected

        Raises
        ------
        ProtocolError
            The bytes cannot be the expected message.
        """
        # The first byte tells a state from a document: it is 0 in every allowed length, and 0 is no state.
        if expect is Expect.DOCUMENT and self._buffer and _signed(self._buffer[0]) in instead:
            expect = Expect.STATE
        message = self._READERS[expect](self)
        if message is None and self._ended:
            return Closed(inside=bool(self._buffer))
        return message

    def _cookie(self) -> Message | None:
        raw = self._exactly(COOKIE_BYTES)
        return None if raw is None else decode_cookie(raw, self.sender)

    def _state(self) -> Message | None:
        if not self._buffer:
            return None
        value = _signed(self._buffer[0])
        if value == State.SERVER_ERROR:
            return self._server_error()
        if value not in _STATES or (value >= FIRST_EXTENSION and not self.extended):
            self._wrong(f"sent the unknown state {value}")
        if value < FIRST_EXTENSION:
            del self._buffer[:1]
            return Signal(State(value))
        body = self._body(1, self.extension_limits[State(value)])
        return None if body is None else Signal(State(value), body)

    def _server_error(self) -> Message | None:
        if len(self._buffer) >= 9:
            i_errno, errno = struct.unpack(">ii", self._buffer[1:9])
            del self._buffer[:9]
            return ServerError(i_errno, errno)
        if self._ended and len(self._buffer) >= 5:
            (i_errno,) = struct.unpack(">i", self._buffer[1:5])
            self._buffer.clear()
            return ServerError(i_errno, None)
        return None

    def _document(self) -> Message | None:
        body = self._body(0, self.document_limit)
        return None if body is None else Document(body)

    def _body(self, offset: int, limit: DocumentLimit) -> Mapping[str, Any] | None:
        """The object at `offset`; it leaves the buffer with everything before it."""
        if len(self._buffer) > offset and self._buffer[offset]:
            self._wrong(f"announced a message of 16 MiB or more (allowed: {limit.size_bytes} bytes)")
        if len(self._buffer) < offset + 4:
            return None
        (length,) = struct.unpack_from(">I", self._buffer, offset)
        if not 0 < length <= limit.size_bytes:
            self._wrong(f"announced a message of {length} bytes (allowed: 1 to {limit.size_bytes})")
        raw = self._exactly(offset + 4 + length)
        if raw is None:
            return None
        try:
            return document_of(raw[offset + 4 :], limit)
        except ValueError as error:
            self._wrong(f"sent {error}")

    def _exactly(self, count: int) -> bytes | None:
        if len(self._buffer) < count:
            return None
        raw = bytes(self._buffer[:count])
        del self._buffer[:count]
        return raw

    def _wrong(self, what: str) -> NoReturn:
        raise ProtocolError(f"{self.sender} {what}")

    _READERS: ClassVar[Mapping[Expect, Callable[[Decoder], Message | None]]] = {
        Expect.COOKIE: _cookie,
        Expect.STATE: _state,
        Expect.DOCUMENT: _document,
    }


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte
