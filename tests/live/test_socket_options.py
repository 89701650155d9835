"""Socket options of the user, read back from the kernel at the end where they apply."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from iperfpy.errors import LateError, PlanError
from iperfpy.options import SocketOptions
from iperfpy.plan import Direction
from iperfpy.protocols.operating_system import IPPROTO_MPTCP, SO_MAX_PACING_RATE
from iperfpy.protocols.registry import transport, transports
from iperfpy.records import RunStarted
from iperfpy.runtime.socket_options import keep_alive
from tests.iperfpy.support import Recorder, Server, measure_into, plan_for, relayed, serving

pytestmark = pytest.mark.live

SO_PROTOCOL = 38
Reader = Callable[[socket.socket], Any]


class SocketReader(Recorder):
    """A recorder that reads a value of every data socket when the test starts."""

    def __init__(self, read: Reader) -> None:
        super().__init__()
        self._read = read
        self.values: list[Any] = []

    def start(self, start: RunStarted) -> None:
        super().start(start)
        for one in start.connected:
            sock = socket.socket(fileno=one.socket)
            self.values.append(self._read(sock))
            sock.detach()


def option_reader(level: int, option: int) -> Reader:
    return lambda sock: sock.getsockopt(level, option)


async def values_of(read: Reader, name: str, host: str = "127.0.0.1", **changes: Any) -> list[list[Any]]:
    """Return the values of the client's and the server's data sockets in a short test of the transport."""
    client, at_server = SocketReader(read), SocketReader(read)
    options = {key: changes.pop(key) for key in ("flow_label", "sockets") if key in changes}
    async with serving(bind=host, **changes.pop("server", {})) as server:
        server.recorders.append(at_server)
        await measure_into(client, server.port, plan_for(name, **changes), host=host, **options)
    return [client.values, at_server.values]


@pytest.mark.parametrize("name", transports())
async def test_the_type_of_service_is_set_at_both_ends(name: str) -> None:
    read = option_reader(socket.IPPROTO_IP, socket.IP_TOS)
    assert await values_of(read, name, tos=0xB8, direction=Direction.BIDIRECTIONAL) == [[0xB8] * 2] * 2
    assert await values_of(read, name) == [[0], [0]]


@pytest.mark.parametrize("name", transports())
async def test_the_traffic_class_of_ipv6_is_set_at_both_ends(name: str) -> None:
    read = option_reader(socket.IPPROTO_IPV6, socket.IPV6_TCLASS)
    assert await values_of(read, name, host="::1", tos=0x28) == [[0x28], [0x28]]


async def test_a_dual_stack_socket_has_the_type_of_service_towards_ipv4() -> None:
    recorder = SocketReader(option_reader(socket.IPPROTO_IP, socket.IP_TOS))
    async with serving(bind="") as server:
        server.recorders.append(recorder)
        await measure_into(Recorder(), server.port, plan_for(tos=0xB8))
    assert recorder.values == [0xB8]


@pytest.mark.parametrize("name", transports())
async def test_the_kernels_pacing_is_set(name: str) -> None:
    def rate(sock: socket.socket) -> int:
        raw = sock.getsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, 8)
        return int(struct.unpack("@L", raw)[0])

    assert await values_of(rate, name, fq_rate_bps=80_000_000) == [[10_000_000], [10_000_000]]


@pytest.mark.parametrize("name", transports())
async def test_the_flow_label_is_set_at_the_client(name: str) -> None:
    client, _ = await values_of(lambda sock: sock.getpeername()[2], name, host="::1", flow_label=0x12345)
    assert client == [0x12345]


async def test_a_flow_label_needs_ipv6() -> None:
    async with serving() as server:
        with pytest.raises(PlanError, match=r"-L labels flows of IPv6, and \S+ was reached over IPv4"):
            await measure_into(Recorder(), server.port, plan_for(), flow_label=1)


def interface(sock: socket.socket) -> bytes:
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0")


@pytest.mark.parametrize("name", transports())
async def test_a_client_binds_to_its_interface(name: str) -> None:
    client, _ = await values_of(interface, name, sockets=SocketOptions(device="lo"))
    assert client == [b"lo"]


@pytest.mark.parametrize("name", transports())
async def test_a_server_binds_to_its_interface(name: str) -> None:
    socket_options = SocketOptions(device="lo")
    client, server = await values_of(interface, name, server={"sockets": socket_options})
    assert (client, server) == ([b""], [b"lo"])


async def test_a_missing_interface_is_an_error() -> None:
    async with serving() as server:
        with pytest.raises(PlanError, match=r"^no interface named no-such0$"):
            await measure_into(Recorder(), server.port, plan_for(), sockets=SocketOptions(device="no-such0"))


async def test_the_timeout_of_unacknowledged_data_is_set_at_its_end() -> None:
    read = option_reader(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    socket_options = SocketOptions(send_timeout_us=7_000_000)
    assert await values_of(read, "tcp", sockets=socket_options) == [[7000], [0]]
    assert await values_of(read, "tcp", server={"sockets": socket_options}) == [[0], [7000]]


async def measure_until_silent(server: Server, direction: Direction, socket_options: SocketOptions) -> None:
    """Run a test over a path that goes silent after the first interval."""
    async with relayed(server.port) as relay:
        recorder = Recorder(relay.freeze, after=1)
        plan = plan_for(duration_us=20_000_000, direction=direction)
        await measure_into(recorder, relay.port, plan, sockets=socket_options)


@pytest.mark.parametrize("direction", [Direction.REVERSE, Direction.BIDIRECTIONAL])
async def test_a_client_that_receives_no_data_times_out(direction: Direction) -> None:
    async with serving() as server:
        with pytest.raises(LateError, match=r"^no data has come for 0.3 s$"):
            await measure_until_silent(server, direction, SocketOptions(receive_timeout_us=300_000))


async def test_a_server_that_receives_no_data_times_out() -> None:
    async with serving(sockets=SocketOptions(receive_timeout_us=300_000)) as server:
        client = asyncio.create_task(measure_until_silent(server, Direction.FORWARD, SocketOptions()))
        await server.started()
        await server.settled()
        client.cancel()
        await asyncio.gather(client, return_exceptions=True)
    assert server.tests[0].sentence == "no data has come for 0.3 s"


async def test_a_silent_server_ends_the_connection_attempt() -> None:
    """The backlog of the server is full, so Linux drops further connection requests."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as stack:
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        port = listener.getsockname()[1]
        with pytest.raises(
            LateError, match=rf"^cannot connect to 127.0.0.1 port {port}: no answer within 0.2"
        ):
            await measure_into(Recorder(), port, plan_for(), connect_timeout_us=200_000)


def test_keepalive_probes_have_the_given_times() -> None:
    names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    with socket.socket() as sock, socket.socket() as other:
        usual = [sock.getsockopt(socket.IPPROTO_TCP, name) for name in names]
        keep_alive(sock, SocketOptions(keepalive=(11, 0, 3)))
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert [sock.getsockopt(socket.IPPROTO_TCP, name) for name in names] == [11, usual[1], 3]
        keep_alive(other, SocketOptions())
        assert other.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0


def has_mptcp() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_mptcp(), reason="this kernel has no Multipath TCP")
@pytest.mark.parametrize("direction", Direction)
async def test_multipath_tcp_is_used_if_the_client_requests_it(direction: Direction) -> None:
    read = option_reader(socket.SOL_SOCKET, SO_PROTOCOL)
    streams = 2 if direction is Direction.BIDIRECTIONAL else 1
    wanted = transport("tcp").settings.from_wire({"mptcp": True})
    multi = await values_of(read, "tcp", settings=wanted, direction=direction)
    assert multi == [[IPPROTO_MPTCP] * streams] * 2
    assert await values_of(read, "tcp", direction=direction) == [[socket.IPPROTO_TCP] * streams] * 2


@pytest.mark.parametrize("direction", Direction)
async def test_an_unknown_congestion_control_is_an_error_before_connecting(direction: Direction) -> None:
    """A client that only receives does not check it, because only the sender uses it."""
    plan = plan_for(settings=transport("tcp").settings.from_wire({"congestion": "nonsense"}))
    plan = replace(plan, direction=direction)
    if direction is Direction.REVERSE:
        async with serving() as server:
            report = Recorder()
            await measure_into(report, server.port, plan)
            assert report.end_rows[0].local.bytes > 0
        return
    with pytest.raises(PlanError, match=r"^congestion control 'nonsense' is not available here \("):
        await measure_into(Recorder(), 1, plan)
