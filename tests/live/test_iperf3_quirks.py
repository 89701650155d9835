"""Behaviour of iperf3 versions that their protocol does not describe, one test for each.

Messages of iperf3 3.12 were recorded; messages of other versions are written by hand, as these versions are
known to send them.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from iperfpy.control import framing
from iperfpy.control.framing import State
from iperfpy.control.parameters import decode_parameters, encode_parameters
from iperfpy.control.plan_limits import check_plan
from iperfpy.control.results import decode_results
from iperfpy.errors import PeerError, PlanError
from iperfpy.plan import Direction, Plan
from iperfpy.protocols.metrics import Side
from iperfpy.protocols.registry import transport, transports
from tests.iperfpy.support import HURRIED, Peer, Recorder, measure, plan_for, scripted, serving

pytestmark = pytest.mark.live

RESULTS_OF_3_12 = (
    b'{"cpu_util_total":0.24085196890493238,"cpu_util_user":0.24075211319643117,"cpu_util_system":0,'
    b'"sender_has_retransmits":18446744073709551615,"congestion_used":"bbr","streams":[{"id":1,"bytes":126000,'
    b'"retransmits":18446744073709551615,"jitter":0,"errors":0,"packets":0,"start_time":0,"end_time":1.001435}]}'
)
PARAMETERS_OF_3_12 = (
    b'{"tcp":true,"omit":0,"time":1,"num":0,"blockcount":0,"parallel":1,"len":131072,"bandwidth":1000000,'
    b'"pacing_timer":1000,"client_version":"3.12"}'
)


@dataclass
class StockServer:
    """An iperf3 server as far as one TCP test needs it. It sends `results` and, at the end, `afterwards`."""

    results: bytes = RESULTS_OF_3_12
    afterwards: bytes = b""
    parameters: dict[str, Any] = field(default_factory=dict)
    connections: int = 0
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The first connection is the control connection; data of all others is discarded.
        self.connections += 1
        await reader.readexactly(framing.COOKIE_BYTES)
        if self.connections > 1:
            self.opened.set()
            while await reader.read(1 << 20):
                continue
            return
        peer = Peer(reader, writer)
        peer.send_states(State.PARAM_EXCHANGE)
        self.parameters = json.loads(await peer.document())
        peer.send_states(State.CREATE_STREAMS)
        await self.opened.wait()
        peer.send_states(State.TEST_START, State.TEST_RUNNING)
        assert await peer.state() == State.TEST_END
        peer.send_states(State.EXCHANGE_RESULTS)
        await peer.document()
        writer.write(struct.pack(">I", len(self.results)) + self.results)
        peer.send_states(State.DISPLAY_RESULTS)
        assert await peer.state() == State.IPERF_DONE
        writer.write(self.afterwards)
        await writer.drain()

    async def test(self, **changes: Any) -> Recorder:
        """Measure with this server, and return the client's report."""
        async with scripted(self.handle) as port:
            return await measure(port, plan_for(**changes), HURRIED)


def parameters(**changes: Any) -> dict[str, Any]:
    """Return the parameters of iperf3 3.12, with changes."""
    return {**json.loads(PARAMETERS_OF_3_12), **changes}


def plan_from(body: dict[str, Any]) -> Plan:
    return decode_parameters(body, transports()).plan


async def q01_a_flag_counts_by_its_presence() -> None:
    """iperf3 3.12 and 3.21 read "reverse": false as reverse; iperfpy does too, and sends no false flag."""
    assert plan_from(parameters(reverse=False)).direction is Direction.REVERSE
    assert plan_from(parameters(bidirectional=False)).direction is Direction.BIDIRECTIONAL
    for known in transports().values():
        plan = plan_for(known.name)
        for direction in Direction:
            body = encode_parameters(replace(plan, direction=direction), known, None)
            assert not [key for key, value in body.items() if value is False]


async def q02_types_are_checked() -> None:
    """Since 3.18 iperf3 checks types: it ignores a number in place of a flag, such as "tcp": 1."""
    assert plan_from({"udp": 1, "len": 1000}).transport == "tcp"
    server = StockServer()
    await server.test(direction=Direction.FORWARD, rate_bps=1_000_000)
    assert server.parameters["tcp"] is True
    numbers = ("omit", "time", "num", "blockcount", "parallel", "len", "bandwidth", "pacing_timer")
    assert all(type(server.parameters[key]) is int for key in numbers)


async def q03_minus_one_is_printed_unsigned() -> None:
    """iperf3 3.12 and 3.13 print -1 as an unsigned number: the receiver knows no retransmissions."""
    chosen = transport("tcp")
    results = decode_results(json.loads(RESULTS_OF_3_12), chosen, {1: Side.SENDER}, "the server")
    assert results.samples[1].values["retransmits"] is None
    assert (results.samples[1].bytes, results.samples[1].end_us) == (126_000, 1_001_435)
    report = await StockServer().test()
    peer = report.end_rows[0].peer
    assert peer is not None
    assert peer.bytes == 126_000


async def q04_an_error_after_the_end_is_ignored() -> None:
    """iperf3 3.21 sends SERVER_ERROR 205 after IPERF_DONE if a thread wrote to a closed socket."""
    for errno in (0x09, 0x6B):
        report = await StockServer(afterwards=framing.encode_server_error(205, errno)).test()
        assert report.ended is not None
        assert report.ended.interrupted == ""


async def q05_server_output_without_a_request_is_ignored() -> None:
    """An iperf3 server keeps `get_server_output` of one client for the test of the next."""
    body = json.loads(RESULTS_OF_3_12)
    both: tuple[dict[str, Any], ...] = (
        {"server_output_text": "x" * 5_000_000},
        {"server_output_json": {"start": {}}},
    )
    for unrequested in both:
        report = await StockServer(json.dumps(body | unrequested).encode()).test()
        assert report.ended is not None
        assert (report.ended.interrupted, report.ended.server_output) == ("", "")
    requested = await StockServer(json.dumps(body | {"server_output_text": "its table"}).encode()).test(
        get_server_output=True
    )
    assert requested.ended is not None
    assert requested.ended.server_output == "its table"


async def q06_the_listener_stays_open_between_tests() -> None:
    """iperf3 refuses or resets connections for a moment after a test; a server of iperfpy accepts them.

    test_run_failures.py shows that a client of iperfpy tries again.
    """
    async with serving() as server:
        for _ in range(25):
            await measure(server.port, plan_for(total_bytes=10_000))
            peer = await Peer.connected(server.port)
            assert await peer.state() == State.PARAM_EXCHANGE
            await peer.close()


BARE = {"cpu_util_total": 1.5, "cpu_util_user": 0.5, "cpu_util_system": 1, "sender_has_retransmits": -1}
STREAM = {"id": 1, "bytes": 1000, "retransmits": -1, "jitter": 0, "errors": 0, "packets": 0}
TIMES, OMITTED = {"start_time": 0, "end_time": 0.3}, {"omitted_errors": 0, "omitted_packets": 0}
RESULTS_BY_VERSION: dict[str, dict[str, Any]] = {
    "3.0": {**BARE, "streams": [STREAM]},
    "3.2": {**BARE, "congestion_used": "cubic", "streams": [STREAM | TIMES]},
    "3.14": {**BARE, "congestion_used": "cubic", "streams": [STREAM | TIMES | OMITTED]},
    "of a later one": {
        **BARE,
        "more": {"to": ["come"]},
        "streams": [STREAM | TIMES | OMITTED | {"more": "here"}],
    },
}
PARAMETERS_BY_VERSION: dict[str, dict[str, Any]] = {
    "3.0": {"tcp": True, "omit": 0, "time": 5, "parallel": 1, "len": 131072},
    "3.1": {"tcp": True, "omit": 0, "time": 5, "parallel": 1, "len": 131072, "client_version": "3.1"},
    "3.12": parameters(time=5),
    "3.12 with flags": parameters(time=5, zerocopy=1, get_server_output=1, extra_data="x", nodelay=True),
    "3.19": parameters(time=5, skip_rx_copy=1, mptcp=True, client_version="3.19"),
    "3.21, UDP": {
        "udp": True,
        "omit": 0,
        "time": 5,
        "num": 0,
        "blockcount": 0,
        "parallel": 1,
        "len": 1448,
        "bandwidth": 1048576,
        "pacing_timer": 1000,
        "udp_counters_64bit": 1,
        "client_version": "3.21",
        "gso": 0,
        "gso_dg_size": 0,
        "gso_bf_size": 65507,
        "gro": 0,
        "gro_bf_size": 65507,
    },
}


async def q07_keys_of_every_version_are_read() -> None:
    for version, body in RESULTS_BY_VERSION.items():
        report = await StockServer(json.dumps(body).encode()).test()
        row = report.end_rows[0]
        assert row.peer is not None, version
        # Before 3.2 the results have no times: the peer is assumed to have measured as long as this end.
        assert row.peer.end_us == (row.local.end_us if version == "3.0" else 300_000)
    for version, body in PARAMETERS_BY_VERSION.items():
        assert plan_from(body).duration_us == 5_000_000, version
    assert plan_from(PARAMETERS_BY_VERSION["3.12 with flags"]).get_server_output
    assert plan_from(PARAMETERS_BY_VERSION["3.21, UDP"]).transport == "udp"


async def q08_connections_of_other_programs_do_not_block() -> None:
    """An iperf2 client sends data at once, a port scan sends nothing; either one blocks an iperf3 server.

    A server of iperfpy serves others meanwhile, and closes both connections.
    """
    async with serving(HURRIED) as server:
        silent = Peer(*await asyncio.open_connection("127.0.0.1", server.port))
        iperf2 = Peer(*await asyncio.open_connection("127.0.0.1", server.port))
        iperf2.writer.write(bytes(36) + b"0123456789" * 10_000)
        report = await measure(server.port, plan_for(total_bytes=10_000))
        assert report.end_rows[0].local.bytes == 10_000
        # Its first bytes may be a cookie; its next ones are no parameters.
        assert (await iperf2.rest())[:1] == bytes([State.PARAM_EXCHANGE])
        assert await silent.rest() == b""
        await silent.close()
        await iperf2.close()


async def q09_another_client_while_streams_are_opened() -> None:
    """An iperf3 server takes any connection as a stream at that time, and may refuse the real stream.

    The client reports that refusal. A server of iperfpy knows streams by their cookie, so a connection with
    another cookie is another client.
    """
    async with serving() as server:
        first = await Peer.connected(server.port, "a" * 36)
        assert await first.state() == State.PARAM_EXCHANGE
        first.send_document(parameters(time=1))
        assert await first.state() == State.CREATE_STREAMS
        second = await Peer.connected(server.port, "b" * 36)
        assert await second.state() == State.PARAM_EXCHANGE
        stream = await Peer.connected(server.port, "a" * 36)
        assert [await first.state(), await first.state()] == [State.TEST_START, State.TEST_RUNNING]
        for peer in (first, second, stream):
            await peer.close()

    async def refusing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(framing.COOKIE_BYTES)
        writer.write(framing.encode_state(State.ACCESS_DENIED))

    async with scripted(refusing) as port:
        with pytest.raises(PeerError, match="busy running a test, or refuses this one"):
            await measure(port, plan_for(), HURRIED)


async def q10_the_sender_counts_more_than_the_receiver() -> None:
    """Data in flight at TEST_END was sent and never received: both figures are kept."""
    report = await StockServer().test()
    row = report.end_rows[0]
    assert row.peer is not None
    assert row.local.bytes != row.peer.bytes == 126_000
    assert (row.of(Side.SENDER), row.of(Side.RECEIVER)) == (row.local, row.peer)


async def q11_addresses_of_a_dual_stack_socket() -> None:
    """A dual-stack socket names an IPv4 peer ::ffff:a.b.c.d; reports show the IPv4 address."""
    async with serving(bind="::") as server:
        await measure(server.port, plan_for(total_bytes=10_000))
        await server.settled()
        started = server.tests[0].started
    assert started is not None
    assert started.peer[0] == "127.0.0.1"
    assert {one.local[0] for one in started.connected} == {"127.0.0.1"}
    assert {one.remote[0] for one in started.connected} == {"127.0.0.1"}


async def q12_ranges_are_checked_at_both_ends() -> None:
    """iperf3 servers up to 3.21 check no ranges. iperfpy checks them at the client and at the server."""
    with pytest.raises(PlanError, match="between 1 and 128"):
        check_plan(plan_for(parallel=129), transport("tcp"))
    for change, i_errno in (
        ({"parallel": 129}, 6),
        ({"time": 86_401}, 5),
        ({"len": 1 << 21}, 7),
        ({"omit": 601}, 12),
    ):
        async with serving() as server:
            peer = await Peer.connected(server.port)
            assert await peer.state() == State.PARAM_EXCHANGE
            peer.send_document(parameters(**change))
            assert await peer.rest() == framing.encode_server_error(i_errno)
            await peer.close()


async def q13_any_cookie_names_a_test() -> None:
    """iperf3 compares cookies as C strings, so clients have sent cookies without a NUL, and empty ones."""
    for cookie in (b"x" * 37, b"a cookie with spaces".ljust(37, b"\0"), bytes(37)):
        async with serving() as server:
            control, stream = [
                Peer(*await asyncio.open_connection("127.0.0.1", server.port)) for _ in range(2)
            ]
            control.writer.write(cookie)
            assert await control.state() == State.PARAM_EXCHANGE
            control.send_document(parameters(time=1))
            assert await control.state() == State.CREATE_STREAMS
            stream.writer.write(cookie)
            assert [await control.state(), await control.state()] == [State.TEST_START, State.TEST_RUNNING]
            for peer in (control, stream):
                await peer.close()


def udp_socket(port: int = 0) -> socket.socket:
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", port))
    return sock


async def q14_any_first_datagram_opens_a_udp_stream() -> None:
    """iperf3's server does not look at the datagram. Data of an earlier test is too long to be one."""
    loop = asyncio.get_running_loop()
    for call in (b"abcd", b"\0\0\0\0", b"x"):
        async with serving() as server:
            control = await Peer.connected(server.port)
            assert await control.state() == State.PARAM_EXCHANGE
            control.send_document(PARAMETERS_BY_VERSION["3.21, UDP"])
            assert await control.state() == State.CREATE_STREAMS
            with udp_socket() as late, udp_socket() as stream:
                await loop.sock_sendto(late, bytes(1448), ("127.0.0.1", server.port))
                await loop.sock_sendto(stream, call, ("127.0.0.1", server.port))
                async with asyncio.timeout(10):
                    assert await loop.sock_recv(stream, 16) == bytes.fromhex("36373839")
                assert await control.state() == State.TEST_START
            await control.close()


async def q15_a_server_before_3_7_ignores_bidir() -> None:
    """It begins after half of the streams. The client gives up at once, not at the deadline of a stream."""
    loop, deadlines = asyncio.get_running_loop(), replace(HURRIED, streams_s=20.0)
    udp: list[socket.socket] = []

    async def old_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(framing.COOKIE_BYTES)
        peer = Peer(reader, writer)
        peer.send_states(State.PARAM_EXCHANGE)
        await peer.document()
        peer.send_states(State.CREATE_STREAMS)
        call, address = await loop.sock_recvfrom(udp[0], 16)
        assert call == bytes.fromhex("39383736")
        await loop.sock_sendto(udp[0], bytes.fromhex("36373839"), address)
        peer.send_states(State.TEST_START, State.TEST_RUNNING)
        await peer.rest()

    async with scripted(old_server) as port:
        with udp_socket(port) as sock:
            udp.append(sock)
            plan = plan_for("udp", direction=Direction.BIDIRECTIONAL)
            with pytest.raises(PeerError, match=r"without stream 3: an iperf3 older than 3\.7"):
                await measure(port, plan, deadlines)


QUIRKS: tuple[Callable[[], Awaitable[None]], ...] = (
    *(q01_a_flag_counts_by_its_presence, q02_types_are_checked, q03_minus_one_is_printed_unsigned),
    *(
        q04_an_error_after_the_end_is_ignored,
        q05_server_output_without_a_request_is_ignored,
        q06_the_listener_stays_open_between_tests,
    ),
    *(
        q07_keys_of_every_version_are_read,
        q08_connections_of_other_programs_do_not_block,
        q09_another_client_while_streams_are_opened,
    ),
    *(q10_the_sender_counts_more_than_the_receiver, q11_addresses_of_a_dual_stack_socket),
    *(q12_ranges_are_checked_at_both_ends, q13_any_cookie_names_a_test),
    *(q14_any_first_datagram_opens_a_udp_stream, q15_a_server_before_3_7_ignores_bidir),
)


@pytest.mark.parametrize("quirk", QUIRKS, ids=lambda quirk: quirk.__name__)
async def test_a_quirk_of_a_stock_peer(quirk: Callable[[], Awaitable[None]]) -> None:
    await quirk()
