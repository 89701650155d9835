"""Places of a server over real sockets: silent clients lose theirs, and refused passwords are logged."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from iperfpy.control import framing
from iperfpy.control.framing import State
from iperfpy.control.session import Send
from iperfpy.endpoint import acceptor, server
from iperfpy.endpoint.control_connection import ControlConnection
from iperfpy.errors import PeerError
from iperfpy.options import Authorization
from tests.iperfpy.support import HURRIED, Peer, measure, plan_for, serving

pytestmark = pytest.mark.live

PARAMETERS = {"tcp": True, "omit": 0, "time": 10, "num": 0, "blockcount": 0, "parallel": 1, "len": 1000}
OURS = "iperfpy-{:028}"


async def admitted(port: int, cookie: str) -> Peer:
    """Return a client with an admitted test, which opens no stream."""
    peer = await Peer.connected(port, cookie)
    if cookie.startswith("iperfpy-"):
        assert await peer.state() == State.HELLO
        await peer.document()
    assert await peer.state() == State.PARAM_EXCHANGE
    peer.send_document(PARAMETERS)
    assert await peer.state() == State.CREATE_STREAMS
    return peer


async def test_a_test_without_streams_loses_its_place_to_a_newcomer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PATIENCE_S", 0.0)
    async with serving(max_tests=2) as running:
        silent = [await admitted(running.port, OURS.format(number)) for number in range(2)]
        await measure(running.port, plan_for(total_bytes=1000))
        rest = await silent[0].rest()
        assert "needed the place" in json.loads(rest[5:-9])["text"]
        await measure(running.port, plan_for(total_bytes=1000))
        for peer in silent:
            await peer.close()


async def test_a_one_off_server_serves_after_a_silent_test_lost_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "PATIENCE_S", 0.0)
    async with serving(one_off=True) as running:
        silent = await admitted(running.port, "s" * 36)
        assert running.task is not None
        await measure(running.port, plan_for(total_bytes=1000))
        assert await running.task
        await silent.close()


async def test_clients_that_say_nothing_lose_their_places_to_newcomers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(acceptor, "UNKNOWN_LIMIT", 8)
    monkeypatch.setattr(server, "CLIENTS_LIMIT", 8)
    async with serving() as running:
        half_open = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(20)]
        greeted = [await Peer.connected(running.port, f"{number:036}") for number in range(20)]
        assert await greeted[-1].state() == State.PARAM_EXCHANGE
        await measure(running.port, plan_for(total_bytes=1000))
        assert await half_open[0][0].read() == b""
        for peer in greeted:
            await peer.close()
        for _, writer in half_open:
            writer.close()


async def test_a_client_that_breaks_off_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving(HURRIED) as running:
        early = framing.encode_document(PARAMETERS) + bytes([State.TEST_END, State.IPERF_DONE])
        for number, data in enumerate([b"", early]):
            peer = await Peer.connected(running.port, OURS.format(number))
            peer.writer.write(data)
            peer.writer.write_eof()
            await peer.rest()
            await peer.close()
        await asyncio.sleep(0.1)
    assert [
        record.getMessage() for record in caplog.records if record.name.startswith("iperfpy.endpoint")
    ] == [
        "127.0.0.1: the client closed the control connection unexpectedly",
        "127.0.0.1: the client sent TEST_END while the parameters were being checked",
    ]
    assert {record.levelno for record in caplog.records} == {logging.INFO}


async def test_each_refused_password_is_one_line_with_the_address(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "users").write_text("")
    async with serving(authorization=Authorization(pem, str(tmp_path / "users"))) as running:
        for _ in range(2):
            with pytest.raises(PeerError, match="this server requires a user name and a password"):
                await measure(running.port, plan_for())
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "password refused, client 127.0.0.1: this server requires a user name and a password"
    ] * 2


async def test_a_client_that_goes_away_before_its_streams_leaves_no_task_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The end of the connection may arrive in the turn in which the server asks for the streams."""
    send = ControlConnection.send

    def gone(self: ControlConnection, message: Send, *more: Any) -> None:
        if message is Send.CREATE_STREAMS:
            raise PeerError("the client closed the control connection unexpectedly")
        send(self, message, *more)

    monkeypatch.setattr(ControlConnection, "send", gone)
    async with serving(HURRIED) as running:
        peer = await Peer.connected(running.port)
        assert await peer.state() == State.PARAM_EXCHANGE
        peer.send_document(PARAMETERS)
        await peer.rest()
        await peer.close()
        left = [task for task in asyncio.all_tasks() if "_accept_all" in repr(task.get_coro())]
    assert left == []
