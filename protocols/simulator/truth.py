"""What really happened to a flow's datagrams in one direction."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(slots=True)
class Truth:
    """Cumulative counts of datagrams; `-` of two copies is what happened between them.

    sent = delivered + dropped + still on the way - duplicated, at any moment. `reordered` took a detour.
    `queued_us` sums the waiting time before service over `queued` datagrams (those that were served);
    `longest_us` is the longest so far.
    """

    sent: int = 0
    sent_bytes: int = 0
    delivered: int = 0
    delivered_bytes: int = 0
    policed: int = 0
    overflowed: int = 0
    lost: int = 0
    outage: int = 0
    duplicated: int = 0
    corrupted: int = 0
    reordered: int = 0
    queued: int = 0
    queued_us: float = 0.0
    longest_us: float = 0.0

    @property
    def dropped(self) -> int:
        """By any cause."""
        return self.policed + self.overflowed + self.lost + self.outage

    @property
    def on_the_way(self) -> int:
        """In a queue or in propagation."""
        return self.sent + self.duplicated - self.dropped - self.delivered

    @property
    def dropped_share(self) -> float:
        """Of those sent; 0.0 when nothing was sent."""
        return self.dropped / self.sent if self.sent else 0.0

    @property
    def mean_queue_us(self) -> float:
        return self.queued_us / self.queued if self.queued else 0.0

    def copy(self) -> Truth:
        return dataclasses.replace(self)

    def __sub__(self, earlier: Truth) -> Truth:
        both = {
            field.name: getattr(self, field.name) - getattr(earlier, field.name)
            for field in dataclasses.fields(self)
        }
        return Truth(**{**both, "longest_us": self.longest_us})
