"""The properties of one direction of a path."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from iperfpy.protocols.simulator.rate_trace import RateTrace

FULL_PACKET_BYTES = 1_500
"""IP packet of the usual size."""
OVERHEAD_BYTES = 28
"""IPv4 and UDP headers, which a datagram carries on the path beside its payload."""


def wire_bytes(payload: int) -> int:
    """Bytes on the path of one datagram with `payload` bytes."""
    return payload + OVERHEAD_BYTES


def bdp_bytes(rate_bits_per_s: float, rtt_us: float, factor: float = 1.0) -> int:
    """`factor` bandwidth-delay products, in bytes."""
    return int(factor * rate_bits_per_s * rtt_us / 8e6)


LONGEST_US = 3_600e6
"""Longest delay, period or interval of a path: an hour."""


def _check(name: str, value: float, least: float, most: float) -> None:
    """Raise `ValueError` unless the value lies between the two; NaN does not."""
    if not least <= value <= most:
        raise ValueError(f"{name} must be between {least:g} and {most:g}, not {value}")


@dataclass(frozen=True, slots=True)
class Bursts:
    """Gilbert-Elliott loss: a chain of two states that steps once per datagram.

    enter : probability of a step from the good state to the bad one; leave : of a step back.
    bad, good : loss probability in either state.
    """

    enter: float
    leave: float
    bad: float = 1.0
    good: float = 0.0

    @classmethod
    def averaging(cls, loss: float, length: float) -> Bursts:
        """Bursts of `length` lost datagrams on average, with the share `loss` lost in the long run."""
        leave = 1.0 / length
        return cls(enter=leave * loss / (1.0 - loss), leave=leave)

    @property
    def average(self) -> float:
        """Share lost in the long run."""
        share = self.enter / (self.enter + self.leave)
        return share * self.bad + (1.0 - share) * self.good


@dataclass(frozen=True, slots=True)
class Lumps:
    """Arrivals in lumps, as on Wi-Fi and cable: datagrams arrive only at release moments.

    least_us, most_us : shortest and longest distance of two moments; each is uniform between the two
    """

    least_us: float
    most_us: float

    def __post_init__(self) -> None:
        _check("least_us", self.least_us, 0.0, self.most_us)
        _check("most_us", self.most_us, 100.0, 60e6)


@dataclass(frozen=True, slots=True)
class SecondWay:
    """A longer way that some datagrams take. Each way keeps its order; the two overtake each other.

    extra_us : additional delay of the second way
    share : probability that a datagram takes the second way; None if every second datagram takes it
    """

    extra_us: float
    share: float | None = None

    def __post_init__(self) -> None:
        _check("extra_us", self.extra_us, 0.0, LONGEST_US)
        if self.share is not None:
            _check("share", self.share, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class CoDel:
    """Active queue management at the bottleneck (RFC 8289).

    target_us : wait before service that the queue may keep
    interval_us : time for which the wait must stay above it before the first drop
    """

    target_us: float = 5_000.0
    interval_us: float = 100_000.0

    def __post_init__(self) -> None:
        _check("target_us", self.target_us, 1.0, LONGEST_US)
        _check("interval_us", self.interval_us, 1.0, LONGEST_US)


@dataclass(frozen=True, slots=True)
class RateWalk:
    """A rate that varies, as on a cellular link: `rate_bits_per_s` x exp(x), with a new x in each period.

    x is a stationary AR(1) process. Its mean is such that the mean rate is `rate_bits_per_s`.

    deviation : standard deviation of x
    memory : correlation of x with x of the period before
    """

    period_us: float
    deviation: float
    memory: float

    def __post_init__(self) -> None:
        _check("period_us", self.period_us, 1_000.0, LONGEST_US)
        _check("deviation", self.deviation, 0.0, 2.0)
        _check("memory", self.memory, 0.0, 0.9999)


@dataclass(frozen=True, slots=True)
class Change:
    """New values for some fields of a `Path`, from `at_us` on."""

    at_us: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Path:
    """One direction. A share is a probability per datagram; every draw depends on the simulation's seed.

    rate_bits_per_s : rate of the bottleneck; None for no bottleneck
    trace : opportunities of the bottleneck, in place of a rate
    buffer_bytes : tail-drop limit of its queue in bytes on the path, including the rest of the datagram in
        service; an idle link accepts a datagram of any size; None for no limit. With `trace` it counts
        as mahimahi does (`trace_bottleneck.py`)
    buffer_datagrams : the same limit as a number of datagrams; at most one of the two is set
    delay_us : propagation delay, after the bottleneck
    jitter_us, jitter_reorders : additional delay, uniform between 0 and `jitter_us`; arrivals keep their
        order unless `jitter_reorders`
    rate_walk : variation of the rate; it needs `rate_bits_per_s`
    codel : active queue management; it needs `rate_bits_per_s` or `trace`
    second_way : a longer way that some datagrams take behind the bottleneck
    lumps : release moments of the datagrams that do not take the second way, after delay and jitter
    loss, bursts : random loss, independent and in bursts, behind the queue; with `loss_before` ahead of the
        queue, where a lost datagram takes no capacity
    police_bits_per_s, bucket_bytes : a token-bucket policer ahead of everything, which drops excess datagrams
    duplicate : share sent twice
    corrupt : share delivered with one byte changed (an error that a checksum missed)
    reorder, reorder_us : share that is delayed by up to `reorder_us` more, uniform from 0, and so overtaken
    maxlen : longest UDP payload that passes; a longer datagram is dropped without a word; None for no limit
    down : True during an outage, which drops every datagram
    changes : values that other fields take later
    """

    rate_bits_per_s: float | None = None
    buffer_bytes: int | None = None
    delay_us: float = 0.0
    jitter_us: float = 0.0
    jitter_reorders: bool = False
    loss: float = 0.0
    bursts: Bursts | None = None
    loss_before: bool = False
    police_bits_per_s: float | None = None
    bucket_bytes: int = 0
    duplicate: float = 0.0
    corrupt: float = 0.0
    reorder: float = 0.0
    reorder_us: float = 0.0
    maxlen: int | None = None
    down: bool = False
    lumps: Lumps | None = None
    second_way: SecondWay | None = None
    codel: CoDel | None = None
    rate_walk: RateWalk | None = None
    buffer_datagrams: int | None = None
    trace: RateTrace | None = None
    changes: tuple[Change, ...] = field(default=())

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "corrupt", "reorder"):
            _check(name, getattr(self, name), 0.0, 1.0)
        for name in ("delay_us", "jitter_us", "reorder_us"):
            _check(name, getattr(self, name), 0.0, LONGEST_US)
        rate = self.rate_bits_per_s
        if rate is not None and not 0 < rate < inf:
            raise ValueError("rate_bits_per_s must be above 0, or None; down=True makes an outage")
        if rate is not None and self.trace is not None:
            raise ValueError("rate_bits_per_s and trace must be set one at a time")
        if self.buffer_bytes is not None and self.buffer_datagrams is not None:
            raise ValueError("buffer_bytes and buffer_datagrams must be set one at a time")
        if self.police_bits_per_s is not None and self.bucket_bytes <= 0:
            raise ValueError("a policer needs bucket_bytes")

    @property
    def mean_bits_per_s(self) -> float | None:
        """Mean rate of the bottleneck; None without one."""
        return self.rate_bits_per_s if self.trace is None else self.trace.mean_bits_per_s

    def with_(self, **fields: Any) -> Path:
        """A copy with other values for these fields."""
        return dataclasses.replace(self, **fields)
