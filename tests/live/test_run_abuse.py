"""Hostile and faulty clients: none of them crashes a server, blocks it, or disturbs a running test."""

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
from iperfpy.protocols.metrics import Side
from tests.iperfpy.support import HURRIED, Peer, Server, measure, plan_for, serving

pytestmark = pytest.mark.live

OURS = "iperfpy-" + "a" * 28
STOCK_PLAN = {"tcp": True, "omit": 0, "time": 1, "num": 0, "blockcount": 0, "parallel": 1, "len": 1000}


async def exchange_bytes(port: int, data: bytes, *, one_by_one: bool = False, finish: bool = True) -> bytes:
    """Send the data, and return everything received until the server closes."""
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
    """Send these parameters, and return the answer that follows PARAM_EXCHANGE."""
    peer = await Peer.connected(port, cookie)
    if cookie == OURS:
        assert await peer.state() == State.HELLO
        assert "kcp" in json.loads(await peer.document())["transports"]
    assert await peer.state() == State.PARAM_EXCHANGE
    peer.send_document({**STOCK_PLAN, **change})
    rest = await peer.rest()
    await peer.close()
    return rest


async def check_serves(server: Server) -> None:
    """Check that the server serves a test."""
    report = await measure(server.port, plan_for(total_bytes=100_000))
    assert report.end_rows[0].peer is not None
    assert report.end_rows[0].peer.bytes == 100_000


@pytest.mark.parametrize("seed", range(3))
async def test_random_bytes_are_refused_and_the_server_serves(seed: int) -> None:
    noise = random.Random(seed)
    async with serving(HURRIED) as server:
        for size in (1, 36, 37, 38, 1000, 100_000):
            answer = await exchange_bytes(server.port, noise.randbytes(size))
            assert len(answer) <= 1  # the answer is not longer than the request
        await check_serves(server)


async def test_a_port_scan_a_browser_and_a_silent_client_do_not_block() -> None:
    async with serving(HURRIED) as server:
        assert await exchange_bytes(server.port, b"") == b""
        assert (
            await exchange_bytes(server.port, b"GET / HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\n")
            == b"\xff"
        )
        silent = asyncio.create_task(exchange_bytes(server.port, b"", finish=False))
        await check_serves(server)
        assert await silent == b""


async def test_random_bytes_after_a_valid_cookie_are_refused() -> None:
    noise = random.Random(5)
    async with serving(HURRIED) as server:
        for _ in range(20):
            data = framing.encode_cookie("n" * 36) + noise.randbytes(200)
            answer = await exchange_bytes(server.port, data)
            assert answer[:1] == b"\x09"
            assert len(answer) <= 10
        await check_serves(server)


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
async def test_a_malformed_parameter_message_is_refused(
    message: bytes, i_errno: int, one_by_one: bool
) -> None:
    if one_by_one and len(message) > 100:
        message = message[:4] + b"[" * 50
        i_errno = 144  # the rest is never sent
    async with serving(HURRIED) as server:
        peer = await Peer.connected(server.port)
        assert await peer.state() == State.PARAM_EXCHANGE
        for at in range(0, len(message), 1 if one_by_one else len(message)):
            peer.writer.write(message[at : at + 1] if one_by_one else message)
            await asyncio.sleep(0.001)
        # Later bytes meet a closed connection; its reset may overtake the answer.
        assert await peer.rest() in (framing.encode_server_error(i_errno), b"" if one_by_one else None)
        await peer.close()
        await check_serves(server)


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
async def test_parameters_out_of_range_are_refused_with_a_reason(
    change: dict[str, Any], i_errno: int
) -> None:
    async with serving(HURRIED) as server:
        assert await refused_parameters(server.port, change) == framing.encode_server_error(i_errno)
        answer = await refused_parameters(server.port, change, OURS)
        assert answer.endswith(framing.encode_server_error(i_errno))
        assert answer[:1] == bytes([State.SENTENCE])
        sentence = json.loads(answer[5:-9])["text"]
        assert "must be" in sentence or "does not know" in sentence
        assert server.tests == []


async def test_a_client_that_opens_no_stream_is_refused() -> None:
    async with serving(HURRIED) as server:
        assert await refused_parameters(server.port, {}) == b"\x0a" + framing.encode_server_error(144)
        await check_serves(server)


async def test_a_client_that_sends_single_bytes_is_served() -> None:
    async with serving() as server:
        peer = await Peer.connected(server.port)
        # Parameters and cookie are split into single bytes, each in a packet of its own.
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
        peer.send_states(State.TEST_END)
        assert await peer.state() == State.EXCHANGE_RESULTS
        peer.send_document({"cpu_util_total": 1, "streams": [{"id": 1, "bytes": 5000, "retransmits": -1}]})
        results = json.loads(await peer.document())
        assert results["streams"][0]["bytes"] == 5000
        assert "iperfpy" not in results
        assert await peer.state() == State.DISPLAY_RESULTS
        peer.send_states(State.IPERF_DONE)
        assert await peer.rest() == b""
        stream.close()
        await peer.close()
        await server.settled()


async def test_data_after_the_planned_end_does_not_count() -> None:
    """On a lossy path TEST_END and the last data may arrive seconds late."""
    async with serving() as server:
        peer = await Peer.connected(server.port)
        assert await peer.state() == State.PARAM_EXCHANGE
        peer.send_document(STOCK_PLAN)
        assert await peer.state() == State.CREATE_STREAMS
        stream = await Peer.connected(server.port)
        assert [await peer.state(), await peer.state()] == [State.TEST_START, State.TEST_RUNNING]
        # A second of data was planned; 3000 bytes follow a second after that.
        stream.writer.write(b"x" * 5000)
        await asyncio.sleep(2)
        stream.writer.write(b"x" * 3000)
        await asyncio.sleep(0.5)
        peer.send_states(State.TEST_END)
        assert await peer.state() == State.EXCHANGE_RESULTS
        peer.send_document({"cpu_util_total": 1, "streams": [{"id": 1, "bytes": 8000, "retransmits": -1}]})
        (result,) = json.loads(await peer.document())["streams"]
        await stream.close()
        await peer.close()
        await server.settled()
    assert result["bytes"] == 5000
    assert 1 <= result["end_time"] - result["start_time"] < 2
    assert sum(row.local.bytes for (row,) in server.tests[0].intervals) == 5000


async def test_a_connection_beyond_the_streams_is_refused() -> None:
    async with serving(HURRIED) as server:
        control = await Peer.connected(server.port)
        assert await control.state() == State.PARAM_EXCHANGE
        control.send_document({**STOCK_PLAN, "reverse": True})
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
    """Connect, send part of a cookie, and wait."""
    await exchange_bytes(port, b"abc", finish=False)


async def four_gigabytes(port: int) -> None:
    await exchange_bytes(port, framing.encode_cookie("f" * 36) + b"\xff\xff\xff\xff" + b"x" * 10_000)


async def an_array(port: int) -> None:
    await exchange_bytes(port, framing.encode_cookie("j" * 36) + struct.pack(">I", 2) + b"[]")


async def wrong_parameters(port: int) -> None:
    await refused_parameters(port, {"parallel": -1})


async def noise(port: int) -> None:
    await exchange_bytes(port, random.Random(1).randbytes(50_000))


async def datagrams(port: int) -> None:
    """Send datagrams without a session; none is answered."""
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
    # An amount: the test ends when all of it has arrived, however busy the machine is.
    plan = plan_for(name, total_bytes=1_000_000, direction=direction, rate_bps=8_000_000)
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
        receiver = end.end_rows[0].of(Side.RECEIVER)
        assert receiver is not None
        assert receiver.bytes == 1_000_000


@pytest.mark.parametrize(
    "stats",
    [
        {"sequence": 1, "streams": []},
        {"sequence": 0},
        {"sequence": 0, "streams": [{"id": 99}]},
        {},
    ],
)
async def test_impossible_interval_figures_end_the_test(stats: dict[str, Any]) -> None:
    async with serving(HURRIED) as server:
        control = await running_control(server)
        control.writer.write(framing.encode_extension(State.STATS, stats))
        assert (await control.rest()).endswith(framing.encode_server_error(110))
        await control.close()
        await server.settled()
        assert server.tests[0].sentence.startswith("the client sent ")


async def test_too_many_interval_figures_end_the_test() -> None:
    async with serving(HURRIED) as server:
        control = await running_control(server)
        for sequence in range(200):
            body = {"sequence": sequence, "streams": []}
            control.writer.write(framing.encode_extension(State.STATS, body))
        assert (await control.rest()).endswith(framing.encode_server_error(110))
        await control.close()
        await server.settled()
        assert server.tests[0].sentence == "the client sent interval figures faster than one per 0.1 s"


async def running_control(server: Server) -> Peer:
    """Start a forward test of one stream as an iperfpy client, and return its control connection."""
    control = await Peer.connected(server.port, OURS)
    assert await control.state() == State.HELLO
    await control.document()
    assert await control.state() == State.PARAM_EXCHANGE
    # interval_us is 0: the only interval figures are those that the calling test sends.
    own = {"transport": "tcp", "conv": [7], "interval_us": 0, "duration_us": 5_000_000}
    control.send_document({**STOCK_PLAN, "iperfpy": own})
    assert await control.state() == State.CREATE_STREAMS
    _, stream = await asyncio.open_connection("127.0.0.1", server.port)
    stream.write(framing.encode_cookie(OURS))
    await stream.drain()
    assert [await control.state(), await control.state()] == [State.TEST_START, State.TEST_RUNNING]
    control.others.append(stream)
    return control


async def test_many_half_open_connections_do_not_block() -> None:
    async with serving() as server:
        sockets = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
        await check_serves(server)
        for sock in sockets:
            sock.close()


async def test_a_late_cookie_does_not_change_the_order_of_streams() -> None:
    """The client of a bidirectional test sends on the first stream, even if the second cookie comes first."""
    async with serving() as server:
        control = await Peer.connected(server.port)
        assert await control.state() == State.PARAM_EXCHANGE
        control.send_document({**STOCK_PLAN, "bidirectional": True})
        assert await control.state() == State.CREATE_STREAMS
        # The first stream connects first, and sends its cookie last.
        first = Peer(*await asyncio.open_connection("127.0.0.1", server.port))
        second = await Peer.connected(server.port)
        await asyncio.sleep(0.1)
        first.writer.write(framing.encode_cookie("s" * 36))
        assert [await control.state(), await control.state()] == [State.TEST_START, State.TEST_RUNNING]
        async with asyncio.timeout(5):
            assert await second.reader.read(100)
        control.send_states(State.CLIENT_TERMINATE)
        for peer in (first, second, control):
            await peer.close()
        await server.settled()
        assert server.tests[0].sentence == "the client has terminated"
        started = server.tests[0].started
        assert started is not None
        assert [each.stream.sends for each in started.connected] == [False, True]
