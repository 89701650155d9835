"""What one direction of a path is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OVERHEAD_BYTES = 28
"""IPv4 and UDP headers: what a datagram weighs on the path beyond its payload."""


def wire_bytes(payload: int) -> int:
    """Bytes on the path of one datagram with `payload` bytes."""
    return payload + OVERHEAD_BYTES


def bdp_bytes(rate_bits_per_s: float, rtt_us: float, factor: float = 1.0) -> int:
    """`factor` bandwidth-delay products."""
    return int(factor * rate_bits_per_s * rtt_us / 8e6)


@dataclass(frozen=True, slots=True)
class Bursts:
    """Gilbert-Elliott loss: a chain of two states that steps once per datagram.

    enter : probability of going from the good state to the bad one; leave : of coming back.
    bad, good : loss probability in either state.
    """

    enter: float
    leave: float
    bad: float = 1.0
    good: float = 0.0

    @classmethod
    def averaging(cls, loss: float, length: float) -> Bursts:
        """Runs of `length` lost datagrams on average, `loss` of all lost in the long run."""
        leave = 1.0 / length
        return cls(enter=leave * loss / (1.0 - loss), leave=leave)

    @property
    def average(self) -> float:
        """Share lost in the long run."""
        share = self.enter / (self.enter + self.leave)
        return share * self.bad + (1.0 - share) * self.good


@dataclass(frozen=True, slots=True)
class Change:
    """From `at_us` on, these fields of the `Path` have these values."""

    at_us: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Path:
    """One direction. Every share is a probability per datagram, every draw comes from the seed.

    rate_bits_per_s : of the bottleneck; None for none
    buffer_bytes : tail-drop limit of its queue, counted in bytes on the path, the rest of the datagram in
        service included; an empty queue takes anything; None for no limit
    delay_us : propagation, after the bottleneck
    jitter_us : uniform from 0 to this, on top; arrivals keep their order unless `jitter_reorders`
    loss, bursts : random loss, independent and in bursts; `loss_before` loses ahead of the queue,
        where the lost ones take no capacity, instead of behind it
    police_bits_per_s, bucket_bytes : a token bucket in front of everything; what exceeds it is dropped
    duplicate, corrupt : sent twice; delivered with one byte changed (what a checksum missed)
    reorder, reorder_us : share that takes a detour, uniform from 0 to this long
    down : everything that arrives is dropped
    changes : a schedule
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
    down: bool = False
    changes: tuple[Change, ...] = field(default=())

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "corrupt", "reorder"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is a share between 0 and 1, not {getattr(self, name)}")
        if self.rate_bits_per_s is not None and self.rate_bits_per_s <= 0:
            raise ValueError("a rate is above 0, or None; an outage is down=True")
        if self.police_bits_per_s is not None and self.bucket_bytes <= 0:
            raise ValueError("a policer needs bucket_bytes")

    def with_(self, **fields: Any) -> Path:
        """The same but for these fields."""
        return dataclasses.replace(self, **fields)
