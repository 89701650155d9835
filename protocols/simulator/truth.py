"""The true fate of a flow's datagrams in one direction."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(slots=True)
class Truth:
    """Cumulative counts of datagrams. The difference of two copies gives the counts between them.

    At any moment sent = delivered + dropped + on_the_way - duplicated.

    policed, overflowed, lost, outage : dropped by the policer, a full queue, random loss, an outage
    codel : dropped by the active queue management
    too_long : dropped because it was longer than the path carries
    duplicated, corrupted, reordered : delivered twice, with an error, after an additional delay or on the
        second way
    queued, queued_us : datagrams that the bottleneck served, and the sum of their waits before service
    longest_us : the longest waiting time so far
    """

    sent: int = 0
    sent_bytes: int = 0
    delivered: int = 0
    delivered_bytes: int = 0
    policed: int = 0
    overflowed: int = 0
    lost: int = 0
    outage: int = 0
    too_long: int = 0
    codel: int = 0
    duplicated: int = 0
    corrupted: int = 0
    reordered: int = 0
    queued: int = 0
    queued_us: float = 0.0
    longest_us: float = 0.0

    @property
    def dropped(self) -> int:
        """Datagrams dropped, by any cause."""
        return self.policed + self.overflowed + self.lost + self.outage + self.too_long + self.codel

    @property
    def on_the_way(self) -> int:
        """Datagrams in a queue or in propagation."""
        return self.sent + self.duplicated - self.dropped - self.delivered

    @property
    def dropped_share(self) -> float:
        """Dropped datagrams as a share of those sent; 0.0 if none was sent."""
        return self.dropped / self.sent if self.sent else 0.0

    @property
    def mean_queue_us(self) -> float:
        """Mean waiting time before service; 0.0 if the bottleneck served none."""
        return self.queued_us / self.queued if self.queued else 0.0

    def copy(self) -> Truth:
        """A snapshot, to be subtracted later."""
        return dataclasses.replace(self)

    def __sub__(self, earlier: Truth) -> Truth:
        both = {
            field.name: getattr(self, field.name) - getattr(earlier, field.name)
            for field in dataclasses.fields(self)
        }
        return Truth(**{**both, "longest_us": self.longest_us})
