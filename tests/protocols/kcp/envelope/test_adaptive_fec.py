"""Forward error correction that follows the path: numbers that tell the geometry, reports, and decisions."""

from __future__ import annotations

import random
import re
from typing import Any

import numpy as np
import pytest

from iperfpy.protocols.kcp.envelope.fec import AdaptiveFec
from iperfpy.protocols.kcp.envelope.fec_control import (
    LEAST_GAIN,
    STEER_US,
    TARGET,
    FecControl,
    Flow,
    full_parity,
    gain,
    least_parity,
    residual,
)
from iperfpy.protocols.kcp.envelope.fec_decoder import FecDecoder
from iperfpy.protocols.kcp.envelope.fec_encoder import FecEncoder
from iperfpy.protocols.kcp.envelope.fec_header import FecCounts
from iperfpy.protocols.kcp.envelope.fec_numbers import SelfDescribing
from iperfpy.protocols.kcp.envelope.fec_reports import (
    INTERVAL_US,
    REPORT,
    Arrivals,
    Losses,
    Report,
    SentLog,
    read_report,
)
from iperfpy.protocols.kcp.envelope.galois_field import parity_matrix
from iperfpy.protocols.kcp.envelope.path_loss import PathLoss
from iperfpy.protocols.kcp.envelope.shard_codec import Geometry
from iperfpy.protocols.kcp.fec_remark import fec_remark
from tests.protocols.kcp.ends import batches
from tests.protocols.kcp.envelope.test_fec import packets, received, run_of

RTT_US, GAP_US = 170_000, 10_000
FRAME = Geometry(8, 4)


def test_a_parity_shard_is_the_same_in_sets_with_less_parity() -> None:
    """A sender may therefore leave the last ones out, and a receiver need not know how many."""
    whole = parity_matrix(8, 56)
    for parity in (1, 3, 8):
        assert (parity_matrix(8, parity) == whole[:parity]).all()


# -- numbers


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_a_geometry_that_changes_with_any_set_is_followed(loss: float, seed: int) -> None:
    rng, numbers = random.Random(seed), SelfDescribing()
    encoder = FecEncoder(Geometry(8, 0), FecCounts(), 0, numbers)
    encoder._number = numbers.sets - 3  # the sets are numbered anew soon
    decoder = FecDecoder(Geometry(8, 0), counts := FecCounts(), numbers)
    payloads: list[bytes] = []
    wire: list[bytes] = []
    for _ in range(60):
        encoder.wanted = Geometry(rng.choice((1, 2, 5, 8, 20)), rng.choice((0, 1, 3)))
        run = [rng.randbytes(100) for _ in range(rng.choice((1, 3, 30)))]
        payloads += run
        wire += packets(encoder.seal([run_of(run)], 0))
    kept = [packet for packet in wire if rng.random() >= loss]
    arrived, recovered = received(decoder, kept)
    assert set(recovered) <= set(payloads)
    assert counts.unusable == 0
    if not loss:
        assert arrived == payloads
        assert not recovered
    else:
        assert recovered


@pytest.mark.parametrize("geometry", [Geometry(1, 1), Geometry(8, 3), Geometry(63, 1)])
def test_numbers_tell_set_place_and_geometry(geometry: Geometry) -> None:
    numbers = SelfDescribing()
    sets = np.array([0, 5, numbers.sets - 1])
    for index in range(geometry.shards):
        seqids = numbers.first(sets, geometry.data) + index * numbers.step
        assert seqids.max() < 1 << 32
        places = numbers.places(seqids, np.full(3, index < geometry.data))
        assert places.fits.all()
        assert places.indices.tolist() == [index] * 3
        assert {numbers.geometry(int(key)).data for key in places.sets} == {geometry.data}
        assert not numbers.places(seqids, np.full(3, index >= geometry.data)).fits.any()


@pytest.mark.parametrize("parity", [0, 1, 2, 4])
def test_parity_that_is_left_out_keeps_the_numbers_of_the_geometry(parity: int) -> None:
    """As kcp-go's receivers count them: all types agree, and any 8 of the 8 + parity restore the others."""
    encoder, decoder = FecEncoder(FRAME, FecCounts()), FecDecoder(FRAME, counts := FecCounts())
    encoder.wanted = Geometry(FRAME.data, parity)
    payloads = [bytes([value]) * 40 for value in range(80)]
    wire = packets(encoder.seal([run_of(payloads)], 0))
    assert len(wire) == 10 * (8 + parity)
    seqids = [int.from_bytes(packet[:4], "little") for packet in wire]
    assert [seqid // 12 for seqid in seqids] == [at // (8 + parity) for at in range(len(wire))]
    gaps = [packet for at, packet in enumerate(wire) if at % (8 + parity) >= parity]
    arrived, recovered = received(decoder, gaps)
    assert sorted(arrived + recovered) == payloads
    assert counts.unusable == 0


# -- a peer with another geometry


def test_a_foreign_geometry_is_found_and_restored_from() -> None:
    rng = random.Random(1)
    encoder = FecEncoder(Geometry(5, 2), FecCounts())
    decoder = FecDecoder(Geometry(10, 3), counts := FecCounts(), follows=True)
    payloads = [rng.randbytes(60) for _ in range(500)]
    wire = [packet for packet in packets(encoder.seal([run_of(payloads)], 0)) if rng.random() >= 0.05]
    restored: list[bytes] = []
    for packet in wire:
        restored += received(decoder, [packet])[1]
    later = set(payloads[250:])
    assert set(restored) <= set(payloads)
    lost = len(later - {packet[8:] for packet in wire})
    assert len(later & set(restored)) > 0.7 * lost
    assert 0 < counts.unusable < 120  # until it was found


@pytest.mark.parametrize("theirs", [Geometry(8, 4), Geometry(3, 3), Geometry(20, 2), Geometry(1, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_restored_from_sets_of_another_geometry(theirs: Geometry, seed: int) -> None:
    """All datagrams begin alike, as those of one conversation: garbage would pass for one of them."""
    rng = random.Random(seed)
    encoder = FecEncoder(theirs, FecCounts())
    decoder = FecDecoder(Geometry(10, 3), FecCounts(), follows=True)
    payloads = [b"conversation" + rng.randbytes(60) for _ in range(600)]
    wire = [packet for packet in packets(encoder.seal([run_of(payloads)], 0)) if rng.random() >= 0.03]
    arrived, restored = received(decoder, wire)
    assert set(arrived) | set(restored) <= set(payloads)


@pytest.mark.parametrize("follows", [False, True])
def test_garbage_does_not_change_the_geometry(follows: bool) -> None:
    rng = random.Random(2)
    encoder = FecEncoder(Geometry(10, 3), FecCounts())
    decoder = FecDecoder(Geometry(10, 3), FecCounts(), follows=follows)
    payloads = [rng.randbytes(60) for _ in range(400)]
    wire = packets(encoder.seal([run_of(payloads)], 0))
    forged = [rng.randrange(1 << 32).to_bytes(4, "little") + b"\xf2\x00" + bytes(60) for _ in range(40)]
    mixed = [
        each
        for at, packet in enumerate(wire)
        for each in ([packet, forged[at // 13]] if not at % 13 else [packet])
    ]
    lossy = [packet for packet in mixed if rng.random() >= 0.05]
    arrived, recovered = received(decoder, lossy)
    whole = set(arrived) | set(recovered)
    assert len(whole & set(payloads)) > (0.9 if follows else 0.99) * len(payloads)
    assert follows or len(recovered) > 10


# -- reports


def test_a_report_tells_the_losses_since_the_one_before() -> None:
    numbers = SelfDescribing()
    log, arrivals = SentLog(numbers), Arrivals(numbers)
    encoder = FecEncoder(Geometry(4, 1), FecCounts(), 0, numbers, log)
    decoder = FecDecoder(Geometry(4, 1), FecCounts(), numbers, arrivals)
    rng, found = random.Random(3), list[Losses]()
    sent = kept = 0
    for turn in range(200):
        encoder.wanted = Geometry(rng.choice((1, 4, 8)), rng.choice((0, 1, 2)))
        now_us = turn * 60_000 if turn < 100 else 6_000_000 + turn * 700_000  # late sets have no parity
        wire = packets(encoder.seal([run_of([bytes(100)] * rng.choice((1, 2, 9)))], now_us))
        left = [packet for packet in wire if rng.random() >= 0.1]
        sent, kept = sent + len(wire), kept + len(left)
        received(decoder, left)
        datagram = arrivals.report(now_us)
        report = read_report(datagram) if datagram is not None else None
        losses = log.losses(report, encoder.number) if report is not None and rng.random() < 0.7 else None
        found += [losses] if losses is not None else []
    total = sum(each.sent for each in found)
    assert 0.95 * sent < total <= sent
    assert abs(sum(each.lost for each in found) - (sent - kept)) <= 12  # those after the last report


def test_reports_are_rare_and_none_is_due_without_arrivals() -> None:
    arrivals = Arrivals(SelfDescribing())
    assert arrivals.report(0) is None
    arrivals.note(np.array([SelfDescribing().first(0, 4)]))
    assert arrivals.report(0) is not None
    arrivals.note(np.array([SelfDescribing().first(1, 4)]))
    assert arrivals.report(INTERVAL_US - 1) is None
    assert arrivals.report(INTERVAL_US) is not None
    assert arrivals.report(3 * INTERVAL_US) is None


@pytest.mark.parametrize(
    "report",
    [
        Report(0xFFFF_FFFF, 10),  # of no set that was sent
        Report(SelfDescribing().first(900, 4), 10),
        Report(SelfDescribing().first(0, 4) + 40 * SelfDescribing.step, 10),
        Report(SelfDescribing().first(0, 4), 1 << 31),  # more than was sent
    ],
)
def test_an_impossible_report_says_nothing(report: Report) -> None:
    log = SentLog(SelfDescribing())
    log.note(0, 0, 5)
    assert log.losses(report, 20) is None
    assert log.losses(Report(SelfDescribing().first(2, 4), 8), 20) == Losses(11, 3)


def test_out_of_band_datagrams_that_are_no_reports_are_dropped() -> None:
    layer = AdaptiveFec()
    for size in (0, 1, REPORT.size - 6, 100):
        (batch,) = batches([b"\xff\xff\xff\xff\xf3\x00" + bytes([10]) * size + bytes(3)])
        opened = layer.open(batch, 0)
        assert not opened.recovered
    assert layer.figures()["fec_path_loss_percent"] == pytest.approx(2.0)


# -- decisions


def test_the_residual_is_that_of_independent_losses() -> None:
    rng = np.random.default_rng(1)
    lost = rng.random((200_000, 11)) < 0.1
    broken = lost.sum(axis=1) > 3
    assert residual(Geometry(8, 3), 0.1) == pytest.approx((lost[:, :8] & broken[:, None]).mean(), rel=0.05)
    assert residual(Geometry(8, 3), 0.0) == 0.0


def test_more_loss_needs_more_parity_and_never_more_than_data() -> None:
    parities = [least_parity(10, loss) for loss in (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)]
    assert parities == sorted(parities)
    assert parities[0] == 1
    assert parities[-1] == 10
    assert all(residual(Geometry(10, least_parity(10, loss)), loss) <= TARGET for loss in (0.01, 0.05, 0.1))


def test_full_parity_restores_most_in_sets_that_suit_the_loss() -> None:
    assert full_parity(20, 0.3) == full_parity(20, 0.49) == (20, 20)
    assert full_parity(20, 0.51) == full_parity(20, 0.9) == full_parity(1, 0.3) == (1, 1)
    assert residual(full_parity(20, 0.6), 0.6) < residual(Geometry(20, 20), 0.6) - 0.15


def steered(loss: float, gap_us: float = GAP_US, seconds: float = 10.0, **flow: Any) -> FecControl:
    """A control after some seconds of a stream whose datagrams have this distance, over such a path."""
    control, rng = FecControl(), random.Random(1)
    for turn in range(1, int(seconds * 1e6 / STEER_US)):
        now_us, sent = turn * STEER_US, int(STEER_US / gap_us)
        control.loss.add(sent, sum(rng.random() < loss for _ in range(sent)))
        about = {"rtt_us": RTT_US, "application_us": now_us, "limited_us": now_us, "segments": turn} | flow
        about = {key: value * now_us if value in (0.2, 0.9) else value for key, value in about.items()}
        control.steer(Flow(overtaken=0, lost=0, **about), int(turn * STEER_US / gap_us), now_us)
    return control


@pytest.mark.parametrize(("loss", "least", "most"), [(0.02, 1, 2), (0.05, 2, 4), (0.1, 4, 6)])
def test_messages_have_parity_by_the_loss(loss: float, least: int, most: int) -> None:
    control = steered(loss)
    assert control.geometry.data == 10
    assert least <= control.geometry.parity <= most
    assert "stay lost" in control.reason


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"loss": 0.05, "application_us": 0.2}, "resending bulk data costs fewer bytes"),
        ({"loss": 0.0, "gap_us": 1_000}, "within the target"),
        ({"loss": 0.05, "segments": 0}, "acknowledgements only"),
        ({"loss": 0.05, "rtt_us": 0.0}, "round-trip time"),
        ({"loss": 0.05, "rtt_us": 3_000.0}, "a retransmission takes only 3 ms"),
        ({"loss": 0.05, "gap_us": 600_000, "seconds": 30}, "so far apart"),
        ({"loss": 1.0}, "parity would restore 0.000 % of the datagrams for each per cent of bytes added"),
    ],
)
def test_parity_stays_off_for_a_reason(given: dict[str, Any], reason: str) -> None:
    control = steered(**given)
    assert control.geometry.parity == 0
    assert reason in control.reason
    # The reason is the second half of the sentence at the end of the test.
    (sentence,) = fec_remark({"fec_reason": control.reason, "fec_parity_sent": 0})
    assert sentence.count(":") == 1


@pytest.mark.parametrize(
    ("given", "geometry", "left"),
    [
        ({"loss": 0.4}, (10, 10), 0.074),
        ({"loss": 0.45}, (10, 10), 0.148),
        ({"loss": 0.6}, (1, 1), 0.36),
        ({"loss": 0.9}, (1, 1), 0.81),
        ({"loss": 0.1, "gap_us": 100_000, "rtt_us": 100_000.0, "seconds": 200}, (1, 1), 0.01),
    ],
)
def test_a_target_that_no_parity_meets_is_named_with_the_rest(
    given: dict[str, Any], geometry: tuple[int, int], left: float
) -> None:
    """As much parity as data is used where it restores at least `LEAST_GAIN` for each share added."""
    control = steered(**given)
    assert control.geometry == geometry
    assert gain(control.geometry, given["loss"]) > LEAST_GAIN
    found = re.fullmatch(
        r"the path loses \S+ %, and the target of 0\.1 % cannot be met with at most as much parity as data:"
        r" (\S+) % are left",
        control.reason,
    )
    assert found, control.reason
    assert float(found[1]) / 100 == pytest.approx(left, rel=0.35)


def test_parity_that_restores_too_little_for_its_bytes_is_off() -> None:
    """A set of one datagram has as much parity as data, however little is lost."""
    seldom: dict[str, Any] = {"gap_us": 100_000, "rtt_us": 100_000.0, "seconds": 400}
    assert steered(0.02, **seldom).geometry == (1, 1)
    control = steered(0.003, **seldom)
    assert control.geometry.parity == 0
    assert re.search(r"restore 0\.00\d+ % .* is used from 0\.01 % on", control.reason)


def test_the_parity_of_a_peer_that_follows_no_other_sets_bounds_the_target() -> None:
    control = FecControl(Geometry(8, 2))
    for turn in range(1, 40):
        now_us = turn * STEER_US
        control.loss.add(200, 40)
        control.steer(Flow(RTT_US, now_us, now_us, turn, 0, 0), turn * 10, now_us)
    assert control.geometry == (8, 2)
    assert "cannot be met with at most the parity of the peer's sets: 11 %" in control.reason


def test_seldom_messages_have_small_sets() -> None:
    """A set that takes longer to fill than a retransmission takes helps nobody."""
    assert steered(0.05, gap_us=100_000, seconds=60).geometry == (2, 2)
    assert steered(0.05, gap_us=1_000).geometry.data == 20


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.05), (0.05, 0.0), (0.02, 0.2)])
def test_the_loss_follows_a_step(before: float, after: float) -> None:
    rng, loss = random.Random(1), PathLoss()
    for share, datagrams in ((before, 3_000), (after, 1_500)):
        for _ in range(datagrams // 10):
            loss.add(10, sum(rng.random() < share for _ in range(10)))
        assert loss.share == pytest.approx(share, abs=0.005 + share / 3)


# -- a stock peer


def test_a_peer_that_follows_no_other_sets_gets_as_much_parity_as_the_loss_needs() -> None:
    layer, decoder = AdaptiveFec(FRAME), FecDecoder(FRAME, counts := FecCounts())
    parities: list[int] = []
    for turn in range(1, 1_200):
        now_us, overtaken = turn * GAP_US, turn // 50
        flow = Flow(RTT_US, now_us, now_us, turn, overtaken, overtaken)
        if layer.is_due(now_us):
            layer.steer(flow, now_us)
        wire = packets(layer.seal([run_of([bytes(100)])], now_us))
        received(decoder, wire)
        parities += [len(wire) - 1] if turn % FRAME.data == 0 else []
    assert counts.unusable == 0
    assert parities[0] == 0
    assert 1 <= parities[-1] < FRAME.parity
    assert layer.figures()["fec_path_loss_percent"] == pytest.approx(2.0, abs=1.0)
