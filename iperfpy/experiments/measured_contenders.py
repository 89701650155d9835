"""The measurements of a comparison while it runs, and the cost of its rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from iperfpy.comparison.comparison_report import LeftOut, MeasuredMessages, MeasuredTest, steady_rates
from iperfpy.experiments.serial_tests import PlannedTest
from iperfpy.plan import Direction
from iperfpy.store.stored_run import Run

Key = tuple[int, Direction | None]
"""A contender's place, and the direction of its bulk data; None: its messages."""


@dataclass(slots=True)
class MeasuredContenders:
    """The measurements so far.

    Parameters
    ----------
    tests, messages : with figures or without, in order
    left_out : part of a contender -> the reason why it cannot be measured
    first : the record of the first test that started, for the facts of the server
    warnings : of the latest test of each part of a contender: their numbers differ from test to test
    witness : a short test that worked: it shows if the server is still there
    rounds : completed rounds
    """

    tests: list[MeasuredTest] = field(default_factory=list)
    messages: list[MeasuredMessages] = field(default_factory=list)
    left_out: dict[Key, str] = field(default_factory=dict)
    first: Run | None = None
    warnings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    witness: PlannedTest | None = None
    rounds: int = 0

    def rates(self, contender: str, direction: Direction) -> list[float]:
        """The steady rates of a contender in a direction."""
        own = (one for one in self.tests if one.contender == contender and one.direction is direction)
        return steady_rates([one for one in own if not one.failed])

    def has(self, contender: str, direction: Direction | None) -> bool:
        """True if a test of this part of a contender has figures."""
        if direction is not None:
            return bool(self.rates(contender, direction))
        return any(one.contender == contender and not one.failed for one in self.messages)

    def forget_failures(self, contender: str, direction: Direction | None) -> None:
        """Drop the failed tests of a part that is left out: only failures of those that take part count."""
        if direction is None:
            self.messages = [one for one in self.messages if one.contender != contender or not one.failed]
        else:
            part = (contender, direction)
            kept = [one for one in self.tests if (one.contender, one.direction) != part or not one.failed]
            self.tests = kept

    def note(self, run: Run, part: str = "") -> None:
        """Keep the facts of a test that worked. `part`: the contender and the direction in words; empty: the
        test does not count in the comparison."""
        self.first = self.first or run
        if part:
            self.warnings[part] = run.warnings

    def warning_texts(self) -> tuple[str, ...]:
        """The warnings, each with the part of the contender that it is about."""
        return tuple(f"{part}: {text}" for part, texts in self.warnings.items() for text in texts)

    def reasons(self, names: Sequence[str], directions: Sequence[Direction]) -> tuple[LeftOut, ...]:
        """The contenders that were left out, by name; those of all directions for one reason once."""
        found: list[LeftOut] = []
        for place, name in enumerate(names):
            reasons = {
                way: reason for way in directions if (reason := self.left_out.get((place, way))) is not None
            }
            if len(reasons) == len(directions) and len(set(reasons.values())) == 1:
                found.append(LeftOut(name, None, next(iter(reasons.values()))))
            else:
                found += [LeftOut(name, way, reason) for way, reason in reasons.items()]
            # Without bulk data in any direction, messages need no second sentence.
            if len(reasons) < len(directions) and (reason := self.left_out.get((place, None))) is not None:
                found.append(LeftOut(name, None, reason, messages=True))
        return tuple(found)


@dataclass(slots=True)
class RoundCosts:
    """Seconds and bytes of the rounds so far."""

    seconds: list[float] = field(default_factory=list)
    sent_bytes: list[int] = field(default_factory=list)
    _begun_s: float = 0.0
    _begun_bytes: int = 0

    def begin(self, elapsed_s: float, spent_bytes: int) -> None:
        """Note the beginning of a round."""
        self._begun_s, self._begun_bytes = elapsed_s, spent_bytes

    def end(self, elapsed_s: float, spent_bytes: int) -> None:
        """Note the end of a round."""
        self.seconds.append(elapsed_s - self._begun_s)
        self.sent_bytes.append(spent_bytes - self._begun_bytes)

    @property
    def longest_s(self) -> float:
        """Seconds of a usual round: one with a wait for the server does not predict the next."""
        return median(self.seconds) if self.seconds else 0.0

    @property
    def most_bytes(self) -> int:
        """Bytes of the largest round."""
        return max(self.sent_bytes, default=0)
