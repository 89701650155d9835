"""Tests that fail: each ends in time with one sentence at both ends, and measured intervals are kept."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace

import pytest

from iperfpy.control import framing
from iperfpy.control.framing import State
from iperfpy.errors import (
    ConnectError,
    IperfpyError,
    LateError,
    ListenError,
    PeerError,
    PlanError,
    ProtocolError,
)
from iperfpy.plan import Direction, Plan
from iperfpy.protocols.contract import Channel, ServerPort, Stream, Transport
from iperfpy.protocols.errors import StreamPathError
from iperfpy.protocols.settings import Settings
from iperfpy.records import RunEnded
from tests.interop.free_port import free_port
from tests.iperfpy.support import (
    HURRIED,
    Handler,
    Peer,
    Recorder,
    measure,
    measure_into,
    plan_for,
    register,
    relayed,
    scripted,
    serving,
)

pytestmark = pytest.mark.live

LONG = 30_000_000


async def fails(
    kind: type[IperfpyError],
    port: int,
    plan: Plan | None = None,
    recorder: Recorder | None = None,
    **options: object,
) -> tuple[str, Recorder]:
    """Run a client that must fail with this error; return the sentence and the client's recorder."""
    # The exception and the report must have the same sentence.
    recorder = recorder or Recorder()
    with pytest.raises(kind) as raised:
        await measure_into(recorder, port, plan or plan_for(), HURRIED, **options)
    sentence = str(raised.value)
    assert recorder.sentence == sentence
    assert len(sentence.splitlines()) == 1
    assert raised.value.exit_status == 1
    return sentence, recorder


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """Yield a port that is bound and does not listen, so that no other program can listen on it."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def script(*steps: bytes | State, silent: bool = False) -> Handler:
    """Make a server that reads the cookie, sends the steps, and closes or stays silent."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(37)
        for step in steps:
            writer.write(framing.encode_state(step) if isinstance(step, State) else step)
        await writer.drain()
        if silent:
            await reader.read()
            await asyncio.sleep(60)

    return handler


# ---------------------------------------------------------------------- before the test starts


async def test_a_refused_connection_is_an_error() -> None:
    with closed_port() as port:
        sentence, _ = await fails(ConnectError, port)
    assert sentence == f"cannot connect to 127.0.0.1 port {port}: connection refused"


async def test_an_unknown_host_is_an_error() -> None:
    sentence, _ = await fails(ConnectError, 5201, host="x" * 70)
    assert sentence.startswith("cannot find the host xxx")


async def test_a_host_without_an_address_of_the_family_is_an_error() -> None:
    sentence, _ = await fails(ConnectError, 5201, host="::1", family=socket.AF_INET)
    assert sentence.startswith("cannot find the host ::1 (IPv4)")


async def test_a_listener_that_reopens_is_found() -> None:
    """A stock server closes its listener after every test and opens it again."""
    with closed_port() as port:
        pass
    recorder = Recorder()
    running = asyncio.create_task(measure_into(recorder, port, plan_for()))
    await asyncio.sleep(0.3)
    async with serving(port=port):
        await running


async def test_a_reset_first_connection_is_retried() -> None:
    served = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        await reader.readexactly(1)
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    async with scripted(handler) as port:
        sentence, _ = await fails(ConnectError, port)
    assert served > 1
    assert sentence == f"the server at 127.0.0.1 port {port} closed the connection at once"


async def test_a_silent_server_is_a_late_error() -> None:
    async with scripted(script(silent=True)) as port:
        sentence, _ = await fails(LateError, port)
    assert sentence == "the server did not send HELLO or PARAM_EXCHANGE within 1 s"


async def test_a_busy_server_is_an_error() -> None:
    async with scripted(script(State.ACCESS_DENIED)) as port:
        sentence, _ = await fails(PeerError, port)
    assert sentence == "the server is busy running a test, or refuses this one"


async def test_a_server_of_another_protocol_is_an_error() -> None:
    async with scripted(script(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        sentence, _ = await fails(ProtocolError, port)
    assert sentence.startswith("the server sent the unknown state")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (framing.encode_server_error(7, 9), "the server does not accept this block length"),
        (framing.encode_server_error(999, 9), "the server reports error 999"),
        (b"\xfe\0\0\0\x8e", "the server requires a user name and a password, or refused them"),
        (b"", "the server closed the control connection unexpectedly"),
        (b"\x0b", "the server has terminated"),
    ],
)
async def test_an_error_of_the_server_after_the_parameters_is_reported(answer: bytes, sentence: str) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        await reader.readexactly(37)
        peer.send_states(State.PARAM_EXCHANGE)
        await peer.document()
        writer.write(answer)

    async with scripted(handler) as port:
        assert (await fails(PeerError, port))[0] == sentence


@pytest.mark.parametrize("name", ["kcp", "kcp-bbr"])
async def test_a_stock_server_cannot_run_the_transports_of_iperfpy(name: str) -> None:
    received_after_cookie = b""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received_after_cookie
        await reader.readexactly(37)
        writer.write(b"\x09")
        received_after_cookie = await reader.read()

    # The client learns from the missing greeting that the server is a stock one, before it sends parameters.
    async with scripted(handler) as port:
        sentence, recorder = await fails(PlanError, port, plan_for(name))
    needs = "that needs iperfpy at both ends"
    assert sentence == f"127.0.0.1 runs a stock iperf3 server, which cannot run {name}: {needs}"
    assert received_after_cookie == b""
    assert recorder.started is None


async def test_a_server_without_the_transport_is_an_error() -> None:
    greeting = framing.encode_extension(State.HELLO, {"version": "9", "transports": ["tcp", "udp"]})
    async with scripted(script(greeting, State.PARAM_EXCHANGE, silent=True)) as port:
        sentence, _ = await fails(PlanError, port, plan_for("kcp"))
    assert sentence == "the server 127.0.0.1 does not know the transport kcp (it has: tcp, udp)"


async def test_a_port_in_use_is_a_listen_error() -> None:
    async with serving() as server:
        with pytest.raises(ListenError) as raised:
            async with serving(port=server.port):
                pass
    assert str(raised.value) == f"cannot listen on port {server.port} of 127.0.0.1: the port is in use"


async def test_the_udp_port_is_the_servers_before_any_test() -> None:
    async with serving() as server:
        with socket.socket(type=socket.SOCK_DGRAM) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", server.port))


async def test_a_server_tests_tcp_while_another_program_has_its_udp_port(
    caplog: pytest.LogCaptureFixture,
) -> None:
    port, other = free_port(), socket.socket(type=socket.SOCK_DGRAM)
    other.bind(("127.0.0.1", port))
    with other:
        async with serving(port=port) as server:
            reason = f"cannot use UDP port {port} of 127.0.0.1: the port is in use"
            assert [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING] == [
                f"no tests over UDP as long as that lasts: {reason}"
            ]
            assert (await measure(server.port, plan_for())).sentence == ""
            with pytest.raises(PeerError) as raised:
                await measure(server.port, plan_for("udp"))
            assert str(raised.value) == f"the server says: stream 1: {reason}"
            other.close()
            assert (await measure(server.port, plan_for("udp"))).sentence == ""


async def test_binding_to_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(ListenError, match="the address is not one of this machine"):
        async with serving(bind="192.0.2.1"):
            pass
    async with serving() as server:
        sentence, _ = await fails(PlanError, server.port, bind="192.0.2.1")
    assert sentence == "cannot bind to 192.0.2.1: the address is not one of this machine"


async def test_an_unknown_congestion_control_is_an_error() -> None:
    plan = plan_for()
    plan = replace(plan, settings=replace(plan.settings, congestion="nonesuch"))  # type: ignore[call-arg]  # TCP has it
    async with serving(HURRIED) as server:
        sentence, _ = await fails(PlanError, server.port, plan)
    assert sentence.startswith("congestion control 'nonesuch' is not available here")


async def test_a_plan_out_of_range_is_refused_by_the_client() -> None:
    async with serving() as server:
        sentence, _ = await fails(PlanError, server.port, plan_for(parallel=200))
    assert sentence == "the number of streams must be between 1 and 128, not 200"


class Unready(Transport):
    """A transport that raises an error at the server, or never completes there."""

    name = "unready"
    summary = prefix = ""
    settings = Settings
    metrics = ()

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def block_bytes(self, settings: Settings) -> int:
        return 1000

    async def connect(self, stream: Stream, settings: Settings, port: object) -> Channel:
        await asyncio.sleep(60)
        raise AssertionError("a deadline should have passed")

    async def accept(self, stream: Stream, settings: Settings, port: ServerPort) -> Channel:
        if self.error is not None:
            raise self.error
        await asyncio.sleep(60)
        raise AssertionError("a deadline should have passed")


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (None, LateError, "the server did not answer on stream 1 within 1.5 s"),
        (StreamPathError("the port is taken"), PeerError, "the server says: stream 1: the port is taken"),
        (OSError(13, "not allowed"), PeerError, "the server says: stream 1: not allowed"),
        (
            ZeroDivisionError(),
            PeerError,
            "the server says: stream 1: the transport unready has a fault: ZeroDivisionError"
            " (-d shows where)",
        ),
    ],
)
async def test_an_error_while_streams_open_reaches_the_client(
    monkeypatch: pytest.MonkeyPatch,
    error: Exception | None,
    kind: type[IperfpyError],
    sentence: str,
) -> None:
    register(monkeypatch, Unready(error))
    async with serving() as server:
        assert (await fails(kind, server.port, Plan("unready", Settings(), block_bytes=1000)))[0] == sentence
        assert server.tests == []


# ---------------------------------------------------------------------- while it runs


@pytest.mark.parametrize("direction", [Direction.FORWARD, Direction.REVERSE])
async def test_reset_connections_end_a_test_with_its_figures(direction: Direction) -> None:
    plan = plan_for(duration_us=LONG, direction=direction)
    async with serving(HURRIED) as server, relayed(server.port) as relay:
        sentence, recorder = await fails(PeerError, relay.port, plan, Recorder(relay.cut))
        assert sentence.startswith("the ")
        assert recorder.end_rows[0].local.bytes > 0
        assert len(recorder.intervals) >= 3
        await server.settled()
    assert server.tests[0].ended is not None
    assert server.tests[0].ended.interrupted != ""
    assert server.tests[0].end_rows[0].peer is not None


class SilentAfterTestEnd:
    """A stock server that sends nothing after TEST_END."""

    def __init__(self) -> None:
        self.cookies: set[bytes] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        # A known cookie belongs to a stream; its data is discarded.
        cookie = await reader.readexactly(37)
        if cookie in self.cookies:
            while await reader.read(65536):
                pass
            return
        self.cookies.add(cookie)
        peer.send_states(State.PARAM_EXCHANGE)
        await peer.document()
        peer.send_states(State.CREATE_STREAMS)
        await asyncio.sleep(0.1)
        peer.send_states(State.TEST_START, State.TEST_RUNNING)
        await peer.state()
        await asyncio.sleep(60)


async def test_a_server_that_is_silent_after_test_end_is_a_late_error() -> None:
    async with scripted(SilentAfterTestEnd().handle) as port:
        sentence, recorder = await fails(LateError, port)
    assert re.fullmatch(r"nothing has come from the server since 0\.\d s into the test", sentence)
    assert recorder.end_rows[0].local.bytes > 0
    assert recorder.end_rows[0].peer is None
    assert recorder.intervals


async def test_an_exception_of_a_sink_is_raised() -> None:
    class Broken(Recorder):
        def interval(self, rows: object) -> None:
            raise ZeroDivisionError("a fault of this program")

    async with serving() as server:
        with pytest.raises(ZeroDivisionError):
            await measure_into(Broken(), server.port, plan_for(duration_us=LONG))
        await server.settled()
        assert server.tests[0].sentence == "the client has terminated"


async def test_a_server_that_is_cancelled_again_while_it_stops_frees_its_port() -> None:
    class CancelsAgain(Recorder):
        """Cancels the server at the end of its test, while it still waits for the task of the test."""

        def end(self, end: RunEnded) -> None:
            super().end(end)
            assert server.task is not None
            server.task.cancel()

    async with serving() as server:
        server.recorders.append(CancelsAgain())
        measuring = asyncio.create_task(measure_into(Recorder(), server.port, plan_for(duration_us=LONG)))
        await server.started()
        assert server.task is not None
        server.task.cancel()
        # The results keep the server's frames alive, and with them a listener that was not closed.
        results = await asyncio.gather(server.task, measuring, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ended connections do not count
            again.bind(("127.0.0.1", server.port))
            again.listen()
