"""The gate that every result passes before any report shows it: both ends' totals in, a verdict out. Pure.

    rows of both ends --complete--> losses after the last arrival, which only the sender's count shows
                      --compare---> `warnings`: counts of the two ends that contradict each other
                      --require---> `failure`: nothing arrived, or no time was measured: the status is 1

The rules are the same for every transport. `Transport.delivery` names the counters that both ends keep of the
same units; a transport without one is judged by its payload bytes.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from iperfpy.plan import Direction, EndCondition, Plan
from iperfpy.protocols.contract import Delivery, Transport
from iperfpy.protocols.metrics import Counters, Kind, Metric, Side, Value, number, ratios
from iperfpy.records import SHORTEST_MEASURED_US, Row, Sample
from iperfpy.sampling.sums import across, by_direction, without_across

NOTABLE_TAIL = 0.1
"""Share of the units sent from which a loss at the end gets a warning: the path may have died."""
KNOWN_BYTES_FACTOR, KNOWN_BYTES_SLACK = 2, 1 << 20
"""Payload under way when the sender stops is received, and not acknowledged yet: a window may double what the
sender knows of, and a short test carries little beside it."""


class Ended(enum.Enum):
    """The way in which a test ended."""

    PLANNED = "as planned, with the results of both ends"
    INTERRUPTED = "stopped by a user"
    FAILED = "ended by an error"


@dataclass(frozen=True, slots=True)
class Totals:
    """Both ends' figures of a whole test.

    Parameters
    ----------
    rows : one per stream; the part of an end without known figures is None
    omitted : (stream id, side) -> that end's counts of the omitted period, by metric key
    compared : ids of streams of which both ends read the counters after the sender had stopped, so that no
        unit was under way. Only their difference is a loss
    """

    rows: tuple[Row, ...]
    omitted: Mapping[tuple[int, Side], Counters]
    compared: Collection[int]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The rows to report, the warnings to print with them, and the sentence that makes the test a failure."""

    rows: tuple[Row, ...]
    warnings: tuple[str, ...] = ()
    failure: str = ""


def judge(
    totals: Totals, plan: Plan, transport: Transport, ended: Ended, *, peer_reports: bool = True
) -> Verdict:
    """The verdict on a test that ended in that way. `peer_reports` False: this end alone measures, and a
    sender's payload is what was acknowledged."""
    delivery = transport.delivery
    counted = completed(totals, transport) if ended is Ended.PLANNED else totals.rows
    # Without the peer's results, its figures end with its last interval, and this end's later.
    compare = across if ended is Ended.PLANNED else without_across
    rows = tuple(compare(_with_means(row, transport), transport.metrics) for row in counted)
    if ended is Ended.FAILED:  # its error says more than figures of an unfinished test
        return Verdict(rows)
    warnings = tuple(_contradictions(totals, delivery)) if ended is Ended.PLANNED else ()
    if not peer_reports:
        failures = tuple(f"stream {row.stream}: {_unheard(row)}" for row in rows if not row.local.bytes)
        return Verdict(rows, (), failures[0] if failures else "")
    failures = (*_silent(rows, plan, delivery, ended), *_unmeasured(rows, plan, ended))
    return Verdict(rows, warnings, failures[0] if failures else "")


# -- complete


def completed(totals: Totals, transport: Transport) -> tuple[Row, ...]:
    """The rows, with receivers that also know of the units lost after their last arrival. A row stays as it
    is without figures of the sender."""
    delivery = transport.delivery
    if delivery is None:
        missing = [metric for metric in transport.metrics if metric.kind is Kind.MISSING]
        return tuple(_aligned(row, missing, totals) for row in totals.rows)
    return tuple(_with_tail(row, delivery, totals, transport) for row in totals.rows)


def _with_tail(row: Row, delivery: Delivery, totals: Totals, transport: Transport) -> Row:
    """The row with a receiver that also knows of the units that were lost after its last arrival."""
    tail, receiver = _tail(row, delivery, totals), row.of(Side.RECEIVER)
    # Whenever the receiver stopped: if it knows of none, none arrived.
    certain = row.stream in totals.compared or not _whole(row, Side.RECEIVER, delivery.known, totals)
    if tail <= 0 or not certain or receiver is None:
        return row
    values: dict[str, Value] = dict(receiver.values)
    for key in (delivery.known, delivery.missing):
        values[key] = (number(values.get(key)) or 0) + tail
    ours = [metric for metric in transport.metrics if metric.side is Side.RECEIVER]
    values.update(ratios(ours, values))
    return _replaced(row, replace(receiver, values=values))


def _aligned(row: Row, missing: Sequence[Metric], totals: Totals) -> Row:
    """The row with counts of a receiver that miss no more in the measured period than in the whole test. The
    omitted period ends at different datagrams at both ends, which would look like a loss."""
    receiver = row.of(Side.RECEIVER)
    known = {side for stream, side in totals.omitted if stream == row.stream and totals.omitted[stream, side]}
    if receiver is None or known != set(Side):
        return row
    values = dict(receiver.values)
    for metric in missing:
        sent = _whole(row, Side.SENDER, metric.denominator, totals)
        received = _whole(row, Side.RECEIVER, metric.numerator, totals)
        measured = _measured(row, Side.SENDER, metric.denominator)
        if sent is not None and received is not None and measured is not None:
            least = measured - max(0.0, sent - received)
            values[metric.numerator] = max(number(values.get(metric.numerator)) or 0, int(least))
    return _replaced(row, replace(receiver, values=values))


def _tail(row: Row, delivery: Delivery, totals: Totals) -> int:
    """Units that left the sender in the measured period, and that the receiver does not know of. Below 0: the
    receiver knows of more than were sent. 0: one of the counts is missing.

    The omitted period ends at different units at both ends, so its counts are added on both sides first.
    """
    sent = _whole(row, Side.SENDER, delivery.sent, totals)
    known = _whole(row, Side.RECEIVER, delivery.known, totals)
    measured = _measured(row, Side.SENDER, delivery.sent)
    if sent is None or known is None or measured is None:
        return 0
    return int(min(sent - known, measured))


def _whole(row: Row, side: Side, key: str, totals: Totals) -> float | None:
    """A count since the stream was opened."""
    measured = _measured(row, side, key)
    omitted = number(totals.omitted.get((row.stream, side), {}).get(key))
    return None if measured is None else measured + (omitted or 0)


def _measured(row: Row, side: Side, key: str) -> float | None:
    sample = row.of(side)
    return None if sample is None else number(sample.values.get(key))


def _with_means(row: Row, transport: Transport) -> Row:
    """The row with the mean of every gauge that was polled as its figure: over a whole test the last value
    says little, and every report shows one number under one name."""
    for sample in (row.local, row.peer):
        if sample is None:
            continue
        means = {
            metric.key: mean
            for metric in transport.metrics
            if metric.spread and metric.kind is Kind.GAUGE and metric.side is sample.side
            if (mean := sample.values.get(f"{metric.key}_mean")) is not None
        }
        row = _replaced(row, replace(sample, values={**sample.values, **means}))
    return row


def _replaced(row: Row, sample: Sample) -> Row:
    """The row with the sample in place of the one that the same end took."""
    return replace(row, local=sample) if row.local.side is sample.side else replace(row, peer=sample)


# -- compare


def _contradictions(totals: Totals, delivery: Delivery | None) -> Iterator[str]:
    """Sentences about counts of the two ends that do not fit together, or show the end of a path."""
    for row in totals.rows:
        sender, receiver = row.of(Side.SENDER), row.of(Side.RECEIVER)
        if sender is None or receiver is None:
            continue
        if delivery is not None:
            yield from _unit_contradictions(row, delivery, totals)
        elif receiver.bytes > KNOWN_BYTES_FACTOR * sender.bytes + KNOWN_BYTES_SLACK:
            # A sender knows of what was acknowledged or left its queue; the rest may be under way.
            yield (
                f"stream {row.stream}: the {_end(row, Side.RECEIVER)} received {receiver.bytes:,} bytes,"
                f" the {_end(row, Side.SENDER)} knew of {sender.bytes:,} when it stopped:"
                " the test was short for this path"
            )


def _unit_contradictions(row: Row, delivery: Delivery, totals: Totals) -> Iterator[str]:
    sent, tail = _whole(row, Side.SENDER, delivery.sent, totals), _tail(row, delivery, totals)
    known = _whole(row, Side.RECEIVER, delivery.known, totals) or 0
    if sent is None:
        return
    seen = max(known, _arrived_once(row, delivery, totals) or 0)
    unit, stream, receiving = delivery.unit, f"stream {row.stream}", _end(row, Side.RECEIVER)
    compared = row.stream in totals.compared
    if seen > sent and compared:
        yield (
            f"{stream}: the {receiving} counted {seen:,.0f} {unit}, more than the {sent:,.0f} that the"
            f" {_end(row, Side.SENDER)} sent: their counts do not fit together"
        )
    elif tail > NOTABLE_TAIL * sent and known:
        yield (
            f"{stream}: the last {tail:,} of {sent:,.0f} {unit} did not arrive: did the path die?"
            if compared
            else f"{stream}: {tail:,} of {sent:,.0f} {unit} are in no figure of the {receiving}:"
            " they were lost, or came after it had stopped counting"
        )


def _arrived_once(row: Row, delivery: Delivery, totals: Totals) -> float | None:
    """Units that arrived since the stream was opened, each counted once."""
    received = _whole(row, Side.RECEIVER, delivery.received, totals)
    repeated = _whole(row, Side.RECEIVER, delivery.repeated, totals)
    return None if received is None else received - (repeated or 0)


# -- require


def _silent(rows: tuple[Row, ...], plan: Plan, delivery: Delivery | None, ended: Ended) -> Iterator[str]:
    """A sentence about every stream that delivered nothing although it should have."""
    for group in by_direction(rows):
        anything = any(_arrived(row, delivery) for row in group)
        for row in group:
            receiver = row.of(Side.RECEIVER)
            if receiver is None:
                if ended is Ended.PLANNED:
                    yield f"the {_end(row, Side.RECEIVER)} reported nothing of stream {row.stream}"
            elif not _arrived(row, delivery) and not (anything and _none_was_due(row, plan, delivery)):
                yield _nothing(row, delivery)


def _arrived(row: Row, delivery: Delivery | None) -> bool:
    receiver = row.of(Side.RECEIVER)
    if receiver is None:
        return False
    late = number(receiver.values.get(delivery.received)) if delivery is not None else 0
    return receiver.bytes > 0 or bool(late)


def _none_was_due(row: Row, plan: Plan, delivery: Delivery | None) -> bool:
    """True if other streams sent the whole amount (-n, -k), which all streams of a direction share."""
    sender = row.of(Side.SENDER)
    return plan.ends_by is EndCondition.AMOUNT and sender is not None and not _sent(sender, delivery)


def _sent(sender: Sample, delivery: Delivery | None) -> float:
    return (number(sender.values.get(delivery.sent)) if delivery is not None else None) or sender.bytes


def _nothing(row: Row, delivery: Delivery | None) -> str:
    sender, receiving, sending = row.of(Side.SENDER), _end(row, Side.RECEIVER), _end(row, Side.SENDER)
    if sender is None or delivery is None:
        return f"stream {row.stream}: no payload arrived at the {receiving}"
    sent = round(_sent(sender, delivery))
    if not sent:
        return f"stream {row.stream}: the {sending} sent nothing"
    return (
        f"stream {row.stream}: none of the {sent:,} {delivery.unit} that the {sending} sent arrived at the"
        f" {receiving}: a firewall or the path drops them (try a shorter -l)"
    )


def _unmeasured(rows: tuple[Row, ...], plan: Plan, ended: Ended) -> Iterator[str]:
    """A sentence if a receiver's time was too short for a rate. A test of a fixed amount (-n, -k) has carried
    what it was asked to, and its rate is empty."""
    if ended is not Ended.PLANNED or plan.ends_by is not EndCondition.TIME:
        return
    if plan.duration_us < SHORTEST_MEASURED_US:
        # The ends stop when they get to it, each at another time: their figures are not of one period.
        yield _too_short("the test was to last", plan.duration_us / 1e6)
    for row in rows:
        receiver = row.of(Side.RECEIVER)
        if receiver is not None and receiver.bits_per_second is None:
            yield _too_short(
                f"stream {row.stream}: the {_end(row, Side.RECEIVER)} received for", receiver.seconds
            )


def _unheard(row: Row) -> str:
    """The predicate of a stream at the one end that measures, if nothing was measured."""
    sends = row.local.side is Side.SENDER
    return "the peer acknowledged no payload" if sends else "no payload came from the peer"


def _too_short(what: str, seconds: float) -> str:
    needed = SHORTEST_MEASURED_US / 1e6
    return f"{what} {seconds:g} s, too short for a rate: choose a -t of at least {needed:g} s"


def _end(row: Row, side: Side) -> str:
    """The role of the end that sends, or receives, on the row's stream."""
    return "client" if (side is Side.SENDER) == (row.direction is Direction.FORWARD) else "server"
