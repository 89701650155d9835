"""Each property of a path becomes its own cause, and no other one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from iperfpy.diagnosis import direction as conclusions
from iperfpy.diagnosis import overload, path_model
from iperfpy.diagnosis.end_limits import end_limits
from iperfpy.diagnosis.evidence import DirectionEvidence, EndFigures, IdlePath, RunEvidence, Rung
from iperfpy.diagnosis.finding import Cause, Confidence
from iperfpy.diagnosis.ladder import SHARES
from iperfpy.plan import Direction
from iperfpy.protocols.path_evidence import FlightBins
from tests.iperfpy.diagnosis import synthetic
from tests.iperfpy.diagnosis.synthetic import Path

SWING = (1.5, 0.6, 1.2, 0.5, 1.4, 0.8, 1.0, 0.7, 1.3, 1.0)
PATHS = {
    "line": (Path(queue=5_000), {Cause.LINE}),
    "queue": (Path(queue=60_000), {Cause.QUEUE}),
    "early-drop": (Path(queue=200_000, early_drop=0.05), {Cause.QUEUE}),
    "policer": (Path(rate=50e6, police=8e6, bucket=60_000, queue=20_000), {Cause.POLICER}),
    "noise": (Path(queue=5_000, loss=0.03), {Cause.NOISE}),
    "bursts": (Path(queue=5_000, loss=0.04, mean_burst=5.0), {Cause.BURSTS}),
    "reordering": (Path(queue=5_000, late_share=0.02), {Cause.REORDERING}),
    "jitter": (Path(queue=5_000, jitter_us=25e3), {Cause.JITTER}),
    "lumps": (Path(queue=5_000, lump_us=25e3), {Cause.ACK_LUMPS}),
    "rate-varies": (Path(queue=120_000, walk=SWING), {Cause.RATE_VARIES, Cause.QUEUE}),
    "noise+queue": (Path(queue=60_000, loss=0.05), {Cause.NOISE, Cause.QUEUE}),
    "noise+policer": (
        Path(rate=50e6, police=8e6, bucket=60_000, queue=20_000, loss=0.05),
        {Cause.NOISE, Cause.POLICER},
    ),
    "jitter+policer": (
        Path(rate=50e6, police=8e6, bucket=60_000, queue=20_000, jitter_us=25e3),
        {Cause.JITTER, Cause.POLICER},
    ),
    "jitter+queue": (Path(queue=60_000, jitter_us=25e3), {Cause.JITTER, Cause.QUEUE}),
}


@pytest.mark.parametrize("name", PATHS)
def test_each_property_is_found_and_no_other(name: str) -> None:
    path, causes = PATHS[name]
    found = conclusions.conclude(synthetic.direction(path)).findings
    assert {finding.cause for finding in found} == causes


@pytest.mark.parametrize("name", [name for name in PATHS if "varies" not in name])
def test_the_rate_is_within_three_per_cent(name: str) -> None:
    path, _ = PATHS[name]
    diagnosis = conclusions.conclude(synthetic.direction(path))
    assert diagnosis.capacity_bits_per_s == pytest.approx(path.police or path.rate, rel=0.03)
    assert diagnosis.capacity_error_bits_per_s is not None


def found(path: Path, cause: Cause, seed: int = 1) -> dict[str, Any]:
    findings = conclusions.conclude(synthetic.direction(path, seed)).findings
    (finding,) = [finding for finding in findings if finding.cause is cause]
    assert finding.sentence
    return dict(finding.evidence)


def test_a_policer_has_its_rate_and_burst() -> None:
    path = PATHS["policer"][0]
    evidence = found(path, Cause.POLICER)
    assert evidence["rate_bits_per_s"] == pytest.approx(path.police, rel=0.02)
    assert evidence["burst_bytes"] == pytest.approx(path.bucket, rel=0.2)


@pytest.mark.parametrize(("mean_burst", "seed"), [(10.0, 1), (4.0, 4)])
def test_bursts_of_losses_in_one_stretch_make_no_deeper_bucket(mean_burst: float, seed: int) -> None:
    """They put the onset of its overload later than it is: by a tenth of the bucket in these two."""
    path = replace(PATHS["policer"][0], loss=0.02, mean_burst=mean_burst)
    assert found(path, Cause.POLICER, seed)["burst_bytes"] == pytest.approx(path.bucket, rel=0.05)


@pytest.mark.parametrize("name", ["queue", "noise+queue", "jitter+queue"])
def test_a_queue_has_its_size(name: str) -> None:
    path = PATHS[name][0]
    assert found(path, Cause.QUEUE)["queue_bytes"] == pytest.approx(path.queue, rel=0.15)


def test_tail_drop_and_active_management_are_told_apart() -> None:
    assert found(PATHS["queue"][0], Cause.QUEUE)["drops"] == "tail"
    assert found(PATHS["early-drop"][0], Cause.QUEUE)["drops"] == "aqm"


@pytest.mark.parametrize(("name", "cause"), [("noise", Cause.NOISE), ("bursts", Cause.BURSTS)])
def test_random_loss_is_within_two_standard_errors(name: str, cause: Cause) -> None:
    path = PATHS[name][0]
    evidence = found(path, cause)
    assert abs(evidence["share"] - path.loss) < max(0.003, 2 * evidence["error"])


def test_the_lengths_of_bursts_that_were_not_measured_are_no_figures() -> None:
    evidence = synthetic.direction(PATHS["noise"][0])
    rungs = tuple(replace(rung, loss_runs=None, lost_in_runs=None) for rung in evidence.rungs)
    findings = conclusions.conclude(replace(evidence, rungs=rungs)).findings
    noise = next(finding for finding in findings if finding.cause is Cause.NOISE)
    assert "the lengths of its bursts are not known" in noise.because
    assert "mean_run" not in noise.evidence


def test_a_few_losses_are_not_called_noise() -> None:
    evidence = synthetic.direction(Path(queue=5_000))
    rungs = list(evidence.rungs)
    rungs[2] = replace(rungs[2], arrived=rungs[2].arrived - 3, loss_runs=3, lost_in_runs=3)
    findings = conclusions.conclude(replace(evidence, rungs=tuple(rungs))).findings
    unknown = [finding for finding in findings if finding.cause is Cause.UNKNOWN]
    assert "too few" in unknown[0].sentence
    assert unknown[0].evidence["losses"] == 3
    assert Cause.NOISE not in {finding.cause for finding in findings}


def test_one_datagram_of_thousands_is_no_finding() -> None:
    """A busy machine loses one now and then."""
    evidence = synthetic.direction(Path(queue=5_000))
    rungs = list(evidence.rungs)
    rungs[2] = replace(rungs[2], arrived=rungs[2].arrived - 1, loss_runs=1, lost_in_runs=1)
    (line,) = conclusions.conclude(replace(evidence, rungs=tuple(rungs))).findings
    assert line.cause is Cause.LINE
    assert line.because.startswith("1 of ")


def test_losses_in_the_receivers_kernel_are_not_the_paths() -> None:
    evidence = synthetic.direction(Path(queue=5_000))
    rungs = tuple(
        replace(rung, arrived=rung.arrived - 20, kernel_drops=20, loss_runs=None, lost_in_runs=None)
        for rung in evidence.rungs
    )
    causes = {finding.cause for finding in conclusions.conclude(replace(evidence, rungs=rungs)).findings}
    assert causes == {Cause.LINE}


def test_losses_in_bursts_say_how_many_of_them_tell_the_cause() -> None:
    evidence = synthetic.direction(Path(queue=5_000))
    rungs = list(evidence.rungs)
    rungs[2] = replace(rungs[2], arrived=rungs[2].arrived - 20, loss_runs=2, lost_in_runs=20)
    findings = conclusions.conclude(replace(evidence, rungs=tuple(rungs))).findings
    (unknown,) = [finding for finding in findings if finding.cause is Cause.UNKNOWN]
    assert "20 of" in unknown.sentence
    assert ", 10 in a row on average: too few to tell the cause (76 needed)" in unknown.sentence


def test_a_size_that_does_not_pass_is_a_black_hole() -> None:
    evidence = synthetic.direction(Path(queue=5_000))
    narrow = replace(evidence, idle=replace(evidence.idle, mtu_bytes=1_420))
    (finding,) = conclusions.conclude(narrow).findings
    assert finding.cause is Cause.MTU
    assert "1420" in finding.sentence
    assert "1392" in finding.advice


def test_a_path_that_carried_everything_has_no_known_rate() -> None:
    diagnosis = conclusions.conclude(synthetic.direction(Path(rate=100e6), factors=(0.01, 0.02, 0.05)))
    assert diagnosis.capacity_bits_per_s is None
    assert diagnosis.findings[0].cause is Cause.UNKNOWN
    assert not diagnosis.bufferbloat.letter
    assert diagnosis.bufferbloat.reason


def test_bufferbloat_is_graded_at_full_load_only() -> None:
    diagnosis = conclusions.conclude(synthetic.direction(Path(queue=60_000)))
    assert diagnosis.bufferbloat.letter == "B"
    assert diagnosis.bufferbloat.increase_us == pytest.approx(48e3, rel=0.1)


def test_without_a_ladder_it_is_said_to_be_missing() -> None:
    diagnosis = conclusions.conclude(
        DirectionEvidence(Direction.REVERSE, IdlePath({"p5": 1e4, "p50": 1e4, "p95": 1e4}))
    )
    assert "the rate ladder" in diagnosis.not_checked
    assert diagnosis.findings[0].cause is Cause.UNKNOWN


def test_a_longer_round_trip_at_the_end_is_a_change() -> None:
    evidence = synthetic.direction(Path(queue=5_000))
    idle = replace(evidence.idle, rtt_us={"p5": 20e3, "p50": 20e3, "p95": 20e3})
    assert "changed" in conclusions.conclude(replace(evidence, idle=idle)).changed
    assert not conclusions.conclude(evidence).changed


def test_a_stock_receiver_tells_the_rate_but_no_policer() -> None:
    evidence = synthetic.direction(PATHS["policer"][0])
    counted = tuple(replace(rung, flight=None, rtt_us={}) for rung in evidence.rungs)
    diagnosis = conclusions.conclude(replace(evidence, rungs=counted))
    assert diagnosis.capacity_bits_per_s == pytest.approx(8e6, rel=0.1)
    assert {finding.cause for finding in diagnosis.findings} == {Cause.LINE}
    assert any("a policer" in words for words in diagnosis.not_checked)


def test_round_trips_tell_a_stock_receivers_queue() -> None:
    evidence = synthetic.direction(PATHS["queue"][0])
    counted = tuple(replace(rung, flight=None) for rung in evidence.rungs)
    diagnosis = conclusions.conclude(replace(evidence, rungs=counted))
    assert diagnosis.capacity_bits_per_s == pytest.approx(10e6, rel=0.05)
    assert {finding.cause for finding in diagnosis.findings} == {Cause.QUEUE}
    assert diagnosis.findings[0].evidence["queue_bytes"] == pytest.approx(60_000, rel=0.15)


def test_loss_that_grows_with_the_rate_is_not_called_random() -> None:
    evidence = synthetic.direction(Path(queue=5_000))
    rungs = []
    for number, rung in enumerate(evidence.rungs[:5]):
        lost = round(rung.sent * 0.02 * number)
        rungs.append(replace(rung, arrived=rung.sent - lost, flight=None, loss_runs=None, lost_in_runs=None))
    findings = conclusions.conclude(replace(evidence, rungs=tuple(rungs[:2]))).findings
    assert Cause.NOISE not in {finding.cause for finding in findings}


def test_a_disturbed_stretch_is_no_overload() -> None:
    """A machine that stops for a moment sends a burst, which a short queue drops: others carried more."""
    evidence = synthetic.direction(Path(queue=8_000))
    rungs = list(evidence.rungs)
    flight = rungs[3].flight
    assert flight is not None
    arrived = flight.arrived_packets.copy()
    arrived[400:500] = 0
    lost = int((flight.sent_packets - arrived).sum())
    rungs[3] = replace(
        rungs[3],
        arrived=rungs[3].sent - lost,
        flight=replace(flight, arrived_packets=arrived, arrived_bytes=arrived * rungs[3].packet_bytes),
    )
    diagnosis = conclusions.conclude(replace(evidence, rungs=tuple(rungs)))
    assert diagnosis.capacity_bits_per_s == pytest.approx(10e6, rel=0.01)


def test_a_bucket_that_was_not_full_hides_no_burst() -> None:
    path = PATHS["policer"][0]
    evidence = synthetic.direction(path)
    drained = synthetic.direction(replace(path, bucket=20_000), seed=2)
    rungs = (*drained.rungs[:7], *evidence.rungs[7:])
    findings = conclusions.conclude(replace(evidence, rungs=rungs)).findings
    assert findings[0].evidence["burst_bytes"] == pytest.approx(path.bucket, rel=0.2)


def test_losses_of_the_senders_own_bursts_are_not_random() -> None:
    """A machine that is held up for 30 ms sends 30 packets at once, which a queue of five does not hold."""
    path = Path(queue=5_000)
    evidence = synthetic.direction(path)
    rng = np.random.default_rng(3)
    held = tuple(
        synthetic.rung(path, rung.offered_bits_per_s, rng, stalls=5) if number < 5 else rung
        for number, rung in enumerate(evidence.rungs)
    )
    lost = sum(rung.sent - rung.arrived for rung in held[:5])
    assert lost > 50
    causes = {finding.cause for finding in conclusions.conclude(replace(evidence, rungs=held)).findings}
    assert causes == {Cause.LINE}


def test_a_sender_that_was_held_up_hides_no_bursts_of_loss() -> None:
    """A bucket lets 30 ms of packets pass at once, so those lose no more than others do."""
    path = Path(rate=50e6, queue=100_000, police=10e6, bucket=300_000, loss=0.04, mean_burst=5.0)
    evidence = synthetic.direction(path)
    rng = np.random.default_rng(3)
    held = tuple(
        synthetic.rung(path, rung.offered_bits_per_s, rng, stalls=5) if number < 5 else rung
        for number, rung in enumerate(evidence.rungs)
    )
    for rungs in (evidence.rungs, held):
        findings = conclusions.conclude(replace(evidence, rungs=rungs)).findings
        assert {finding.cause for finding in findings} == {Cause.POLICER, Cause.BURSTS}


def test_an_end_that_waited_is_no_limit_of_a_path_that_was_filled() -> None:
    evidence = synthetic.direction(Path(queue=5_000))
    waits = synthetic.limited(application=0.2)
    slow, full = (synthetic.run(path=(waits,), bits_per_second=rate) for rate in (5e6, 9e6))
    (first, *_) = conclusions.conclude(replace(evidence, rounds=((slow,),))).findings
    assert first.cause is Cause.APPLICATION
    (first, *_) = conclusions.conclude(replace(evidence, rounds=((slow,), (full,)))).findings
    assert first.cause is Cause.LINE


def test_an_end_that_held_one_transport_is_named_for_it_alone() -> None:
    """Another transport filled the path, so the window comes after the limit of the path, with a name."""
    evidence = synthetic.direction(PATHS["policer"][0])
    rate = conclusions.conclude(evidence).capacity_bits_per_s
    assert rate is not None
    window = synthetic.limited(receive_window=0.4)
    full = synthetic.run(bits_per_second=0.95 * rate)

    def causes(share: float) -> list[tuple[Cause, bool]]:
        held = synthetic.run(transport="tcp", path=(window,), bits_per_second=share * rate)
        findings = conclusions.conclude(replace(evidence, rounds=((held, full),))).findings
        return [(finding.cause, finding.sentence.startswith("tcp alone: ")) for finding in findings]

    assert causes(0.3) == [(Cause.POLICER, False), (Cause.RECEIVE_WINDOW, True)]
    assert causes(0.8) == [(Cause.POLICER, False)]


def test_lumps_of_the_way_back_are_those_of_the_acknowledgements() -> None:
    """Jitter of the way back, however, is named in that direction only."""
    steady = synthetic.direction(Path(queue=5_000))
    for path, causes in ((Path(lump_us=25e3), {Cause.ACK_LUMPS}), (Path(jitter_us=25e3), {Cause.LINE})):
        echoes = synthetic.idle(path, np.random.default_rng(1))
        findings = conclusions.conclude(replace(steady, idle=echoes)).findings
        assert {finding.cause for finding in findings} == causes
        assert "acknowledgements" in findings[0].sentence or Cause.LINE in causes


def test_periods_that_are_equal_in_every_figure_are_compared_all_the_same() -> None:
    """Three rounds of bare datagrams over a path without chance: only their arrays are others."""
    path, causes = PATHS["policer"]
    whole = synthetic.direction(path)
    again = tuple(replace(one, flight=_copy(one)) for one in whole.rungs)
    twice = replace(whole, rungs=(*whole.rungs, *again))
    assert {finding.cause for finding in conclusions.conclude(twice).findings} == causes


def _copy(rung: Rung) -> FlightBins:
    assert rung.flight is not None
    return replace(rung.flight, delay_us=rung.flight.delay_us.copy())


def _held(whole: DirectionEvidence, path: Path, wakes_us: float) -> DirectionEvidence:
    """The ladder by a sender that gets the processor once in `wakes_us`, and then sends all that is due."""
    rng = np.random.default_rng(5)
    carried = path.police or path.rate
    rates = [share * carried for share in (*SHARES, 1.6)]
    return replace(whole, rungs=tuple(synthetic.rung(path, rate, rng, wakes_us=wakes_us) for rate in rates))


@pytest.mark.parametrize("packets", [20, 40])
def test_a_sender_that_is_held_up_measures_the_rate_of_a_short_queue(packets: int) -> None:
    """The bottleneck stands idle before each burst: the mean rate of the arrivals is lower."""
    path = Path(rate=20e6, queue=packets * 1_000)
    found = conclusions.conclude(_held(synthetic.direction(path), path, 4e3))
    assert found.capacity_bits_per_s == pytest.approx(20e6, rel=0.03)
    assert Cause.POLICER not in {finding.cause for finding in found.findings}


@pytest.mark.parametrize(("queue", "wakes_us"), [(6_000, 4e3), (12_000, 60e3)])
def test_a_rate_that_a_sender_cannot_show_is_a_lower_bound(queue: int, wakes_us: float) -> None:
    path = Path(rate=20e6, queue=queue)
    found = conclusions.conclude(_held(synthetic.direction(path), path, wakes_us))
    assert found.capacity_bits_per_s is None
    (line,) = [finding for finding in found.findings if finding.cause is Cause.LINE]
    assert line.confidence is Confidence.POSSIBLE
    assert "at least" in line.sentence


def held_by_window(flight: FlightBins, p50_us: float, **fields: Any) -> RunEvidence:
    """A test of stock KCP whose send window was full all the time, on a path of 300 ms."""
    path = replace(
        synthetic.limited(send_window=1.0),
        flight=flight,
        min_rtt_us=300e3,
        rtt_us={"p5": 300e3, "p50": p50_us, "p95": p50_us, "max": p50_us},
        packet_bytes=1_428,
    )
    settings: dict[str, Any] = {"transport": "kcp", "controlled": False, "windows": (4_096, 4_096)}
    return synthetic.run(**settings | fields, path=(path,))


def names_send_window(run: RunEvidence) -> bool:
    return any(one.cause is Cause.SEND_WINDOW for one in end_limits(run))


def test_copies_that_were_sent_in_vain_make_no_window_the_limit() -> None:
    """The window carries far more per round trip than the path: its queue keeps the window full."""
    leaving = np.ones(4_000, np.int64)
    leaving[0] = 4_001  # a window at once, then as fast as acknowledgements come
    arriving = leaving - np.arange(len(leaving)) % 2  # every second one is a copy in vain
    delays = np.linspace(300e3, 800e3, len(leaving))
    flight = FlightBins(0, 1_000, 1_428 * leaving, 1_428 * arriving, leaving, arriving, delays)
    resent = EndFigures(resent=2_000, in_vain=2_000)
    held = held_by_window(flight, 700e3, seconds=4.0, bits_per_second=18e6, figures=resent)
    assert not names_send_window(held)
    assert names_send_window(replace(held, figures=replace(resent, in_vain=0), windows=(300, 4_096)))


def test_a_window_that_leaves_at_once_is_no_rate() -> None:
    """The record ends before a round trip is over: what left in it is one window."""
    leaving = np.full(200, 20, np.int64)
    flight = FlightBins(0, 1_000, 1_428 * leaving, 1_428 * leaving, leaving, leaving, np.full(200, 1e6))
    assert not names_send_window(held_by_window(flight, 1e6, bits_per_second=10e6))


def test_a_queue_that_stays_short_at_a_small_overload_is_no_policer() -> None:
    """CoDel on a long path: a few milliseconds at 1.05 times the rate, half a second at 1.7 times."""
    path, _ = PATHS["policer"]
    capacity = path_model.fit(synthetic.direction(path)).capacity
    assert overload.bucket(capacity, usual_us=26e3) is not None
    *others, last = capacity.overloaded
    short = [replace(one, rise_us=9e3, rise_error_us=330.0) for one in others]
    long = replace(last, rise_us=495e3, rise_error_us=22e3, loses=True)
    managed = replace(capacity, overloaded=(*short, long))
    assert overload.bucket(managed, usual_us=26e3) is None
