"""Compares the columns of a report with packets: one line each, with the allowed difference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from iperfpy import Side
from tests.studies.wire.accounts import Curve
from tests.studies.wire.case import Outcome, Report

SHARE = 0.005
"""Allowed relative difference of bytes and bandwidth."""
RTT_US, BOUNDARY_US = 500.0, 5_000.0
START_US = {"sender": 50_000.0, "receiver": 10_000.0}
"""Allowed difference of interval ends. A sender starts a thread and makes its first block, and stock KCP
waits for a tick, before the first packet leaves; a receiver notices the first byte when it polls."""
JITTER_SHARE, JITTER_US = 0.10, 200.0
"""A datagram is stamped before it leaves; variation of that time looks like jitter."""
LOSS_POINTS, PERCENT_POINTS = 0.2, 0.01
TCP_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Line:
    """One comparison. `allowed` is the largest difference that is not an error, in the unit of the column."""

    case: str
    column: str
    wire: float
    reported: float | None
    allowed: float

    @property
    def difference(self) -> float | None:
        return None if self.reported is None else self.reported - self.wire

    @property
    def holds(self) -> bool:
        """True if the difference is allowed. A missing figure does not hold, nor does NaN."""
        return self.difference is not None and abs(self.difference) <= self.allowed


def judge(outcome: Outcome) -> list[Line]:
    """Compare every column of one case."""
    name, wire, case = outcome.case.name, outcome.wire, outcome.case
    # A test of an amount (-n) has no requested time.
    planned_us = 0.0 if "-n" in case.flags else case.seconds * 1e6
    sender = _Clock(outcome.sender, wire.vouched, float(wire.sent_us[0]))
    receiver = _Clock(outcome.receiver, wire.delivered, float(wire.arrived_us[0]))
    return [
        *_bytes(name, "sender", sender, planned_us),
        *_bytes(name, "receiver", receiver, planned_us),
        *_transmissions(outcome, sender, receiver),
        *_counts(outcome, sender, receiver),
        *_round_trips(outcome, sender),
        *_losses(outcome),
        *_sums(outcome),
    ]


class _Clock:
    """Clock of one end, aligned with the times of the packets.

    The end of every interval, with the bytes up to it, bounds the zero of the clock from both sides.
    `zero_us` satisfies all these bounds as far as possible, and lies as near to the first byte on the wire as
    they allow; `off_us` is the largest violation of a bound.
    """

    def __init__(self, report: Report, curve: Curve, first_us: float) -> None:
        self.report, self.curve, self.first_us = report, curve, first_us
        spans = [
            curve.when(counted) - 1e6 * end
            for counted, end in zip(report.counted("bytes"), report.intervals("end"), strict=True)
        ]
        low, high = max(span[0] for span in spans), min(span[1] for span in spans)
        self.off_us = max(0.0, low - high) / 2
        self.zero_us = float((low + high) / 2 if low > high else min(max(first_us, low), high))

    @property
    def end_us(self) -> float:
        return self.zero_us + self.report.total("end") * 1e6


def _bytes(name: str, side: str, clock: _Clock, planned_us: float) -> Iterator[Line]:
    """Compare payload, rate and interval ends of one end. A receiver's rate covers the time from the first
    byte on the wire to the last, or to the end of the requested time, so a stall at the end is part of it. A
    sender's rate covers its own measured time."""
    total, curve = clock.report.total, clock.curve
    carried = curve.at(clock.end_us)
    yield Line(name, f"{side} bytes", carried, total("bytes"), SHARE * carried)
    began_us, ended_us = clock.zero_us, clock.end_us
    if side == "receiver":
        last_us = float(curve.us[curve.us <= clock.end_us][-1])
        began_us, ended_us = clock.first_us, max(last_us, min(clock.end_us, clock.first_us + planned_us))
    rate = 8e6 * (carried - curve.at(began_us)) / max(1.0, ended_us - began_us)
    yield Line(name, f"{side} bits_per_second", rate, total("bits_per_second"), SHARE * rate)
    yield Line(name, f"{side} interval ends, furthest off (us)", 0.0, clock.off_us, BOUNDARY_US)
    late_us = clock.zero_us - clock.first_us
    yield Line(name, f"{side} start, from the first byte (us)", 0.0, late_us, START_US[side])


def _transmissions(outcome: Outcome, sender: _Clock, receiver: _Clock) -> Iterator[Line]:
    name, wire, total = outcome.case.name, outcome.wire, outcome.sender.total
    sent = float(np.count_nonzero(wire.sent_us <= sender.end_us))
    if not outcome.sender.has("segments_sent"):
        return
    yield Line(name, "segments_sent", sent, total("segments_sent"), SHARE * sent)
    again = wire.repeats_among(round(total("segments_sent")))
    exact = outcome.case.transport != "tcp"
    allowed = 0 if exact else max(1, TCP_SHARE * again)
    yield Line(name, "retransmits", again, total("retransmits"), allowed)
    ends = zip(outcome.sender.counted("segments_sent"), outcome.sender.counted("retransmits"), strict=True)
    off = max(abs(retransmits - wire.repeats_among(round(sent))) for sent, retransmits in ends)
    yield Line(name, "retransmits up to interval ends, furthest off", 0, off, allowed)
    share = 100.0 * again / max(1, total("segments_sent"))
    points = PERCENT_POINTS if exact else max(PERCENT_POINTS, TCP_SHARE * share)
    yield Line(name, "retrans_percent", share, total("retrans_percent"), points)
    got = outcome.receiver
    came = got.total("segments_received") + (got.total("duplicates") if got.has("duplicates") else 0)
    ends_us = (receiver.end_us, _until_us(outcome, receiver, "receiver"))
    least, most = np.searchsorted(wire.arrived_us, ends_us, "right")
    # Arrivals between the end of the time and the end of the test may be counted or not.
    arrived = float(np.clip(came, least, most))
    yield Line(name, "segments received, duplicates too", arrived, came, SHARE * arrived)


def _counts(outcome: Outcome, sender: _Clock, receiver: _Clock) -> Iterator[Line]:
    """Compare datagrams and their bytes; the few that opened the stream belong to neither count."""
    ends = (("sender", sender, outcome.wire.at_sender), ("receiver", receiver, outcome.wire.at_receiver))
    for side, clock, curves in ends:
        until_us = _until_us(outcome, clock, side)
        for key, curve in curves.items():
            reported = clock.report.total(key)
            least, most = curve.at(clock.end_us), curve.at(until_us)
            wire = float(np.clip(reported, least, most))
            yield Line(outcome.case.name, key, wire, reported, SHARE * wire)


def _until_us(outcome: Outcome, clock: _Clock, side: str) -> float:
    """The time ends with the last new data, but arrivals until the message that ends the test are counted
    too. A receiver's answer tells that moment; without one, the path's delay bounds it."""
    if side == "receiver" and outcome.wire.until_us is not None:
        return max(clock.end_us, outcome.wire.until_us)
    return clock.end_us + 1e3 * (2 * outcome.case.path.delay_ms + outcome.case.path.queue_ms)


def _round_trips(outcome: Outcome, sender: _Clock) -> Iterator[Line]:
    """Stock KCP at full speed sends a window in one burst and processes acknowledgements after it, so its
    round-trip times exceed the path's; they are not compared."""
    name, wire, total = outcome.case.name, outcome.wire, outcome.sender.total
    if not len(wire.rtt) or (outcome.case.transport == "kcp" and "-b" not in outcome.case.flags):
        return
    yield Line(name, "rtt_us_mean", wire.mean_srtt_us(sender.end_us), total("rtt_us_mean"), RTT_US)
    least = "min_rtt_us" if outcome.sender.has("min_rtt_us") else "rtt_us_min"
    yield Line(name, least, float(wire.rtt[:, 1].min()), total(least), RTT_US)


def _losses(outcome: Outcome) -> Iterator[Line]:
    name, wire = outcome.case.name, outcome.wire
    got = outcome.receiver.total
    key = "path_loss_percent"
    both_ends = outcome.sender.total(key) if outcome.sender.has(key) else np.nan
    if not np.isnan(both_ends):
        yield Line(name, key, wire.lost_percent, both_ends, LOSS_POINTS)
    if wire.jitter_us is not None:
        yield Line(name, "loss_percent", wire.lost_percent, got("loss_percent"), LOSS_POINTS)
        jitter_us = float(wire.jitter_us[round(got("datagrams_received")) - 1])
        yield Line(name, "jitter_us", jitter_us, got("jitter_us"), max(JITTER_US, JITTER_SHARE * jitter_us))


def _sums(outcome: Outcome) -> Iterator[Line]:
    """Compare the sums over intervals, and each end's copy of the other end's figures."""
    name = outcome.case.name
    # Both values come from the reports, so no difference is allowed.
    for side, report in (("sender", outcome.sender), ("receiver", outcome.receiver)):
        parts = float(report.intervals("bytes").sum())
        yield Line(name, f"{side} bytes, sum of intervals", parts, report.total("bytes"), 0)
        last = float(report.intervals("end")[-1])
        yield Line(name, f"{side} end of the last interval", last, report.total("end"), 1e-6)
    total = outcome.sender.total
    if outcome.sender.has("timeouts"):
        causes = total("timeouts") + total("early") + total("fast")
        yield Line(name, "lost + early + fast", causes, total("retransmits"), 0)
    if outcome.sender.has("retransmits"):
        parts = float(outcome.sender.intervals("retransmits").sum())
        yield Line(name, "retransmits, sum of intervals", parts, total("retransmits"), 0)
    for end in Side:
        here, there = (run.total("bytes", stream=1, side=end) for run in outcome.runs)
        yield Line(name, f"{end.value} bytes, as the other end says", here, there, 0)


def stream_sums(name: str, documents: Sequence[Mapping[str, Any]]) -> Iterator[Line]:
    """Compare the sums over parallel streams, in both documents and both directions of a bidirectional
    test."""
    # Both values come from one report, so no difference is allowed.
    for role, document in zip(("client", "server"), documents, strict=True):
        streams = document["end"]["streams"]
        for suffix, direction in _directions(document):
            for side, key in (("sender", "sum_sent"), ("receiver", "sum_received")):
                parts = [each[side] for each in streams if each[side]["direction"] == direction]
                whole = document["end"][key + suffix]
                for figure in ("bytes", "retransmits", "segments_received", "lost_datagrams"):
                    if any(each.get(figure) is not None for each in parts):
                        column = f"{role}: {key}{suffix} {figure}, of streams"
                        yield Line(name, column, sum(each[figure] for each in parts), whole[figure], 0)
            off = max(
                abs(interval["sum" + suffix]["bytes"] - _bytes_in(interval, direction))
                for interval in document["intervals"]
            )
            yield Line(name, f"{role}: intervals' sum{suffix}, furthest off", 0, off, 0)


def _directions(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List the suffix of the sum keys of each direction, and the direction."""
    if document["start"]["direction"] != "bidirectional":
        return [("", document["start"]["direction"])]
    return [("", "forward"), ("_bidir_reverse", "reverse")]


def _bytes_in(interval: Mapping[str, Any], direction: str) -> int:
    return sum(each["bytes"] for each in interval["streams"] if each["direction"] == direction)
