"""TCP beyond the conformance checks: options, counters on a slow path, closing."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from iperfpy.protocols import socket_buffers, tcp_info
from iperfpy.protocols.contract import Stream
from iperfpy.protocols.errors import SettingsError, StreamPeerError, TransportError
from iperfpy.protocols.operating_system import SO_FORCE
from iperfpy.protocols.path_evidence import EvidenceLimit
from iperfpy.protocols.tcp import Tcp, TcpSettings, tuning
from iperfpy.protocols.tcp.channel import TcpChannel
from iperfpy.protocols.testing.loopback import BlockLoad, bytes_of, loopback_pairs, promptly, until

SENDS = Stream(1, 0, 0, sends=True)


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[TcpChannel, socket.socket]]:
    """Open a sending channel, and the peer's socket with a small receive buffer."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client = socket.create_connection(listener.getsockname())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        peer, _ = listener.accept()
    channel = TcpChannel(client, TcpSettings(), sends=True)
    try:
        yield channel, peer
    finally:
        await channel.close()
        peer.close()


# ---------------------------------------------------------------------- options


@pytest.mark.live
@pytest.mark.parametrize(
    "settings",
    [
        TcpSettings(zerocopy=True),
        TcpSettings(skip_rx_copy=True),
        TcpSettings(nodelay=True, window=65_536, mss=1000),
    ],
    ids=["zerocopy", "skip_rx_copy", "small"],
)
async def test_every_method_of_sending_and_receiving_counts_exactly(settings: TcpSettings) -> None:
    async with loopback_pairs(Tcp(), settings, False, True) as pairs:
        for pair in pairs:
            await pair.carry(3_000_001, BlockLoad(3_000_001, 70_000))


@pytest.mark.live
def test_settings_are_applied_to_the_socket() -> None:
    with socket.socket() as sock:
        tuning.before_connect(sock, TcpSettings(window=100_000, nodelay=True, mss=600, congestion="cubic"))
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert socket_buffers.buffer_size(sock, socket.SO_SNDBUF) >= 100_000
        assert socket_buffers.buffer_size(sock, socket.SO_RCVBUF) >= 100_000
        assert tcp_info.congestion_control_of(sock) == "cubic"


@pytest.mark.live
async def test_an_unknown_congestion_control_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"'nonsense' is not available here \(available: .*cubic"):
        async with loopback_pairs(Tcp(), TcpSettings(congestion="nonsense"), False):
            pass


@pytest.mark.live
def test_a_server_without_that_congestion_control_warns(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as sock:
        tuning.after_accept(sock, TcpSettings(congestion="nonsense"))
        default = tcp_info.congestion_control_of(sock)
    assert re.search(rf"'nonsense' is not available here .*; using {default}", caplog.text)


@pytest.mark.live
def test_a_buffer_that_the_kernel_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stingy(socket.socket):
        def setsockopt(self, *arguments: object) -> None:
            if arguments[1] in SO_FORCE.values():
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    with Stingy() as sock, pytest.raises(TransportError, match=r"not 512 MiB .*net\.core\.wmem_max"):
        tuning.before_connect(sock, TcpSettings(window=512 * 1024 * 1024))


def test_the_wire_form_is_iperf3s() -> None:
    settings = TcpSettings(
        window=1 << 20, mss=1400, nodelay=True, congestion="bbr", zerocopy=True, skip_rx_copy=True
    )
    # iperf3 sends zerocopy and skip_rx_copy as numbers.
    wire = settings.to_wire()
    assert wire == {
        "window": 1 << 20,
        "MSS": 1400,
        "nodelay": True,
        "congestion": "bbr",
        "zerocopy": 1,
        "skip_rx_copy": 1,
    }
    assert type(wire["zerocopy"]) is int
    assert TcpSettings.from_wire(wire) == settings
    assert TcpSettings().to_wire() == {}


@pytest.mark.parametrize(
    "received", [{"MSS": 99_999}, {"window": -1}, {"zerocopy": "yes"}, {"nodelay": 1}, {"congestion": 5}]
)
def test_invalid_values_of_a_peer_are_errors(received: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        TcpSettings.from_wire(received)


# ---------------------------------------------------------------------- counts


@pytest.mark.live
async def test_bytes_are_counted_when_they_leave_the_queue() -> None:
    async with pair() as (channel, peer):
        load = BlockLoad(0, 128 * 1024)
        sending = asyncio.create_task(channel.send(load))
        await until(lambda: (tcp_info.read(channel._sock).notsent_bytes or 0) > 0)
        await asyncio.sleep(0.05)
        counted = bytes_of(channel)
        info = tcp_info.read(channel._sock)
        assert info.notsent_bytes
        assert counted == info.first_sent_bytes
        assert counted < load.taken
        peer.close()
        with pytest.raises(StreamPeerError, match="closed the connection"):
            await sending


@pytest.mark.live
async def test_a_block_longer_than_all_buffers_is_counted_while_it_leaves() -> None:
    async with pair() as (channel, peer):
        sending = asyncio.create_task(channel.send(BlockLoad(2_000_000, 2_000_000)))
        counts, taken = [], 0
        peer.setblocking(False)
        while taken < 1_500_000:
            taken += len(await asyncio.get_running_loop().sock_recv(peer, 50_000))
            counts.append(bytes_of(channel))
        assert counts == sorted(counts)
        assert len(set(counts)) > 5
        assert counts[-1] >= 1_500_000
        while taken < 2_000_000:
            taken += len(await asyncio.get_running_loop().sock_recv(peer, 50_000))
        await sending
        await channel.drain()
        assert bytes_of(channel) == 2_000_000


@pytest.mark.live
async def test_figures_are_none_without_tcp_info(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_info, "read", lambda sock: tcp_info.TcpInfo())
    async with loopback_pairs(Tcp(), TcpSettings(), False) as (pair,):
        await pair.carry(1_000_000)
        record = pair.sender.counters()
        assert record.pop("bytes") == 1_000_000
        assert record.pop("congestion") is not None
        assert set(record.values()) == {None}


@pytest.mark.live
async def test_the_congestion_control_is_reported() -> None:
    async with loopback_pairs(Tcp(), TcpSettings(congestion="reno"), False, True) as pairs:
        assert [pair.sender.counters()["congestion"] for pair in pairs] == ["reno", "reno"]


# ---------------------------------------------------------------------- ends


@pytest.mark.live
async def test_drain_waits_for_the_peer() -> None:
    async with pair() as (channel, peer):
        await channel.send(BlockLoad(60_000, 60_000))
        draining = asyncio.create_task(channel.drain())
        await asyncio.sleep(0.05)
        assert not draining.done()
        received = 0
        while received < 60_000:
            received += len(await asyncio.to_thread(peer.recv, 4096))
        await promptly(draining, "drain() of an empty queue")
        assert bytes_of(channel) == 60_000


class _FileLoad(BlockLoad):
    may_block = True


@pytest.mark.live
@pytest.mark.linux
@pytest.mark.parametrize(
    "load", [_FileLoad(60_000, 20_000), BlockLoad(60_000, 20_000, pause_us=1_000)], ids=["file", "paced"]
)
async def test_the_time_after_the_last_block_is_not_the_applications(load: BlockLoad) -> None:
    async with pair() as (channel, peer):
        await channel.send(load)
        await asyncio.sleep(0.5)
        draining = asyncio.create_task(channel.drain())
        received = 0
        while received < 60_000:
            received += len(await asyncio.to_thread(peer.recv, 4096))
        await draining  # the kernel has caught up with the load
        evidence = channel.evidence()
    assert evidence is not None
    assert evidence.limited_us.get(EvidenceLimit.APPLICATION, 0) < 250_000


@pytest.mark.live
async def test_draining_towards_a_dead_peer_is_an_error() -> None:
    async with pair() as (channel, peer):
        await channel.send(BlockLoad(60_000, 60_000))
        peer.close()
        with pytest.raises(StreamPeerError, match="closed the connection"):
            await channel.drain()


@pytest.mark.live
async def test_close_discards_the_send_queue() -> None:
    """A reset discards the queue, so that no old data delays the next test."""
    async with pair() as (channel, peer):
        await channel.send(BlockLoad(60_000, 60_000))
        await channel.close()
        received = await asyncio.to_thread(_received_before_reset, peer)
        assert 0 < received < 60_000
        assert bytes_of(channel) <= 60_000


def _received_before_reset(peer: socket.socket) -> int:
    peer.settimeout(5)
    received = 0
    try:
        while chunk := peer.recv(4096):
            received += len(chunk)
    except ConnectionResetError:
        return received
    raise AssertionError("the connection ended without a reset")


@pytest.mark.live
async def test_closing_after_draining_does_not_reset() -> None:
    async with pair() as (channel, peer):
        await channel.send(BlockLoad(2000, 2000))
        await channel.drain()
        await channel.close()
        assert len(peer.recv(4096)) == 2000
        assert peer.recv(1) == b""


@pytest.mark.live
async def test_receive_ends_when_the_peer_resets() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    accepted, _ = listener.accept()
    listener.close()
    channel = TcpChannel(accepted, TcpSettings(), sends=False)
    receiving = asyncio.create_task(channel.receive())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    await receiving
    await channel.close()


@pytest.mark.live
async def test_a_peer_that_resets_before_the_channel_exists_is_an_error() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    accepted, _ = listener.accept()
    listener.close()
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    accepted.close()
    await until(lambda: tcp_info.read(client).state == tcp_info.CLOSED)
    with client, pytest.raises(StreamPeerError, match="at once"):
        TcpChannel(client, TcpSettings(), sends=True)


@pytest.mark.live
def test_the_declaration_imports_no_slow_module() -> None:
    script = (
        "import sys, iperfpy.protocols.tcp; "
        "heavy = {'numpy', 'asyncio', 'rich', 'iperfpy.protocols.tcp.channel'}; "
        "sys.exit(bool(heavy & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
