"""Loss recovery: which segments are sent again, when, and why.

The engine reports transmissions and acknowledgements; recovery returns the segments to send again. There are
two implementations: `StockRecovery` (stock.py), which counts ACKs and has a timer per segment, and `Rack`
(rack.py), which goes by the order of transmissions in time. Recovery alone writes `lost`, `resend_us`,
`rto_us` and `fastack` of the send window's segment states.

Spurious retransmissions are found outside: `DeliveryAccounting` (delivery.py) asks its
`RetransmissionLog` for them, and reports them with `found_spurious`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar, Protocol

from iperfpy.protocols.congestion.congestion_control import Flight
from iperfpy.protocols.kcp.wire import Int64s


class Cause(enum.Enum):
    """Why a segment is sent again; the names of kcp-go's counters."""

    TIMEOUT = "lost"
    EARLY = "early"
    FAST = "fast"


@dataclass(slots=True)
class Resend:
    """Segments to send again now, ascending within a detection: int64 (n,)."""

    numbers: Int64s
    cause: Cause


@dataclass(slots=True)
class Detected:
    """Losses found since the last call.

    Attributes
    ----------
    segments : transmissions given up for lost
    runs : the runs of consecutive transmissions that these form; `segments` if recovery does not follow that
    flight : of the newest of them, if known
    timeout : True if the retransmission timer found them
    heads, tails : bursts that lost their first transmission but not their last, and the reverse, found since
        the losses before; 0 if recovery does not follow that
    """

    segments: int
    runs: int
    flight: Flight | None
    timeout: bool
    heads: int = 0
    tails: int = 0


class Recovery(Protocol):
    """The seam between engine and loss recovery."""

    obeys_limits: ClassVar[bool]
    """True if retransmissions keep within the congestion window and the pace. Stock KCP's do not."""
    in_flight: int
    """Segments transmitted, not acknowledged, and not given up for lost."""
    thin: bool
    """True for a stream of messages that is limited by its application: the engine says so with each
    transmission."""
    spurious: int
    """Retransmissions that were not needed: an earlier transmission's stamp was echoed, before or after the
    last one's."""
    spurious_losses: int
    """Transmissions given up for lost that had arrived: `spurious`, and those not sent again yet."""

    def sent(self, first: int, last: int, flight: Flight) -> None:
        """[first, last) left for the first time, all in this flight."""

    def resent(self, resend: Resend, flight: Flight) -> None:
        """These left again, all in this flight."""

    def acknowledged(self, fresh: Int64s, echoes_us: Int64s, now_us: int) -> None:
        """Newly acknowledged by ACKs of their own: serial numbers (n,), ascending, and echoes; n > 0."""

    def acks_arrived(self, numbers: Int64s, echoes_us: Int64s) -> None:
        """All ACKs of a batch, repeats included: serial numbers in any order and echoes, (n,) each, n > 0.
        Comes after `acknowledged`."""

    def found_spurious(self, numbers: Int64s, echoes_us: Int64s, now_us: int) -> None:
        """These were sent again, and now an earlier transmission is echoed: (n,) each, n > 0, each segment
        once in its life. Comes after `acks_arrived`."""

    def advanced(self, segments: int, lost: int, now_us: int) -> None:
        """una moved and newly acknowledged this many segments, `lost` of which had been given up."""

    def echoed(self, stamp_us: int, now_us: int) -> Flight | None:
        """The newest stamp yet was echoed. Returns its flight, or None if the stamp is unknown."""

    def detect(self, now_us: int) -> Detected | None:
        """Losses since the last call, found by acknowledgements or by the clock."""

    def due(self, now_us: int, limit: int, admitting: int) -> list[Resend]:
        """Segments to send again now; the caller must send them.

        At most `limit` of them if recovery obeys limits, and possibly one more as a probe for a full window.
        `admitting` new segments are about to leave with them.
        """

    def probe_due(self, now_us: int) -> bool:
        """True if one segment should leave regardless of windows, to provoke an acknowledgement."""

    def path_changed(self, now_us: int) -> int:
        """The path carries no datagram as long as those in flight: give all of them up, and forget earlier
        timeouts. Returns how many. `detect` does not report them."""

    @property
    def pending(self) -> bool:
        """True if segments given up for lost wait to be sent again."""

    def deadline_us(self) -> int | None:
        """The time at which to ask again though nothing arrives; None for never."""
