"""Hostile and mistaken clients: none of them crashes a server, hangs it, or disturbs a running test."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from iperfpy.control import framing
from iperfpy.control.framing import State
from iperfpy.plan import Direction
from tests.iperfpy.support import HURRIED, Peer, Server, measure, plan_for, serving

pytestmark = pytest.mark.live

OURS = "iperfpy-" + "a" * 28
STOCK_PLAN = {"tcp": True, "omit": 0, "time": 1, "num": 0, "blockcount": 0, "parallel": 1, "len": 1000}


async def raw(port: int, data: bytes, *, one_by_one: bool = False, finish: bool = True) -> bytes:
    """Send that, and what comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    peer = Peer(reader, writer)
    try:
        for at in range(len(data)) if one_by_one else ():
            writer.write(data[at : at + 1])
            await asyncio.sleep(0.002)
        if not one_by_one:
            writer.write(data)
        if finish:
            writer.write_eof()
        return await peer.rest()
    except ConnectionError:
        return b""
    finally:
        await peer.close()


async def refused_parameters(port: int, change: dict[str, Any], cookie: str = "x" * 36) -> bytes:
    """The answer of a server to these parameters, after PARAM_EXCHANGE."""
    peer = await Peer.connected(port, cookie)
    if cookie == OURS:
        assert await peer.state() == State.HELLO
        assert "kcp" in json.loads(await peer.document())["transports"]
    assert await peer.state() == State.PARAM_EXCHANGE
    peer.tell({**STOCK_PLAN, **change})
    rest = await peer.rest()
    await peer.close()
    return rest


async def works(server: Server) -> None:
    """The server still serves."""
    report = await measure(server.port, plan_for(total_bytes=100_000))
    assert report.end_rows[0].peer is not None
    assert report.end_rows[0].peer.bytes == 100_000


@pytest.mark.parametrize("seed", range(3))
async def test_random_bytes(seed: int) -> None:
    noise = random.Random(seed)
    async with serving(HURRIED) as server:
        for size in (1, 36, 37, 38, 1000, 100_000):
            answer = await raw(server.port, noise.randbytes(size))
            assert len(answer) <= 1  # nothing amplifies
        await works(server)


async def test_a_port_scan_a_browser_and_a_silent_one() -> None:
    async with serving(HURRIED) as server:
        assert await raw(server.port, b"") == b""
        assert (
            await raw(server.port, b"GET / HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\n") == b"\xff"
        )
        silent = asyncio.create_task(raw(server.port, b"", finish=False))
        await works(server)
        assert await silent == b""


async def test_random_bytes_after_a_good_cookie() -> None:
    noise = random.Random(5)
    async with serving(HURRIED) as server:
        for _ in range(20):
            data = framing.encode_cookie("n" * 36) + noise.randbytes(200)
            answer = await raw(server.port, data)
            assert answer[:1] == b"\x09"
            assert len(answer) <= 10
        await works(server)


@pytest.mark.parametrize(
    ("message", "i_errno"),
    [
        (b"\xff\xff\xff\xff", 110),
        (b"\x7f\xff\xff\xff", 110),
        (struct.pack(">I", 8193), 110),
        (struct.pack(">I", 0), 110),
        (struct.pack(">I", 3) + b"[1]", 110),
        (struct.pack(">I", 5) + b"{nope", 110),
        (struct.pack(">I", 8000) + b"[" * 8000, 110),
    ],
)
@pytest.mark.parametrize("one_by_one", [False, True])
async def test_bad_parameter_messages(message: bytes, i_errno: int, one_by_one: bool) -> None:
    if one_by_one and len(message) > 100:
        message = message[:4] + b"[" * 50
        i_errno = 144  # the rest never comes
    async with serving(HURRIED) as server:
        peer = await Peer.connected(server.port)
        assert await peer.state() == State.PARAM_EXCHANGE
        for at in range(0, len(message), 1 if one_by_one else len(message)):
            peer.writer.write(message[at : at + 1] if one_by_one else message)
            await asyncio.sleep(0.001)
        # Later bytes meet a closed connection, whose reset may overtake the answer.
        assert await peer.rest() in (framing.encode_server_error(i_errno), b"" if one_by_one else None)
        await peer.close()
        await works(server)


@pytest.mark.parametrize(
    ("change", "i_errno"),
    [
        ({"parallel": 1000}, 6),
        ({"len": 2 * 1024 * 1024}, 7),
        ({"time": 10**9}, 5),
        ({"parallel": {"a": 1}}, 6),
        ({"tcp": False, "sctp": True}, 131),
        ({"window": 2**40}, 8),
    ],
)
async def test_parameters_out_of_range(change: dict[str, Any], i_errno: int) -> None:
    async with serving(HURRIED) as server:
        assert await refused_parameters(server.port, change) == framing.encode_server_error(i_errno)
        told = await refused_parameters(server.port, change, OURS)
        assert told.endswith(framing.encode_server_error(i_errno))
        assert told[:1] == bytes([State.SENTENCE])
        sentence = json.loads(told[5:-9])["text"]
        assert "must be" in sentence or "does not know" in sentence
        assert server.tests == []


async def test_streams_that_are_never_opened() -> None:
    async with serving(HURRIED) as server:
        assert await refused_parameters(server.port, {}) == b"\x0a" + framing.encode_server_error(144)
        await works(server)


async def test_a_slow_client_is_served_one_byte_at_a_time() -> None:
    async with serving() as server:
        peer = await Peer.connected(server.port)
        peer.writer.transport.set_write_buffer_limits(0)
        data = framing.encode_document(STOCK_PLAN)
        assert await peer.state() == State.PARAM_EXCHANGE
        for at in range(len(data)):
            peer.writer.write(data[at : at + 1])
            await asyncio.sleep(0.001)
        assert await peer.state() == State.CREATE_STREAMS
        _, stream = await asyncio.open_connection("127.0.0.1", server.port)
        cookie = framing.encode_cookie("s" * 36)
        for at in range(len(cookie)):
            stream.write(cookie[at : at + 1])
            await asyncio.sleep(0.001)
        assert [await peer.state(), await peer.state()] == [State.TEST_START, State.TEST_RUNNING]
        stream.write(b"x" * 5000)
        await stream.drain()
        await asyncio.sleep(0.1)
        peer.say(State.TEST_END)
        assert await peer.state() == State.EXCHANGE_RESULTS
        peer.tell({"cpu_util_total": 1, "streams": [{"id": 1, "bytes": 5000, "retransmits": -1}]})
        results = json.loads(await peer.document())
        assert results["streams"][0]["bytes"] == 5000
        assert "iperfpy" not in results
        assert await peer.state() == State.DISPLAY_RESULTS
        peer.say(State.IPERF_DONE)
        assert await peer.rest() == b""
        stream.close()
        await peer.close()
        await server.settled()


async def test_data_after_the_planned_end_does_not_count() -> None:
    """On a path that loses, the word of the end may come seconds late, and the last data, too."""
    async with serving() as server:
        peer = await Peer.connected(server.port)
        assert await peer.state() == State.PARAM_EXCHANGE
        peer.tell(STOCK_PLAN)
        assert await peer.state() == State.CREATE_STREAMS
        stream = await Peer.connected(server.port)
        assert [await peer.state(), await peer.state()] == [State.TEST_START, State.TEST_RUNNING]
        stream.writer.write(b"x" * 5000)
        await asyncio.sleep(2)
        stream.writer.write(b"x" * 3000)
        await asyncio.sleep(0.5)
        peer.say(State.TEST_END)
        assert await peer.state() == State.EXCHANGE_RESULTS
        peer.tell({"cpu_util_total": 1, "streams": [{"id": 1, "bytes": 8000, "retransmits": -1}]})
        (result,) = json.loads(await peer.document())["streams"]
        await stream.close()
        await peer.close()
        await server.settled()
    assert result["bytes"] == 5000
    assert 1 <= result["end_time"] - result["start_time"] < 2
    assert sum(row.local.bytes for (row,) in server.tests[0].intervals) == 5000


async def test_a_connection_too_many_is_refused() -> None:
    async with serving(HURRIED) as server:
        control = await Peer.connected(server.port)
        assert await control.state() == State.PARAM_EXCHANGE
        control.tell({**STOCK_PLAN, "reverse": True})
        assert await control.state() == State.CREATE_STREAMS
        first = await Peer.connected(server.port)
        assert await control.state() == State.TEST_START
        second = await Peer.connected(server.port)
        assert await second.rest() == b"\xff"
        for peer in (first, second, control):
            await peer.close()
        await server.settled()


async def test_a_second_client_with_the_same_cookie_is_refused() -> None:
    async with serving(HURRIED) as server:
        first = await Peer.connected(server.port)
        assert await first.state() == State.PARAM_EXCHANGE
        second = await Peer.connected(server.port)
        assert await second.rest() == b"\xff"
        for peer in (first, second):
            await peer.close()


async def half_open(port: int) -> None:
    """Connects, says part of a cookie, and waits."""
    await raw(port, b"abc", finish=False)


async def four_gigabytes(port: int) -> None:
    await raw(port, framing.encode_cookie("f" * 36) + b"\xff\xff\xff\xff" + b"x" * 10_000)


async def an_array(port: int) -> None:
    await raw(port, framing.encode_cookie("j" * 36) + struct.pack(">I", 2) + b"[]")


async def wrong_parameters(port: int) -> None:
    await refused_parameters(port, {"parallel": -1})


async def noise(port: int) -> None:
    await raw(port, random.Random(1).randbytes(50_000))


async def datagrams(port: int) -> None:
    """Nobody's: not answered."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(("127.0.0.1", port))
        for size in (0, 1, 4, 24, 1400):
            sock.send(random.Random(size).randbytes(size))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await asyncio.get_running_loop().sock_recv(sock, 2000)


ABUSES = (half_open, four_gigabytes, an_array, wrong_parameters, noise)


@pytest.mark.parametrize("direction", [Direction.FORWARD, Direction.REVERSE])
@pytest.mark.parametrize(("name", "abuses"), [("tcp", ABUSES), ("kcp", (*ABUSES, datagrams))])
async def test_a_running_test_is_not_disturbed(
    name: str, abuses: tuple[Callable[[int], Awaitable[None]], ...], direction: Direction
) -> None:
    plan = plan_for(name, duration_us=1_500_000, direction=direction, rate_bps=8_000_000)
    async with serving(HURRIED) as server:
        running = asyncio.create_task(measure(server.port, plan))
        await server.started()
        for _ in range(2):
            await asyncio.gather(*(abuse(server.port) for abuse in abuses))
        report = await running
        await server.settled()
    assert len(server.tests) == 1
    for end in (report, server.tests[0]):
        assert end.ended is not None
        assert end.ended.interrupted == ""
        assert end.end_rows[0].local.bytes > 8_000_000 / 8 * 1.5 * 0.5


@pytest.mark.parametrize(
    "stats",
    [
        {"sequence": 1, "streams": []},
        {"sequence": 0},
        {"sequence": 0, "streams": [{"id": 99}]},
        {},
    ],
)
async def test_interval_figures_that_cannot_be(stats: dict[str, Any]) -> None:
    async with serving(HURRIED) as server:
        control = await running_control(server)
        control.writer.write(framing.encode_extension(State.STATS, stats))
        assert (await control.rest()).endswith(framing.encode_server_error(110))
        await control.close()
        await server.settled()
        assert server.tests[0].sentence.startswith("the client sent ")


async def test_a_flood_of_interval_figures() -> None:
    async with serving(HURRIED) as server:
        control = await running_control(server)
        for sequence in range(200):
            body = {"sequence": sequence, "streams": []}
            control.writer.write(framing.encode_extension(State.STATS, body))
        assert (await control.rest()).endswith(framing.encode_server_error(110))
        await control.close()
        await server.settled()
        assert server.tests[0].sentence == "the client sent interval figures out of turn"


async def running_control(server: Server) -> Peer:
    """The control connection of an iperfpy client whose test runs, forward, one stream."""
    control = await Peer.connected(server.port, OURS)
    assert await control.state() == State.HELLO
    await control.document()
    assert await control.state() == State.PARAM_EXCHANGE
    own = {"transport": "tcp", "conv": [7], "interval_us": 0, "duration_us": 5_000_000}
    control.tell({**STOCK_PLAN, "iperfpy": own})
    assert await control.state() == State.CREATE_STREAMS
    _, stream = await asyncio.open_connection("127.0.0.1", server.port)
    stream.write(framing.encode_cookie(OURS))
    await stream.drain()
    assert [await control.state(), await control.state()] == [State.TEST_START, State.TEST_RUNNING]
    control.others.append(stream)
    return control


async def test_many_half_open_connections() -> None:
    async with serving() as server:
        sockets = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
        await works(server)
        for sock in sockets:
            sock.close()


async def test_a_late_cookie_does_not_change_the_order_of_streams() -> None:
    """Bidirectional: the first stream is the client's to send on, whatever cookie comes first."""
    async with serving() as server:
        control = await Peer.connected(server.port)
        assert await control.state() == State.PARAM_EXCHANGE
        control.tell({**STOCK_PLAN, "bidirectional": True})
        assert await control.state() == State.CREATE_STREAMS
        first = Peer(*await asyncio.open_connection("127.0.0.1", server.port))
        second = await Peer.connected(server.port)
        await asyncio.sleep(0.1)
        first.writer.write(framing.encode_cookie("s" * 36))
        assert [await control.state(), await control.state()] == [State.TEST_START, State.TEST_RUNNING]
        async with asyncio.timeout(5):
            assert await second.reader.read(100)
        control.say(State.CLIENT_TERMINATE)
        for peer in (first, second, control):
            await peer.close()
        await server.settled()
        assert server.tests[0].sentence == "the client has terminated"
        started = server.tests[0].started
        assert started is not None
        assert [each.stream.sends for each in started.connected] == [False, True]
