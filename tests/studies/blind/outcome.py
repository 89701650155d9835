"""The experiment, the diagnosis and the truth of one path, as one record."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from iperfpy.diagnosis import both_ways, direction
from iperfpy.diagnosis.advice import Recommendation
from iperfpy.diagnosis.direction import DirectionDiagnosis
from iperfpy.diagnosis.finding import Cause, Finding
from iperfpy.plan import Direction
from tests.studies.blind.advice_trial import put_to_proof
from tests.studies.blind.drawing import BlindPath, draw
from tests.studies.blind.experiment import gather

Figures = Mapping[str, Any]
VAIN = 0.3
"""Share of retransmissions in vain from which on they are a cause."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The truth of a path, and the findings of its diagnosis.

    Parameters
    ----------
    truth, found : cause -> its figures
    sentences : of the findings, in their order
    true_rate : bits per second of IP packets, the mean over the experiment
    capacity, capacity_error : of the diagnosis; None: it does not know
    cost_s : processor seconds
    recommended : settings, see `advice.Recommendation`
    measures_rate : False for one test, which does not measure the rate of the path
    trial : rates of the proof of the advice, see `Trial`; empty: it was not tried
    """

    seed: int
    kinds: list[str]
    name: str
    truth: dict[str, Figures]
    found: dict[str, Figures]
    sentences: list[str]
    true_rate: float
    capacity: float | None
    capacity_error: float | None
    cost_s: float = 0.0
    recommended: dict[str, Any] = field(default_factory=dict)
    trial: dict[str, Any] = field(default_factory=dict)
    measures_rate: bool = True

    def fields(self) -> dict[str, Any]:
        """Give the fields for a file."""
        return asdict(self)

    @property
    def missed(self) -> set[str]:
        """Causes that are there and were not found."""
        return set(self.truth) - set(self.found)

    @property
    def invented(self) -> set[str]:
        """Causes that were found and are not there."""
        return set(self.found) - set(self.truth) - {str(Cause.UNKNOWN)}


def examine(seed: int) -> Outcome:
    """Run the experiment on the path of a seed, and conclude from it."""
    began = time.process_time()
    path = draw(seed)
    found = gather(path)
    # Retransmissions in vain are a fact about a flow, so the simulator knows the truth only afterwards.
    if found.in_vain > VAIN and Cause.REORDERING not in path.truth:
        path.truth[Cause.SPURIOUS] = {"share": found.in_vain}
        path.truth.pop(Cause.LINE, None)
    diagnosis = direction.conclude(found.evidence)
    both: tuple[Finding, ...] = ()
    if path.both_ways:
        back = direction.conclude(replace(gather(path.reversed).evidence, direction=Direction.REVERSE))
        both = both_ways.conclude(diagnosis, back)
    outcome = judge(path, diagnosis, found.mean_rate, both)
    return replace(outcome, cost_s=time.process_time() - began)


def prove(outcome: Outcome) -> Outcome:
    """Try the advice on the path."""
    trial = put_to_proof(draw(outcome.seed), Recommendation(**outcome.recommended))
    return replace(outcome, trial=asdict(trial))


def judge(
    path: BlindPath, diagnosis: DirectionDiagnosis, true_rate: float, both: Sequence[Finding] = ()
) -> Outcome:
    """Put the truth beside a diagnosis. `both`: findings about both directions."""
    recommended, findings = diagnosis.recommendation, (*diagnosis.findings, *both)
    return Outcome(
        path.seed,
        list(path.kinds),
        path.name,
        {str(cause): figures for cause, figures in path.truth.items()},
        {str(finding.cause): dict(finding.evidence) for finding in findings},
        [f"{finding.cause}: {finding.sentence} ({finding.because})" for finding in findings],
        true_rate,
        diagnosis.capacity_bits_per_s,
        diagnosis.capacity_error_bits_per_s,
        recommended=asdict(recommended) if recommended else {},
    )
