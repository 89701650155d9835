"""Times at which acknowledgements leave, so that the way back carries a bounded share of the way there.

An acknowledgement leaves an interval after the one before, an eighth of a round trip, whatever it costs. It
leaves sooner while a share of the bytes that arrived pays for it:

    at once                          on news: a new hole, a filled one, a segment that had arrived before
    `spacing` intervals after the    with `enough` datagrams that are not acknowledged
      one before

So congestion control and loss recovery have 8 to 16 acknowledgements per round trip where the path is fast,
and one for each datagram where it is slow. RFC 9000, 13.2.2, has every second packet; Li et al., "TACK"
(SIGCOMM 2020), show that a few per round trip are enough for a sender that paces.
"""

from __future__ import annotations

from iperfpy.protocols.kcp.receive_window import Taken

HEADERS_BYTES = 28
"""IPv4 and UDP headers, which the path carries with each datagram."""
UNKNOWN_US = 10_000
"""The interval until the round-trip time is known."""
LONGEST_US = 100_000
MOST_CREDIT = 2_000
"""Bytes, about 20 acknowledgements: the first ones are free, a share that was not used pays for as many
later, and as many may be owed."""
SHORTEST_WAIT_US = 500
"""A shorter wait is none: the wake-up takes a good part of it, and round trips may be shorter."""
LOSING_US = 1_000_000
"""Acknowledgements count as being lost for this long after a segment that had arrived before."""
_ASK_AGAIN_US, _MOST_SAMPLES = 1_000_000, 4


class AckTiming:
    """Decides when acknowledgements leave.

    Parameters
    ----------
    share : bytes of acknowledgements per byte that arrived, headers included
    enough : datagrams that are acknowledged before the interval is over
    spacing : least part of the interval between two acknowledgements, unless there are news
    asks : True if the round-trip time must be found by window probes: the peer does not tell an interval

    Attributes
    ----------
    asks : True until enough window probes have told the round-trip time
    interval_us : the time after which an acknowledgement always leaves
    """

    __slots__ = (
        "_asked_us", "_credit", "_datagrams", "_enough", "_is_full", "_last_us", "_news",
        "_repeated_us", "_samples", "_share", "_spacing", "asks", "interval_us",
    )  # fmt: skip

    def __init__(self, share: float, enough: int, spacing: float, *, asks: bool) -> None:
        self._share, self._enough, self._spacing, self.asks = share, enough, spacing, asks
        self.interval_us = UNKNOWN_US
        self._credit: float = MOST_CREDIT
        self._datagrams = 0
        self._news = self._is_full = False
        self._last_us: int | None = None
        self._repeated_us: int | None = None
        self._asked_us: int | None = None
        self._samples = 0

    # -- arrivals

    def heard(self, datagrams: int, size: int) -> None:
        """Note datagrams with data, `size` bytes of UDP payload."""
        self._datagrams += datagrams
        credit = self._credit + self._share * (size + HEADERS_BYTES * datagrams)
        self._credit = credit if credit < MOST_CREDIT else MOST_CREDIT

    def arrived(self, taken: Taken, now_us: int) -> None:
        """Note the segments of a record."""
        if taken.is_news:
            self.report()
        if taken.has_repeats:
            self.repeated(now_us)

    def report(self) -> None:
        """Note news that the sender waits for: a new hole, or a filled one."""
        self._news = True

    def fill(self) -> None:
        """Let acknowledgements leave now at any cost: more of them would take memory."""
        self._is_full = True

    def repeated(self, now_us: int) -> None:
        """A segment arrived that had arrived before: its acknowledgement may have been lost."""
        self._news, self._repeated_us = True, now_us

    def is_losing(self, now_us: int) -> bool:
        """True if acknowledgements are being lost, as far as this end can tell."""
        return self._repeated_us is not None and now_us - self._repeated_us < LOSING_US

    # -- departures

    def due_us(self) -> int:
        """The time at which an acknowledgement that is owed leaves; may be past."""
        if self._last_us is None or self._is_full:
            return 0
        if self._credit >= 0:
            if self._news:
                return 0
            if self._datagrams >= self._enough:
                wait_us = int(self._spacing * self.interval_us)
                return self._last_us + wait_us if wait_us > SHORTEST_WAIT_US else 0
        return self._last_us + self.interval_us

    @property
    def spare_bytes(self) -> int:
        """Bytes that the share pays for now."""
        return int(self._credit)

    def left(self, datagrams: int, size: int, now_us: int) -> None:
        """Acknowledgements left, `size` bytes of UDP payload."""
        self._credit = max(-MOST_CREDIT, self._credit - size - HEADERS_BYTES * datagrams)
        self._datagrams, self._last_us = 0, now_us
        self._news = self._is_full = False

    # -- the round-trip time

    def wants_to_ask(self, now_us: int) -> bool:
        """True if a window probe should leave: its answer tells the round-trip time."""
        if not self.asks:
            return False
        if self._asked_us is not None and now_us - self._asked_us < _ASK_AGAIN_US:
            return False
        self._asked_us = now_us
        return True

    def told(self, now_us: int) -> None:
        """The answer to a window probe arrived."""
        if self._asked_us is None or self._samples >= _MOST_SAMPLES:
            return
        # The peer may have answered late: the shortest of a few is nearest to the path's.
        interval_us = min((now_us - self._asked_us) // 8, LONGEST_US)
        self.interval_us = min(self.interval_us, interval_us) if self._samples else interval_us
        self._samples += 1
        if self._samples == _MOST_SAMPLES:
            self.asks = False
