"""The page of a test: its panels, limits and words, and the command that repeats it."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from iperfpy.cli.command_line import CommandLine
from iperfpy.cli.request import request_of
from iperfpy.diagnosis.evidence import RunEvidence
from iperfpy.errors import DocumentError
from iperfpy.plan import Direction, Role
from iperfpy.protocols.metrics import Side, Value
from iperfpy.protocols.path_evidence import FlightBins, PathEvidence
from iperfpy.protocols.registry import transports
from iperfpy.protocols.tcp import Tcp
from iperfpy.records import EndFacts, Latency
from iperfpy.report.pictures.html_page import html_of
from iperfpy.report.pictures.page_model import (
    Boxes,
    Distribution,
    Facts,
    Page,
    Panel,
    Ribbon,
    Scatter,
    Table,
    Timeline,
)
from iperfpy.report.pictures.repeat_command import repeat_command
from iperfpy.report.pictures.run_page import page_of
from iperfpy.report.pictures.run_timeline import timeline_of
from iperfpy.store.interval_series import held_us
from iperfpy.store.stored_run import Run
from tests.iperfpy.report.meaningful import meaningful_run
from tests.iperfpy.report.pictures.picture_scenes import EVIL, kcp_run, scene_run
from tests.iperfpy.report.scenes import SCENES


def blocks(page: Page, kind: type[Any]) -> list[Any]:
    return [block for block in page.blocks if isinstance(block, kind)]


def panel(page: Page, title: str) -> Panel:
    (timeline,) = blocks(page, Timeline)
    found: Panel = next(one for one in timeline.panels if one.title == title)
    return found


def test_a_test_has_a_panel_for_each_question() -> None:
    page = page_of(kcp_run())
    (timeline,) = blocks(page, Timeline)
    assert [(one.title, one.unit) for one in timeline.panels] == [
        ("Throughput", "Mbit/s"),
        ("Round-trip time", "ms"),
        ("Lost on the path", "%"),
        ("Sent again, by cause", "%"),
        ("Congestion window", "KiB"),
    ]
    assert {type(block) for block in page.blocks} >= {Timeline, Scatter, Distribution, Table}
    assert all(len(trace.values) == 60 for one in timeline.panels for trace in one.traces)


def bits(run: Run, index: int, side: Side) -> float:
    sample = run.intervals[index].rows[0].of(side)
    assert sample is not None
    assert sample.bits_per_second is not None
    return sample.bits_per_second


def test_the_throughput_is_that_of_the_receiver() -> None:
    run = kcp_run()
    (trace,) = panel(page_of(run), "Throughput").traces
    assert trace.values == pytest.approx([bits(run, index, Side.RECEIVER) / 1e6 for index in range(60)])
    assert any(bits(run, index, Side.RECEIVER) < bits(run, index, Side.SENDER) for index in range(60))


def test_the_round_trip_time_has_a_band_from_minimum_to_maximum() -> None:
    (trace,) = panel(page_of(kcp_run()), "Round-trip time").traces
    for low, value, high in zip(trace.lows, trace.values, trace.highs, strict=True):
        assert low is not None
        assert value is not None
        assert high is not None
        assert low < value < high


def test_only_causes_that_occurred_are_shown() -> None:
    assert [trace.name for trace in panel(page_of(kcp_run()), "Sent again, by cause").traces] == ["fast"]


def test_shares_of_loss_add_up_to_the_loss_of_the_test() -> None:
    """Packets in flight at the end of an interval are not lost: they must not be counted twice."""
    run = kcp_run()
    (trace,) = panel(page_of(run), "Lost on the path").traces
    sent = [interval.figure("datagrams_sent") for interval in run.intervals]
    lost = sum(
        share * count / 100 for share, count in zip(trace.values, sent, strict=True) if share is not None
    )
    assert lost == pytest.approx(run.total("datagrams_sent") - run.total("datagrams_received"))
    assert lost > 0


def test_packets_that_arrive_an_interval_later_are_no_loss() -> None:
    run = kcp_run(8)
    late = [*run.intervals]
    for index, shift in ((2, -300), (3, 300)):
        (row,) = late[index].rows
        assert row.peer is not None
        arrived = int(row.local.values["datagrams_sent"] or 0) + shift
        peer = replace(row.peer, values={"datagrams_received": arrived})
        late[index] = replace(late[index], sums=(replace(row, peer=peer),))
    (trace,) = panel(page_of(replace(run, intervals=tuple(late), ended=None)), "Lost on the path").traces
    assert trace.values[2] == 0.0


def recorded(run: Run, width_us: int) -> Run:
    """The run with a record of its packets: in the tenth interval 30 of 100 are lost, in the others none."""
    count = 30_000_000 // width_us
    sent = np.full(count, 100, np.int64)
    arrived = sent.copy()
    arrived[count * 10 // 60 : count * 11 // 60] -= 30
    flight = FlightBins(0, width_us, sent * 1400, arrived * 1400, sent, arrived, np.full(count, 9e4))
    evidence = RunEvidence("kcp-bbr", True, True, 1, 30.0, 1e7, path=(PathEvidence(flight=flight),))
    assert run.ended is not None
    return replace(run, ended=replace(run.ended, evidence=(evidence,)))


def test_the_record_of_the_packets_tells_when_they_were_lost() -> None:
    (trace,) = panel(page_of(recorded(kcp_run(), 100_000)), "Lost on the path").traces
    assert [value for value in trace.values if value] == pytest.approx([30.0])
    assert trace.values.index(max(value or 0.0 for value in trace.values)) == 10


def test_a_coarse_record_is_not_taken() -> None:
    """Its bins would be shared between intervals."""
    assert panel(page_of(recorded(kcp_run(), 250_000)), "Lost on the path") == panel(
        page_of(kcp_run()), "Lost on the path"
    )


def test_a_record_gives_the_distribution_of_the_packets() -> None:
    (found,) = blocks(page_of(recorded(kcp_run(), 100_000)), Distribution)
    (curve,) = found.curves
    assert curve.samples == 300
    assert {value for value, _ in curve.points} == {90.0}
    assert "packets" in found.note


def test_a_ribbon_has_the_share_of_each_limit() -> None:
    (timeline,) = blocks(page_of(kcp_run()), Timeline)
    ribbon: Ribbon
    (ribbon,) = timeline.ribbons
    assert [limit.name for limit in ribbon.limits] == ["pacing", "congestion window"]
    for shares in zip(*(limit.shares for limit in ribbon.limits), strict=True):
        assert sum(shares) == pytest.approx(1.0)


def test_a_kernel_that_names_only_windows_leaves_the_rest_to_congestion_control() -> None:
    values: dict[str, Value] = {"busy_us": 900_000, "rwnd_limited_us": 100_000, "sndbuf_limited_us": 0}
    held = held_us(Tcp.metrics, values, 1_000_000.0)
    assert held == {
        "receive window": 100_000.0,
        "send buffer": 0.0,
        "congestion control": 800_000.0,
        "application": 100_000.0,
    }


@pytest.mark.parametrize("name", SCENES)
def test_every_kind_of_test_has_a_page(name: str) -> None:
    page = page_of(scene_run(name))
    assert page.title
    (timeline,) = blocks(page, Timeline)
    assert list(timeline.starts_s) == sorted(set(timeline.starts_s))
    assert timeline.end_s > timeline.starts_s[-1]
    for one in timeline.panels:
        for trace in one.traces:
            assert len(trace.values) == len(timeline.starts_s)


def test_the_omitted_period_lies_before_zero() -> None:
    run = scene_run("reverse-omit-verbose")
    assert run.started is not None
    started = replace(run.started, plan=replace(run.started.plan, omit_us=1_000_000))
    timeline = timeline_of(replace(run, started=started))
    assert timeline is not None
    assert timeline.starts_s == (-1.0, 0.0, 1.0)
    assert "omitted" in timeline.note


def test_two_directions_are_told_apart() -> None:
    page = page_of(scene_run("bidirectional"))
    traces = panel(page, "Throughput").traces
    assert [trace.name for trace in traces] == ["up", "down"]
    assert len({trace.slot for trace in traces}) == 2


def test_streams_have_boxes() -> None:
    (boxes,) = blocks(page_of(scene_run("parallel-interrupted")), Boxes)
    assert [box.name for box in boxes.boxes] == ["stream 1", "stream 3"]


def test_an_interrupted_test_says_so() -> None:
    page = page_of(scene_run("parallel-interrupted"))
    assert page.error == "the client was stopped by SIGINT"
    assert page.warnings == ("the window was full",)
    assert page.title == "night run" or page.title.startswith("scene")


def test_a_test_that_did_not_start_has_a_page_with_its_error() -> None:
    page = page_of(Run(error="connection refused"))
    assert page.error == "connection refused"
    assert not page.blocks


def test_a_stored_run_has_the_page_of_the_run() -> None:
    run = kcp_run()
    again = page_of(Run.from_document(run.document()))
    whole = page_of(run)
    assert again.blocks[0] == whole.blocks[0]
    assert again.headlines == whole.headlines
    assert again.verdict == whole.verdict


def test_a_run_of_a_plug_in_that_is_not_installed_has_its_page() -> None:
    run = scene_run("forward")
    again = page_of(Run.from_document(run.document()))
    assert again.blocks[0] == page_of(run).blocks[0]
    assert again.command == ""


@pytest.mark.parametrize("stored", [False, True])
def test_a_plug_in_is_drawn_by_the_meanings_of_its_metrics(stored: bool) -> None:
    run = meaningful_run()
    page = page_of(Run.from_document(run.document()) if stored else run)
    assert {(one.name, one.value) for one in page.headlines} >= {
        ("sent again", "5.00"),
        ("lost on the path", "4.00"),
    }
    causes, windows = panel(page, "Sent again, by cause"), panel(page, "Congestion window")
    assert [trace.name for trace in causes.traces] == ["request"]
    assert [trace.name for trace in windows.traces] == ["credit"]
    (lost,) = panel(page, "Lost on the path").traces
    assert sum(value or 0.0 for value in lost.values) > 0
    (timeline,) = blocks(page, Timeline)
    (ribbon,) = timeline.ribbons
    # The limits of its own follow the known one, each with its own look.
    assert [limit.name for limit in ribbon.limits] == ["send window", "credit", "disk"]
    assert len({limit.slot for limit in ribbon.limits}) == 3
    assert [limit.shares[0] for limit in ribbon.limits] == pytest.approx([0.7, 0.2, 0.1])


COMMANDS = [
    "-c 192.0.2.7",
    "-c 192.0.2.7 -p 5300 -R -t 2.5 -i 0.2 -O 1 -P 4",
    "-c 2001:db8::7 --bidir -n 10M -C cubic -w 256K -M 1200 -N",
    "-c server.example --proto udp -b 20M/10 -l 1200 -S 0x20",
    "-c server.example -k 100 -b 1G --fq-rate 100M --get-server-output -A ,1 -Z",
    "-c server.example --proto kcp --kcp-mode fast --kcp-sndwnd 300 --kcp-mtu 1200",
    "-c server.example --proto kcp-bbr -t 0 -T 'night run; rm -rf /' --extra-data \"it's\"",
]


@pytest.mark.parametrize("words", COMMANDS)
def test_the_command_repeats_the_test(words: str) -> None:
    request = request_of(CommandLine(transports()).parse(shlex.split(words)))
    plan, client = request.plan, request.client
    assert plan is not None
    assert client is not None
    started = kcp_run(2).started
    assert started is not None
    started = replace(
        started, plan=plan, transport=transports()[plan.transport], peer=(client.host, client.port)
    )
    again = request_of(CommandLine(transports()).parse(shlex.split(repeat_command(started))[1:]))
    assert again.plan == plan
    assert again.client == client


def test_a_server_has_no_command_that_repeats_the_test() -> None:
    assert page_of(scene_run("server")).command == ""
    started = kcp_run(2).started
    assert started is not None
    assert repeat_command(replace(started, role=Role.SERVER)) == ""


def test_the_headlines_have_the_bufferbloat_of_each_direction() -> None:
    run = kcp_run()
    assert run.ended is not None
    assert "bufferbloat" not in " ".join(one.name for one in page_of(run).headlines)
    times = Latency(80_000, 80_100, 95_000, 140_000, forward_rtt_us_p95=121_500, reverse_rtt_us_p95=80_100)
    run = replace(run, ended=replace(run.ended, latency=times))
    headlines = {one.name: f"{one.value} {one.unit}" for one in page_of(run).headlines}
    assert headlines["bufferbloat up"] == "+41.5 ms"
    assert headlines["bufferbloat down"] == "+0.100 ms"


def facts_of(run: Run, title: str) -> dict[str, str]:
    (found,) = (one for one in blocks(page_of(run), Facts) if one.title == title)
    return dict(found.rows)


def test_the_page_has_the_facts_of_both_ends() -> None:
    run = kcp_run()
    assert run.ended is not None
    told = EndFacts("iperfpy 9.9", "Linux 6.1.0 x86_64", None, 425_984, 8_388_608)
    facts = facts_of(replace(run, ended=replace(run.ended, server=told)), "Server")
    assert (facts["Program"], facts["System"]) == ("iperfpy 9.9", "Linux 6.1.0 x86_64")
    assert facts["Socket buffers"] == "send 416 KiB, receive 8.00 MiB, as the system counts them"
    assert "Not known" not in facts
    assert "Not known" not in facts_of(run, "Client")
    # An older server names its version in its greeting, and no more.
    old = replace(run, ended=replace(run.ended, server=EndFacts("iperfpy 0.1.0")))
    facts = facts_of(old, "Server")
    assert facts["Program"] == "iperfpy 0.1.0"
    assert facts["Not known"] == "system and socket buffers: the server did not tell them"


def test_the_facts_of_a_stock_server_are_those_of_its_own_report() -> None:
    run = kcp_run()
    assert run.started is not None
    assert run.ended is not None
    stock = replace(run, started=replace(run.started, peer_is_iperfpy=False))
    facts = facts_of(stock, "Server")
    assert "Program" not in facts
    assert facts["Not known"] == "program, system and socket buffers: iperf3 does not tell them"
    output = {"start": {"version": "iperf 3.16", "system_info": "Linux far 6.8.0"}}
    facts = facts_of(replace(stock, ended=replace(run.ended, server_output=output)), "Server")
    assert (facts["Program"], facts["System"]) == ("iperf 3.16", "Linux far 6.8.0")
    assert facts["Not known"] == "socket buffers: iperf3 does not tell them"
    outputs: tuple[dict[str, Any], ...] = ({}, {"start": 7}, {"start": {"version": 7}})
    for one in outputs:
        damaged = replace(stock, ended=replace(run.ended, server_output=one))
        assert "Program" not in facts_of(damaged, "Server")


def test_a_servers_facts_are_escaped() -> None:
    run = kcp_run()
    assert run.ended is not None
    run = replace(run, ended=replace(run.ended, server=EndFacts(EVIL, EVIL)))
    assert EVIL in facts_of(run, "Server").values()
    text = html_of(page_of(run))
    assert "<script>alert" not in text
    assert not {"\x1b", "\u202e", "\u2066"} & set(text)


def test_the_verdict_names_limit_evidence_and_advice() -> None:
    (statement,) = page_of(kcp_run()).verdict
    assert statement.label == "Limit"
    assert statement.sentence == "a queue of 383 KiB (likely)"
    assert statement.lines == (("evidence", "it rises"), ("do", "a shorter one"))


def test_a_reverse_test_shows_the_senders_figures() -> None:
    page = page_of(kcp_run(direction=Direction.REVERSE))
    assert [one.title for one in blocks(page, Timeline)[0].panels][1] == "Round-trip time"
    assert "down" in page.title


def test_an_unreadable_document_is_an_error_and_no_page() -> None:
    with pytest.raises(DocumentError):
        Run.from_document({"start": {}})
