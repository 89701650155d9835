"""Tables of the blind test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.studies.blind import verdicts
from tests.studies.blind.outcome import Outcome
from tests.studies.table import Table


def confusion(outcomes: Sequence[Outcome]) -> Table:
    """Build the table of causes: found, missed, invented, and on which paths they were invented."""
    rows = []
    for score in verdicts.scores(outcomes):
        instead = Counter(
            "+".join(one.kinds) or "none" for one in outcomes if score.cause in one.invented
        ).most_common(3)
        rows.append(
            (
                score.cause,
                str(score.right + score.missed),
                str(score.right),
                str(score.missed),
                str(score.invented),
                _share(score.precision),
                _share(score.recall),
                ", ".join(f"{kinds} ({count})" for kinds, count in instead),
            )
        )
    headings = ("cause", "paths", "found", "missed", "invented", "precision", "recall", "invented on")
    return Table(headings, rows)


def figures(outcomes: Sequence[Outcome]) -> Table:
    """Build the table of errors."""
    rows = []
    for name, (allowed, errors_of) in verdicts.ERRORS.items():
        errors = errors_of(outcomes)
        sizes = sorted(abs(error.deviation) for error in errors)
        met = sum(error.met for error in errors)
        rows.append(
            (
                name,
                allowed,
                str(len(errors)),
                f"{sizes[len(sizes) // 2]:.4f}" if sizes else "",
                f"{sizes[int(0.95 * (len(sizes) - 1))]:.4f}" if sizes else "",
                f"{met}/{len(errors)}",
                _verdict(not errors or met / len(errors) >= verdicts.WITHIN),
            )
        )
    return Table(("figure", "allowed", "paths", "median error", "95th percentile", "met", "verdict"), rows)


def targets(outcomes: Sequence[Outcome]) -> Table:
    """Build the table of targets."""
    total = verdicts.scores(outcomes)[0]
    false, unknown = len(verdicts.false_policers(outcomes)), len(verdicts.cannot_tell(outcomes))
    count = max(1, len(outcomes))
    rows = [
        ("precision", f">= {verdicts.PRECISION}", _share(total.precision)),
        ("recall", f">= {verdicts.RECALL}", _share(total.recall)),
        ("policer where there is none", "0", f"{false} of {len(outcomes)}"),
        ("cannot tell", f"<= {verdicts.CANNOT_TELL:.0%}", f"{unknown} of {len(outcomes)}"),
    ]
    met = (
        (total.precision or 0) >= verdicts.PRECISION,
        (total.recall or 0) >= verdicts.RECALL,
        not false,
        unknown / count <= verdicts.CANNOT_TELL,
    )
    judged = [(*row, _verdict(one)) for row, one in zip(rows, met, strict=True)]
    return Table(("target", "bound", "figure", "verdict"), judged)


def advice(outcomes: Sequence[Outcome]) -> Table:
    """Build the table of the proof of the advice, by kind of path."""
    trials = [(one, verdicts.trial(one)) for one in outcomes if one.trial]

    def kind_of(one: Outcome) -> str:
        return "pairs" if len(one.kinds) > 1 else "".join(one.kinds) or "none"

    rows = []
    for kind in ("", *sorted({kind_of(one) for one, _ in trials})):
        these = [trial for one, trial in trials if not kind or kind == kind_of(one)]
        promised = [trial for trial in these if trial.promise is not None]
        gains = sorted(trial.advised / trial.before for trial in these if trial.before)
        rows.append(
            (
                kind or "all",
                str(len(these)),
                str(sum(trial.changes for trial in these)),
                f"{sum(trial.as_good for trial in these)}/{len(these)}",
                f"{sum(trial.kept for trial in promised)}/{len(promised)}",
                f"{gains[len(gains) // 2]:.2f}" if gains else "",
            )
        )
    headings = ("paths", "count", "changed", "at least as good", "promise kept within 10 %", "median factor")
    return Table(headings, rows)


def misses(outcomes: Sequence[Outcome]) -> str:
    """List every path with a cause missed or invented, or a figure that is off, with its findings."""
    lines = []
    for one in outcomes:
        off = [
            f"{name} off by {error.deviation:.3g}"
            for name, (_, errors_of) in verdicts.ERRORS.items()
            for error in errors_of([one])
            if not error.met
        ]
        bad = verdicts.advice_faults(one)
        if not (one.missed or one.invented or off or bad):
            continue
        lines.append(one.name)
        lines += [f"    missed {cause}" for cause in sorted(one.missed)]
        lines += [f"    invented {cause}" for cause in sorted(one.invented)]
        lines += [f"    {words}" for words in off]
        lines += [f"    advice: {words}" for words in bad]
        lines += [f"        {sentence}" for sentence in one.sentences]
    return "\n".join(lines) + "\n" if lines else ""


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"
