"""The result of a diagnosis: the measurements of each direction, and the conclusions from them.

PathReport
  idle                  the path before any load
  directions[]          DirectionReport: evidence -> diagnosis
  both_ways             findings about the two directions together
  error, stopped        a diagnosis that ended early has its measurements until then
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from iperfpy.diagnosis.direction import DirectionDiagnosis
from iperfpy.diagnosis.evidence import DirectionEvidence, IdlePath, RunEvidence
from iperfpy.diagnosis.finding import Finding
from iperfpy.plan import Direction
from iperfpy.protocols.metrics import CONGESTION_KEY, number


@dataclass(frozen=True, slots=True)
class Comparison:
    """The transports of the rounds beside each other: medians over the rounds.

    Parameters
    ----------
    rounds : rounds in which every one of them was measured
    bits_per_second : payload rate that arrived, of each transport that repeats losses, by its name; with the
        sender's congestion control behind the name, if it is known and not a part of it
    datagrams : name of the plain datagrams, or empty
    offered_bits_per_s, loss : payload rate at which these were sent, and the share of them that was lost
    """

    rounds: int
    bits_per_second: Mapping[str, float]
    datagrams: str = ""
    offered_bits_per_s: float = 0.0
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class DirectionReport:
    """One direction: the measurements and the conclusions."""

    direction: Direction
    evidence: DirectionEvidence
    diagnosis: DirectionDiagnosis

    @property
    def comparison(self) -> Comparison | None:
        """The transports beside each other; None without a round that has more than one."""
        return compared(self.evidence)


@dataclass(frozen=True, slots=True)
class PathReport:
    """The whole diagnosis.

    Parameters
    ----------
    host, port : the server, as the user named it
    unix_time : seconds since the epoch at which it began
    seconds : time that it took
    sent_bytes : bytes of IP packets that both ends sent; those of acknowledgements and messages as estimated
    budget_bytes : the user's limit of these, 0: none
    quick : True for the short form
    version, system_info : this program and machine
    server_version, server_system_info : those of the server, as far as it told them
    peer_is_iperfpy : False: a stock iperf3; None: no test has begun
    address : the server's address in the tests; empty: no test has begun
    idle : the path before any load
    directions : one per direction in which anything was measured
    both_ways : findings about the two directions together
    not_checked : phrases, each with its reason
    warnings : sentences of the tests about this end, each once
    error : sentence that ended the diagnosis early, else empty
    stopped : True if that was the user of this end
    """

    host: str
    port: int
    unix_time: float
    seconds: float
    sent_bytes: int = 0
    budget_bytes: int = 0
    quick: bool = False
    version: str = ""
    system_info: str = ""
    server_version: str = ""
    server_system_info: str = ""
    peer_is_iperfpy: bool | None = None
    address: str = ""
    idle: IdlePath = field(default_factory=IdlePath)
    directions: tuple[DirectionReport, ...] = ()
    both_ways: tuple[Finding, ...] = ()
    not_checked: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    error: str = ""
    stopped: bool = False

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every finding, by direction, then those of both directions together."""
        own = (finding for one in self.directions for finding in one.diagnosis.findings)
        return (*own, *self.both_ways)

    @property
    def measured(self) -> bool:
        """True if there is a result."""
        return bool(self.directions)

    @property
    def failed(self) -> bool:
        """True if an error ended it early that was not its user."""
        return bool(self.error) and not self.stopped


def compared(evidence: DirectionEvidence) -> Comparison | None:
    """The transports of the rounds beside each other; None if there are not two of them."""
    runs: dict[str, list[RunEvidence]] = {}
    for tests in evidence.rounds:
        for run in tests:
            runs.setdefault(run.transport, []).append(run)
    if len(runs) < 2:
        return None
    rounds = min(map(len, runs.values()))
    plain = next((tests for tests in runs.values() if not tests[0].reliable), None)
    rates = {
        _named(tests): median(run.bits_per_second for run in tests)
        for tests in runs.values()
        if tests is not plain
    }
    if plain is None:
        return Comparison(rounds, rates)
    losses = [loss for run in plain if (loss := number(run.receiver.get("loss_percent"))) is not None]
    offered = median(run.target_bits_per_second for run in plain)
    return Comparison(rounds, rates, plain[0].transport, offered, median(losses) / 100 if losses else None)


def _named(tests: Sequence[RunEvidence]) -> str:
    """The transport, and the congestion control of its sender if the name does not say it."""
    name, control = tests[-1].transport, tests[-1].sender.get(CONGESTION_KEY)
    return f"{name} {control}" if control and str(control) not in name else name
