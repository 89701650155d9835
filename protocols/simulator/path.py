"""The properties of one direction of a path."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OVERHEAD_BYTES = 28
"""IPv4 and UDP headers, which a datagram carries on the path beside its payload."""


def wire_bytes(payload: int) -> int:
    """Bytes on the path of one datagram with `payload` bytes."""
    return payload + OVERHEAD_BYTES


def bdp_bytes(rate_bits_per_s: float, rtt_us: float, factor: float = 1.0) -> int:
    """`factor` bandwidth-delay products, in bytes."""
    return int(factor * rate_bits_per_s * rtt_us / 8e6)


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
class Change:
    """New values for some fields of a `Path`, from `at_us` on."""

    at_us: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Path:
    """One direction. A share is a probability per datagram; every draw depends on the simulation's seed.

    rate_bits_per_s : rate of the bottleneck; None for no bottleneck
    buffer_bytes : tail-drop limit of its queue in bytes on the path, including the rest of the datagram in
        service; an idle link accepts a datagram of any size; None for no limit
    delay_us : propagation delay, after the bottleneck
    jitter_us, jitter_reorders : additional delay, uniform between 0 and `jitter_us`; arrivals keep their
        order unless `jitter_reorders`
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
    changes: tuple[Change, ...] = field(default=())

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "corrupt", "reorder"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be between 0 and 1, not {getattr(self, name)}")
        if self.rate_bits_per_s is not None and self.rate_bits_per_s <= 0:
            raise ValueError("rate_bits_per_s must be above 0, or None; down=True makes an outage")
        if self.police_bits_per_s is not None and self.bucket_bytes <= 0:
            raise ValueError("a policer needs bucket_bytes")

    def with_(self, **fields: Any) -> Path:
        """A copy with other values for these fields."""
        return dataclasses.replace(self, **fields)
