"""The limit of every wait, with iperf3's values where it has one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from iperfpy.options import SocketOptions
from iperfpy.protocols.path_events import Consequence, Moment, Sign, consequence


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Limits in seconds. Only tests have a reason to change them."""

    lookup_s: float = 10.0  # looking up the name that a server listens at
    cookie_s: float = 5.0  # from accept to the whole cookie
    reply_s: float = 10.0  # a message that the peer can send without delay
    streams_s: float = 10.0  # opening the data streams, eight of them
    begun_s: float = 2.0  # after a stock server has begun the test, for a stream that is still being opened
    quiet_s: float = 10.0  # no sign of the peer, from the planned end until its results are here
    results_s: float = 120.0  # from the planned end to the results, however much arrives meanwhile
    farewell_s: float = 1.0  # writing a last message that needs no answer
    retry_s: float = 1.0  # a refused server may be opening its listener again
    stall_s: float = 120.0  # no payload, or no sign of the peer, in a test without a planned end
    receive_s: float | None = None  # no payload received although some is expected (--rcv-timeout)
    verdict_s: float = 0.5  # after a data stream failed, for the reason to arrive on the control channel
    row_s: float = 2.0  # a row waits for the peer's figures

    def with_options(self, options: SocketOptions) -> Deadlines:
        """These limits with the one that the user may set."""
        seconds = options.receive_timeout_us / 1e6
        return replace(self, receive_s=seconds) if seconds else self

    def silence_s(self, *, has_planned_end: bool) -> float | None:
        """The longest silence of a peer while data flows; None if the table of path_events.py asks for
        intervals of zeros for as long as it lasts, and the test has an end (not with -n, -k, -t 0)."""
        endures = consequence(Sign.SILENCE, Moment.RUNNING) is Consequence.ROWS
        return None if endures and has_planned_end else self.stall_s
