"""Complete tests between a client and a server in one process over 127.0.0.1, with the reports of both."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from itertools import pairwise

import pytest

from iperfpy.control.framing import State, encode_server_error
from iperfpy.errors import PeerError
from iperfpy.plan import Direction
from iperfpy.protocols.metrics import Side
from iperfpy.protocols.udp import association
from iperfpy.records import Row, Sample
from iperfpy.traffic.transfer import Transfer
from tests.iperfpy.support import HURRIED, Peer, Recorder, Server, measure, plan_for, serving

pytestmark = pytest.mark.live

TRANSPORTS = ("tcp", "kcp", "kcp-bbr")


def received(row: Row) -> int:
    sample = row.of(Side.RECEIVER)
    assert sample is not None
    return sample.bytes


def sent(row: Row) -> int:
    sample = row.of(Side.SENDER)
    assert sample is not None
    return sample.bytes


def check_seconds(seconds: float, row: Row) -> None:
    """Check the measured time at this end. A receiver's begins with the first data, which may come late."""
    assert row.local.seconds >= (seconds if row.local.side is Side.SENDER else 0)
    assert row.local.seconds > 0


def available(sample: Sample | None) -> Sample:
    """Return the sample without figures that are None: those are not sent to the peer."""
    assert sample is not None
    return replace(sample, values={key: value for key, value in sample.values.items() if value is not None})


async def run(server: Server, *args: object, **kwargs: object) -> tuple[Recorder, Recorder]:
    """Run a test, and return the recorders of client and server."""
    client = await measure(server.port, *args, **kwargs)  # type: ignore[arg-type]  # passed on as given
    await server.settled()
    return client, server.tests[-1]


@pytest.mark.parametrize("name", TRANSPORTS)
@pytest.mark.parametrize("direction", [Direction.FORWARD, Direction.REVERSE])
async def test_a_test_of_a_duration_has_figures_of_both_ends(name: str, direction: Direction) -> None:
    """Without a limit of its rate, so that buffers fill."""
    async with serving() as server:
        client, there = await run(server, plan_for(name, direction=direction, rate_bps=0))
    for report in (client, there):
        assert report.started is not None
        assert report.started.peer_is_iperfpy
        assert report.started.plan == client.started.plan if client.started else False
        (row,) = report.end_rows
        assert row.direction is direction
        check_seconds(0.3, row)
        assert row.peer is not None
        assert received(row) > 0
        assert sent(row) > 0
        assert report.ended is not None
        assert {"host_total", "remote_total"} <= set(report.ended.cpu_percent)
        assert report.ended.interrupted == ""
    assert available(client.end_rows[0].local) == available(there.end_rows[0].peer)
    assert available(client.end_rows[0].peer) == available(there.end_rows[0].local)


@pytest.mark.parametrize("name", TRANSPORTS)
async def test_the_senders_figures_arrive_during_a_reverse_test(name: str) -> None:
    async with serving() as server:
        client, _ = await run(server, plan_for(name, direction=Direction.REVERSE, duration_us=500_000))
    assert 3 <= len(client.intervals) <= 5  # a busy machine may miss one
    senders = [rows[0].of(Side.SENDER) for rows in client.intervals]
    assert all(sample is not None for sample in senders)
    assert all(sample.values["rtt_us"] is not None for sample in senders if sample)
    assert all(sample.values["retransmits"] is not None for sample in senders if sample)


async def test_rows_add_up_to_the_total_and_leave_no_gap() -> None:
    async with serving() as server:
        client, there = await run(server, plan_for(duration_us=450_000, parallel=2))
    for report in (client, there):
        for at, total in enumerate(report.end_rows):
            rows = [rows[at] for rows in report.intervals]
            assert sum(row.local.bytes for row in rows) == total.local.bytes
            assert rows[0].local.start_us == 0
            assert rows[-1].local.end_us == total.local.end_us
            assert all(a.local.end_us == b.local.start_us for a, b in pairwise(rows))
    peers = [rows[0].peer for rows in client.intervals]
    assert client.end_rows[0].peer is not None
    assert sum(peer.bytes for peer in peers if peer) == client.end_rows[0].peer.bytes


async def test_a_bidirectional_test_may_have_parallel_streams() -> None:
    async with serving() as server:
        client, there = await run(server, plan_for(direction=Direction.BIDIRECTIONAL, parallel=2))
    assert [row.stream for row in client.end_rows] == [1, 3, 4, 5]
    assert [row.direction for row in client.end_rows] == [Direction.FORWARD] * 2 + [Direction.REVERSE] * 2
    assert [row.direction for row in there.end_rows] == [Direction.FORWARD] * 2 + [Direction.REVERSE] * 2
    assert [row.local.side for row in client.end_rows] == [Side.SENDER] * 2 + [Side.RECEIVER] * 2
    assert [row.local.side for row in there.end_rows] == [Side.RECEIVER] * 2 + [Side.SENDER] * 2
    assert all(received(row) > 0 for row in client.end_rows)
    ports = [each.local[1] for each in client.started.connected] if client.started else []
    assert ports == [each.remote[1] for each in there.started.connected] if there.started else False


@pytest.mark.parametrize("name", TRANSPORTS)
@pytest.mark.parametrize("direction", list(Direction))
async def test_all_requested_bytes_arrive(name: str, direction: Direction) -> None:
    plan = plan_for(name, total_bytes=3_000_007, direction=direction, parallel=2)
    async with serving() as server:
        client, there = await run(server, plan)
    for report in (client, there):
        for way in {row.direction for row in report.end_rows}:
            rows = [row for row in report.end_rows if row.direction == way]
            assert sum(map(sent, rows)) == 3_000_007
            assert sum(map(received, rows)) == 3_000_007


async def test_a_number_of_blocks_is_sent_exactly() -> None:
    async with serving() as server:
        client, _ = await run(server, plan_for(total_blocks=50, block_bytes=1000))
    assert received(client.end_rows[0]) == 50_000


async def test_a_short_test_is_one_row() -> None:
    async with serving() as server:
        client, there = await run(server, plan_for(total_bytes=100_000, interval_us=1_000_000))
    assert [len(client.intervals), len(there.intervals)] == [1, 1]
    assert client.intervals[0][0].local.bytes == 100_000
    assert received(client.intervals[0][0]) == 100_000


@pytest.mark.parametrize("direction", [Direction.FORWARD, Direction.REVERSE])
async def test_the_omitted_period_is_shown_and_not_counted(direction: Direction) -> None:
    plan = plan_for(omit_us=200_000, duration_us=300_000, direction=direction)
    async with serving() as server:
        client, there = await run(server, plan)
    omitted = [rows[0].local.omitted for rows in client.intervals]
    assert omitted == sorted(omitted, reverse=True)
    assert set(omitted) == {True, False}
    measured = [rows[0].local for rows in client.intervals if not rows[0].local.omitted]
    assert measured[0].start_us == 0
    assert sum(sample.bytes for sample in measured) == client.end_rows[0].local.bytes
    for report in (client, there):
        check_seconds(0.3, report.end_rows[0])


async def test_omitted_bytes_do_not_count_towards_the_end() -> None:
    plan = plan_for(total_bytes=200_000, omit_us=100_000, rate_bps=40_000_000, direction=Direction.REVERSE)
    async with serving() as server:
        client, _ = await run(server, plan)
    assert received(client.end_rows[0]) >= 200_000


async def test_a_rate_limits_the_sender() -> None:
    plan = plan_for(duration_us=600_000, rate_bps=8_000_000, parallel=2)
    async with serving() as server:
        client, _ = await run(server, plan)
    for row in client.end_rows:
        assert received(row) < 8_000_000 * 0.75 / 8
        assert received(row) > 8_000_000 * 0.3 / 8


@pytest.mark.parametrize("omit_us", [0, 200_000])
async def test_interval_0_makes_the_whole_test_one_interval(omit_us: int) -> None:
    async with serving() as server:
        client, there = await run(server, plan_for(interval_us=0, omit_us=omit_us, parallel=2))
    for report in (client, there):
        assert report.intervals == [report.end_rows]
        assert all(row.peer is not None for row in report.end_rows)


async def test_several_clients_measure_at_once() -> None:
    async with serving() as server:
        plans = [plan_for(name) for name in TRANSPORTS] + [plan_for(direction=Direction.REVERSE)]
        reports = await asyncio.gather(*(measure(server.port, plan) for plan in plans))
        await server.settled()
    assert len(server.tests) == 4
    assert all(received(report.end_rows[0]) > 0 for report in reports)


async def test_the_listener_stays_open_between_tests() -> None:
    async with serving() as server:
        for _ in range(10):
            await run(server, plan_for(total_bytes=1000))
    assert len(server.tests) == 10


async def test_a_server_for_one_test_ends_after_it() -> None:
    async with serving(one_off=True) as server:
        undecided = await Peer.connected(server.port)
        assert await undecided.state() == State.PARAM_EXCHANGE
        running = asyncio.create_task(measure(server.port, plan_for(duration_us=1_000_000)))
        await server.started()
        with pytest.raises(PeerError, match="busy"):
            await measure(server.port, plan_for())
        undecided.send_document({"tcp": True})
        assert await undecided.rest() == encode_server_error(121)
        await undecided.close()
        await running
        assert server.task is not None
        assert await server.task


async def test_a_server_for_one_test_ends_after_a_failed_one() -> None:
    async with serving(one_off=True) as server:
        idle = await Peer.connected(server.port)  # must not keep the server from ending
        control = await Peer.connected(server.port, "c" * 36)
        assert await control.state() == State.PARAM_EXCHANGE
        control.send_document({"tcp": True})
        assert await control.state() == State.CREATE_STREAMS
        await control.close()
        assert server.task is not None
        async with asyncio.timeout(30):
            assert await server.task is False
        assert await idle.state() == State.PARAM_EXCHANGE
        assert await idle.rest() == b"\x0b"
        await idle.close()


@pytest.mark.parametrize("name", TRANSPORTS)
async def test_the_local_address_and_ports_can_be_chosen(name: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", 0))
        port = probe.getsockname()[1]
    plan = plan_for(name, parallel=2)
    async with serving() as server:
        client, _ = await run(server, plan, bind="127.0.0.2", client_port=port)
    assert client.started is not None
    assert [each.local[:2] for each in client.started.connected] == [
        ("127.0.0.2", port),
        ("127.0.0.2", port + 1),
    ]


@pytest.mark.parametrize("name", TRANSPORTS)
@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
async def test_a_dual_stack_server_serves_both_families(name: str, host: str) -> None:
    async with serving(bind="") as server:
        client, there = await run(server, plan_for(name), host=host)
    assert there.started is not None
    assert there.started.peer[0] == host
    assert [each.remote[0] for each in there.started.connected] == [host]
    assert received(client.end_rows[0]) > 0


async def test_settings_reach_the_server() -> None:
    plan = plan_for("kcp")
    plan = replace(plan, settings=replace(plan.settings, mtu=700), title="a title")  # type: ignore[call-arg]  # KCP's own
    async with serving() as server:
        _, there = await run(server, plan)
    assert there.started is not None
    assert there.started.plan == plan


@pytest.mark.parametrize("name", ["kcp", "kcp-bbr"])
@pytest.mark.parametrize("direction", [Direction.FORWARD, Direction.REVERSE])
async def test_figures_of_both_ends_are_in_every_row(name: str, direction: Direction) -> None:
    """Rows have the path loss by the counters of both ends, and the sender's times by limiting factor."""
    async with serving() as server:
        client, there = await run(server, plan_for(name, direction=direction))
    for report in (client, there):
        sender, receiver = (report.end_rows[0].of(side) for side in (Side.SENDER, Side.RECEIVER))
        assert sender is not None
        assert receiver is not None
        counted = [sender.values["datagrams_sent"], receiver.values["datagrams_received"]]
        sent_count, received_count = (int(count or 0) for count in counted)
        expected = 100 * max(0.0, 1 - received_count / sent_count)
        assert sender.values["path_loss_percent"] == pytest.approx(expected)
        # Every moment of the sender has one limiting factor; counters are read at different moments.
        limited_us = [value for key, value in sender.values.items() if key.endswith("_limited_us")]
        assert len(limited_us) == 6
        assert sum(int(us or 0) for us in limited_us) <= 1.2e6 * sender.seconds + 50_000


@pytest.mark.parametrize("first_opens", [True, False], ids=["opens", "stays silent"])
async def test_stock_udp_clients_of_one_host_open_their_streams_in_turn(first_opens: bool) -> None:
    """Datagrams of stock clients name no test, so a server lets only one client of a host open at a time."""
    parameters = {"udp": True, "time": 1, "parallel": 1, "len": 1000, "bandwidth": 1_000_000}
    # Any answered call opens a UDP stream.
    call, answer = next(iter(association.ANSWERS.items()))
    async with serving(replace(HURRIED, streams_s=0.6)) as server:
        first, second = [await Peer.connected(server.port, letter * 36) for letter in "ab"]
        assert [await peer.state() for peer in (first, second)] == [State.PARAM_EXCHANGE] * 2
        first.send_document(parameters)
        assert await first.state() == State.CREATE_STREAMS
        second.send_document(parameters)
        following = asyncio.create_task(second.state())
        with socket.socket(type=socket.SOCK_DGRAM) as stream:
            stream.setblocking(False)
            stream.connect(("127.0.0.1", server.port))
            await asyncio.sleep(0.1)
            assert not following.done()
            if first_opens:
                stream.send(call)
                assert await asyncio.get_running_loop().sock_recv(stream, 5) == answer
                assert await first.state() == State.TEST_START
            else:
                assert await first.state() == State.SERVER_ERROR
            assert await following == State.CREATE_STREAMS
        for peer in (first, second):
            await peer.close()


@pytest.mark.parametrize("name", ["kcp", "kcp-bbr"])
async def test_datagrams_after_the_planned_end_are_not_lost(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server stops by its clock. A client that stops later has sent, and counted, more until then."""
    time_over = Transfer.time_over

    async def late(transfer: Transfer) -> None:
        await time_over(transfer)
        await asyncio.sleep(0.1)

    monkeypatch.setattr(Transfer, "time_over", late)
    async with serving() as server:
        report = await measure(server.port, plan_for(name, rate_bps=20_000_000))
        await server.settled()
    for rows in (report.end_rows, server.tests[0].end_rows):
        receiver = rows[0].of(Side.RECEIVER)
        assert receiver is not None
        assert receiver.seconds < 0.39
        known = [one.values.get("path_loss_percent") for one in (rows[0].local, rows[0].peer) if one]
        assert [value for value in known if value is not None] == [0.0]
