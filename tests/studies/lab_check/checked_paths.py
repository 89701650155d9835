"""The ten paths, in the words that the path language and the emulator have in common."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from iperfpy.protocols.simulator import Path
from iperfpy.protocols.simulator.path_language import parse

COUNTED = 20_000
"""Numbered datagrams that count the losses of a path."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A configured share of lost packets with its mean burst length, and the standard error of either in a
    count of `COUNTED` packets."""

    share: float
    share_error: float
    burst: float
    burst_error: float


@dataclass(frozen=True, slots=True)
class CheckedPath:
    """One path.

    there, back : specifications of the two ways
    congestion : congestion control of iperf3's TCP
    """

    name: str
    there: str
    back: str
    congestion: str

    @property
    def text(self) -> str:
        """The path for the lab."""
        return f"up:{self.there} down:{self.back}"

    @property
    def ways(self) -> tuple[Path, Path]:
        """The path for the simulator."""
        return parse(self.text)

    @property
    def loss(self) -> Loss | None:
        """The configured random loss of the way there; None without."""
        path = self.ways[0]
        if path.bursts is not None:
            share, leave = path.bursts.average, path.bursts.leave
            # Losses of a chain of two states are correlated: rho between neighbours.
            rho = 1.0 - path.bursts.enter - path.bursts.leave
            spread = sqrt(share * (1 - share) * (1 + rho) / (1 - rho) / COUNTED)
        elif path.loss:
            share, leave = path.loss, 1.0 - path.loss
            spread = sqrt(share * (1 - share) / COUNTED)
        else:
            return None
        # A burst is a stay in the lost state: its length is geometric with the probability `leave` of an end.
        bursts = COUNTED * share * leave
        return Loss(share, spread, 1.0 / leave, sqrt(1.0 - leave) / leave / sqrt(bursts))


_HALF_20 = "delay=20ms,queue=1bdp"

PATHS = (
    CheckedPath("20 Mb/s, 40 ms", f"rate=20M,{_HALF_20}", "delay=20ms", "cubic"),
    CheckedPath("20 Mb/s, 170 ms", "rate=20M,delay=85ms,queue=1bdp", "delay=85ms", "cubic"),
    CheckedPath("100 Mb/s, 20 ms", "rate=100M,delay=10ms,queue=1bdp", "delay=10ms", "cubic"),
    CheckedPath("loss 1 %", f"rate=20M,{_HALF_20},loss=1", "delay=20ms", "bbr"),
    CheckedPath("loss 10 %", f"rate=20M,{_HALF_20},loss=10", "delay=20ms", "bbr"),
    CheckedPath("bursts of 5", f"rate=20M,{_HALF_20},ge=0.4/20", "delay=20ms", "bbr"),
    CheckedPath("policer 20 Mb/s", "delay=20ms,police=20M/192k", "delay=20ms", "bbr"),
    CheckedPath("jitter 5 ms", f"rate=20M,{_HALF_20},jitter=5ms", "delay=20ms", "cubic"),
    CheckedPath("lumps 10 to 30 ms", "rate=20M,delay=5ms,queue=200p,agg=10ms/30ms", "delay=5ms", "cubic"),
    CheckedPath("CoDel", "rate=20M,delay=20ms,queue=1000p,codel=5ms/100ms", "delay=20ms", "cubic"),
)
