"""Packets, rates and evidence from the record of a test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from iperfpy.diagnosis.evidence import RunEvidence
from iperfpy.experiments import run_figures
from iperfpy.experiments.run_figures import Packets
from iperfpy.plan import Direction, Plan, Role
from iperfpy.protocols.contract import Stream
from iperfpy.protocols.metrics import Side, Value
from iperfpy.protocols.path_evidence import FlightBins, PathEvidence
from iperfpy.protocols.registry import transport
from iperfpy.records import ConnectedStream, Latency, Row, RunEnded, RunStarted, Sample
from iperfpy.store.stored_run import Interval, Run
from tests.iperfpy.report.meaningful import SENT, Meaningful

FORWARD = Direction.FORWARD


def started(name: str, remote: str = "192.0.2.7", rate_bps: int = 0) -> RunStarted:
    chosen = transport(name)
    settings = chosen.settings()
    connected = ConnectedStream(
        Stream(1, 0, 0, sends=True), 3, ("192.0.2.1", 5), (remote, 5201), mss_bytes=1448
    )
    plan = Plan(name, settings, rate_bps=rate_bps, block_bytes=chosen.block_bytes(settings))
    return RunStarted(plan, chosen, Role.CLIENT, ("host", 5201), True, "cookie", (connected,), 0.0, 1448)


def row(sent: dict[str, Value], arrived: dict[str, Value], start: float = 0.0, end: float = 1.0) -> Row:
    us = round(start * 1e6), round(end * 1e6)
    sender = Sample(1, Side.SENDER, *us, int(sent.pop("bytes", 0) or 0), sent)
    return Row(1, sender, Sample(1, Side.RECEIVER, *us, int(arrived.pop("bytes", 0) or 0), arrived))


def run_of(start: RunStarted, total: Row, *parts: Row, rtt_us: float | None = None) -> Run:
    ended = RunEnded((total,), {"host_total": 10.0, "remote_total": 20.0}, latency=Latency(rtt_us))
    return Run(start, tuple(Interval.of((one,), start.transport) for one in parts), ended)


def test_packets_have_the_headers_of_their_transport_and_address() -> None:
    assert Packets.of(started("udp"), {}) == Packets(20, 1400, 1428)
    assert Packets.of(started("udp", "2001:db8::7"), {}) == Packets(40, 1400, 1448)
    assert Packets.of(started("udp", "::ffff:192.0.2.7"), {}) == Packets(20, 1400, 1428)
    assert Packets.of(started("tcp"), {}) == Packets(20, 1448, 1500)
    assert Packets.of(started("kcp-bbr"), {"mtu_bytes": 1252}) == Packets(20, 1228, 1280)
    # Forward error correction and encryption take 36 bytes of each datagram.
    enveloped: dict[str, Value] = {"mtu_bytes": 1252, "segment_payload_bytes": 1192}
    assert Packets.of(started("kcp-bbr"), enveloped) == Packets(20, 1192, 1280)


def test_a_plug_in_gives_its_sizes_by_their_meanings() -> None:
    start = replace(started("tcp"), transport=Meaningful())
    assert Packets.of(start, SENT) == Packets(20, 1000, 1228)
    assert Packets.of(start, {"size": 1200}) == Packets(20, 1180, 1228)
    # Without a size it is a stream over TCP, for all that is known.
    assert Packets.of(start, {"part": 1000}).payload_bytes == 1448


@pytest.mark.parametrize(
    ("sender", "arrived"), [({"mtu_bytes": 1_400}, 137_600), ({}, 141_000)], ids=["known", "not known"]
)
def test_segments_of_a_test_that_has_not_ended_have_the_size_of_its_intervals(
    sender: dict[str, Value], arrived: int
) -> None:
    counted: dict[str, Value] = {"bytes": 141_000, "segments_received": 100, "duplicates": 0}
    part = Interval.of((row(dict(sender), counted),), transport("kcp"))
    running = Run(started("kcp"), (part,))
    assert run_figures.arrived_in(running, part, FORWARD) == (arrived, 1.0)


@pytest.mark.parametrize(
    ("name", "sent", "size"),
    [
        ("udp", {"bytes": 14_000, "datagrams_sent": 10}, 14_280),
        ("tcp", {"bytes": 144_800, "retransmitted_bytes": 14_480}, 165_000),
        (
            "kcp-bbr",
            {"bytes": 1, "datagrams_sent": 10, "wire_bytes_sent": 14_000, "mtu_bytes": 1400},
            14_280,
        ),
    ],
)
def test_sent_bytes_are_those_of_packets(name: str, sent: dict[str, Value], size: int) -> None:
    start = started(name)
    assert run_figures.sent_bytes(start, [row(dict(sent), {})]) == size


def test_without_the_senders_figures_the_receivers_payload_counts() -> None:
    received = Row(1, Sample(1, Side.RECEIVER, 0, 1_000_000, 144_800), direction=Direction.REVERSE)
    assert run_figures.sent_bytes(started("tcp"), [received]) == 150_000
    assert run_figures.sent_bytes(None, [received]) == 0


def test_a_settled_rate_leaves_the_start_out() -> None:
    parts = [
        row({}, {"bytes": size}, at / 10, (at + 1) / 10) for at, size in enumerate([0] * 4 + [14_480] * 6)
    ]
    run = run_of(started("tcp"), row({}, {"bytes": 86_880}), *parts)
    assert run_figures.settled_bps(run, FORWARD) == pytest.approx(8 * 150_000)


def test_a_burst_is_no_rate() -> None:
    short = row({}, {"bytes": 1_000_000}, 0.0, 0.02)
    run = run_of(started("tcp"), short, short)
    assert run_figures.settled_bps(run, FORWARD) is None
    assert run_figures.evidence_of(run, FORWARD) is None
    assert run_figures.settled_bps(Run(), FORWARD) is None


@pytest.mark.parametrize(("model", "capacity"), [(10e6, 12e6), (13.72e6, 14e6), (50e6, 15e6)])
def test_the_model_adds_at_most_a_quarter_to_what_arrived(model: float, capacity: float) -> None:
    sent: dict[str, Value] = {"bandwidth_bits_per_second": model, "mtu_bytes": 1400}
    packets = Packets(20, 1376, 1428)
    size = round(12e6 / 8 / packets.ratio)
    total = row({"bytes": size, **sent}, {"bytes": size})
    run = run_of(started("kcp-bbr"), total, row({}, {"bytes": size}))
    # The interval has no size of datagrams of its own: the one of the whole test holds.
    assert run_figures.capacity_bps([(run, FORWARD)]) == pytest.approx(capacity, rel=1e-3)
    assert run_figures.capacity_bps([]) is None


def udp_total(**receiver: Value) -> Row:
    return row({"bytes": 140_000, "datagrams_sent": 100}, {"bytes": 1400, **receiver})


def test_a_rung_counts_datagrams_once() -> None:
    total = udp_total(
        datagrams_received=95,
        duplicate_datagrams=5,
        datagrams_numbered=98,
        lost_datagrams=8,
        late_datagrams=3,
    )
    parts = [row({"rtt_us": us}, {}, at / 10, (at + 1) / 10) for at, us in enumerate((100.0, 300.0, 200.0))]
    rung = run_figures.rung_of(run_of(started("udp"), total, *parts), FORWARD)
    assert rung is not None
    assert (rung.sent, rung.arrived, rung.duplicates, rung.late) == (100, 90, 5, 3)
    assert rung.offered_bits_per_s == 8 * 1428 * 100
    assert rung.rtt_us["p50"] == 200.0
    assert rung.rtt_us["max"] == 300.0


def test_a_stock_receiver_tells_only_of_missing_datagrams() -> None:
    rung = run_figures.rung_of(
        run_of(started("udp"), udp_total(datagrams_numbered=100, lost_datagrams=8)), FORWARD
    )
    assert rung is not None
    assert rung.arrived == 92
    assert rung.rtt_us == {}


def test_a_rung_has_the_receivers_record_of_the_path() -> None:
    ones = np.ones(3, np.int64)
    flight = FlightBins(0, 1000, ones, ones, ones, ones, np.zeros(3), one_way=True)
    path = PathEvidence(flight, 7, 9, rtt_us={"p50": 3.0}, displaced_packets=2)
    evidence = RunEvidence("udp", False, False, 1, 1.0, 1e6, path=(path,), block_bytes=1400, kernel_drops=4)
    run = run_of(started("udp"), udp_total(datagrams_received=90))
    assert run.ended is not None
    rung = run_figures.rung_of(replace(run, ended=replace(run.ended, evidence=(evidence,))), FORWARD)
    assert rung is not None
    assert rung.flight is flight
    assert (rung.loss_runs, rung.lost_in_runs, rung.late, rung.kernel_drops) == (7, 9, 2, 4)
    assert rung.rtt_us == {"p50": 3.0}


def test_evidence_is_that_of_the_direction_and_of_a_long_enough_test() -> None:
    run = run_of(started("tcp"), row({"bytes": 5}, {"bytes": 4}), rtt_us=7.0)
    assert run.ended is not None
    long = RunEvidence("tcp", True, True, 1, 1.0, 32.0)
    made = replace(run, ended=replace(run.ended, evidence=(long,)))
    assert run_figures.evidence_of(made, FORWARD) == long
    assert run_figures.evidence_of(made, Direction.REVERSE) is None
    short = replace(run, ended=replace(run.ended, evidence=(replace(long, seconds=0.02),)))
    assert run_figures.evidence_of(short, FORWARD) is None


def test_evidence_has_the_settled_rate_of_a_transport_that_adapts_it() -> None:
    parts = [row({}, {"bytes": 0}, 0.0, 0.5), row({}, {"bytes": 14_480}, 0.5, 1.0)]
    for name, rate in (("tcp", 8 * 28_960.0), ("udp", 8 * 14_480.0)):
        reliable = name == "tcp"
        found = RunEvidence(name, reliable, reliable, 1, 1.0, 8 * 14_480.0)
        run = run_of(started(name), row({}, {"bytes": 14_480}), *parts)
        assert run.ended is not None
        made = run_figures.evidence_of(replace(run, ended=replace(run.ended, evidence=(found,))), FORWARD)
        assert made is not None
        assert made.bits_per_second == pytest.approx(rate)


def test_a_silent_transport_carried_nothing() -> None:
    silent = run_figures.nothing_arrived(transport("udp"), FORWARD)
    assert (silent.bits_per_second, silent.over_udp, silent.reliable) == (0.0, True, False)


def test_the_idle_path_is_measured_by_echoes_or_else_by_handshakes() -> None:
    echoes = [row({"rtt_us": us}, {}, at / 10, (at + 1) / 10) for at, us in enumerate((5.0, 7.0))]
    idle = run_of(started("udp"), row({}, {}), *echoes, rtt_us=4.0)
    later = run_of(started("tcp"), row({"bytes": 9, "pmtu_bytes": 1480}, {}), rtt_us=3.0)
    path = run_figures.idle_path(idle, [later])
    assert (path.rtt_us["p50"], path.echoes, path.mtu_bytes, path.mtu_hint_bytes) == (6.0, 0, 1480, 1480)
    record = PathEvidence(rtt_us={"p50": 5.5}, lump_us=30.0, extra={"echoes": 300})
    assert idle.ended is not None
    evidence = (RunEvidence("udp", False, False, 1, 1.0, 1.0, path=(record,)),)
    known = run_figures.idle_path(replace(idle, ended=replace(idle.ended, evidence=evidence)), [])
    assert (known.rtt_us["p50"], known.echoes, known.lump_us) == (5.5, 300, 30.0)
    assert run_figures.idle_path(None, [later]).rtt_us["p50"] == 3.0


def test_a_search_that_found_a_limit_knows_the_longest_packet() -> None:
    found = {"bytes": 9, "mtu_tried_bytes": 1472, "mtu_passed_bytes": 1252}
    kept = {"bytes": 9, "mtu_tried_bytes": 1472, "mtu_passed_bytes": 1472}
    for sent, longest in ((found, 1280), (kept, None)):
        run = run_of(started("kcp-bbr"), row(dict(sent), {}))
        path = run_figures.idle_path(None, [run])
        assert (path.mtu_bytes, path.mtu_hint_bytes) == (longest, 1500)


def test_a_size_that_one_test_carried_is_no_black_hole_of_its_direction() -> None:
    """A burst of losses may take every probe of a size."""

    def longest(*tests: tuple[int, Direction]) -> int | None:
        sent: list[dict[str, Value]] = [
            {"bytes": 9, "mtu_tried_bytes": 1472, "mtu_passed_bytes": size} for size, _ in tests
        ]
        runs = [
            run_of(started("kcp-bbr"), replace(row(one, {}), direction=direction))
            for one, (_, direction) in zip(sent, tests, strict=True)
        ]
        return run_figures.idle_path(None, runs).mtu_bytes

    forward, reverse = Direction.FORWARD, Direction.REVERSE
    assert longest((1252, forward), (1472, forward)) is None
    assert longest((1252, forward), (1000, forward)) == 1280
    assert longest((1252, forward), (1472, reverse)) == 1280


def test_a_size_that_the_network_named_in_one_test_vanishes_in_no_other() -> None:
    silent = {"bytes": 9, "mtu_tried_bytes": 1472, "mtu_passed_bytes": 1422}
    named = {"bytes": 9, "mtu_tried_bytes": 1422, "mtu_passed_bytes": 1422}
    for tests in ((silent, named), (named, silent)):
        runs = [run_of(started("kcp-bbr"), row(dict(one), {})) for one in tests]
        assert run_figures.idle_path(None, runs).mtu_bytes is None
