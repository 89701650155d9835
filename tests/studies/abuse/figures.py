"""What the study measured, its targets, and the verdict. No process, no socket."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

MOST_LOST, MOST_DELAY_S, MOST_MIB = 0.02, 1.0, 64.0
QUIET_SHARE = 0.95
"""Least share of the offered rate that the honest tests must carry before an attack."""


@dataclass
class Window:
    """What was seen during an attack, or before it.

    rates : bit/s of the honest tests, by name
    delays_s : of the newcomers
    memory_mib : most memory of the server
    """

    rates: dict[str, float] = field(default_factory=dict)
    delays_s: list[float] = field(default_factory=list)
    memory_mib: float = 0.0
    tracebacks: int = 0

    @property
    def delay_s(self) -> float:
        """The longest delay, infinite without a newcomer."""
        return max(self.delays_s, default=float("inf"))


@dataclass
class Row:
    """One attack: the time before it, and the time of it.

    harm : how often it did its harm
    reflected : True if another host was sent more bytes than came in its name
    """

    attack: str
    before: Window
    during: Window
    harm: int
    reflected: bool = False

    @property
    def lost(self) -> dict[str, float]:
        """Share of its rate that each honest test lost."""
        return {
            name: 1 - self.during.rates.get(name, 0.0) / rate if rate else 1.0
            for name, rate in self.before.rates.items()
        }

    @property
    def more_mib(self) -> float:
        """Memory that the server took for the attack."""
        return self.during.memory_mib - self.before.memory_mib

    @property
    def missed(self) -> tuple[str, ...]:
        """The targets that this attack missed."""
        found = [f"{name} lost {part:.1%}" for name, part in self.lost.items() if part > MOST_LOST]
        if self.during.delay_s > MOST_DELAY_S:
            found.append(f"a newcomer waited {self.during.delay_s:.2f} s")
        if self.more_mib > MOST_MIB:
            found.append(f"{self.more_mib:.0f} MiB more")
        if self.during.tracebacks:
            found.append(f"{self.during.tracebacks} tracebacks")
        if self.reflected:
            found.append("another host was sent more bytes than came in its name")
        return tuple(found)

    def why_not_measured(self, offered_bps: float) -> str:
        """The reason why these figures say nothing about the server, or empty."""
        for name, rate in self.before.rates.items():
            if rate < QUIET_SHARE * offered_bps:
                return f"{name} carried {rate / 1e6:.1f} Mb/s before the attack: the machine is busy"
        if self.before.delay_s > MOST_DELAY_S:
            return f"a newcomer waited {self.before.delay_s:.2f} s before the attack: the machine is busy"
        # An attacker that a harmed server does not even answer has been successful.
        return "" if self.harm or self.missed else "the attacker did nothing"

    def verdict(self, offered_bps: float) -> str:
        """One word for the table."""
        return "not measured" if self.why_not_measured(offered_bps) else "missed" if self.missed else "holds"


def interval_bytes(line: str) -> int | None:
    """Payload bytes of an interval, from a line of `--json-stream`; None for another event, and for the
    unfinished line of a program that was ended."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return int(event["data"]["sum"]["bytes"]) if event["event"] == "interval" else None
