"""Loss recovery: what is sent again, when, and why.

Two ways of finding out stand behind one interface: `classic` (stock KCP) and `rack` (time-ordered).
The engine tells them what was sent and acknowledged; they say what to send again. They own the marks in the
send window's `lost`, `resend_us`, `rto_us` and `fastack`; nobody else writes those.
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
    """Losses found since the last call: how many transmissions, in how many runs of consecutive ones (as many
    where that is not followed), the newest of them, whether by timeout."""

    segments: int
    runs: int
    flight: Flight | None
    timeout: bool


class Recovery(Protocol):
    """One way of finding losses."""

    bounded: ClassVar[bool]
    """Whether resends keep within the congestion window and the pace; stock KCP's do not."""
    in_flight: int
    """Segments transmitted, not acknowledged, and not given up for lost."""
    spurious: int
    """Retransmissions that turned out unneeded: an older transmission's stamp was echoed, whether before or
    after the last one's."""
    mistaken: int
    """Transmissions given up for lost that had arrived: `spurious`, and those not yet sent again."""

    def sent(self, first: int, last: int, flight: Flight) -> None:
        """[first, last) left for the first time, all in this flight."""

    def resent(self, resend: Resend, flight: Flight) -> None:
        """These left again, all in this flight."""

    def acknowledged(self, fresh: Int64s, echoes_us: Int64s, now_us: int) -> None:
        """Marked acknowledged one by one: serial numbers (n,), never none, and the stamps that their
        receiver echoed (n,)."""

    def heard(self, numbers: Int64s, echoes_us: Int64s) -> None:
        """All that a batch of ACKs said, known or not: serial numbers in any order, repeats included, and
        echoes (n,) each, never none. Comes after `acknowledged`."""

    def unneeded(self, numbers: Int64s, echoes_us: Int64s) -> None:
        """These were sent again, and now an earlier transmission was echoed: (n,) each, never none, each
        segment once. Comes after `heard`."""

    def advanced(self, segments: int, lost: int, now_us: int) -> None:
        """una moved: this many more were acknowledged by it, `lost` of them had been given up."""

    def arrived(self, stamp_us: int, now_us: int) -> Flight | None:
        """The newest stamp yet was echoed. Returns its flight, if it is one of ours."""

    def detect(self, now_us: int) -> Detected | None:
        """What was found lost since the last call, by acknowledgements or by the clock."""

    def due(self, now_us: int, limit: int, admitting: int) -> list[Resend]:
        """At most `limit` segments to send again now (any number if not `bounded`), and as a probe does, one
        more that holds up a full window; `admitting` new ones are about to leave with them. What is returned
        must be sent."""

    def probe_due(self, now_us: int) -> bool:
        """Whether one segment should leave regardless of windows, to provoke an acknowledgement."""

    @property
    def pending(self) -> bool:
        """Whether something found lost waits to be sent again."""

    def deadline_us(self) -> int | None:
        """When to ask again though nothing arrives."""
