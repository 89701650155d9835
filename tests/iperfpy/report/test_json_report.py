"""JSON reports: iperf3's keys at their places, iperfpy's keys beside them, and a document of every test."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from importlib import resources
from typing import Any, ClassVar

import pytest
from jsonschema import Draft202012Validator, ValidationError

from iperfpy.control.parameters import decode_parameters
from iperfpy.plan import Role
from iperfpy.protocols.contract import Iperf3Mapping
from iperfpy.protocols.metrics import Kind, Metric, Side, Unit
from iperfpy.protocols.registry import transports
from iperfpy.records import Row, RunEnded, Sample
from iperfpy.report.json_report import JsonSink, JsonStreamSink
from tests.iperfpy.report.scenes import (
    BOTH_CPU,
    SCENES,
    Scene,
    SceneTransport,
    bidirectional,
    forward,
    parallel_interrupted,
    reverse_omit,
    sender,
    start_of,
)


def document(scene: Scene) -> dict[str, Any]:
    out = io.StringIO()
    scene.play(JsonSink(out))
    loaded = json.loads(out.getvalue())
    assert isinstance(loaded, dict)
    return loaded


def events(scene: Scene) -> list[dict[str, Any]]:
    out = io.StringIO()
    scene.play(JsonStreamSink(out))
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_document_has_iperf3s_keys_at_their_places() -> None:
    # Programs that read iperf3's JSON look for these keys.
    report = document(forward())
    assert list(report) == ["start", "intervals", "end"]
    assert report["start"]["connected"][0] == {
        "socket": 4,
        "local_host": "10.0.0.1",
        "local_port": 40000,
        "remote_host": "10.0.0.2",
        "remote_port": 5201,
        "stream": 1,
        "sends": True,
    }
    assert report["start"]["connecting_to"] == {"host": "10.0.0.2", "port": 5201}
    assert report["start"]["timestamp"]["timesecs"] == 1_795_367_700
    assert report["start"]["test_start"]["num_streams"] == 1
    assert (report["start"]["test_start"]["duration"], report["start"]["test_start"]["reverse"]) == (2, 0)
    assert report["end"]["sum_sent"]["bytes"] == int(3.73 * 1024 * 1024)
    assert report["end"]["sum_received"]["bits_per_second"] == pytest.approx(3.5 * 1024 * 1024 * 8 / 2.01)
    assert report["end"]["cpu_utilization_percent"]["remote_system"] == 8.0
    assert report["end"]["sender_tcp_congestion"] == "bbr"


def test_a_figure_has_iperf3s_key_and_iperfpys() -> None:
    stream = document(forward())["intervals"][0]["streams"][0]
    assert (stream["socket"], stream["sender"], stream["omitted"]) == (4, True, False)
    assert stream["seconds"] == pytest.approx(1.0003)
    # iperf3 calls the RTT `rtt`; the own key carries the unit.
    assert (stream["retransmits"], stream["rtt"], stream["rtt_us"], stream["max_rtt"]) == (
        11,
        165_000,
        165_000,
        167_000,
    )
    assert stream["lost_percent"] == pytest.approx(0.386, abs=0.001)
    assert (stream["direction"], stream["role"], stream["side"], stream["transport"]) == (
        *("forward", "client"),
        *("sender", "scene"),
    )


def test_a_missing_figure_is_null_and_not_zero() -> None:
    idle = document(forward())["intervals"][1]["sum"]
    assert (idle["retransmits"], idle["lost_percent"]) == (0, None)
    unknown = document(reverse_omit())["intervals"][2]["streams"][0]
    assert unknown["rtt_us"] is None
    assert "rtt" not in unknown


def test_a_missing_figure_is_absent_under_a_name_that_both_programs_use() -> None:
    """Readers of iperf3's output add up `entry.get("retransmits", 0)`."""
    intervals = document(reverse_omit())["intervals"]
    entries = [entry for one in intervals for entry in (*one["streams"], one["sum"])]
    assert not [entry for entry in entries if entry.get("retransmits", 0) is None]
    assert "retransmits" not in intervals[2]["streams"][0]
    assert sum(entry.get("retransmits", 0) for entry in entries) > 0


def test_a_reversed_test_has_the_senders_figures() -> None:
    report = document(reverse_omit())
    assert report["intervals"][0]["sum"]["omitted"] is True
    assert report["intervals"][1]["streams"][0]["retransmits"] == 200
    assert report["intervals"][1]["streams"][0]["sender"] is False
    assert report["end"]["streams"][0]["sender"]["retransmits"] == 200
    assert "retransmits" not in report["end"]["sum_received"]
    assert report["start"]["warnings"] == ["the server has no bbr"]


def test_warnings_of_a_running_test_are_at_its_end() -> None:
    report = document(parallel_interrupted())
    assert report["start"]["warnings"] == []
    assert report["end"]["warnings"] == ["the window was full"]
    assert "warnings" not in document(reverse_omit())["end"]


def test_sums_are_kept_apart_by_direction() -> None:
    report = document(bidirectional())
    assert set(report["intervals"][0]) == {"streams", "sum", "sum_bidir_reverse"}
    assert report["end"]["sum_sent"]["side"] == "sender"
    assert report["end"]["sum_received_bidir_reverse"]["bits_per_second"] == pytest.approx(
        5 * 8 * 1024 * 1024
    )


def test_an_interrupted_test_gives_a_complete_document_with_an_error() -> None:
    report = document(parallel_interrupted())
    assert report["error"] == "interrupt - the client was stopped by SIGINT"
    assert report["end"]["sum_sent"]["bytes"] == 20 * 1024 * 1024
    assert "sum_received" not in report["end"]
    assert set(report["end"]["streams"][0]) == {"sender"}


def test_a_test_that_never_started_gives_a_document() -> None:
    out = io.StringIO()
    sink = JsonSink(out)
    sink.error("unable to connect")
    sink.close()
    sink.close()
    report = json.loads(out.getvalue())
    assert report["start"].keys() == {"connected", "version", "system_info"}
    assert (report["intervals"], report["end"], report["error"]) == ([], {}, "unable to connect")


@pytest.mark.parametrize("name", SCENES)
def test_the_event_stream_has_the_content_of_the_document(name: str) -> None:
    report, lines = document(SCENES[name]()), events(SCENES[name]())
    assert lines[0] == {"event": "start", "data": report["start"]}
    assert [line["data"] for line in lines if line["event"] == "interval"] == report["intervals"]
    assert lines[-1] == {"event": "end", "data": report["end"]}
    assert [line["data"] for line in lines if line["event"] == "error"] == (
        [report["error"]] if "error" in report else []
    )


@pytest.mark.parametrize("name", SCENES)
def test_lines_follow_their_schema(name: str) -> None:
    whole = json.loads((resources.files("iperfpy") / "report" / "schema.json").read_text())
    validator = Draft202012Validator({"$ref": "urn:iperfpy:report#/$defs/event", "$defs": {"whole": whole}})
    lines = events(SCENES[name]())
    for line in lines:
        validator.validate(line)
    interval = next(line for line in lines if line["event"] == "interval")
    with pytest.raises(ValidationError):
        validator.validate({**interval, "time": 17})


def test_the_line_of_an_interval_has_the_time_of_day_at_its_end() -> None:
    """In the omitted period as well, after which the times of intervals begin at 0 again."""
    scene = reverse_omit()
    start = replace(scene.start, unix_time=1_795_966_017.0)
    lines = [line for line in events(replace(scene, start=start)) if line["event"] == "interval"]
    omitted = [line for line in lines if line["data"]["sum"]["omitted"]]
    assert omitted
    assert len(omitted) < len(lines)
    seconds = [datetime.fromisoformat(line["time"]).timestamp() - 1_795_966_017 for line in lines]
    assert seconds == pytest.approx([number + 1 for number in range(len(lines))], abs=0.01)


def test_a_failure_is_an_event() -> None:
    out = io.StringIO()
    JsonStreamSink(out).error("the path died")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["error", "end"]


def test_nan_and_infinity_of_a_peer_become_null() -> None:
    scene = forward()
    odd = sender(1, 0, 1, 1)
    values = {**odd.values, "rtt_us": float("nan"), "retransmits": float("inf")}
    row = Row(1, type(odd)(1, odd.side, 0, 1_000_000, 5, values))
    report = document(Scene(scene.start, ((row,),), RunEnded((row,), {})))
    assert report["intervals"][0]["streams"][0]["rtt_us"] is None
    assert report["intervals"][0]["streams"][0]["retransmits"] is None


# ---------------------------------------------------------------------- the schema

SCHEMA = json.loads((resources.files("iperfpy") / "report" / "schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)


@pytest.mark.parametrize("scene", [forward, parallel_interrupted])
def test_a_document_follows_the_schema(scene: Callable[[], Scene]) -> None:
    VALIDATOR.validate(document(scene()))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("start", "connected", 0, "local_port"), "5201"),
        (("start", "connected"), []),
        (("start", "cookie"), None),
        (("start", "sock_bufsize"), None),
        (("intervals", 0, "sum"), None),
        (("intervals", 0, "streams"), []),
        (("intervals", 0, "streams", 0, "bytes"), 1.5),
        (("intervals", 0, "streams", 0, "omitted"), 0),
        (("intervals", 0, "streams", 0, "rtt"), None),
        (("end", "sum_received", "bits_per_second"), "fast"),
        (("end", "streams", 0, "sender", "seconds"), -1),
        (("end", "sum_sent"), None),
        (("end", "cpu_utilization_percent", "host_user"), None),
        (("error",), {"text": "not a sentence"}),
        (("end", "streams", 0, "receiver", "direction"), "backward"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_the_schema_rejects_a_damaged_document(path: tuple[str | int, ...], value: object) -> None:
    report = document(forward())
    inner: Any = report
    VALIDATOR.validate(report)
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ValidationError):
        VALIDATOR.validate(report)


# ---------------------------------------------------------------------- transports whose ends iperf3 merges


class Datagrams(SceneTransport):
    """A transport with the counters of iperf3's UDP."""

    iperf3 = Iperf3Mapping("udp", merged_as="udp")
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("sent", "Sent", iperf3="packets"),
        Metric(
            "jitter_us",
            "",
            Unit.MICROSECONDS,
            Kind.GAUGE,
            Side.RECEIVER,
            iperf3="jitter_ms",
            iperf3_scale=1e-3,
        ),
        Metric("gone", "Lost", side=Side.RECEIVER, iperf3="lost_packets"),
        Metric("numbered", "Known to be sent", side=Side.RECEIVER, iperf3="packets"),
        Metric(
            *("gone_percent", "", Unit.PERCENT, Kind.RATIO, Side.RECEIVER),
            numerator="gone",
            denominator="numbered",
            iperf3="lost_percent",
        ),
        Metric("late", "Late", side=Side.RECEIVER, iperf3="out_of_order"),
    )


def datagrams(
    role: Role = Role.CLIENT, *, jitter_us: float | None = 1500.0, peer: bool = True
) -> dict[str, Any]:
    """Two streams: 200 datagrams sent, 190 known to the receiver, 10 of those lost."""
    counted = {"jitter_us": jitter_us, "gone": 5, "numbered": 95, "gone_percent": 500 / 95, "late": 1}
    rows = []
    for stream in (1, 3):
        sent = Sample(stream, Side.SENDER, 0, 1_000_000, 100_000, {"sent": 100})
        got = Sample(stream, Side.RECEIVER, 0, 1_010_000, 90_000, counted)
        here, there = (sent, got) if role is Role.CLIENT else (got, sent)
        rows.append(Row(stream, here, there if peer else None))
    start = replace(start_of(role=role, streams=2), transport=Datagrams())
    return document(Scene(start, (tuple(rows),), RunEnded(tuple(rows), BOTH_CPU)))


def test_both_ends_of_a_datagram_stream_are_in_one_object() -> None:
    end = datagrams()["end"]
    udp = end["streams"][0]["udp"]
    assert (udp["bytes"], udp["packets"], udp["lost_packets"], udp["lost_percent"]) == (100_000, 100, 5, 5.0)
    assert (udp["jitter_ms"], udp["out_of_order"], udp["sender"], udp["socket"]) == (1.5, 1, True, 4)
    both = end["sum"]
    assert (both["bytes"], both["packets"], both["lost_packets"], both["lost_percent"]) == (
        200_000,
        200,
        10,
        5.0,
    )
    assert (both["jitter_ms"], both["sender"]) == (1.5, True)


def test_the_sums_of_datagrams_name_their_side() -> None:
    end = datagrams(Role.SERVER)["end"]
    sent, received = end["sum_sent"], end["sum_received"]
    assert (sent["packets"], sent["lost_packets"], sent["lost_percent"], sent["jitter_ms"]) == (200, 0, 0, 0)
    assert (received["packets"], received["lost_packets"], received["jitter_ms"]) == (190, 10, 1.5)
    assert received["lost_percent"] == pytest.approx(1000 / 190)
    assert (sent["sender"], received["sender"], end["sum"]["sender"]) == (True, False, False)


@pytest.mark.parametrize(("role", "packets"), [(Role.CLIENT, 100), (Role.SERVER, 95)])
def test_an_interval_has_the_counts_of_its_own_end(role: Role, packets: int) -> None:
    stream = datagrams(role)["intervals"][0]["streams"][0]
    assert (stream["packets"], stream["jitter_ms"], stream["lost_packets"]) == (packets, 1.5, 5)
    alone = datagrams(role, peer=False)["intervals"][0]["streams"][0]
    assert alone["packets"] == packets
    assert ("jitter_ms" in alone) is (role is Role.SERVER)


@pytest.mark.parametrize("asked", [1, 0])
def test_a_servers_document_has_the_offload_that_a_stock_client_asked_for(asked: int) -> None:
    """1 under both names, as in the document of an iperf3 server of 3.21."""
    body = {"udp": True, "len": 1448, "gso": asked, "gso_dg_size": 1448, "gro": asked, "gro_bf_size": 65507}
    request = decode_parameters(body, transports())
    start = replace(start_of(role=Role.SERVER), plan=request.plan, transport=request.transport)
    shown = document(Scene(start, (), RunEnded((), {})))["start"]["test_start"]
    assert (shown["gso"], shown["gro"]) == (asked, asked)


def test_a_missing_figure_is_0_under_iperf3s_name() -> None:
    stream = datagrams(Role.SERVER, jitter_us=None)["intervals"][0]["streams"][0]
    assert (stream["jitter_ms"], stream["jitter_us"]) == (0, None)
    stock = forward()
    row = stock.end.rows[0]
    assert row.peer is not None
    bare = replace(row, local=replace(row.local, values={"retransmits": 7}))
    summary = document(replace(stock, end=RunEnded((bare,), {})))["end"]["streams"][0]["sender"]
    assert (summary["max_rtt"], summary["rtt_us_max"], summary["retransmits"]) == (0, None, 7)
