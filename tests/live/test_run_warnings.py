"""Conditions that limit a result are reported as warnings, at the start or at the end of the test."""

from __future__ import annotations

import errno
from itertools import chain, repeat
from pathlib import Path

import pytest

from iperfpy.endpoint.running_test import RunningTest
from iperfpy.plan import Direction
from iperfpy.protocols import socket_buffers
from iperfpy.protocols.kcp.channel import KcpChannel
from iperfpy.protocols.kcp.settings import KcpSettings
from iperfpy.protocols.operating_system import SO_FORCE
from iperfpy.protocols.path_events import PathEvents
from iperfpy.protocols.tcp.channel import TcpChannel
from iperfpy.protocols.udp.channel import UdpChannel
from iperfpy.protocols.units import exact_size
from tests.iperfpy.support import measure, plan_for, serving

pytestmark = pytest.mark.live

LIMITS = {name: Path(f"/proc/sys/net/core/{name}_max") for name in ("wmem", "rmem")}
WINDOW = 40_000
NEEDED = WINDOW * 1400


@pytest.fixture
def unprivileged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the kernel refuse the options that exceed the limits, as it does for an unprivileged user."""
    if not all(path.exists() for path in LIMITS.values()):
        pytest.skip("this system has no net.core.rmem_max")
    if max(int(path.read_text()) for path in LIMITS.values()) >= NEEDED:
        pytest.skip("the buffers of this machine may be as large as the window")
    monkeypatch.setattr(socket_buffers, "SO_FORCE", dict.fromkeys(SO_FORCE, 0x7FFF))


@pytest.mark.usefixtures("unprivileged")
async def test_a_buffer_smaller_than_the_window_names_the_sysctl() -> None:
    settings = KcpSettings(sndwnd=WINDOW, rcvwnd=WINDOW)
    async with serving() as server:
        client = await measure(server.port, plan_for("kcp", settings=settings))
        await server.settled()
    for report, name in ((client, "wmem"), (server.tests[0], "rmem")):
        assert report.started is not None
        (warning,) = report.started.warnings
        assert f"sysctl -w net.core.{name}_max={NEEDED}" in warning
        assert f"to {exact_size(int(LIMITS[name].read_text()))}," in warning
        assert report.ended is not None
    # The log of the server is at the server: its client gets the sentence with the results.
    assert client.ended is not None
    assert server.tests[0].ended is not None
    assert server.tests[0].started is not None
    assert server.tests[0].ended.warnings == ()
    assert client.ended.warnings == (f"at the server: {server.tests[0].started.warnings[0]}",)


async def test_a_buffer_that_holds_the_window_gives_no_warning() -> None:
    async with serving() as server:
        client = await measure(server.port, plan_for("kcp", settings=KcpSettings(sndwnd=16, rcvwnd=16)))
    assert client.started is not None
    assert client.started.warnings == ()


async def test_a_warning_that_arises_during_the_test_is_reported_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warnings = chain([("slow",)] * 2, repeat(("slow", "the window was full")))
    monkeypatch.setattr(TcpChannel, "warnings", lambda channel: next(warnings) if is_client(channel) else ())
    # Both channels are in this process: only the client's has the warning.
    async with serving() as server:

        def is_client(channel: TcpChannel) -> bool:
            return int(channel.remote_address[1]) == server.port

        client = await measure(server.port, plan_for("tcp"))
    assert client.started is not None
    assert client.started.warnings == ("slow",)
    assert client.ended is not None
    assert client.ended.warnings == ("the window was full",)


async def test_a_warning_of_the_servers_sender_reaches_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings = chain([("slow",)] * 2, repeat(("slow", "datagrams travel in fragments")))
    monkeypatch.setattr(UdpChannel, "warnings", lambda channel: next(warnings) if is_server(channel) else ())
    async with serving() as server:

        def is_server(channel: UdpChannel) -> bool:
            return int(channel.local_address[1]) == server.port

        client = await measure(server.port, plan_for("udp", direction=Direction.REVERSE))
    assert client.started is not None
    assert client.started.warnings == ()
    assert client.ended is not None
    assert client.ended.warnings == ("at the server: slow", "at the server: datagrams travel in fragments")


@pytest.mark.parametrize("meanwhile", [True, False])
async def test_errors_of_the_path_are_warnings_until_this_end_stops_counting(
    monkeypatch: pytest.MonkeyPatch, meanwhile: bool
) -> None:
    """A peer that has closed its socket at the end of the test refuses the datagrams that follow."""
    paths: list[PathEvents] = []
    opened, verb = KcpChannel.start, RunningTest.stop if meanwhile else RunningTest.close_streams

    def start(channel: KcpChannel) -> None:
        paths.append(channel._path.events)
        opened(channel)

    def after_an_error(test: RunningTest) -> object:
        for events in paths:
            events.note(errno.EHOSTUNREACH)
            events.note(errno.ECONNREFUSED)  # just before the end: the peer has closed its port
        return verb(test)

    monkeypatch.setattr(KcpChannel, "start", start)
    monkeypatch.setattr(RunningTest, verb.__name__, after_an_error)
    async with serving() as server:
        client = await measure(server.port, plan_for("kcp"))
        await server.settled()
    # The client has the server's warning beside its own.
    for report, count in ((client, 2), (server.tests[0], 1)):
        assert report.ended is not None
        told = [text for text in report.ended.warnings if "127.0.0.1 was reported to be unreachable" in text]
        assert (len(report.ended.warnings), len(told)) == ((count, count) if meanwhile else (0, 0))
