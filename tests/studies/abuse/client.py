"""A client's control connection written out by hand: blocking sockets, and messages in any order.

It says nothing of features, so it is what an older iperfpy or a stock iperf3 is to every server, and the same
program attacks servers of any version.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import time
from typing import Any, Self

TEST_START, TEST_RUNNING, TEST_END = 1, 2, 4
PARAM_EXCHANGE, CREATE_STREAMS, EXCHANGE_RESULTS = 9, 10, 13
CLIENT_TERMINATE, DISPLAY_RESULTS = 12, 14
HELLO, STATS, SENTENCE = 64, 65, 66
_WITH_DOCUMENT = {HELLO, STATS, SENTENCE}
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
PUSH, ACK, WASK = 81, 82, 83
SEGMENT = struct.Struct("<IBBHIIII")


class RefusedError(Exception):
    """The server refused the test, or ended it."""


def document(body: dict[str, Any] | bytes) -> bytes:
    """The length and the text of a document, which may be raw."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return struct.pack(">I", len(text)) + text


class Client:
    """One control connection. Every wait ends after `patience_s`."""

    def __init__(self, server: tuple[str, int], source: str, *, ours: bool, patience_s: float = 20.0) -> None:
        self.server, self.source = server, source
        letters = "".join(random.choices(_ALPHABET, k=36))
        self.cookie = (f"iperfpy-{letters}"[:36] if ours else letters).encode() + b"\0"
        self.ours = ours
        self.sock = socket.create_connection(server, patience_s, (source, 0))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.others: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for sock in (self.sock, *self.others):
            sock.close()

    def send(self, *parts: bytes | int) -> None:
        self.sock.sendall(
            b"".join(part if isinstance(part, bytes) else struct.pack("b", part) for part in parts)
        )

    def expect(self, wanted: int) -> None:
        """Read until this state; figures and the greeting are read over."""
        while True:
            (state,) = struct.unpack("b", self._exactly(1))
            if state in _WITH_DOCUMENT:
                self._exactly(*struct.unpack(">I", self._exactly(4)))
            if state == wanted:
                return
            if state not in {HELLO, STATS}:
                raise RefusedError(f"state {state} in place of {wanted}")

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.sock.recv(count - len(data))
            if not more:
                raise RefusedError("closed")
            data += more
        return data

    def agree(self, **changes: Any) -> None:
        """Greet, and have a test admitted; the server then waits for its streams."""
        parameters = {
            "tcp": True,
            "omit": 0,
            "time": 60,
            "num": 0,
            "blockcount": 0,
            "parallel": 1,
            "len": 1000,
            **changes,
        }
        self.send(self.cookie)
        self.expect(PARAM_EXCHANGE)
        self.send(document(parameters))
        self.expect(CREATE_STREAMS)

    def agree_kcp(self, conv: int, seconds: float, *, reverse: bool = False, **settings: Any) -> None:
        """Have a kcp test admitted; its one stream has this conversation number."""
        own = {
            "transport": "kcp",
            "settings": settings,
            "omit_us": 0,
            "interval_us": 1_000_000,
            "duration_us": round(seconds * 1e6),
            "conv": [conv],
        }
        direction = {"reverse": True} if reverse else {}
        self.agree(tcp=False, len=1000, iperfpy=own, **direction)

    def open_tcp(self) -> None:
        """Open a data stream."""
        sock = socket.create_connection(self.server, 20.0, (self.source, 0))
        self.others.append(sock)
        sock.sendall(self.cookie)

    def open_kcp(self, conv: int) -> socket.socket:
        """Associate a KCP stream; returns its socket once the server has answered."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.others.append(sock)
        sock.bind((self.source, 0))
        sock.connect(self.server)
        sock.settimeout(0.2)
        question = SEGMENT.pack(conv, WASK, 0, 65_535, 0, 0, 0, 0)
        until_s = time.monotonic() + 10
        while time.monotonic() < until_s:
            sock.send(question)
            try:
                sock.recv(2048)
            except (TimeoutError, ConnectionError):
                continue
            return sock
        raise RefusedError("no answer over UDP")


def newcomer_delay_s(server: tuple[str, int], source: str, patience_s: float) -> float:
    """Seconds from the connection to the start of a small test; `patience_s` if it was refused or late."""
    began_s = time.monotonic()
    try:
        with Client(server, source, ours=False, patience_s=patience_s) as client:
            client.agree(time=1)
            client.open_tcp()
            client.expect(TEST_START)
            took_s = time.monotonic() - began_s
            client.send(CLIENT_TERMINATE)
            return min(took_s, patience_s)
    except (OSError, RefusedError):
        return patience_s
