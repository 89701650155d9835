"""A control connection over a socket pair."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from iperfpy.control import framing
from iperfpy.control.framing import State
from iperfpy.control.session import CLIENT, Phase, Send, Session
from iperfpy.endpoint import control_connection as wire_module
from iperfpy.endpoint.control_connection import ControlConnection
from iperfpy.errors import LateError, PeerError, PeerTerminatedError, ProtocolError
from iperfpy.runtime.abort_scope import AbortScope


class Pair:
    """A wire whose test runs, and the socket of the other end."""

    def __init__(self) -> None:
        here, self.there = socket.socketpair()
        here.setblocking(False)
        self.there.setblocking(False)
        self.guard = AbortScope()
        session = Session(CLIENT, "the server", "iperfpy-" + "a" * 28, extended=True)
        session.phase = Phase.RUNNING
        self.wire = ControlConnection(here, session, self.guard)

    def close(self) -> None:
        self.wire.close()
        self.there.close()


@pytest.fixture
async def pair() -> Any:
    made = Pair()
    yield made
    made.close()


def stats(*numbers: int) -> bytes:
    return b"".join(framing.encode_extension(State.STATS, {"n": number}) for number in numbers)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_figures_that_come_before_anybody_listens_are_kept(pair: Pair) -> None:
    heard: list[Mapping[str, Any]] = []
    pair.there.send(stats(0, 1))
    await turns()
    pair.wire.give_stats(heard.append)
    pair.there.send(stats(2))
    await turns()
    assert heard == [{"n": 0}, {"n": 1}, {"n": 2}]


async def test_but_not_without_limit(pair: Pair) -> None:
    pair.there.send(stats(*range(wire_module.EARLY_STATS_LIMIT + 1)))
    await turns()
    assert isinstance(pair.guard.error, ProtocolError)


async def test_figures_that_cannot_be_end_the_test(pair: Pair) -> None:
    def refuse(document: Mapping[str, Any]) -> None:
        raise ProtocolError("the server sent nonsense")

    pair.wire.give_stats(refuse)
    pair.there.send(stats(0))
    with pytest.raises(ProtocolError, match="nonsense"):
        await pair.wire.signal(1, State.EXCHANGE_RESULTS)


async def test_what_is_waited_for_and_when_it_came(pair: Pair) -> None:
    seen: list[State] = []
    pair.wire.on_signal = seen.append
    pair.wire.send(Send.TEST_END)
    assert pair.there.recv(10) == b"\x04"
    pair.there.send(b"\x0d")
    assert (await pair.wire.signal(1, State.EXCHANGE_RESULTS)).state is State.EXCHANGE_RESULTS
    assert seen == [State.EXCHANGE_RESULTS]
    assert pair.wire.arrived_us[State.EXCHANGE_RESULTS] > 0
    pair.wire.send(Send.RESULTS, {"a": 1})
    pair.there.send(framing.encode_document({"b": 2}))
    assert await pair.wire.document(1, "its results") == {"b": 2}


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x0b", PeerTerminatedError),
        (b"\xff", PeerError),
        (framing.encode_server_error(144), PeerError),
        (framing.encode_extension(State.SENTENCE, {"text": "no\x1b room"}), PeerError),
        (b"\x2a", ProtocolError),
        (b"\x0e", ProtocolError),
    ],
)
async def test_what_ends_a_test(pair: Pair, data: bytes, kind: type[Exception]) -> None:
    pair.there.send(data)
    with pytest.raises(kind, match=r"^the server [\w ]"):
        await pair.wire.signal(1, State.EXCHANGE_RESULTS)


async def test_the_other_end_vanishes(pair: Pair) -> None:
    pair.there.close()
    with pytest.raises(PeerError, match="closed the control connection unexpectedly"):
        await pair.wire.signal(1, State.EXCHANGE_RESULTS)


async def test_a_peer_that_does_not_read(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_module, "UNSENT_LIMIT_BYTES", 100_000)
    for _ in range(100):
        pair.wire.send(Send.STATS, {"text": "x" * 10_000})
        if pair.guard.error is not None:
            break
    assert isinstance(pair.guard.error, LateError)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pair.wire.flush(), 0.01)


async def test_what_did_not_fit_leaves_in_order_when_there_is_room(pair: Pair) -> None:
    for number in range(100):
        pair.wire.send(Send.STATS, {"n": number, "text": "x" * 10_000})
    flushing = asyncio.create_task(pair.wire.flush())
    received = bytearray()
    while not flushing.done() or len(received) < 1_000_000:
        try:
            received += pair.there.recv(65536)
        except BlockingIOError:
            if flushing.done():
                break
        await asyncio.sleep(0)
    decoder = framing.Decoder("x", extended=True)
    decoder.feed(bytes(received))
    numbers = [message.document["n"] for message in taken(decoder) if message.document]
    assert numbers == list(range(100))


def taken(decoder: framing.Decoder) -> Iterator[framing.Signal]:
    while isinstance(message := decoder.take(framing.Expect.STATE), framing.Signal):
        yield message


async def test_nothing_can_be_said_once_it_is_closed(pair: Pair) -> None:
    assert pair.wire.can(Send.TEST_END)
    pair.wire.close()
    pair.wire.close()
    assert not pair.wire.can(Send.TEST_END)
