"""The figures that a transport measures, and how a report derives them from its counters."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

CONGESTION_KEY = "congestion"
"""Key of the metric, and of the setting, that names a transport's congestion control."""

Value = int | float | str | None
"""A cell of a record. None means not available; zero means zero."""


Counters = Mapping[str, Value]
"""A record of cumulative counters and current gauges, by `Metric.key`."""


class Side(enum.Enum):
    """An end of a stream: the one that owns a number, or the one that this program is."""

    SENDER = "sender"
    RECEIVER = "receiver"


class Unit(enum.Enum):
    """The unit of a number; it decides the format in a table and the CSV header."""

    COUNT = ""
    BYTES = "bytes"
    MICROSECONDS = "us"
    PERCENT = "percent"
    BITS_PER_SECOND = "bits_per_second"
    TEXT = "text"


class Kind(enum.Enum):
    """The rule by which an interval's figure follows from the records at its beginning and its end."""

    COUNTER = "counter"  # the later minus the earlier
    GAUGE = "gauge"  # the later
    RATIO = "ratio"  # difference of `numerator` over difference of `denominator`; not in the record
    ACROSS = "across"  # the receiver's `numerator` over the sender's `denominator`, where both are known
    MISSING = "missing"  # share of the sender's `denominator` by which the receiver's `numerator`, less its
    # `repeated`, is smaller


class Meaning(enum.Enum):
    """The quantity that a metric measures, as reports name it that compare transports or draw them. They find
    the metric of any transport by it, whatever its key is."""

    NONE = ""
    PATH_LOSS = "path loss"  # share of the packets that the path lost, per cent
    RESENT = "resent"  # share of retransmissions among all packets with data, per cent
    RESENT_CAUSE = "resent cause"  # the part of RESENT with the cause `label`, per cent
    RESENT_IN_VAIN = "resent in vain"  # share of the retransmissions whose data had arrived, per cent
    SENDER_LIMIT = "sender limit"  # time for which the limit `label` held the sender
    SENDER_BUSY = "sender busy"  # time with data to send; the part that no SENDER_LIMIT has is the path's
    WINDOW = "window"  # bytes that a sender may have, or has, in flight; `label` names them
    FULL_DATAGRAM = "full datagram"  # UDP payload of a full datagram
    FIRST_DATAGRAM = "first datagram"  # the same before the path was asked, as the announced sizes suggest it
    LONGEST_TRIED = "longest tried"  # UDP payload of the longest datagram that a search of the sender tried
    LONGEST_PASSED = "longest passed"  # UDP payload of the longest one of them that came through
    FULL_PAYLOAD = "full payload"  # the test's payload in a full datagram


LABELLED = frozenset((Meaning.RESENT_CAUSE, Meaning.SENDER_LIMIT, Meaning.WINDOW))
"""Several metrics of a transport may share one of these meanings, each with a `Metric.label` of its own."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure that a transport measures: a CSV column, a JSON key and, with `title`, a table column.

    `key` carries its unit unless it is a plain count (`rtt_us`, `loss_percent`). RATIO metrics are
    computed from two COUNTER metrics of the same record, times 100 when the unit is PERCENT; they
    are None when the denominator did not move. ACROSS and MISSING metrics take one counter from each
    end, and belong in the report of either; data in flight when an interval ends counts in the next one.
    `repeated` names the receiver's counter of those units of a MISSING metric's numerator that arrived again.
    A gauge with `spread` is polled within the interval, and its minimum, mean and maximum are reported beside
    its last value. `iperf3` names the key under which iperf3's own JSON has the same number, if it has it;
    iperf3's number is ours times `iperf3_scale`. `wire` is the name in the figures that both ends exchange,
    if it differs from the key, because an earlier version of the other end knows the figure by that name.
    `priority` of a titled metric: a terminal that is too narrow for all columns leaves out the column of the
    lowest priority first, and of equal ones the last.
    `whole` : a report shows bytes as they are, and not in KiB, as for the size of a datagram.
    `setting` names the setting without which the table leaves the column out; other formats have it always.
    `alone` names the figure of the other end that stands in its column if only that end measures.
    `whole_test`: intervals have no such figure, because units in flight at their end would count as missing.
    `meaning` is the quantity, for reports that look for it; `label` tells metrics of one of the `LABELLED`
    meanings apart, as a phrase for the user ("send window").
    """

    key: str
    doc: str
    unit: Unit = Unit.COUNT
    kind: Kind = Kind.COUNTER
    side: Side = Side.SENDER
    title: str = ""
    numerator: str = ""
    denominator: str = ""
    repeated: str = ""
    spread: bool = False
    iperf3: str = ""
    iperf3_scale: float = 1.0
    wire: str = ""
    priority: int = 0
    whole: bool = False
    setting: str = ""
    alone: str = ""
    whole_test: bool = False
    meaning: Meaning = Meaning.NONE
    label: str = ""

    def __hash__(self) -> int:
        # All metrics of a transport together are a key that each sample is looked up by, several times: with
        # all fields of each that took 0.13 ms, and with the key of each 3 us.
        return hash(self.key)

    @property
    def keys(self) -> tuple[str, ...]:
        """The key and, for a gauge with `spread`, the keys of its minimum, mean and maximum."""
        return self._with_spread(self.key)

    @property
    def wire_keys(self) -> tuple[str, ...]:
        """The names of `keys`, in that order, in the figures that both ends exchange."""
        return self._with_spread(self.wire or self.key)

    def _with_spread(self, key: str) -> tuple[str, ...]:
        spread = self.spread and self.kind is Kind.GAUGE
        return (key, *(f"{key}_{name}" for name in SPREADS if spread))


SPREADS = ("min", "mean", "max")
"""Figures reported beside a gauge with `spread`, under the keys `<key>_min`, `<key>_mean`, `<key>_max`."""


def with_meaning(metrics: Iterable[Metric], meaning: Meaning) -> tuple[Metric, ...]:
    """The metrics with a meaning. Those that compare both ends come first, because they know of every packet
    of a whole test; the others, which one end counts, are the better ones over an interval."""
    found = [metric for metric in metrics if metric.meaning is meaning]
    return tuple(sorted(found, key=lambda metric: metric.kind not in (Kind.ACROSS, Kind.MISSING)))


def number(value: Value) -> int | float | None:
    """The value if it is a number, else None."""
    return value if isinstance(value, (int, float)) else None


def ratios(metrics: Iterable[Metric], counted: Mapping[str, Value]) -> dict[str, Value]:
    """The RATIO metrics, by key, from differences of counters. None: a counter is missing, or the
    denominator did not move."""
    return {
        metric.key: _ratio(
            metric, number(counted.get(metric.numerator)), number(counted.get(metric.denominator))
        )
        for metric in metrics
        if metric.kind is Kind.RATIO
    }


def _ratio(metric: Metric, numerator: float | None, denominator: float | None) -> float | None:
    if numerator is None or not denominator:
        return None
    return numerator / denominator * (100.0 if metric.unit is Unit.PERCENT else 1.0)
