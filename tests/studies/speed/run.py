"""Measurement: contestants take turns, round after round; a failure costs one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.studies.speed.cases import Group
from tests.studies.speed.contestants import Contestant, Figures
from tests.studies.speed.processes import RunError
from tests.studies.speed.summary import Result, result

Say = Callable[[str], None]


@dataclass
class Measured:
    """A measured group: figures by contestant and round, remarks, missing peers and failures."""

    group: Group
    rounds: dict[str, list[Figures | None]] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def results(self) -> list[Result]:
        return [result(row, self.rounds) for row in self.group.rows]


def measure(group: Group, rounds: int, seconds: float, say: Say) -> Measured:
    """Run all rounds of a group. Contestants that are missing or cannot start are left out."""
    done = Measured(group)
    seconds, rounds = max(seconds, group.at_least_s), min(rounds, group.most_rounds or rounds)
    say(f"{group.title}:")
    present = [one for one in group.contestants if _prepared(one, seconds, done, say)]
    for number in range(rounds):
        for contestant in present:
            figures = _one_run(contestant, seconds, done, say)
            done.rounds.setdefault(contestant.name, []).append(figures)
        say(f"  round {number + 1} of {rounds}")
    return done


def _prepared(contestant: Contestant, seconds: float, done: Measured, say: Say) -> bool:
    if reason := contestant.missing():
        done.missing.append(reason)
        say(f"  {reason}")
        return False
    rows = [row for row in done.group.rows if contestant.name in (row.ours, row.theirs)]
    try:
        remark = contestant.prepare(seconds, {row.figure for row in rows})
    except RunError as error:
        done.failures.append(f"{contestant.name}: {error}")
        say(f"  {error}")
        return False
    if remark:
        done.remarks[contestant.name] = remark
    return True


def _one_run(contestant: Contestant, seconds: float, done: Measured, say: Say) -> Figures | None:
    try:
        return contestant.measure(seconds)
    except RunError as error:
        done.failures.append(f"{contestant.name}: {error}")
        say(f"  {error}")
        return None
