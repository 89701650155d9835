"""The text and the JSON document of `iperfpy diff`.

    kcp-bbr down  18.9 (18.7 to 19.0) -> 17.6 (17.3 to 17.9) Mbit/s  -6.9 % [-8.6, -5.1]  p 0.008  n 5+5  ...
    tcp bbr down  18.6 (18.2 to 18.8) -> 18.5 (18.1 to 18.9) Mbit/s  n 5+5  ~ (within noise of 2.1 %)

A terminal that is too narrow gets the part from the shift on in a line of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from iperfpy.protocols.units import bits_per_rate_unit, counted, rate_unit
from iperfpy.records import finite
from iperfpy.report.screen import Span
from iperfpy.sampling.order_statistics import MedianInterval, Shift
from iperfpy.store.diagnosis_difference import DiagnosisChange
from iperfpy.store.difference import (
    SHOWN_EFFECT,
    ChangeVerdict,
    Difference,
    Figure,
    FigureDifference,
    GroupDifference,
)

Json = dict[str, Any]

LEGEND = "n: runs of each side. (a to b): range of fewer than 6 runs; [a, b]: 95 % interval"
GAP = "  "


def lines(
    difference: Difference, *, width: int | None = None, letter: str = "", every: bool = False
) -> Iterator[list[Span]]:
    """The lines of the comparison, as spans.

    Parameters
    ----------
    width : characters that fit on a line, None: no limit
    letter : unit of rates, one of `RATE_LETTERS`; empty: the one that suits each group
    every : also show figures that do not differ
    """
    names = [one.group.name for one in difference.groups]
    column = max(map(len, names), default=0)
    for group in difference.groups:
        name = group.group.name
        for number, one in enumerate(group.figures):
            # The first figure is the result; another one matters if it has changed.
            if not number or every or one.verdict in (ChangeVerdict.WORSE, ChangeVerdict.BETTER):
                # A first figure that is no rate is named as well.
                own = name if one.figure.share else f"{name} {one.figure.title.split()[-1]}"
                label = f"{own if not number else '  ' + one.figure.title:<{column}}"
                yield from _figure_lines(label, group, one, difference.bound, width, letter)
    if difference.groups:
        yield [(LEGEND, "muted")]


def change_lines(changes: Sequence[DiagnosisChange]) -> Iterator[list[Span]]:
    """The lines of compared diagnoses."""
    for one in changes:
        style = "alarm" if one.worse else "warn" if one.changed else "muted"
        yield [(f"{one.way:<6}", "strong"), (one.sentence, style)]


def document(
    difference: Difference, changes: Sequence[DiagnosisChange], sides: Sequence[Sequence[str]], status: int
) -> Json:
    """The comparison as JSON values.

    Parameters
    ----------
    changes : of the diagnoses, if the runs are some
    sides : names of the runs of each side
    status : exit status
    """
    whole: Json = {
        "kind": "diff",
        "sides": [list(names) for names in sides],
        "fail_below": difference.bound,
        "groups": [_group_object(one) for one in difference.groups],
        "only_first": list(difference.only[0]),
        "only_second": list(difference.only[1]),
        "diagnosis": [
            {"direction": one.way, "sentence": one.sentence, "changed": one.changed, "worse": one.worse}
            for one in changes
        ],
        "status": status,
    }
    made: Json = finite(whole)
    return made


# -- parts


def _figure_lines(
    label: str,
    group: GroupDifference,
    one: FigureDifference,
    bound: float | None,
    width: int | None,
    letter: str,
) -> Iterator[list[Span]]:
    """One line, or two where it does not fit."""
    scale, unit = _unit(one, letter)
    values = f"{_median(one.first, scale)} -> {_median(one.second, scale)} {unit}"
    runs = "within one run" if one.within_one_run else f"n {one.first.n}+{one.second.n}"
    tail = [*_effect(one, scale, unit), (runs, "muted"), _verdict(one, bound)]
    head = [(label + GAP, "strong"), (values, "")]
    spaced = [(GAP + text, style) for text, style in tail if text]
    if width is None or sum(len(text) for text, _ in (*head, *spaced)) <= width:
        yield [*head, *spaced]
    else:
        yield head
        yield [(" " * len(label), ""), *spaced]


def _unit(one: FigureDifference, letter: str) -> tuple[float, str]:
    """The divisor of a figure's values, and the unit of the quotient."""
    name = one.figure.name
    if name.endswith("_us"):
        return 1e3, "ms"
    if name.endswith("_percent"):
        return 1.0, "%"
    largest = max(one.first.median, one.second.median)
    # The largest unit that leaves a whole number before the decimals.
    chosen = letter or next((unit for unit in "tgm" if largest >= bits_per_rate_unit(unit)), "k")
    return float(bits_per_rate_unit(chosen)), rate_unit(chosen)


def _median(one: MedianInterval, scale: float) -> str:
    """`18.9 [18.7, 19.0]`; `18.9 (18.7 to 19.0)` of few runs; `18.9` of one."""
    median, low, high = (_number(value / scale) for value in (one.median, one.low, one.high))
    if one.n == 1:
        return median
    return f"{median} ({low} to {high})" if one.is_range else f"{median} [{low}, {high}]"


def _effect(one: FigureDifference, scale: float, unit: str) -> Iterator[Span]:
    """The shift with its interval, and p; nothing where the noise says it all."""
    shift = one.shift
    if shift is None or shift.low is None or one.verdict is ChangeVerdict.ALIKE:
        return
    yield f"{_shift(one.figure, shift, scale, unit)}", ""
    if one.p is not None:
        yield (f"p {one.p:.3f}" if one.p >= 0.0005 else "p < 0.001"), "muted"


def _shift(figure: Figure, shift: Shift, scale: float, unit: str) -> str:
    factor, name = (100.0, "%") if figure.share else (1 / scale, "points" if unit == "%" else unit)
    value, ends = shift.value * factor, ""
    if shift.low is not None and shift.high is not None:
        ends = f" [{_signed(shift.low * factor)}, {_signed(shift.high * factor)}]"
    return f"{_signed(value)} {name}{ends}"


def _verdict(one: FigureDifference, bound: float | None) -> Span:
    """The verdict in words."""
    effect = f"{100 * (bound or SHOWN_EFFECT):g} %"
    if one.verdict is ChangeVerdict.WORSE:
        return ("REGRESSION", "alarm") if one.fails else (f"worse by less than {effect}", "warn")
    if one.verdict is ChangeVerdict.BETTER:
        return "better", "calm"
    if one.verdict is ChangeVerdict.ALIKE:
        noise = one.noise
        if noise is None or not one.figure.share:
            return "~", "muted"
        return f"~ (within noise of {100 * noise:.1f} %)", "muted"
    return f"? {cannot_tell(one, bound)}", "warn"


def cannot_tell(one: FigureDifference, bound: float | None) -> str:
    """The sentence of a figure that the runs do not decide."""
    effect = f"{100 * (bound or SHOWN_EFFECT):g} %"
    if one.further is None:
        return "cannot tell"
    runs = counted(one.further, "more run")
    sides = (one.first.n, one.second.n)
    of = "each" if sides[0] == sides[1] else f"the {'first' if sides[0] < sides[1] else 'second'} side"
    # From single runs, their variation is not known: this number is the least one.
    least = "at least " if max(sides) < 2 else ""
    return f"cannot tell: {least}{runs} of {of} would show {effect}"


def _number(value: float) -> str:
    """Three significant digits, and no exponent."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(decimals, 6)}f}"


def _signed(value: float) -> str:
    if not math.isfinite(value):
        return "inf" if value > 0 else "-inf"
    if abs(value) < 0.05:
        return "0.0"  # without the sign of a rounded value
    return f"{value:+.1f}" if abs(value) < 99.95 else f"{value:+.0f}"


def _group_object(one: GroupDifference) -> Json:
    return {
        "transport": one.group.transport,
        "direction": one.group.direction.value,
        "loaded_both_ways": one.group.loaded_both_ways,
        "within_one_run": one.within_one_run,
        "status": one.status,
        "figures": [_figure_object(figure) for figure in one.figures],
    }


def _figure_object(one: FigureDifference) -> Json:
    return {
        "name": one.figure.name,
        "verdict": one.verdict.value,
        "fails": one.fails,
        "first": _median_object(one.first),
        "second": _median_object(one.second),
        "shift": _shift_object(one.absolute),
        "relative_shift": _shift_object(one.shift) if one.figure.share else None,
        "p": one.p,
        "further_runs": one.further,
    }


def _median_object(one: MedianInterval) -> Json:
    return {
        "n": one.n,
        "median": one.median,
        "low": one.low,
        "high": one.high,
        "confidence": one.confidence,
    }


def _shift_object(one: Shift | None) -> Mapping[str, float | None] | None:
    return None if one is None else {"value": one.value, "low": one.low, "high": one.high}
