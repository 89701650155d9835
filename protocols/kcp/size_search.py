"""Search for the size of datagrams that a path carries: RFC 8899 (DPLPMTUD), without clock or socket.

    begin             a search: all candidate sizes leave in one flight, the largest first
    poll(now_us)      sizes to probe now; judges the flight before
    echoed(stamp)     a probe arrived: its size is proven
    hint(size)        the network or this machine says that nothing longer passes

A probe is a PUSH segment of a serial number that the peer has acknowledged (wire.probe_segment). Every KCP
peer acknowledges it again, and drops its payload; the echoed stamp names the probe. So a proof also says
that the peer accepts segments of that size. A peer that does not answer leaves the size as it was.

Data begins as soon as the largest size that it may have is proven. Larger ones that the interfaces announce
(`SizeRange.tried`) are still searched then, for the report: TCP uses them, and stalls if the path drops them.

Losses of probes reach neither loss recovery nor congestion control (RFC 8899, section 3, item 7). The last
probe of a flight is one of a size that is known or likely to pass. Only a flight whose shorter probe came
back says anything about the longer ones.

Doubt begins when data is in flight and nothing was acknowledged for two round trips. If twice a shorter
probe comes back while neither two probes of the present size nor any data do, the path has a black hole
(section 4.3). The PROBE_TIMER of section 5.1.1 is for a path without data, and is not used.

Differences from RFC 8899: all candidates leave at once, because there are few (section 5.3.2 leaves the order
open) and a measurement is short; a flight of sizes up to Ethernet's has about the bytes of an initial window
(RFC 6928), and one of sizes up to jumbo frames more than twice as many.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from iperfpy.protocols.kcp.size_range import SizeRange

if TYPE_CHECKING:
    from iperfpy.protocols.kcp.inbound import Acks

FIRST_WAIT_US, LONGEST_WAIT_US = 200_000, 1_000_000
SHORTEST_WAIT_US = 20_000
LEAST_PATIENCE_US = 150_000
OPENING_US = 3_000_000
"""Longest search before data flows."""
MOST_FLIGHTS, MOST_STRIKES = 3, 2
"""Answered flights after which a size that was lost in all of them is given up (RFC 8899's MAX_PROBES), and
those that confirm a black hole."""
RAISE_US = 600_000_000
"""PMTU_RAISE_TIMER of section 5.1.1: time after which larger sizes are tried again."""
WORTH_A_RAISE = 1.125
"""A larger size is taken in mid-flow only if it is larger by this factor: congestion control starts anew."""
REMEMBERED_US = 10_000_000
"""Time for which the echo of a probe is awaited."""


@dataclass(frozen=True, slots=True)
class SizeChange:
    """The size of datagrams changed while data flowed; `lost`: because of a black hole."""

    at_us: int
    before: int
    after: int
    lost: bool


@dataclass(slots=True)
class _Flight:
    """Probes that leave together.

    Attributes
    ----------
    candidates : their sizes, descending; empty: there is no flight
    due_us : when it is judged
    answered_us : when its last probe came back, None: it did not
    present_passed : True once a probe of the size in use came back
    """

    candidates: list[int] = field(default_factory=list)
    due_us: int = 0
    answered_us: int | None = None
    present_passed: bool = False


class SizeSearch:
    """Follows the size of datagrams that the path carries.

    Attributes
    ----------
    size : bytes of a full KCP datagram now
    at_us : time at which to call `poll` next
    opened : True once the size for the first data is known
    passed : largest size of which a probe came through so far, None: none did
    tried : largest size that the path was asked for: the end of the range, or the one that the network named;
        None until a search is judged: a single probe may be lost by chance
    hole : (size that does not come through, largest that does), once a black hole is confirmed, else None
    changes : of the size while data flowed
    """

    __slots__ = (
        "_answered", "_began_us", "_best", "_delivered", "_flight", "_hint", "_pending", "_raise_us",
        "_searching", "_since_us", "_strikes", "_waits", "at_us", "changes", "hole", "opened", "passed",
        "range", "size", "tried",
    )  # fmt: skip

    def __init__(self, sizes: SizeRange) -> None:
        self.range = sizes
        self.size = sizes.first if sizes.fixed else min(sizes.base, sizes.first)
        self.at_us = 0
        self.opened = sizes.fixed
        self.passed: int | None = None
        self.tried: int | None = None
        self.hole: tuple[int, int] | None = None
        self.changes: list[SizeChange] = []
        self._pending: dict[int, tuple[int, int]] = {}  # stamp, 32 bits -> (size, time)
        self._searching = False
        self._began_us = self._since_us = self._delivered = 0
        self._best = self._answered = self._strikes = self._waits = 0
        self._flight = _Flight()
        self._hint = 0
        self._raise_us = 0

    # -- probes

    @property
    def awaits(self) -> bool:
        """True if an echo of a probe may still come."""
        return bool(self._pending)

    @property
    def busy(self) -> bool:
        """True if `poll` is due at `at_us` even if no data is in flight."""
        return self._searching or bool(self._flight.candidates)

    def awaited_among(self, acks: Acks) -> list[int]:
        """The stamps in ACKs, 32 bits, that belong to probes with an echo that may still come."""
        if isinstance(acks, list):
            return [header[4] for header in acks if header[4] in self._pending]
        stamps: list[int] = acks["ts"][np.isin(acks["ts"], list(self._pending))].tolist()
        return stamps

    def sent(self, size: int, stamp: int, now_us: int) -> None:
        """A probe of `size` left with this stamp, 32 bits."""
        self._pending[stamp] = (size, now_us)

    def echoed(self, stamp: int, now_us: int) -> int | None:
        """The echo of a stamp, 32 bits: the round-trip time if it is that of a probe, else None."""
        probe = self._pending.pop(stamp, None)
        if probe is None:
            return None
        size, sent_us = probe
        self._best = max(self._best, size)
        if self._searching and self._best > self._hint:
            self._hint = 0  # it is disproved
        self.passed = max(self.passed or 0, size)
        flight = self._flight
        flight.present_passed |= size >= self.size
        if flight.candidates and size == flight.candidates[-1]:
            # The flight's last probe is back: those before it are due now, but for some reordering.
            flight.answered_us = now_us
            flight.due_us = min(flight.due_us, now_us + max((now_us - sent_us) // 8, 2_000))
            self.at_us = min(self.at_us, flight.due_us)
        if self._searching and size in (self._ceiling, self._enough):
            self.at_us = now_us
        return now_us - sent_us

    def hint(self, size: int, now_us: int) -> None:
        """The network or this machine says that nothing longer than `size` passes. That is believed when a
        probe of that size came back and longer ones did not (RFC 8899, section 4.6)."""
        if size == self._hint:  # more of the flight's probes were too long
            return
        if self.range.smallest <= size < (self.range.tried if self._searching else self.size):
            self._hint = size
            self._flight.due_us = min(self._flight.due_us, now_us)
            if not self.range.fixed or not self._flight.candidates:
                self.at_us = min(self.at_us, now_us)
            if not self._searching and not self._flight.candidates:
                self._since_us = -1  # doubt now

    # -- the state machine

    def begin(self, now_us: int) -> None:
        """Start the search before the first data."""
        if not self.range.fixed:
            self._search(now_us)

    def _search(self, now_us: int) -> None:
        self._searching = True
        self._began_us, self._best = now_us, self.size if self.opened else 0
        self._answered = self._waits = 0
        self._flight = _Flight(due_us=now_us)
        self.at_us = now_us

    @property
    def _ceiling(self) -> int:
        """The size that ends the search. A hint shortens it: larger probes left before the hint, and have not
        come back."""
        return self._hint or self.range.tried

    @property
    def _enough(self) -> int:
        """The size with which data may begin while larger ones, which it does not use, are tried."""
        return min(self._ceiling, self.range.largest)

    def poll(self, now_us: int, delivered: int, outstanding: int, srtt_us: int) -> list[int]:
        """The sizes to probe now, descending.

        Parameters
        ----------
        delivered, outstanding : segments acknowledged so far, and sent but not acknowledged
        srtt_us : 0 without a sample
        """
        if now_us < self.at_us:
            return []
        self._forget(now_us)
        if self._searching:
            return self._go_on(now_us, srtt_us)
        return self._watch(now_us, delivered, outstanding, srtt_us)

    def _forget(self, now_us: int) -> None:
        """Probes are awaited for `REMEMBERED_US`."""
        late = [stamp for stamp, (_, sent_us) in self._pending.items() if now_us - sent_us > REMEMBERED_US]
        for stamp in late:
            del self._pending[stamp]

    def _go_on(self, now_us: int, srtt_us: int) -> list[int]:
        """Judge the search's flight; the next one, or none if the search is over."""
        ceiling = self._ceiling
        if not self.opened and self._best >= self._enough:
            self._open()
        if self._best < ceiling and now_us < self._flight.due_us:
            self.at_us = self._flight.due_us
            return []
        self._answered += self._flight.answered_us is not None
        late = (not self.opened or self.size >= self.range.largest) and now_us - self._began_us > OPENING_US
        judged = self._best >= ceiling or self._answered >= MOST_FLIGHTS
        if judged or late:
            if judged:
                # A hint may come after the echo of a longer probe.
                self.tried = max(ceiling, self.passed or 0)
            self._conclude(now_us)
            return []
        known = self._best
        if self._hint:
            # A hint beyond the sizes of data says nothing about them.
            usable = self.range.between(known, self._enough) if self._hint > self._enough else []
            sizes = [self._hint, *([] if self.opened else usable)]
        elif not self._waits:
            sizes = [ceiling, self.range.largest, self.range.first]
        else:
            # What data does not use is tried once data may begin: a flight has few candidates then.
            sizes = self.range.between(known, ceiling if self.opened else self._enough)
        return self._fly(now_us, srtt_us, [*sizes, known or self._likely()])

    def _open(self) -> None:
        """The first data may leave, in datagrams of the best size that it may have."""
        self.opened = True
        self.size = min(self._best, self.range.largest) or self.size

    def _likely(self) -> int:
        """The size of a probe that tells a black hole from an outage."""
        return min(self.range.base, self.range.first) if self._waits < 2 else self.range.smallest

    def _conclude(self, now_us: int) -> None:
        self._searching, self._flight, self._hint = False, _Flight(), 0
        self._raise_us = now_us + RAISE_US
        self._since_us, self.at_us = now_us, now_us + LEAST_PATIENCE_US
        best = min(self._best, self.range.largest)
        if not self.opened:
            self._open()
        elif best >= self.size * WORTH_A_RAISE:
            self._become(best, now_us, lost=False)

    def _fly(self, now_us: int, srtt_us: int, sizes: Iterable[int]) -> list[int]:
        """Start a flight, and the timer by which it is judged."""
        first_us = max(srtt_us * 3 // 2, SHORTEST_WAIT_US) if srtt_us else FIRST_WAIT_US
        self.at_us = now_us + max(first_us, min(int(first_us * 1.5**self._waits), LONGEST_WAIT_US))
        self._flight = _Flight(sorted(set(sizes), reverse=True), self.at_us)
        self._waits = min(self._waits + 1, 16)
        return self._flight.candidates

    def _watch(self, now_us: int, delivered: int, outstanding: int, srtt_us: int) -> list[int]:
        """Doubt the size when data is in flight and nothing of it arrives."""
        if delivered != self._delivered or not outstanding or self._flight.present_passed:
            self._trust(now_us, delivered, srtt_us)
            if not self.range.fixed and now_us >= self._raise_us and self.size < self.range.largest:
                self._search(now_us)
                return self._go_on(now_us, srtt_us)
            return []
        if not self._flight.candidates:
            if now_us - self._since_us < _patience_us(srtt_us) and self._since_us >= 0:
                self.at_us = self._since_us + _patience_us(srtt_us)
                return []
            self._strikes = self._waits = self._best = 0
        elif self._flight.answered_us is not None:
            self._strikes += 1
            if self._strikes >= MOST_STRIKES:
                self._fall(now_us)
                return []
        sizes = [self.size, *self.range.between(self.range.smallest - 1, self.size - 1)]
        if self._hint and self._hint < self.size:
            sizes.append(self._hint)
        flight = self._fly(now_us, srtt_us, sizes)
        return [self.size, *flight]  # the present size twice: one loss must not condemn it

    def _trust(self, now_us: int, delivered: int, srtt_us: int) -> None:
        """The present size passes, or nothing says that it does not."""
        proven = delivered != self._delivered or self._flight.present_passed
        if self.passed is not None and proven:
            self.passed = max(self.passed, self.size)
        self._delivered, self._since_us = delivered, now_us
        self._flight, self._strikes, self._hint = _Flight(), 0, 0
        self.at_us = now_us + _patience_us(srtt_us)

    def _fall(self, now_us: int) -> None:
        """A black hole is confirmed."""
        best = self._best
        self.hole = (self.size, best)
        self.passed, self.tried = best, best if best == self._hint else self.range.tried
        self._flight, self._strikes, self._hint = _Flight(), 0, 0
        self._since_us, self.at_us = now_us, now_us + LEAST_PATIENCE_US
        self._raise_us = now_us + RAISE_US
        if not self.range.fixed:
            self._become(best, now_us, lost=True)

    def _become(self, size: int, now_us: int, *, lost: bool) -> None:
        self.changes.append(SizeChange(now_us, self.size, size, lost))
        self.size = size


def _patience_us(srtt_us: int) -> int:
    """Time without an acknowledgement after which the size is doubted."""
    return max(2 * srtt_us, LEAST_PATIENCE_US)
