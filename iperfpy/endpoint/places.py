"""Places of a server, and waits after refused passwords, both by source. No clock: times are arguments.

    PlaceTable      connections without a cookie, clients before their admission, admitted tests
    PasswordWaits   a source with a refused password waits before the next one is read

A source is an IPv4 address, or the /64 network of an IPv6 address, which one machine has for itself.
A place is *silent* until its holder has done what is expected of it next: presented its cookie, sent its
parameters, opened its streams. If all places are taken, a newcomer gets that of the oldest silent holder, of
the source that holds most. A holder that is not silent keeps its place until it leaves.
"""

from __future__ import annotations

import ipaddress
import math
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from iperfpy.protocols.addresses import plain_host

Holder = TypeVar("Holder", bound=Hashable)

SHARE = 0.75
"""Most of a server's tests that one source may hold: the others stay free for other sources."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 8.0
"""Wait after the first refused password, doubled by each further one. A client waits 10 s for an answer."""
FORGET_S = 600.0
SOURCES_LIMIT = 4096


def source_of(host: object) -> str:
    """The source that an address belongs to: itself, or its /64 network for IPv6."""
    text = plain_host(host).partition("%")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    return text if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))


class NoPlaceError(Exception):
    """No place can be made. `by_source`: others are left, but not for this source."""

    def __init__(self, *, by_source: bool) -> None:
        super().__init__()
        self.by_source = by_source


@dataclass(slots=True)
class _Place:
    source: str
    since_s: float
    silent: bool = True


class PlaceTable(Generic[Holder]):
    """A bounded number of places.

    Parameters
    ----------
    limit : number of places
    share : part of them that one source may have, rounded up
    patience_s : a silent holder keeps its place for this time against a source that has as many
    """

    def __init__(self, limit: int, share: float = 1.0, patience_s: float = 0.0) -> None:
        self._limit, self._patience_s = limit, patience_s
        self._share = math.ceil(share * limit)
        self._held: dict[Holder, _Place] = {}  # in order of age

    def __len__(self) -> int:
        return len(self._held)

    def find(self, source: str, now_s: float) -> Holder | None:
        """The holder that has to go for a newcomer of this source, None if a place is free.

        Raises
        ------
        NoPlaceError
            Every place is taken by a holder that keeps it.
        """
        counts = Counter(place.source for place in self._held.values())
        own = counts[source]
        crowded = own >= self._share
        if not crowded and len(self._held) < self._limit:
            return None
        silent = [
            (holder, place)
            for holder, place in self._held.items()
            if place.silent
            and (place.source == source or not crowded)
            and (counts[place.source] >= own + 2 or now_s - place.since_s >= self._patience_s)
        ]
        if not silent:
            raise NoPlaceError(by_source=crowded and len(self._held) < self._limit)
        # Of equals, `max` takes the first: the oldest.
        return max(silent, key=lambda each: counts[each[1].source])[0]

    def take(self, holder: Holder, source: str, now_s: float) -> Holder | None:
        """Give a place to `holder`. Returns the holder that loses its own, or None. Raises as `find`."""
        gone = self.find(source, now_s)
        if gone is not None:
            self.leave(gone)
        self._held[holder] = _Place(source, now_s)
        return gone

    def settle(self, holder: Holder) -> None:
        """`holder` did what was expected of it: its place cannot be taken any more."""
        place = self._held.get(holder)
        if place is not None:
            place.silent = False

    def leave(self, holder: Holder) -> None:
        """Free the place, if `holder` has one."""
        self._held.pop(holder, None)


class PasswordWaits:
    """Waits of sources with refused passwords. They delay no other source."""

    def __init__(self) -> None:
        self._refused: dict[str, tuple[int, float]] = {}  # (refusals, time from which the next is read)

    def reserve(self, source: str, now_s: float) -> float | None:
        """Seconds to wait before a password of this source is read; None: too many wait already, refuse it.

        Each call reserves its turn, so that passwords which come at once are read one after the other.
        """
        refusals, free_s = self._refused.get(source, (0, now_s))
        if not refusals or now_s - free_s > FORGET_S:
            self._refused.pop(source, None)
            return 0.0
        wait_s = max(0.0, free_s - now_s)
        if wait_s > LONGEST_WAIT_S:
            return None
        self._refused[source] = (refusals, now_s + wait_s + _wait_s(refusals))
        return wait_s

    def refused(self, source: str, now_s: float) -> None:
        """A password of this source was refused."""
        refusals, free_s = self._refused.pop(source, (0, now_s))
        if len(self._refused) >= SOURCES_LIMIT:
            self._refused.pop(next(iter(self._refused)))
        first = now_s + _wait_s(refusals + 1) if not refusals else free_s
        self._refused[source] = (refusals + 1, max(free_s, first))

    def accepted(self, source: str) -> None:
        """A password of this source was right: the source waits no more."""
        self._refused.pop(source, None)


def _wait_s(refusals: int) -> float:
    return min(FIRST_WAIT_S * 2.0 ** min(refusals - 1, 10), LONGEST_WAIT_S)
