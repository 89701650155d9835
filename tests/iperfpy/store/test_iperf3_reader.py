"""Documents of iperf3 as runs; tests/interop reads those of the program itself."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest

from iperfpy.errors import DocumentError
from iperfpy.plan import Direction, Role
from iperfpy.protocols.metrics import Side
from iperfpy.store.direction_figures import directions_of
from iperfpy.store.stored_run import Run


def tcp(*, sends: bool = True, server: bool = False) -> dict[str, Any]:
    """One stream as iperf3 3.12 writes it, from the end that `sends` or receives."""
    peer = {"host": "h", "port": 5201}
    entry = {"socket": 5, "start": 0, "end": 1, "seconds": 1, "bytes": 1_250_000, "bits_per_second": 1e7}
    gauges = {"retransmits": 3, "snd_cwnd": 14480, "rtt": 40_000, "rttvar": 5} if sends else {}
    whole = {**entry, "sender": sends}
    rtts = {"max_rtt": 50_000, "min_rtt": 30_000, "mean_rtt": 41_000}
    return {
        "start": {
            "connected": [
                *({"socket": 5, "local_host": "a", "local_port": 1, "remote_host": "b", "remote_port": 2},)
            ],
            "version": "iperf 3.12",
            "system_info": "Linux",
            "timestamp": {"time": "Sun, 29 Nov 2026 15:26:57 GMT", "timesecs": 1795966017},
            "accepted_connection" if server else "connecting_to": peer,
            "cookie": "x" * 36,
            "tcp_mss_default": 0 if server else 1448,
            "target_bitrate": 0,
            "sock_bufsize": 0,
            "sndbuf_actual": 16384,
            "rcvbuf_actual": 131072,
            "test_start": {
                "protocol": "TCP",
                "num_streams": 1,
                "blksize": 131072,
                "omit": 0,
                "duration": 1,
                "bytes": 0,
                "blocks": 0,
                "reverse": int(sends == server),
                "tos": 0,
            },
        },
        "intervals": [
            {
                "streams": [{**entry, **gauges, "omitted": False, "sender": sends}],
                "sum": {**whole, "omitted": False},
            }
        ],
        "end": {
            "streams": [
                {
                    "sender": {**whole, "retransmits": 3, **rtts},
                    "receiver": {**whole, "bytes": 1_200_000},
                }
            ],
            "sum_sent": {**whole, "retransmits": 3},
            "sum_received": {**whole, "bits_per_second": 9.6e6},
            "cpu_utilization_percent": {"host_total": 7.5, "host_user": 1, "host_system": 6.5},
            "sender_tcp_congestion": "cubic",
        },
    }


def test_figures_of_a_sender() -> None:
    run = Run.from_document(tcp())
    assert (run.transport, run.plan.direction, run.version) == ("tcp", Direction.FORWARD, "iperf 3.12")
    assert run.bits_per_second == 9.6e6
    assert run.column("rtt_us").tolist() == [40_000]
    assert run.column("snd_cwnd_bytes").tolist() == [14480]
    assert run.total("retransmits") == 3
    assert (run.total("rtt_us"), run.total("rtt_us_max")) == (41_000, 50_000)
    assert run.rows[0].of(Side.RECEIVER).bytes == 1_200_000  # type: ignore[union-attr]
    assert (run.client.congestion, run.client.cpu_percent["total"]) == ("cubic", 7.5)
    assert run.complete
    assert Run.from_document(run.document()).document() == run.document()


@pytest.mark.parametrize("sends", [True, False])
@pytest.mark.parametrize("server", [True, False])
def test_the_direction_at_each_end(sends: bool, server: bool) -> None:
    run = Run.from_document(tcp(sends=sends, server=server))
    direction = Direction.FORWARD if sends != server else Direction.REVERSE
    assert run.plan.direction is direction
    assert run.started is not None
    assert run.started.role is (Role.SERVER if server else Role.CLIENT)
    assert run.intervals[0].rows[0].direction is direction
    assert run.intervals[0].rows[0].local.side is (Side.SENDER if sends else Side.RECEIVER)
    assert run.started.connected[0].stream.sends is sends


def test_both_directions_are_known_by_their_sums() -> None:
    """iperf3 before 3.17 does not repeat --bidir among the parameters."""
    document, back = tcp(), tcp(sends=False)
    document["start"]["connected"].append({**document["start"]["connected"][0], "socket": 7})
    for mine, theirs in (
        (document["intervals"][0]["streams"], back["intervals"][0]["streams"]),
        (document["end"]["streams"], back["end"]["streams"]),
    ):
        entry = copy.deepcopy(theirs[0])
        for part in [entry, *(one for one in entry.values() if isinstance(one, dict))]:
            part["socket"] = 7
        mine.append(entry)
    document["end"] |= {"sum_sent_bidir_reverse": back["end"]["sum_sent"]}
    document["end"] |= {"sum_received_bidir_reverse": {**back["end"]["sum_received"], "bits_per_second": 5e6}}
    document["end"]["streams"][1]["sender"]["mean_rtt"] = 8
    run = Run.from_document(document)
    assert run.plan.direction is Direction.BIDIRECTIONAL
    assert [row.direction for row in run.sums] == [Direction.FORWARD, Direction.REVERSE]
    assert [row.stream for row in run.rows] == [1, 3]
    first, second = directions_of(document)
    assert (first.rtt_us, first.bits_per_second) == (41_000, 9.6e6)
    # The round-trip times of the server come with its results.
    assert (second.rtt_us, second.bits_per_second) == (8, 5e6)


def test_datagrams_whose_ends_iperf3_sums_up() -> None:
    document = tcp(sends=False)
    document["start"]["test_start"]["protocol"] = "UDP"
    del document["start"]["tcp_mss_default"], document["end"]["sender_tcp_congestion"]
    counts = {"jitter_ms": 0.5, "lost_packets": 10, "packets": 100, "lost_percent": 10, "out_of_order": 2}
    entry = document["intervals"][0]["streams"][0]
    entry |= counts
    document["end"]["streams"] = [{"udp": {**entry, **counts}}]
    run = Run.from_document(document)
    (row,) = run.rows
    sent, received = row.of(Side.SENDER), row.of(Side.RECEIVER)
    assert sent is not None
    assert received is not None
    assert (sent.bytes, received.bytes) == (1_250_000, 1_125_000)
    assert (received.values["jitter_us"], received.values["lost_datagrams"]) == (500, 10)
    assert run.total("loss_percent") == 10


def test_an_end_whose_results_did_not_arrive_is_not_known() -> None:
    document = tcp(sends=False, server=True)
    document["end"]["streams"][0]["sender"] |= {"bytes": 0, "bits_per_second": 0}
    run = Run.from_document(document)
    assert run.rows[0].of(Side.SENDER) is None
    assert run.bits_per_second == 9.6e6
    assert math.isnan(run.total("retransmits"))


def test_a_version_that_does_not_say_who_sends() -> None:
    document = tcp()
    for part in (document["intervals"][0]["streams"][0], *document["end"]["streams"][0].values()):
        del part["sender"]
    assert Run.from_document(document).rows[0].local.side is Side.SENDER


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("start", "connected"), 1),
        (("start", "timestamp"), {}),
        (("start", "test_start", "duration"), "long"),
        (("intervals", 0, "streams", 0, "socket"), 6),
        (("intervals", 0, "streams", 0, "rtt"), "slow"),
        (("end", "streams", 0, "sender"), 1),
        (("end", "streams", 0, "receiver", "bytes"), 1.5),
    ],
)
def test_a_damaged_document_is_refused(path: tuple[Any, ...], value: Any) -> None:
    document = tcp()
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(DocumentError, match="cannot be read"):
        Run.from_document(document)


def test_a_protocol_that_iperfpy_does_not_speak_is_named() -> None:
    document = tcp()
    document["start"]["test_start"]["protocol"] = "SCTP"
    with pytest.raises(DocumentError, match="the test is over sctp, which iperfpy does not speak"):
        Run.from_document(document)
