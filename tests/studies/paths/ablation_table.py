"""The effect of each mechanism: the targets with it and without it, over the same cases and seeds.

Simulations are deterministic, so the side "with" comes from a record of the whole grid. A target *moves* if a
case falls below it, or if the worst figure or the median changes by more than 1 % of the target itself (at
least 0.1 points of a percentage). A single seed is one draw: any change of the sending times changes the
choice of segments that the path loses. The worst figure of all seeds with the mechanism therefore stands
beside it, as a measure of chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from tests.studies.paths.ablation import MECHANISMS
from tests.studies.paths.rows import bound, figure
from tests.studies.paths.run import Outcome
from tests.studies.paths.targets import TARGETS, Judged, Target, Verdict, fails, judge
from tests.studies.table import Table

MOVED, LEAST_MOVE = 0.01, 0.001
"""Change of the worst figure or the median that counts: a share of the target, and the least change."""
SUMMARY = ("key", "mechanism", "instead", "runs", "unchanged", "lines that move", "runs that fall")
HEADINGS = (
    *("target", "at least", "below without it", "below with it", "worst without", "worst with"),
    *("worst with, all seeds", "median without", "median with", "moved"),
)


@dataclass(frozen=True, slots=True)
class Effect:
    """A target without a mechanism and with it.

    `fallen` : cases that reach the target only with the mechanism, with their seed if it is not 1
    `risen` : cases that reach it only without the mechanism
    """

    target: Target
    off: Judged
    on: Judged
    on_all_seeds: Judged
    fallen: tuple[str, ...]
    risen: tuple[str, ...]

    @property
    def moved(self) -> bool:
        """True if the mechanism makes a difference to this target."""
        ends = [abs(end) for end in self.target.limit if abs(end) < inf]
        least = max(MOVED * min(ends), LEAST_MOVE)
        pairs = zip(self.off.worst, self.on.worst, strict=True)
        changes = [abs(off - on) for (off, _), (on, _) in pairs] + [abs(self.off.middle - self.on.middle)]
        return bool(self.fallen) or max(changes) > least

    @property
    def better(self) -> bool:
        """True if neither the worst figure nor the median is worse without the mechanism."""
        low, high = self.target.limit
        if low > -inf and high < inf:
            return False
        sign = 1.0 if low > -inf else -1.0
        pairs = [(self.off.worst[0][0], self.on.worst[0][0]), (self.off.middle, self.on.middle)]
        return not self.fallen and all(sign * off >= sign * on for off, on in pairs)


def effects(key: str, outcomes: Iterable[Outcome], baseline: Sequence[Outcome]) -> list[Effect]:
    """List the effects on every target that the runs without this mechanism were made for."""
    known = {(one.name, one.seed): one for one in baseline}
    off = [one for one in outcomes if one.without == key and (one.name, one.seed) in known]
    on = [known[one.name, one.seed] for one in off]
    # A single seed is one draw, so all seeds of these cases are the measure of chance.
    names = {one.name for one in off}
    on_all_seeds = [one for one in baseline if one.name in names]
    found = []
    for target in TARGETS:
        judged = judge(target, off)
        if judged.verdict is Verdict.MISSING:
            continue
        pairs = [(a, b) for a, b in zip(off, on, strict=True) if a.line in target.lines]
        fallen = tuple(_label(a) for a, b in pairs if fails(target, a) and not fails(target, b))
        risen = tuple(_label(a) for a, b in pairs if fails(target, b) and not fails(target, a))
        found.append(Effect(target, judged, judge(target, on), judge(target, on_all_seeds), fallen, risen))
    return found


def _label(outcome: Outcome) -> str:
    return outcome.name if outcome.seed == 1 else f"{outcome.name}, seed {outcome.seed}"


def lines_that_move(key: str, outcomes: Iterable[Outcome], baseline: Sequence[Outcome]) -> dict[str, bool]:
    """Find the lines of the grid on which a target moves.

    Returns
    -------
    line -> True if all of its targets that move are better without the mechanism
    """
    ours = [one for one in outcomes if one.without == key]
    moving = {}
    for line in sorted({one.line for one in ours}):
        # Line by line, because the worst figure of one line would hide the moves of the others.
        found = effects(key, [run for run in ours if run.line == line], baseline)
        moved = [one for one in found if one.moved]
        if moved:
            moving[line] = all(one.better for one in moved)
    return moving


def unchanged(outcomes: Iterable[Outcome], baseline: Iterable[Outcome]) -> int:
    """Count the runs with the figures of the record: the mechanism did not act, or without effect."""
    known = {(one.name, one.seed): one.values for one in baseline}
    return sum(one.values == known.get((one.name, one.seed)) for one in outcomes)


def _worst(judged: Judged) -> str:
    return " to ".join(figure(value, judged.target.unit) for value, _ in judged.worst)


def _row(effect: Effect) -> tuple[str, ...]:
    target, unit = effect.target, effect.target.unit
    return (
        target.what,
        bound(target.limit, target),
        f"{effect.off.failing} of {effect.off.runs}",
        str(effect.on.failing),
        *(_worst(side) for side in (effect.off, effect.on, effect.on_all_seeds)),
        figure(effect.off.middle, unit),
        figure(effect.on.middle, unit),
        "yes" if effect.moved else "",
    )


def summary(keys: Sequence[str], outcomes: Sequence[Outcome], baseline: Sequence[Outcome]) -> Table:
    """Build the table of mechanisms.

    A row gives the number of runs without the mechanism, the number of those with unchanged figures, the
    lines that move ("better" means better without it), and the number of runs that fall below a target only
    without it.
    """
    rows: list[tuple[str, ...]] = []
    for key in keys:
        ours = [one for one in outcomes if one.without == key]
        found = effects(key, outcomes, baseline)
        # A case may fall below several targets, and counts once.
        fallen = {case for effect in found for case in effect.fallen}
        mechanism = MECHANISMS[key]
        lines = lines_that_move(key, outcomes, baseline)
        moving = ", ".join(f"{line} (better)" if better else line for line, better in lines.items())
        counts = (str(len(ours)), str(unchanged(ours, baseline)))
        rows.append((f"`{key}`", mechanism.name, mechanism.instead, *counts, moving, str(len(fallen))))
    return Table(SUMMARY, rows)


def markdown(keys: Sequence[str], outcomes: Sequence[Outcome], baseline: Sequence[Outcome]) -> str:
    """Write the summary, and a table for each mechanism with the cases that fall below a target."""
    parts = [summary(keys, outcomes, baseline).markdown()]
    for key in keys:
        found = effects(key, outcomes, baseline)
        if not found:
            continue
        parts.append(f"\n## `{key}`: {MECHANISMS[key].name}\n\nWithout it: {MECHANISMS[key].instead}.\n\n")
        parts.append(Table(HEADINGS, [_row(effect) for effect in found]).markdown())
        for effect in found:
            for words, cases in (("Below", effect.fallen), ("Reached only without it:", effect.risen)):
                if cases:
                    parts.append(f'\n{words} "{effect.target.what}": {"; ".join(cases)}.\n')
    return "".join(parts)
