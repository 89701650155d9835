"""From the record of a test to its figures in a comparison. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from iperfpy.comparison.comparison_report import Columns, MeasuredMessages, MeasuredTest
from iperfpy.experiments import run_figures as figures
from iperfpy.experiments.compare_schedule import STARTUP_SHARE
from iperfpy.plan import Direction
from iperfpy.protocols.metrics import Meaning, Side, Value, number, with_meaning
from iperfpy.sampling.message_figures import round_trips
from iperfpy.store import interval_series
from iperfpy.store.stored_run import Run

REACHED = 0.9
"""Share of the steady rate at which the start-up counts as over."""
SMOOTHED_ROUND_TRIPS = 2.0
"""Width of the window over which the rate of the start-up is averaged: BBR and slow start send in bursts of a
round trip."""

PERCENT_DIGITS, SHARE_DIGITS = 3, 4
"""Digits behind the point in the columns of a test."""

FEWEST_POINTS = 4
"""Interval ends that a steady rate needs. A quotient of fewer would count data that waited behind a loss of
the start-up, and give more than the path carries."""

TAIL_SHARE = 0.1
"""Share of the rate, and of the payload, of the start-up below which the rest of an amount is its tail: the
last segments, which wait for their retransmissions, say nothing about the path."""


def measured_test(
    run: Run,
    contender: str,
    direction: Direction,
    number_of_round: int,
    *,
    started_s: float,
    steady_from_s: float,
    error: str = "",
) -> MeasuredTest:
    """The figures of one test.

    Parameters
    ----------
    steady_from_s : planned length of the start-up; of a test that ended early at most two thirds of it
    started_s, error : see `MeasuredTest`
    """
    length = figures.measured_s(run)
    steady_from_s = min(steady_from_s, STARTUP_SHARE * length)
    steady = _steady_bps(run, direction, steady_from_s)
    packets = figures.packets_of(run, direction)
    findings = [one for one in run.diagnosis if one.direction is direction]
    return MeasuredTest(
        contender=contender,
        direction=direction,
        round=number_of_round,
        started_s=started_s,
        error=error,
        seconds=length,
        steady_from_s=steady_from_s,
        steady_bits_per_second=steady,
        packet_bits_per_second=steady * packets.ratio if steady is not None and packets is not None else None,
        target_bits_per_second=float(run.plan.rate_bps) if run.started is not None else 0.0,
        startup_s=_startup_s(run, direction, steady),
        startup_bytes=_startup_bytes(run, direction, steady_from_s),
        idle_rtt_us=run.latency.idle_rtt_us or None,
        rtt_us=figures.round_trips(run, direction, steady_from_s),
        wire_per_payload=_wire_per_payload(run, direction),
        resent_percent=_first_known(run, direction, Meaning.RESENT),
        in_vain_percent=_first_known(run, direction, Meaning.RESENT_IN_VAIN),
        loss_percent=_first_known(run, direction, Meaning.PATH_LOSS),
        sent_bytes=figures.sent_bytes(run.started, run.sums),
        limit=findings[0] if findings else None,
        series=_series(run, direction),
        resent_series=_known(interval_series.resent(run, direction, Meaning.RESENT_CAUSE), PERCENT_DIGITS),
        limit_series=_known(_limits(run, direction), SHARE_DIGITS),
    )


def _steady_bps(run: Run, direction: Direction, from_s: float) -> float | None:
    """Payload rate after the start-up: the median slope of the payload that arrived over time.

    Of all pairs of interval ends that are at least half of the time apart (the estimator of Theil and Sen). A
    quotient would count data that waited behind a loss of the start-up, and was delivered after it, as
    carried in the steady time: a path of 24 Mbit/s seems to carry 25 then. None: fewer than `FEWEST_POINTS`
    intervals end after the start-up, or an amount of data was sent within it.
    """
    parts = [
        (one.end, sample[0])
        for one in run.intervals
        if one.end >= from_s and (sample := figures.arrived_in(run, one, direction)) is not None
    ]
    if len(parts) < FEWEST_POINTS:
        return None
    at_s = np.array([part[0] for part in parts])
    # The first end is the beginning of the steady time: what arrived before it does not count.
    payload = np.cumsum([0, *(part[1] for part in parts[1:])])
    earlier, later = np.triu_indices(len(parts), 1)
    apart_s = at_s[later] - at_s[earlier]
    far = apart_s >= (at_s[-1] - at_s[0]) / 2
    slopes = (payload[later] - payload[earlier])[far] / apart_s[far]
    steady = float(8 * np.median(slopes))
    early = TAIL_SHARE * float(_startup_bytes(run, direction, from_s) or 0)
    slow = bool(from_s) and steady < 8 * early / from_s
    return None if run.plan.total_bytes and slow and payload[-1] < early else steady


def _startup_s(run: Run, direction: Direction, steady: float | None) -> float | None:
    """Seconds until the rate first reached `REACHED` of the steady one; None if that is not known."""
    if not steady:
        return None
    rtt_us = max(run.latency.idle_rtt_us or 0.0, 0.0)
    parts = [
        (one.end, *sample)
        for one in run.intervals
        if (sample := figures.arrived_in(run, one, direction)) is not None
    ]
    # Less a microsecond: ends of intervals that are as far apart as the width are floats.
    width_s = SMOOTHED_ROUND_TRIPS * rtt_us / 1e6 - 1e-6
    begin = 0
    for end, (end_s, _, _) in enumerate(parts):
        # The window is the shortest run of intervals, up to this one, that covers the width.
        while begin < end and end_s - parts[begin][0] >= width_s:
            begin += 1
        window = parts[begin : end + 1]
        seconds = sum(part[2] for part in window)
        if seconds > 0 and 8 * sum(part[1] for part in window) / seconds >= REACHED * steady:
            return end_s
    return None


def _startup_bytes(run: Run, direction: Direction, until_s: float) -> int | None:
    """Payload that arrived in the intervals of the start-up; None without any interval."""
    early = [one for one in run.intervals if one.start < until_s]
    arrived = [sample[0] for one in early if (sample := figures.arrived_in(run, one, direction)) is not None]
    return round(sum(arrived)) if arrived else None


def _wire_per_payload(run: Run, direction: Direction) -> float | None:
    """Bytes of the sender's IP packets for each byte of payload.

    The payload is that of first transmissions, not the acknowledged one: data on its way at the end of a
    short test would look like overhead. Of datagrams it is the payload that arrived.
    """
    packets = figures.packets_of(run, direction)
    values = figures.sender_values(run, direction)
    row = next((one for one in run.sums if one.direction is direction), None)
    if packets is None or row is None or not values:
        return None
    sent = packets.sent_bytes(row)
    payload = _first_payload(run, direction, values, packets.payload_bytes)
    return sent / payload if payload and payload > 0 else None


def _first_payload(
    run: Run, direction: Direction, values: Mapping[str, Value], packet_payload: int
) -> float | None:
    """Payload bytes that were sent for the first time, or arrived of datagrams; None if not known."""
    datagrams, segments = number(values.get("datagrams_sent")), number(values.get("segments_sent"))
    resent = number(values.get("retransmits"))
    if run.started is not None and run.started.transport.datagrams:
        loss = _first_known(run, direction, Meaning.PATH_LOSS)
        return None if datagrams is None or loss is None else datagrams * packet_payload * (1 - loss / 100)
    if datagrams is not None:
        return None if segments is None or resent is None else (segments - resent) * packet_payload
    if number(values.get("retransmitted_bytes")) is None:
        return None
    return number(values.get("bytes")) or _sender_bytes(run, direction)


def _sender_bytes(run: Run, direction: Direction) -> float | None:
    value = run.total("bytes", direction=direction, side=Side.SENDER)
    return None if math.isnan(value) else value


def _first_known(run: Run, direction: Direction, meaning: Meaning) -> float | None:
    """The figure of the whole test with this meaning, by both ends or else by one; None: not known."""
    metrics = run.started.transport.metrics if run.started is not None else ()
    for metric in with_meaning(metrics, meaning):
        if metric.key in run.figures and not math.isnan(value := run.total(metric.key, direction=direction)):
            return value
    return None


def _series(run: Run, direction: Direction) -> dict[str, tuple[float | None, ...]]:
    """The intervals as columns: their ends, the rates that arrived, the sender's round-trip times, the shares
    that the path lost, and those that were sent again."""
    ends: list[float | None] = []
    rates: list[float | None] = []
    rtts: list[float | None] = []
    for one in run.intervals:
        sample = figures.arrived_in(run, one, direction)
        ends.append(one.end)
        rates.append(8 * sample[0] / sample[1] if sample is not None and sample[1] > 0 else None)
        rtt = one.figure("rtt_us", direction) if "rtt_us" in run.figures else math.nan
        rtts.append(None if math.isnan(rtt) else rtt)
    resent = interval_series.resent(run, direction, Meaning.RESENT)
    shares = {
        "loss_percent": interval_series.path_loss(run, direction),
        "resent_percent": next(iter(resent.values()), ()),
    }
    return {
        "end_s": tuple(ends),
        "bits_per_second": tuple(rates),
        "rtt_us": tuple(rtts),
        **_known(shares, PERCENT_DIGITS),
    }


def _limits(run: Run, direction: Direction) -> Columns:
    """The limits that held the sender at any time."""
    shares = interval_series.limit_shares(run, direction)
    return {name: values for name, values in shares.items() if any(values)}


def _known(columns: Columns, digits: int) -> Columns:
    """The columns with any known value, with so many digits behind the point: a document has thousands of
    values."""
    return {
        name: tuple(None if value is None else round(value, digits) for value in values)
        for name, values in columns.items()
        if interval_series.any_known(values)
    }


def measured_messages(
    run: Run, contender: str, number_of_round: int, started_s: float, error: str = ""
) -> MeasuredMessages:
    """The figures of a test of messages."""
    times = run.ended.messages if run.ended is not None else None
    if times is None:
        error = error or "no message was sent"
        return MeasuredMessages(contender, number_of_round, started_s, error)
    answered = round_trips(times)
    if not len(answered):
        error = error or "no message was answered"
    return MeasuredMessages(
        contender,
        number_of_round,
        started_s,
        error,
        times.size_bytes,
        round(1e6 / times.interval_us) if times.interval_us else 0,
        len(times.round_trip_us),
        times.sent,
        tuple(int(us) for us in answered),
        sum(times.wire_bytes) if times.wire_bytes is not None else None,
    )
