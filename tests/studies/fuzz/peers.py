"""Harnesses of what the other end of a test sends besides control messages: messages, probes, passwords,
records of the path."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import zlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from iperfpy.control.authentication import check_token, users_of
from iperfpy.control.clock_codec import decode_clock, encode_clock
from iperfpy.control.evidence_codec import decode_evidence, encode_evidence
from iperfpy.control.peer_text import DocumentLimit, document_of
from iperfpy.control.self_probes import LONGEST_US, decode_self_probes, encode_self_probes
from iperfpy.errors import KeyFileError, PlanError, ProtocolError
from iperfpy.plan import Plan
from iperfpy.protocols.path_evidence import FlightBins, PathEvidence
from iperfpy.protocols.registry import transport
from iperfpy.protocols.udp.echo import ECHO_BYTES, Prober, answer
from iperfpy.records import UNANSWERED, HostClock
from iperfpy.traffic.messages import HEADER, MessageEcho, MessageSource

CONV = 0x1122_3344
SIZE_BYTES = 20
"""A message: its header and four bytes."""
SENT = 8
"""Messages, or probes, that this end has sent."""
NOW_S = 1_800_000_000
LIMIT = DocumentLimit(1 << 20, 10_000, 10_000)


def _pieces(data: bytes) -> Iterator[bytes]:
    """Pieces as a socket gives them; the first byte of each is its length."""
    at = 0
    while at < len(data):
        yield data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]


def _in_pieces(*pieces: bytes) -> bytes:
    return b"".join(bytes([len(one)]) + one for one in pieces)


# ------------------------------------------------------------------ messages of a latency test


def messages(data: bytes) -> None:
    """The first byte chooses the end, and a byte stream or datagrams."""
    if not data:
        return
    datagrams = bool(data[0] & 1)
    plan = Plan("tcp", transport("tcp").settings(), block_bytes=SIZE_BYTES, messages_per_s=100)
    if data[0] & 2:
        _echo(MessageEcho(plan, CONV, lambda: None, datagrams=datagrams), data[1:], datagrams=datagrams)
    else:
        _source(MessageSource(plan, CONV, 1, datagrams=datagrams), data[1:])


def _source(source: MessageSource, data: bytes) -> None:
    source.wait_us(1)
    for _ in range(SENT):
        source.take()
    with contextlib.suppress(ProtocolError):
        for piece in _pieces(data):
            source.arrived(memoryview(piece))
    times = source.times()
    answered = np.flatnonzero(times.round_trip_us != UNANSWERED)
    assert times.sent == SENT
    assert len(answered) <= len(data) // HEADER.size
    assert all(answered < SENT)


def _echo(echo: MessageEcho, data: bytes, *, datagrams: bool) -> None:
    with contextlib.suppress(ProtocolError):
        for piece in _pieces(data):
            echo.arrived(memoryview(piece))
    sent = 0
    while not echo.wait_us(1):
        taken = echo.take()
        sent += len(taken)
        assert len(taken) == SIZE_BYTES if datagrams else not len(taken) % SIZE_BYTES
        assert {HEADER.unpack_from(taken, at)[2] for at in range(0, len(taken), SIZE_BYTES)} == {CONV}
    assert sent <= len(data)


def message_seeds() -> list[bytes]:
    def made(number: int, conv: int = CONV) -> bytes:
        return HEADER.pack(number, 77, conv) + bytes(SIZE_BYTES - HEADER.size)

    whole = _in_pieces(made(0), made(1) + made(2), made(3)[:7], made(3)[7:], made(3))
    wrong = _in_pieces(made(1), made(2, conv=9), made(2**32 - 1), made(4)[:-1])
    return [bytes([end]) + each for end in range(4) for each in (whole, wrong)]


# ------------------------------------------------------------------ probes in a UDP stream


def udp_probes(data: bytes) -> int:
    """Every piece is taken as a probe and as an echo. The first byte is the length of the pieces. Returns
    their number."""
    if not data:
        return 0
    prober, length = Prober(CONV), 1 + data[0] % 16
    for now_us in range(SENT):
        prober.probe(now_us)
    count = 0
    for at in range(1, len(data), length):
        piece, count = data[at : at + length], count + 1
        echo = answer(piece, CONV, float(count))
        assert len(echo) in (0, len(piece))
        assert not answer(echo, CONV, 0.0)
        assert not answer(piece, 0, 0.0)
        prober.take_echo(piece, 1e6 + count)
    assert prober.rtts.count == len(prober.arrivals_us) <= SENT
    rtt_us = prober.rtt_us(1_000_000)
    assert rtt_us is None or 0 <= rtt_us <= 1e6 + count
    return count


def udp_probe_seeds() -> list[bytes]:
    prober = Prober(CONV)
    probes = [prober.probe(now_us) for now_us in range(SENT)]
    echoes = [
        answer(probe, CONV, delay_us) for probe, delay_us in zip(probes, (0, 5, 1e12) * 3, strict=False)
    ]
    lengths = bytes([ECHO_BYTES - 1])
    return [lengths + b"".join(each) for each in (probes, echoes, [*echoes, *echoes], [*probes, *echoes])]


# ------------------------------------------------------------------ password tokens

USERS = f"# comment\n mario , {hashlib.sha256(b'{mario}rossi').hexdigest()} # one\n"
PLAIN = b"user: mario\npwd:  rossi\nts:   1800000000"
KEY: Any = SimpleNamespace(decrypt=lambda sealed, padding: sealed)
"""A key that leaves out the RSA, so that the text behind it is reached."""


def token(data: bytes) -> None:
    """The first byte chooses the plain text of a token, the token itself, or a file of users."""
    kind, text = data[:1], data[1:]
    users = users_of(USERS.encode())
    if kind < b"\x60":
        sent = base64.b64encode(text).decode()
    elif kind < b"\xc0":
        sent = (
            text.decode("utf-8", "surrogatepass" if kind < b"\x90" else "replace") if _is_text(text) else ""
        )
    else:
        _users(text)
        return
    with contextlib.suppress(PlanError):
        assert check_token(sent, KEY, users, NOW_S, 10) == "mario"
        assert b"\npwd:  rossi\nts:   " in base64.b64decode(sent)


def _is_text(text: bytes) -> bool:
    try:
        text.decode("utf-8", "surrogatepass")
    except ValueError:
        return False
    return True


def _users(text: bytes) -> None:
    with contextlib.suppress(KeyFileError):
        assert all(len(digest) == 64 for digest in users_of(text).values())


def token_seeds() -> list[bytes]:
    plain = [PLAIN, PLAIN + b"\0", b"user: a\nb\npwd:  \nts:   1", PLAIN.replace(b"mario", "ü".encode())]
    sealed = [base64.b64encode(PLAIN), b"", "\ud800".encode("utf-8", "surrogatepass")]
    return [b"\0" + one for one in plain] + [b"\x60" + one for one in sealed] + [b"\xff" + USERS.encode()]


# ------------------------------------------------------------------ records of the path in the results


def evidence(data: bytes) -> None:
    """The first byte chooses a document, or columns of bins, whose zlib and base64 no fuzzer would get
    right; the second one is then the number of bins."""
    kind, raw = data[:1], data[1:]
    body: Any
    if kind < b"\x80":
        try:
            body = document_of(raw, LIMIT)
        except ValueError:
            return
        own = body.get("evidence")
    else:
        columns = base64.b64encode(zlib.compress(raw[1:], 1)).decode()
        bins = {"width_us": 1000, "one_way": True, "count": raw[0] if raw else 0, "columns": columns}
        body, own = {}, [{"id": 1, "packet_bytes": 1428, "bins": bins}]
    found = decode_evidence(own, (1, 3))
    assert set(found) <= {1, 3}
    for record in found.values():
        assert record.flight is None or not record.flight.fault()
    again = encode_evidence(found)
    json.dumps(again, allow_nan=False)
    assert len(decode_evidence(again, (1, 3))) == len(found)
    times = [us for texts in decode_self_probes(body).values() for us in texts]
    assert all(0 < us <= LONGEST_US for us in times)
    clock = decode_clock(body)
    assert clock is None or decode_clock(json.loads(json.dumps(encode_clock(clock)))) == clock


def evidence_seeds() -> list[bytes]:
    sent = np.array([3, 0, 7])
    delay_us = np.array([5.0, np.nan, 9.0])
    bins = FlightBins(0, 2_000, 1428 * sent, 1428 * (sent // 2), sent, sent // 2, delay_us, least_us=-7.0)
    record = PathEvidence(flight=bins, min_rtt_us=5.5, rtt_us={"p50": 2.0}, packet_bytes=1428, loss_runs=1)
    body: dict[str, Any] = {"evidence": encode_evidence({1: record, 3: PathEvidence()})}
    body |= encode_self_probes({0: [5.0, 7.0], 2: [9.0]}) | encode_clock(HostClock(5, -6, "host"))
    columns = zlib.decompress(base64.b64decode(cast(str, body["evidence"][0]["bins"]["columns"])))
    return [b"\0" + json.dumps(body).encode(), b"\xff\x03" + columns, b"\xff\x01" + bytes(40)]
