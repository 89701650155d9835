"""Treatment of UDP beside TCP, from interleaved rounds of both.

The rules are Glasnost's (Dischinger et al., NSDI 2010): the rates of each kind must repeat before kinds are
compared, and the maxima are compared, since other traffic only lowers a rate. A program that did not run lets
datagrams overflow its socket, where TCP waits, so nothing is compared then either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from iperfpy.diagnosis import end_limits
from iperfpy.diagnosis.evidence import RunEvidence
from iperfpy.diagnosis.finding import Cause, Confidence, Finding
from iperfpy.plan import Direction
from iperfpy.protocols.units import format_percent, format_rate

FEWEST_ROUNDS = 3
_NOISE = 0.20
"""(maximum - median) / maximum of a kind, at most; more is noise, and nothing is compared."""
_DIFFER, _CLEARLY = 0.20, 0.50
"""Difference of the maxima over the larger one, from which on it is a likely, and a sure one."""
_LOST = 0.05
"""Share of bare datagrams that is lost at nine tenths of TCP's rate, beyond the share that TCP sends again,
from which on their rate is compared. What both lose is the path's own."""


@dataclass(frozen=True, slots=True)
class Treatment:
    """Comparison of TCP with transports over UDP.

    Parameters
    ----------
    finding : the difference, None if there is none
    alike : sentence that says that there is none; empty if there is one, or if it was not checked
    missing : reason why it was not checked; empty if it was
    """

    finding: Finding | None = None
    alike: str = ""
    missing: str = ""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Rates of one kind of test over the rounds, payload bits per second, and the share of its packets that
    is lost: sent again by a reliable transport, or missing of the rate that was asked for."""

    name: str
    rates: tuple[float, ...]
    lost: float = 0.0

    @property
    def best(self) -> float:
        return max(self.rates)

    @property
    def noise(self) -> float:
        return 1 - median(self.rates) / self.best if self.best else 1.0


def compare(rounds: Sequence[Sequence[RunEvidence]], direction: Direction) -> Treatment:
    """Compare the kinds of tests of all rounds."""
    runs = [run for tests in rounds for run in tests]
    stopped = next((found for run in runs if (found := end_limits.held_up(run)) is not None), None)
    if stopped is not None:
        return Treatment(missing=f"UDP beside TCP ({stopped.sentence})")
    stream = _kind([run for run in runs if not run.over_udp and run.reliable])
    paced = _kind([run for run in runs if run.over_udp and run.controlled])
    bare = _kind([run for run in runs if run.over_udp and not run.reliable])
    if stream is None or (paced is None and bare is None):
        return Treatment(missing="UDP beside TCP (no round had both)")
    others = [kind for kind in (paced, bare) if kind is not None]
    fewest = min(len(kind.rates) for kind in (stream, *others))
    if fewest < FEWEST_ROUNDS:
        return Treatment(missing=f"UDP beside TCP ({FEWEST_ROUNDS} rounds are needed, {fewest} ran)")
    # Bare datagrams that arrive show that the path carries them: a slow KCP is then KCP's affair.
    shown = bare if bare is not None else others[0]
    for kind in (stream, shown):
        if kind.noise > _NOISE:
            return Treatment(
                missing=f"UDP beside TCP (the rates of {kind.name} differ by {format_percent(kind.noise)}"
                f" between rounds, and may by {format_percent(_NOISE)})"
            )
    return _compared(stream, shown, paced, bare, fewest, direction)


def _compared(
    stream: _Kind, shown: _Kind, paced: _Kind | None, bare: _Kind | None, rounds: int, direction: Direction
) -> Treatment:
    words = [f"{stream.name} {format_rate(stream.best)}"]
    words += [f"{paced.name} {format_rate(paced.best)}"] if paced else []
    words += [f"{bare.name} {format_rate(bare.best)}, {format_percent(bare.lost)} lost"] if bare else []
    told = f"{'; '.join(words)}; {rounds} rounds"
    less = 1 - shown.best / stream.best
    if bare is not None and bare.lost - stream.lost < _LOST:
        return Treatment(alike=f"UDP and TCP are treated alike ({told})")
    if less < _DIFFER:
        return Treatment(alike=f"UDP and TCP are treated alike ({told})")
    return Treatment(
        Finding(
            direction,
            Cause.DATAGRAMS_DIFFER,
            Confidence.SURE if less > _CLEARLY else Confidence.LIKELY,
            f"UDP is treated differently: {format_rate(shown.best)}, where TCP gets"
            f" {format_rate(stream.best)}",
            told,
            "TCP, or another port or encryption for UDP; ask the provider",
            evidence={
                "udp_bits_per_s": round(shown.best),
                "tcp_bits_per_s": round(stream.best),
                "lost": round(shown.lost, 4),
                "rounds": rounds,
            },
        )
    )


def _kind(runs: Sequence[RunEvidence]) -> _Kind | None:
    """Collect the tests of one kind: those of the transport that comes first."""
    if not runs:
        return None
    same = [run for run in runs if run.transport == runs[0].transport]
    shares = [share for run in same if (share := _lost_share(run)) is not None]
    lost = max(0.0, median(shares)) if shares else 0.0
    return _Kind(same[0].transport, tuple(run.bits_per_second for run in same), lost)


def _lost_share(run: RunEvidence) -> float | None:
    if run.reliable:
        return run.resent_share
    target = run.target_bits_per_second * max(1, run.streams)
    return 1 - run.bits_per_second / target if target else None
