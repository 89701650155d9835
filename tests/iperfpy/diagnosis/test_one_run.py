"""Conclusions of one ordinary test."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

from iperfpy.diagnosis import advice, one_run
from iperfpy.diagnosis.evidence import EndFigures
from iperfpy.diagnosis.finding import Cause, Confidence
from iperfpy.protocols.path_evidence import FlightBins, PathEvidence
from tests.iperfpy.diagnosis.synthetic import Path, bins, carry, limited, run, stream

LINE = stream(Path(rate=50e6), 5e6)


@pytest.mark.parametrize(
    ("key", "cause"),
    [
        ("application", Cause.APPLICATION),
        ("receive_window", Cause.RECEIVE_WINDOW),
        ("send_window", Cause.SEND_WINDOW),
        ("send_buffer", Cause.SEND_BUFFER),
        ("processor", Cause.PROCESSOR),
    ],
)
def test_the_limit_that_holds_most_of_the_time_is_named_first(key: str, cause: Cause) -> None:
    findings = one_run.conclude(run(path=(limited(**{key: 0.7, "pacing": 0.3}),)))
    assert findings[0].cause is cause
    assert findings[0].confidence is Confidence.SURE
    assert "70.0 % of the time" in one_run.limit_line(findings)
    assert one_run.advice_line(findings).startswith("Try: ")


def test_a_window_is_named_in_segments_with_its_ceiling_and_the_flag() -> None:
    findings = one_run.conclude(
        run(
            path=(limited(send_window=0.9),),
            windows=(100, 2_048),
            window_flags=("--sndwnd", "--rcvwnd"),
            bits_per_second=22e6,
        )
    )
    assert findings[0].evidence["window_segments"] == 100
    assert findings[0].evidence["ceiling_bits_per_s"] == pytest.approx(100 * 1_428 * 8 / 0.05, rel=0.01)
    assert "--sndwnd 200" in findings[0].advice


def test_a_window_that_carries_more_than_arrived_is_not_the_limit() -> None:
    """A fixed window that is larger than the path is full all the time: it stands in the path's queue."""
    path = limited(send_window=0.9)
    findings = one_run.conclude(run(path=(path,), windows=(2_048, 2_048), bits_per_second=20e6))
    assert Cause.SEND_WINDOW not in {finding.cause for finding in findings}
    ceiling = 2_048 * 1_428 * 8 / 0.05
    findings = one_run.conclude(run(path=(path,), windows=(2_048, 2_048), bits_per_second=0.9 * ceiling))
    assert findings[0].cause is Cause.SEND_WINDOW


def _windowed(delays_us: Sequence[float], packets: int = 7) -> PathEvidence:
    """A window of 100 segments for 10 s, with these round trips in turn."""
    ones = np.full(4_000, packets, np.int64)
    flight = FlightBins(0, 2_500, ones * 1_428, ones * 1_428, ones, ones, np.resize(delays_us, 4_000))
    return replace(limited(send_window=0.9), flight=flight)


def test_a_window_carries_less_where_the_path_itself_takes_longer() -> None:
    carried = 100 * 1_428 * 8 / 0.1
    window = {"windows": (100, 2_048), "window_flags": ("--sndwnd", "--rcvwnd")}
    jittery = _windowed((55e3, 100e3, 145e3), packets=3)
    findings = one_run.conclude(run(path=(jittery,), bits_per_second=carried, **window))
    assert findings[0].cause is Cause.SEND_WINDOW
    assert findings[0].evidence["ceiling_bits_per_s"] == pytest.approx(100 * 1_428 * 8 / 0.095, rel=0.01)


def test_a_queue_that_a_window_fills_slowly_is_not_the_paths_own_delay() -> None:
    window = {"windows": (100, 2_048), "window_flags": ("--sndwnd", "--rcvwnd")}
    growing = _windowed(np.linspace(50e3, 600e3, 4_000).tolist(), packets=1)
    findings = one_run.conclude(run(path=(growing,), bits_per_second=2e6, **window))
    assert Cause.SEND_WINDOW not in {finding.cause for finding in findings}


def test_a_window_waits_for_packets_that_come_late() -> None:
    late = replace(limited(send_window=0.9), flight=LINE, displaced_packets=300, displacement_us=50e3)
    carried = 100 * 1_428 * 8 / 0.1
    findings = one_run.conclude(run(path=(late,), windows=(100, 100), bits_per_second=carried))
    assert findings[0].cause is Cause.SEND_WINDOW


@pytest.mark.parametrize("end", ["receiver", "sender"])
def test_an_end_that_did_not_run_is_named_and_explains_the_rest(end: str) -> None:
    """A stopped program leaves windows full, lets timers expire, and makes round trips longer."""
    rtts = {"p5": 50e3, "p50": 120e3, "p95": 700e3, "max": 700e3}
    path = replace(
        limited(receive_window=0.6), flight=LINE, rtt_us=rtts, extra={f"{end}_held_up_us": 6_000_000}
    )
    vain = EndFigures(resent=100, in_vain=71)
    findings = one_run.conclude(run(path=(path,), figures=vain))
    assert [finding.cause for finding in findings] == [Cause.PROCESSOR]
    assert f"the {end}'s program, which did not run for 60.0 %" in findings[0].sentence
    (named,) = one_run.sender_findings(run(path=(path,), figures=vain))
    assert named.cause is Cause.PROCESSOR


def test_a_window_that_the_receivers_program_keeps_closed_is_not_too_small() -> None:
    rtts = {"p5": 50e3, "p50": 52e3, "p95": 55e3, "max": 60e3}
    large = replace(limited(receive_window=0.6), rtt_us=rtts, extra={"peer_window_bytes": 2_000_000})
    tcp = {"transport": "tcp", "over_udp": False}
    findings = one_run.conclude(run(path=(large,), bits_per_second=20e6, **tcp))
    assert (findings[0].cause, findings[0].confidence) == (Cause.PROCESSOR, Confidence.LIKELY)
    assert "left data unread" in findings[0].sentence
    small = replace(large, extra={"peer_window_bytes": 100_000})
    findings = one_run.conclude(run(path=(small,), bits_per_second=15e6, **tcp))
    assert findings[0].cause is Cause.RECEIVE_WINDOW
    assert findings[0].evidence["window_segments"] == 70
    # A queue of the path that the window filled is neither.
    filled = replace(large, rtt_us={"p5": 790e3, "p50": 800e3, "p95": 800e3, "max": 800e3})
    findings = one_run.conclude(run(path=(filled,), bits_per_second=20e6, **tcp))
    assert findings[0].cause is Cause.QUEUE


def test_a_window_that_losses_hold_up_is_too_small_and_its_advice_is_in_bytes() -> None:
    """At 10 % loss hardly a window passes without a repair that is lost again; the kernel tells no runs."""
    rtts = {"p5": 50e3, "p50": 52e3, "p95": 55e3, "max": 60e3}
    lossy = replace(LINE, arrived_packets=LINE.sent_packets * (np.arange(len(LINE.sent_packets)) % 10 > 0))
    path = replace(
        limited(receive_window=0.7), flight=lossy, rtt_us=rtts, extra={"peer_window_bytes": 400_000}
    )
    tcp = {"transport": "tcp", "over_udp": False, "window_flags": ("-w", "-w")}
    findings = one_run.conclude(run(path=(path,), bits_per_second=20e6, **tcp))
    assert findings[0].cause is Cause.RECEIVE_WINDOW
    assert findings[0].advice.startswith("-w 781K")
    whole = replace(path, flight=LINE)
    findings = one_run.conclude(run(path=(whole,), bits_per_second=20e6, **tcp))
    assert findings[0].cause is Cause.PROCESSOR


def test_a_window_that_limits_now_and_then_is_not_what_losses_hold_up() -> None:
    """A queue that overflows lost as much; without a limit of the window it is the path's doing."""
    lossy = replace(LINE, arrived_packets=LINE.sent_packets * (np.arange(len(LINE.sent_packets)) % 10 > 0))
    tcp = {"transport": "tcp", "over_udp": False, "window_flags": ("-w", "-w")}
    for share, named in ((0.9, True), (0.12, False)):
        path = replace(
            limited(receive_window=share),
            flight=lossy,
            rtt_us={"p5": 50e3, "p50": 100e3, "p95": 120e3, "max": 130e3},
            extra={"peer_window_bytes": 600_000},
        )
        found = one_run.conclude(run(path=(path,), bits_per_second=20e6, **tcp))
        assert {finding.cause for finding in found} == ({Cause.RECEIVE_WINDOW} if named else set()) | {
            Cause.QUEUE
        }


def _in_bursts(path: Path, sizes: Sequence[int] = (40, 160)) -> PathEvidence:
    """Segments and repairs of a full send window: bursts of these sizes, every 10 ms for 10 s."""
    counts = np.resize(sizes, 1_000)
    sent_us = np.repeat(np.arange(1_000) * 10e3, counts)
    delays = carry(path, sent_us, 1_428, np.random.default_rng(1))
    flight = replace(bins(sent_us, delays, 1_428), one_way=False)
    flight = replace(flight, delay_us=flight.delay_us + path.rtt_us)
    return replace(limited(send_window=0.99), flight=flight, min_rtt_us=path.rtt_us)


@pytest.mark.parametrize(
    ("path", "first"),
    [
        (Path(rate=500e6, queue=10**6, rtt_us=20e3, police=10e6, bucket=64_000), Cause.POLICER),
        (Path(rate=500e6, queue=10**6, rtt_us=20e3, police=10e6, bucket=64_000, loss=0.03), Cause.POLICER),
        (Path(rate=20e6, queue=12_000, rtt_us=50e3), Cause.LINE),
        (Path(rate=1e9, queue=10**6, rtt_us=20e3, loss=0.6), Cause.SEND_WINDOW),
        (Path(rate=1e9, queue=10**6, rtt_us=20e3, loss=0.6, mean_burst=4.0), Cause.SEND_WINDOW),
    ],
    ids=("policer", "policer-and-chance", "short-queue", "chance", "runs"),
)
def test_a_window_that_loses_what_it_sends_at_once_is_not_too_small(path: Path, first: Cause) -> None:
    """Each repair may be lost again, by chance or because as many leave together: chance takes no more of a
    larger window."""
    stream = _in_bursts(path)
    assert stream.flight is not None
    arrived = float(stream.flight.arrived_bytes.sum()) * 8 / 10
    window = {"windows": (2_048, 2_048), "window_flags": ("--sndwnd", "--rcvwnd")}
    stock = {"transport": "kcp", "controlled": False}
    findings = one_run.conclude(run(path=(stream,), bits_per_second=0.9 * arrived, **stock, **window))
    assert findings[0].cause is first
    assert (Cause.SEND_WINDOW in {finding.cause for finding in findings}) is (first is Cause.SEND_WINDOW)
    assert ("larger window" in one_run.advice_line(findings)) is (first is not Cause.SEND_WINDOW)


def test_counters_that_date_losses_late_do_not_tell_which_packets_were_lost() -> None:
    stream = _in_bursts(Path(rate=20e6, queue=12_000, rtt_us=50e3))
    sampled = replace(stream, extra={"sampled": 1})
    tcp = {"transport": "tcp", "windows": (300, 300), "bits_per_second": 18e6}
    for path, named in ((stream, False), (sampled, True)):
        findings = one_run.conclude(run(path=(path,), **tcp))
        assert (Cause.SEND_WINDOW in {finding.cause for finding in findings}) is named


def test_limits_below_a_tenth_of_the_time_are_not_named() -> None:
    path = PathEvidence(flight=LINE, limited_us={"send-window": 900_000, "pacing": 9_100_000}, min_rtt_us=5e4)
    assert one_run.conclude(run(path=(path,)))[0].cause is Cause.LINE


def test_the_rate_of_the_test_is_the_limit_if_it_was_reached() -> None:
    findings = one_run.conclude(run(target_bits_per_second=5e6, bits_per_second=9.9e6, streams=2))
    assert findings[0].cause is Cause.APPLICATION
    assert "-b" in findings[0].sentence
    slower = one_run.conclude(run(target_bits_per_second=5e6, bits_per_second=9e6, streams=2))
    assert slower[0].cause is not Cause.APPLICATION


def test_datagrams_lost_by_chance_leave_the_rate_of_the_test_its_limit() -> None:
    """Less than the rate arrives then, and nothing of it is the rate of the path."""
    flight = stream(Path(rate=20e6, queue=100_000, loss=0.05), 8e6)
    sent, arrived = int(flight.sent_packets.sum()), int(flight.arrived_packets.sum())
    rtts = {"p5": 50e3, "p50": 51e3, "p95": 58e3, "max": 60e3}
    path = PathEvidence(flight=flight, min_rtt_us=50e3, rtt_us=rtts)
    udp = {"transport": "udp", "reliable": False, "controlled": False, "target_bits_per_second": 8e6}
    rate = 8e6 * arrived / sent
    first, other = one_run.conclude(run(path=(path,), bits_per_second=rate, **udp))
    assert (first.cause, other.cause) == (Cause.APPLICATION, Cause.NOISE)
    assert first.because == f"{sent - arrived} of {sent:,} datagrams were lost, by chance"
    assert other.evidence["share"] == pytest.approx(0.05, rel=0.2)
    # A queue that a router keeps short drops by chance as well; a policer does not.
    standing = replace(path, rtt_us={**rtts, "p50": 56e3})
    policed = replace(
        path, flight=stream(Path(rate=50e6, police=7e6, bucket=50_000, queue=100_000, rtt_us=50e3), 8e6)
    )
    for other_path in (standing, policed):
        causes = {one.cause for one in one_run.conclude(run(path=(other_path,), bits_per_second=7e6, **udp))}
        assert not causes & {Cause.APPLICATION, Cause.NOISE}
    # The sender reached less than the rate that was asked for.
    slow = one_run.conclude(run(path=(path,), bits_per_second=0.9 * rate, **udp))
    assert [one.cause for one in slow] == [Cause.PROCESSOR, Cause.NOISE]
    assert "but for random loss" in slow[0].sentence
    # A receiver that is too slow drops by chance, too.
    busy = run(path=(path,), bits_per_second=rate, cpu_percent={"receiver_total": 99.0}, **udp)
    assert [one.cause for one in one_run.conclude(busy)] == [Cause.PROCESSOR]
    dropping = run(path=(path,), bits_per_second=rate, kernel_drops=40, **udp)
    assert [one.cause for one in one_run.conclude(dropping)] == [Cause.UNKNOWN]


def test_datagrams_that_the_kernel_dropped_are_the_receivers_fault() -> None:
    flight = stream(Path(rate=50e6, queue=100_000, loss=0.05), 5e6)
    lost = int((flight.sent_packets - flight.arrived_packets).sum())
    udp = {"reliable": False, "controlled": False, "path": (PathEvidence(flight=flight),)}
    assert one_run.conclude(run(**udp, kernel_drops=lost - 5))[0].cause is Cause.PROCESSOR
    assert one_run.conclude(run(**udp, kernel_drops=5))[0].cause is not Cause.PROCESSOR


def test_datagrams_that_all_arrive_show_the_limit_of_the_machine_that_sends() -> None:
    udp = {"reliable": False, "controlled": False, "path": (PathEvidence(flight=LINE),)}
    findings = one_run.conclude(run(**udp, bits_per_second=5e6))
    assert (findings[0].cause, findings[0].confidence) == (Cause.PROCESSOR, Confidence.LIKELY)
    assert "no rate was asked for" in one_run.limit_line(findings)
    short = one_run.conclude(run(**udp, bits_per_second=5e6, target_bits_per_second=8e6))
    assert "8.00 Mbit/s were asked for" in one_run.limit_line(short)
    lossy = PathEvidence(flight=stream(Path(rate=50e6, queue=100_000, loss=0.05), 5e6))
    lost = one_run.conclude(run(reliable=False, controlled=False, path=(lossy,), bits_per_second=5e6))
    assert lost[0].cause is not Cause.PROCESSOR
    # Datagrams after the last arrival are in no record of the path.
    dead = one_run.conclude(
        run(**udp, bits_per_second=5e6, target_bits_per_second=8e6, figures=EndFigures(lost=900))
    )
    assert Cause.PROCESSOR not in {finding.cause for finding in dead}
    few = one_run.conclude(
        run(**udp, bits_per_second=8e6, target_bits_per_second=8e6, figures=EndFigures(lost=3))
    )
    assert re.search(r"\(3 of [0-9,]+ datagrams were lost\)", one_run.limit_line(few))


def test_between_two_ends_of_one_machine_is_no_path() -> None:
    rtts = {"p5": 50.0, "p50": 120e3, "p95": 150e3, "max": 160e3}
    path = PathEvidence(flight=LINE, min_rtt_us=50.0, rtt_us=rtts, displaced_packets=10_000)
    (finding,) = one_run.conclude(run(path=(path,), same_host=True))
    assert finding.cause is Cause.PROCESSOR
    assert "both ends run on it" in finding.sentence
    loaded = replace(path, min_rtt_us=2_500.0)  # a sender that keeps its processor busy
    (finding,) = one_run.conclude(run(path=(loaded,), same_host=True, idle_rtt_us=40.0))
    assert finding.cause is Cause.PROCESSOR
    emulated = PathEvidence(flight=LINE, min_rtt_us=50e3, rtt_us=rtts)
    for idle_us in (None, 50e3):
        findings = one_run.conclude(run(path=(emulated,), same_host=True, idle_rtt_us=idle_us))
        assert findings[0].cause is Cause.QUEUE
    window = replace(limited(send_window=0.9), min_rtt_us=1e3)
    first = one_run.conclude(run(path=(window,), windows=(100, 100), bits_per_second=1.1e9, same_host=True))[
        0
    ]
    assert first.cause is Cause.SEND_WINDOW
    rare = replace(limited(send_buffer=0.2), min_rtt_us=50.0)
    (only,) = one_run.conclude(run(path=(rare,), same_host=True))
    assert "both ends run on it" in only.sentence


def test_a_full_processor_is_named_with_its_end() -> None:
    findings = one_run.conclude(run(cpu_percent={"sender_total": 40.0, "receiver_total": 99.0}))
    assert findings[0].cause is Cause.PROCESSOR
    assert "receiver" in findings[0].sentence


def test_a_test_whose_data_stopped_early_names_no_limit() -> None:
    # A stock iperf3 waits busily after the end of its -F file.
    stopped = run(cpu_percent={"sender_total": 99.0}, seconds=5.0, quiet_s=4.0)
    (finding,) = one_run.conclude(stopped)
    assert finding.cause is Cause.UNKNOWN
    assert "no data moved in the last 4.00 of 5.00 s" in one_run.limit_line((finding,))
    (finding,) = one_run.conclude(replace(stopped, quiet_s=0.4 * stopped.seconds))
    assert finding.cause is Cause.PROCESSOR
    # A sender that tells that it had nothing to send is believed.
    told = replace(stopped, path=(limited(application=0.8),))
    assert one_run.conclude(told)[0].cause is Cause.APPLICATION


def test_a_policer_is_found_in_one_test() -> None:
    flight = stream(Path(rate=50e6, police=4e6, bucket=50_000, queue=100_000, rtt_us=40e3), 5e6)
    findings = one_run.conclude(run(path=(PathEvidence(flight=flight, min_rtt_us=40e3, noise_share=0.2),)))
    assert [finding.cause for finding in findings] == [Cause.POLICER]
    assert "a token bucket explains " in one_run.limit_line(findings)


def test_a_policer_that_only_counters_show_is_likely_at_best() -> None:
    flight = stream(Path(rate=50e6, police=4e6, bucket=50_000, queue=100_000, rtt_us=40e3), 5e6)
    (finding,) = one_run.conclude(
        run(path=(PathEvidence(flight=flight, min_rtt_us=40e3, extra={"sampled": 1}),))
    )
    assert (finding.cause, finding.confidence) == (Cause.POLICER, Confidence.LIKELY)


def test_too_few_losses_are_not_explained() -> None:
    flight = stream(Path(rate=50e6, queue=100_000, loss=0.002), 5e6)
    findings = one_run.conclude(run(path=(PathEvidence(flight=flight, min_rtt_us=50e3, noise_share=0.002),)))
    assert findings[0].cause is Cause.UNKNOWN
    assert "too few to tell a policer (15 needed)" in one_run.limit_line(findings)


def test_noise_needs_losses() -> None:
    """The record and the model of the sender must both show it, and the record at times without a queue."""
    flight = stream(Path(rate=50e6, queue=100_000, loss=0.02), 5e6)
    path = PathEvidence(flight=flight, min_rtt_us=50e3, noise_share=0.02, rate_bits_per_s=50e6)
    (finding,) = one_run.conclude(run(path=(path,)))
    assert finding.cause is Cause.NOISE
    assert finding.evidence["share"] == pytest.approx(0.02, rel=0.3)
    overflow = stream(Path(rate=4e6, queue=20_000, rtt_us=50e3), 5e6)
    path = replace(path, flight=overflow, rate_bits_per_s=4e6)
    assert Cause.NOISE not in {finding.cause for finding in one_run.conclude(run(path=(path,)))}


def test_congestion_control_that_holds_the_sender_names_the_path() -> None:
    """Losses do not change that: they are those of the probes."""
    flight = stream(Path(rate=50e6, queue=100_000, loss=0.002), 5e6)
    path = PathEvidence(flight=flight, min_rtt_us=50e3, limited_us={"pacing": 9_900_000})
    findings = one_run.conclude(run(path=(path,)))
    assert findings[0].cause is Cause.LINE
    assert "too few to tell a policer (15 needed)" in one_run.limit_line(findings)
    short = one_run.conclude(run(path=(path,), seconds=1.0))
    assert short[0].confidence is Confidence.POSSIBLE
    assert "-t" in one_run.advice_line(short)


def test_a_slow_rate_is_not_said_to_vary() -> None:
    """A period of 100 ms has few packets then."""
    path = PathEvidence(flight=LINE, min_rtt_us=50e3, rate_deviation=0.3, packet_bytes=1_428)
    fast = one_run.conclude(run(path=(path,), bits_per_second=50e6))
    assert fast[0].cause is Cause.RATE_VARIES
    slow = one_run.conclude(run(path=(path,), bits_per_second=1e6))
    assert Cause.RATE_VARIES not in {finding.cause for finding in slow}


def test_a_filled_queue_is_named_with_its_delay() -> None:
    rtts = {"p5": 50e3, "p50": 120e3, "p95": 150e3, "max": 160e3}
    findings = one_run.conclude(run(path=(PathEvidence(flight=LINE, min_rtt_us=50e3, rtt_us=rtts),)))
    assert findings[0].cause is Cause.QUEUE
    assert findings[0].evidence["delay_us"] == 100_000
    spread = PathEvidence(flight=LINE, min_rtt_us=50e3, rtt_us=rtts, delay_spread_us=95e3)
    assert Cause.QUEUE not in {finding.cause for finding in one_run.conclude(run(path=(spread,)))}


def test_a_filled_queue_drains_at_the_rate_of_the_path() -> None:
    """Not at the rate of the payload: the start of a test was slower, and copies fill the queue as well."""
    rtts = {"p5": 50e3, "p50": 120e3, "p95": 150e3, "max": 150e3}
    flight = stream(Path(rate=50e6, queue=100_000), 20e6)
    start = len(flight.arrived_bytes) // 4
    starts = replace(
        flight,
        arrived_bytes=np.concatenate([flight.arrived_bytes[:start] // 4, flight.arrived_bytes[start:]]),
    )
    found = run(path=(PathEvidence(flight=starts, min_rtt_us=50e3, rtt_us=rtts),), bits_per_second=12e6)
    evidence = one_run.conclude(found)[0].evidence
    assert evidence["rate_bits_per_s"] == pytest.approx(20e6, rel=0.01)
    assert evidence["queue_bytes"] == pytest.approx(100e3 * 20 / 8, rel=0.01)


def test_a_queue_that_grows_drains_slower_than_it_fills() -> None:
    """Records are by the time of departure: 5 % more leave than drain, and the delay grows."""
    full = stream(Path(rate=50e6, queue=100_000), 8.4e6)
    grown_us = np.arange(len(full.delay_us), dtype=np.float64) * (0.05 * full.width_us)
    flight = replace(full, delay_us=50e3 + grown_us)
    rtts = {"p5": 60e3, "p50": 200e3, "p95": 340e3, "max": 350e3}
    path = PathEvidence(flight=flight, min_rtt_us=50e3, rtt_us=rtts, extra={"sampled": 1})
    evidence = one_run.conclude(run(path=(path,), bits_per_second=7.6e6))[0].evidence
    assert evidence["rate_bits_per_s"] == pytest.approx(8e6, rel=0.01)


def test_round_trips_of_a_sender_that_waits_for_its_application_show_no_queue() -> None:
    """The last segment of each piece waits for a delayed acknowledgement of the kernel's TCP."""
    rises = {"p50": 45e3, "p95": 60e3, "max": 80e3}
    for waited_us, named in ((1_000_000, True), (9_000_000, False)):
        path = PathEvidence(
            min_rtt_us=40e3, rtt_us=rises, limited_us={"application": waited_us}, extra={"sampled": 1}
        )
        found = one_run.conclude(run(path=(path,)))
        assert (Cause.QUEUE in {finding.cause for finding in found}) is named


def test_retransmissions_in_vain_are_the_timers() -> None:
    vain = EndFigures(resent=100, in_vain=71)
    assert one_run.conclude(run(figures=vain))[0].cause is Cause.SPURIOUS
    needed = EndFigures(resent=100, in_vain=20)
    assert one_run.conclude(run(figures=needed))[0].cause is not Cause.SPURIOUS


@pytest.mark.parametrize(("controlled", "in_vain"), [(False, 77), (True, 20)])
def test_the_receiver_of_stock_kcp_knows_more_copies_than_it_acknowledges(
    controlled: bool, in_vain: int
) -> None:
    """With kcp-bbr all are acknowledged, and other copies were made by the path."""
    found = run(figures=EndFigures(resent=100, in_vain=20, repeated=77), controlled=controlled)
    assert found.resent_in_vain == in_vain
    named = {finding.cause for finding in one_run.conclude(found)}
    assert (Cause.SPURIOUS in named) is not controlled


def test_packets_resent_in_vain_hold_no_window_up() -> None:
    """They show no arrival of their own, as lost ones do."""
    path = _windowed((50e3,), packets=2)
    assert path.flight is not None
    arrived = path.flight.arrived_packets - 1
    path = replace(path, flight=replace(path.flight, arrived_packets=arrived, arrived_bytes=arrived * 1_428))
    for vain, limits in ((4_000, False), (0, True)):
        figures = EndFigures(resent=4_000, in_vain=vain)
        findings = one_run.conclude(
            run(path=(path,), windows=(100, 2_048), figures=figures, bits_per_second=4.5e6)
        )
        assert (Cause.SEND_WINDOW in {finding.cause for finding in findings}) is limits


def test_datagrams_behind_the_last_arrival_were_sent_and_lost() -> None:
    """No record of the path has them: only the counts of both ends."""
    recorded = int(LINE.sent_packets.sum())
    datagrams = {"transport": "udp", "reliable": False, "controlled": False}
    findings = one_run.conclude(
        run(
            path=(PathEvidence(flight=LINE),),
            figures=EndFigures(sent=recorded + 10, lost=10),
            target_bits_per_second=9e6,
            **datagrams,
        )
    )
    assert findings[0].cause is Cause.APPLICATION
    assert findings[0].because == f"10 of {recorded + 10:,} datagrams were lost"


def test_packets_resent_in_vain_because_the_path_reorders_are_the_paths() -> None:
    vain = EndFigures(resent=100, in_vain=71)
    path = PathEvidence(flight=LINE, displaced_packets=300)
    findings = one_run.conclude(run(path=(path,), figures=vain))
    assert Cause.SPURIOUS not in {finding.cause for finding in findings}
    assert Cause.REORDERING in {finding.cause for finding in findings}
    assert not one_run.sender_findings(run(path=(path,), figures=vain))


def test_a_transport_that_tells_nothing_leads_to_no_guess() -> None:
    (finding,) = one_run.conclude(run(transport="tcp", over_udp=False))
    assert finding.cause is Cause.UNKNOWN
    assert "diagnose" in finding.advice


def test_no_findings_make_a_line_all_the_same() -> None:
    assert one_run.limit_line(()).startswith("Limited by: not known")
    assert one_run.advice_line(()) == ""


def test_every_flag_in_advice_is_one_of_the_program() -> None:
    manual = (files("iperfpy") / "iperfpy.1").read_text().replace("\\-", "-")
    named = set(re.findall(r"--[a-z][a-z-]+", inspect.getsource(advice) + inspect.getsource(one_run)))
    assert len(named) > 4
    assert not [flag for flag in named if not re.search(rf"{flag}\b", manual)]
