"""How long each wait may last. iperf3's values where it has one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from iperfpy.options import SocketOptions


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds. Tests shorten them; nobody else has a reason to."""

    cookie_s: float = 5.0  # from accept to the whole cookie
    reply_s: float = 10.0  # an answer that costs the other end nothing
    streams_s: float = 30.0  # opening one data stream
    results_s: float = 30.0  # from TEST_END to the results: control shares the path with the data
    goodbye_s: float = 1.0  # last words that nobody answers
    retry_s: float = 1.0  # a refused server may be opening its listener anew
    stall_s: float = 120.0  # no byte of payload on any stream
    receive_s: float = 120.0  # no byte of payload received, where some should be (--rcv-timeout)
    silence_s: float = 30.0  # no interval figures from an iperfpy, beyond two intervals
    drain_s: float = 10.0  # no byte acknowledged after the last was written
    grace_s: float = 40.0  # a server waits for TEST_END beyond the planned end
    verdict_s: float = 0.5  # after a data stream broke, for the control channel to say why
    row_s: float = 2.0  # a row waits for the other end's figures


def patient(deadlines: Deadlines, options: SocketOptions) -> Deadlines:
    """The same, with the one that a user may set."""
    seconds = options.receive_timeout_us / 1e6
    return replace(deadlines, receive_s=seconds) if seconds else deadlines
