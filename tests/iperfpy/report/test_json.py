"""JSON: iperf3's keys where iperf3's readers look for them, ours beside, and always a document."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from iperfpy.measure.sample import Row, TestEnd
from iperfpy.report.json import JsonSink, JsonStreamSink
from tests.iperfpy.report.scenes import (
    SCENES,
    Scene,
    bidirectional,
    forward,
    parallel_interrupted,
    reverse_omit,
    sender,
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


def test_the_keys_that_readers_of_iperf3_look_for() -> None:
    told = document(forward())
    assert list(told) == ["start", "intervals", "end"]
    assert told["start"]["connected"][0] == {
        "socket": 4,
        "local_host": "10.0.0.1",
        "local_port": 40000,
        "remote_host": "10.0.0.2",
        "remote_port": 5201,
        "stream": 1,
        "sends": True,
    }
    assert told["start"]["connecting_to"] == {"host": "10.0.0.2", "port": 5201}
    assert told["start"]["timestamp"]["timesecs"] == 1_795_367_700
    assert told["start"]["test_start"]["num_streams"] == 1
    assert (told["start"]["test_start"]["duration"], told["start"]["test_start"]["reverse"]) == (2, 0)
    assert told["end"]["sum_sent"]["bytes"] == int(3.73 * 1024 * 1024)
    assert told["end"]["sum_received"]["bits_per_second"] == pytest.approx(3.5 * 1024 * 1024 * 8 / 2.01)
    assert told["end"]["cpu_utilization_percent"]["remote_system"] == 8.0
    assert told["end"]["sender_tcp_congestion"] == "bbr"


def test_a_figure_appears_under_iperf3s_name_and_under_ours() -> None:
    stream = document(forward())["intervals"][0]["streams"][0]
    assert (stream["socket"], stream["sender"], stream["omitted"]) == (4, True, False)
    assert stream["seconds"] == pytest.approx(1.0003)
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


def test_what_is_not_available_is_null_and_not_zero() -> None:
    idle = document(forward())["intervals"][1]["sum"]
    assert (idle["retransmits"], idle["lost_percent"]) == (0, None)
    unknown = document(reverse_omit())["intervals"][2]["streams"][0]
    assert unknown["retransmits"] is None
    assert "rtt" not in unknown


def test_a_reversed_test_carries_the_senders_figures() -> None:
    told = document(reverse_omit())
    assert told["intervals"][0]["sum"]["omitted"] is True
    assert told["intervals"][1]["streams"][0]["retransmits"] == 200
    assert told["intervals"][1]["streams"][0]["sender"] is False
    assert told["end"]["streams"][0]["sender"]["retransmits"] == 200
    assert "retransmits" not in told["end"]["sum_received"]
    assert told["start"]["warnings"] == ["the server has no bbr"]


def test_warnings_that_came_up_during_the_test_are_at_its_end() -> None:
    told = document(parallel_interrupted())
    assert told["start"]["warnings"] == []
    assert told["end"]["warnings"] == ["the window was full"]
    assert "warnings" not in document(reverse_omit())["end"]


def test_sums_are_kept_apart_by_direction() -> None:
    told = document(bidirectional())
    assert set(told["intervals"][0]) == {"streams", "sum", "sum_bidir_reverse"}
    assert told["end"]["sum_sent"]["side"] == "sender"
    assert told["end"]["sum_received_bidir_reverse"]["bits_per_second"] == pytest.approx(5 * 8 * 1024 * 1024)


def test_an_interrupted_test_is_a_whole_document_with_an_error() -> None:
    told = document(parallel_interrupted())
    assert told["error"] == "interrupt - the client was stopped by SIGINT"
    assert told["end"]["sum_sent"]["bytes"] == 20 * 1024 * 1024
    assert "sum_received" not in told["end"]
    assert set(told["end"]["streams"][0]) == {"sender"}


def test_a_test_that_never_began_is_a_document_too() -> None:
    out = io.StringIO()
    sink = JsonSink(out)
    sink.error("unable to connect")
    sink.close()
    sink.close()
    assert json.loads(out.getvalue()) == {
        "start": {},
        "intervals": [],
        "end": {},
        "error": "unable to connect",
    }


@pytest.mark.parametrize("name", SCENES)
def test_the_stream_of_events_holds_what_the_document_holds(name: str) -> None:
    told, lines = document(SCENES[name]()), events(SCENES[name]())
    assert lines[0] == {"event": "start", "data": told["start"]}
    assert [line["data"] for line in lines if line["event"] == "interval"] == told["intervals"]
    assert lines[-1] == {"event": "end", "data": told["end"]}
    assert [line["data"] for line in lines if line["event"] == "error"] == (
        [told["error"]] if "error" in told else []
    )


def test_a_failure_is_an_event() -> None:
    out = io.StringIO()
    JsonStreamSink(out).error("the path died")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["error", "end"]


def test_a_peers_strange_floats_do_not_break_the_document() -> None:
    scene = forward()
    odd = sender(1, 0, 1, 1)
    values = {**odd.values, "rtt_us": float("nan"), "retransmits": float("inf")}
    row = Row(1, type(odd)(1, odd.side, 0, 1_000_000, 5, values))
    told = document(Scene(scene.start, ((row,),), TestEnd((row,), {})))
    assert told["intervals"][0]["streams"][0]["rtt_us"] is None
    assert told["intervals"][0]["streams"][0]["retransmits"] is None
