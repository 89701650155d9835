"""The tests of a diagnosis that have been run, and the figures of the path that they give so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from iperfpy.diagnosis.evidence import DirectionEvidence, IdlePath, RunEvidence, Rung
from iperfpy.experiments import run_figures as figures
from iperfpy.experiments.check_schedule import BULK, DIRECTIONS, CheckStep, StepPart
from iperfpy.plan import Direction
from iperfpy.protocols.addresses import plain_host
from iperfpy.protocols.registry import transport as transport_named
from iperfpy.records import EndFacts, RunStarted
from iperfpy.store.stored_run import Run

REACHED = 0.9
"""Share of its rate that a sender reaches unless the machine is too slow for more."""
LOST = 0.03
"""Share of lost datagrams that shows that a rate was too high."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A test that was run, to its end or not."""

    step: CheckStep
    run: Run


@dataclass(slots=True)
class MeasuredPath:
    """The path, as far as it is known.

    Parameters
    ----------
    outcomes : tests with figures, in order
    blocked : (transport, direction) -> the sentence of a test with data that did not get through
    """

    outcomes: list[Outcome] = field(default_factory=list)
    blocked: dict[tuple[str, Direction], str] = field(default_factory=dict)

    # -- the server

    @property
    def peer_is_iperfpy(self) -> bool | None:
        """True if the server runs this program; None: no test has begun."""
        return next((start.peer_is_iperfpy for start in self._started()), None)

    @property
    def address(self) -> str:
        """The server's address; empty: no test has begun."""
        remotes = (plain_host(one.remote[0]) for start in self._started() for one in start.connected)
        return next(remotes, "")

    @property
    def server(self) -> EndFacts:
        """Program and system of the server, as far as it told them."""
        return figures.server_facts(next((one.run for one in self.outcomes), None))

    @property
    def header_bytes(self) -> int:
        """Bytes of the IP and UDP headers of a datagram to the server."""
        ip_bytes = figures.IPV6_BYTES if ":" in self.address else figures.IPV4_BYTES
        return ip_bytes + figures.UDP_HEADER_BYTES

    @property
    def warnings(self) -> tuple[str, ...]:
        """The sentences of TCP's and KCP's tests, each once. Those of datagrams are about the losses that a
        diagnosis provokes."""
        bulk = (one.run for one in self.outcomes if one.step.part is StepPart.BULK)
        return tuple(dict.fromkeys(text for run in bulk for text in run.warnings))

    def _started(self) -> list[RunStarted]:
        return [one.run.started for one in self.outcomes if one.run.started is not None]

    # -- the path

    @property
    def idle(self) -> IdlePath:
        """The path before any load."""
        idle = [one.run for one in self.outcomes if one.step.part is StepPart.IDLE]
        others = [one.run for one in self.outcomes if one.step.part is not StepPart.IDLE]
        return figures.idle_path(idle[0] if idle else None, others)

    @property
    def rtt_s(self) -> float:
        """Median round-trip time of the idle path, 0 if it is not known."""
        return self.idle.rtt_us.get("p50", 0.0) / 1e6

    def capacities(self) -> Mapping[Direction, float]:
        """IP bits per second of each direction, by its rounds; directions without any are left out."""
        found = {}
        for way in DIRECTIONS:
            runs = [(one.run, way) for one in self.outcomes if one.step.direction is way and one.step.round]
            if capacity := figures.capacity_bps(runs):
                found[way] = capacity
        return found

    def round_bps(self, direction: Direction, round_number: int) -> float | None:
        """IP bits per second of TCP in a round, or of KCP if TCP has none; None if neither has."""
        own = [
            one for one in self.outcomes if (one.step.direction, one.step.round) == (direction, round_number)
        ]
        for name in BULK:
            for one in own:
                if one.step.transport == name and (rate := figures.settled_bps(one.run, direction)):
                    return rate
        return None

    def datagram_bytes(self) -> int | None:
        """Bytes of UDP payload that a transport found to pass in both directions; None: none has searched."""
        found = (figures.datagram_bytes(one.run, one.step.direction) for one in self.outcomes)
        return min((int(size) for size in found if size), default=None)

    def payload_share(self, transport: str) -> float | None:
        """Payload bytes for each byte of an IP packet, by the latest test of that transport but the idle one;
        None if there was none."""
        for one in reversed(self.outcomes):
            if one.step.transport == transport and one.step.part is not StepPart.IDLE:
                packets = figures.packets_of(one.run, one.step.direction)
                return None if packets is None else 1 / packets.ratio
        return None

    def data_s(self) -> float:
        """Seconds of data of all tests but the idle one."""
        return sum(figures.measured_s(one.run) for one in self.outcomes if one.step.part is not StepPart.IDLE)

    def rungs(self, way: Direction) -> list[tuple[CheckStep, Rung]]:
        """The rungs of the ladder so far, each with its step."""
        own = [one for one in self.outcomes if one.step.part is StepPart.RUNG and one.step.direction is way]
        return [(one.step, rung) for one in own if (rung := figures.rung_of(one.run, way)) is not None]

    def ladder_is_done(self, way: Direction, capacity_bps: float) -> bool:
        """True if a higher rate than the highest one of the ladder would tell nothing more.

        The sender did not reach that one, or a receiver that does not tell when datagrams arrive (a stock
        iperf3) lost some of it: counts alone are decided then.
        """
        wanted, rung = max(self.rungs(way), key=lambda one: one[0].share, default=(None, None))
        if wanted is None or rung is None:
            return True
        slow = rung.offered_bits_per_s < REACHED * wanted.share * capacity_bps
        return slow or (rung.flight is None and rung.arrived < (1 - LOST) * rung.sent)

    # -- the evidence

    def evidence(self, way: Direction) -> DirectionEvidence | None:
        """The measurements of one direction; None if nothing arrived."""
        own = [
            one for one in self.outcomes if one.step.direction is way and one.step.part is not StepPart.IDLE
        ]
        if not any(figures.measured_s(one.run) and one.run.bits_per_second > 0 for one in own):
            return None
        rungs = [rung for _, rung in self.rungs(way)]
        rounds: dict[int, list[RunEvidence]] = {}
        for one in own:
            evidence = figures.evidence_of(one.run, way) if one.step.round else None
            if evidence is not None:
                rounds.setdefault(one.step.round, []).append(evidence)
        # A transport that does not get through carried nothing in a round of its own.
        for name, blocked in self.blocked:
            if blocked is way and rounds:
                rounds[max(rounds)].append(figures.nothing_arrived(transport_named(name), way))
        return DirectionEvidence(
            way,
            self.idle,
            tuple(sorted(rungs, key=lambda rung: rung.offered_bits_per_s)),
            tuple(tuple(tests) for _, tests in sorted(rounds.items())),
        )
