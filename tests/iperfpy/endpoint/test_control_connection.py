"""A control connection over a socket pair."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import uvloop

from iperfpy.control import framing
from iperfpy.control.framing import State
from iperfpy.control.session import CLIENT, Send, Session, SessionPhase, server_session
from iperfpy.endpoint import control_connection
from iperfpy.endpoint.control_connection import ControlConnection
from iperfpy.errors import LateError, PeerError, PeerTerminatedError, ProtocolError
from iperfpy.protocols.clock import now_us
from iperfpy.runtime.abort_scope import AbortScope


class Recorder:
    """A listener that keeps all states and documents; `on_stats` raises the given error."""

    def __init__(self, error: Exception | None = None) -> None:
        self.states: list[State] = []
        self.documents: list[Mapping[str, Any]] = []
        self._error = error

    def on_state(self, state: State) -> None:
        self.states.append(state)

    def on_stats(self, document: Mapping[str, Any]) -> None:
        self.documents.append(document)
        if self._error is not None:
            raise self._error


class Pair:
    """The control connection of a running test, and the peer's socket."""

    def __init__(self) -> None:
        here, self.peer_socket = socket.socketpair()
        here.setblocking(False)
        self.peer_socket.setblocking(False)
        self.scope = AbortScope()
        session = Session(CLIENT, "the server", "iperfpy-" + "a" * 28, extended=True)
        session.phase = SessionPhase.RUNNING
        self.connection = ControlConnection(here, session, self.scope)
        self.connection.start()

    def close(self) -> None:
        self.connection.close()
        self.peer_socket.close()


@pytest.fixture
async def pair() -> Any:
    made = Pair()
    yield made
    made.close()


def stats(*numbers: int) -> bytes:
    return b"".join(framing.encode_extension(State.STATS, {"n": number}) for number in numbers)


async def run_loop(count: int = 5) -> None:
    """Let the event loop run its callbacks, including those that they schedule."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_figures_that_arrive_before_a_listener_are_kept(pair: Pair) -> None:
    listener = Recorder()
    pair.peer_socket.send(stats(0, 1))
    await run_loop()
    pair.connection.attach(listener)
    pair.peer_socket.send(stats(2))
    await run_loop()
    assert listener.documents == [{"n": 0}, {"n": 1}, {"n": 2}]


@pytest.mark.parametrize("listens", [True, False])
async def test_figures_are_limited_to_a_pace(pair: Pair, listens: bool) -> None:
    listener = Recorder()
    if listens:
        pair.connection.attach(listener)
    pair.peer_socket.send(stats(*range(control_connection.EXTRA_FIGURES + 3)))
    await run_loop()
    assert isinstance(pair.scope.error, ProtocolError)
    assert "faster than one per 0.1 s" in str(pair.scope.error)


async def test_figures_of_a_long_standstill_may_arrive_together(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process, or an outage, while the test begins: the peer has sent figures for 30 s."""
    at_us = now_us() + 30_000_000
    monkeypatch.setattr(control_connection, "now_us", lambda: at_us)
    pair.peer_socket.send(stats(*range(300)))
    await run_loop()
    listener = Recorder()
    pair.connection.attach(listener)
    assert pair.scope.error is None
    assert len(listener.documents) == 300


async def test_figures_that_the_listener_refuses_end_the_test(pair: Pair) -> None:
    pair.connection.attach(Recorder(ProtocolError("the server sent nonsense")))
    pair.peer_socket.send(stats(0))
    with pytest.raises(ProtocolError, match="nonsense"):
        await pair.connection.signal(1, State.EXCHANGE_RESULTS)


async def test_states_reach_the_listener_and_the_waiting_test(pair: Pair) -> None:
    listener = Recorder()
    pair.connection.attach(listener)
    pair.connection.send(Send.TEST_END)
    assert pair.peer_socket.recv(10) == b"\x04"
    pair.peer_socket.send(b"\x0d")
    assert (await pair.connection.signal(1, State.EXCHANGE_RESULTS)).state is State.EXCHANGE_RESULTS
    assert listener.states == [State.EXCHANGE_RESULTS]
    assert pair.connection.arrived_us[State.EXCHANGE_RESULTS] > 0
    pair.connection.send(Send.RESULTS, {"a": 1})
    pair.peer_socket.send(framing.encode_document({"b": 2}))
    assert await pair.connection.document(1, "its results") == {"b": 2}


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
async def test_a_message_that_ends_a_test_raises_its_error(
    pair: Pair, data: bytes, kind: type[Exception]
) -> None:
    pair.peer_socket.send(data)
    with pytest.raises(kind, match=r"^the server [\w ]"):
        await pair.connection.signal(1, State.EXCHANGE_RESULTS)


async def test_a_peer_that_closes_ends_the_test(pair: Pair) -> None:
    pair.peer_socket.close()
    with pytest.raises(PeerError, match="closed the control connection unexpectedly"):
        await pair.connection.signal(1, State.EXCHANGE_RESULTS)


async def test_a_peer_that_does_not_read_is_a_late_error(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_connection, "UNSENT_LIMIT_BYTES", 100_000)
    for _ in range(100):
        pair.connection.send(Send.STATS, {"text": "x" * 10_000})
        if pair.scope.error is not None:
            break
    assert isinstance(pair.scope.error, LateError)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pair.connection.flush(), 0.01)


async def test_unsent_messages_leave_in_order_when_the_peer_reads(pair: Pair) -> None:
    for number in range(100):
        pair.connection.send(Send.STATS, {"n": number, "text": "x" * 10_000})
    # A megabyte fills the socket buffers: most messages wait until the peer reads.
    flushing = asyncio.create_task(pair.connection.flush())
    received = bytearray()
    while not flushing.done() or len(received) < 1_000_000:
        try:
            received += pair.peer_socket.recv(65536)
        except BlockingIOError:
            if flushing.done():
                break
        await asyncio.sleep(0)
    decoder = framing.Decoder("x", extended=True)
    decoder.feed(bytes(received))
    numbers = [message.document["n"] for message in take_all(decoder) if message.document]
    assert numbers == list(range(100))


def take_all(decoder: framing.Decoder) -> Iterator[framing.Signal]:
    while isinstance(message := decoder.take(framing.Expect.STATE), framing.Signal):
        yield message


async def test_nothing_can_be_sent_on_a_closed_connection(pair: Pair) -> None:
    assert pair.connection.can(Send.TEST_END)
    pair.connection.close()
    pair.connection.close()
    assert not pair.connection.can(Send.TEST_END)


@pytest.mark.live
def test_a_reset_that_arrived_together_with_data_ends_the_test_at_once() -> None:
    """uvloop calls a reader of its own once in that case, so that a peer that is gone keeps its place."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            peer = socket.create_connection(listener.getsockname())
            here, _ = listener.accept()
            here.setblocking(False)
        scope = AbortScope()
        session = Session(CLIENT, "the server", "iperfpy-" + "a" * 28, extended=True)
        session.phase = SessionPhase.RUNNING
        connection = ControlConnection(here, session, scope)
        connection.start()
        peer.send(stats(0))
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        with pytest.raises(PeerError, match="control connection"):
            await scope.wait(asyncio.Event().wait(), 10, "the reset was not noticed")
        connection.close()

    for loop in (asyncio.new_event_loop, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(main())


EARLY = {
    "TEST_END": bytes([State.TEST_END]),
    "IPERF_DONE": bytes([State.IPERF_DONE]),
    "a document": framing.encode_document({"streams": []}),
    "parameters and TEST_END": framing.encode_document({"tcp": True}) + bytes([State.TEST_END]),
    "parameters twice": framing.encode_document({"tcp": True}) * 2,
    "everything": framing.encode_document({"tcp": True})
    + bytes([State.TEST_END])
    + framing.encode_document({"streams": []})
    + bytes([State.IPERF_DONE]),
    "the end of the connection": b"",
    "CLIENT_TERMINATE": bytes([State.CLIENT_TERMINATE]),
}
SERVERS_STEPS = {
    SessionPhase.START: Send.PARAM_EXCHANGE,
    SessionPhase.GREETED: Send.PARAM_EXCHANGE,
    SessionPhase.PARAMETERS_KNOWN: Send.CREATE_STREAMS,
    SessionPhase.CREATING: Send.TEST_START,
    SessionPhase.STARTING: Send.TEST_RUNNING,
    SessionPhase.RESULTS_KNOWN: Send.RESULTS,
    SessionPhase.REPLIED: Send.DISPLAY_RESULTS,
}


@pytest.mark.parametrize("phase", SERVERS_STEPS, ids=lambda phase: phase.name)
@pytest.mark.parametrize("data", EARLY.values(), ids=EARLY.keys())
async def test_bytes_that_come_too_early_are_the_clients_fault(phase: SessionPhase, data: bytes) -> None:
    """The server takes its next step after the bytes have arrived: the step raises the client's error."""
    here, there = socket.socketpair()
    here.setblocking(False)
    session, scope = server_session("iperfpy-" + "a" * 28), AbortScope()
    session.phase = phase
    connection = ControlConnection(here, session, scope)
    connection.start()
    there.send(data)
    if not data:
        there.close()
    await run_loop()

    async def next_step() -> None:
        connection.send(SERVERS_STEPS[phase])
        await connection.signal(1, State.IPERF_DONE)

    with pytest.raises((ProtocolError, PeerError), match=r"^the client ") as caught:
        await next_step()
    assert scope.error is caught.value
    connection.close()
    there.close()
