"""The table's columns: three that every test has, and one for every metric that declares a title.

A column is an object that knows its title, its width and how to read its cell off a `Line`. The
reporter loops over columns and never asks which protocol it is showing, so a transport's own
figures appear here without a change.

Units stand in the header and stay the same for the whole table: 10 seconds at 0.3 Mbit/s and one
second at 900 Mbit/s can be compared by eye, and by a script.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from iperfpy.protocols.metrics import Metric, Side, Unit, Value
from iperfpy.protocols.units import bits_per_rate_unit, letter_power, rate_unit, size_unit
from iperfpy.records import Row, Sample

NOT_AVAILABLE = "-"
DEFAULT_RATE_LETTER = "m"


@dataclass(frozen=True, slots=True)
class Line:
    """What one printed line shows: `row`, with times and bytes of `sample`.

    In an interval (`summary` False) every column finds its figure at whichever end has it, so that the
    table looks the same in both directions. A summary has a line for each end, which shows what that end
    measured, and a gauge's mean over the whole test in place of its last value.
    """

    row: Row
    sample: Sample
    summary: bool = False

    def value(self, metric: Metric) -> Value:
        """The figure, or None when it is not available."""
        if not self.summary:
            sample = self.row.of(metric.side)
            return sample.values.get(metric.key) if sample else None
        mean = self.sample.values.get(f"{metric.key}_mean") if metric.spread else None
        return self.sample.values.get(metric.key) if mean is None else mean

    def shows(self, side: Side) -> bool:
        """Whether figures of that end belong on this line at all."""
        return not self.summary or self.sample.side is side


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `cell` gives the text, `style` the name of a style for it (see `live.STYLES`).

    `width` has room for the title with its unit, `narrow` for the title above the unit. `keys` are what CSV
    and JSON call its figures, `doc` says what they mean.
    """

    title: str
    width: int
    narrow: int
    cell: Callable[[Line], str]
    style: Callable[[Line], str] = lambda line: ""
    left: bool = False
    keys: str = ""
    doc: str = ""

    @property
    def words(self) -> tuple[str, str]:
        """The title apart from the unit, which may be empty."""
        title, _, unit = self.title.partition("(")
        return title, unit.removesuffix(")")


def columns_for(metrics: Sequence[Metric], rate_letter: str = "") -> tuple[Column, ...]:
    """The columns of a table: interval, transfer, bandwidth, then titled metrics in declared order.

    `rate_letter` is iperf3's -f; the transfer's unit follows it (k and K: KiB, g and G: GiB).
    """
    letter = rate_letter or DEFAULT_RATE_LETTER
    titled = [metric for metric in metrics if metric.title]
    return (*_base_columns(letter), *(_metric_column(metric, letter) for metric in titled))


def _base_columns(letter: str) -> tuple[Column, Column, Column]:
    power = letter_power(letter)
    size, rate = 1024**power, bits_per_rate_unit(letter)
    return (
        Column(
            "Interval(s)",
            13,
            11,
            _interval,
            left=True,
            keys="start, end",
            doc="Measured times, not nominal ones, since the test began or its omitted stretch (-O) ended",
        ),
        _column(
            f"Transfer({size_unit(power)})",
            8,
            lambda line: decimal(line.sample.bytes / size),
            keys="bytes",
            doc="Payload that a receiver got, or that a sender knows to have left its queue or arrived",
        ),
        _column(
            f"Bandwidth({rate_unit(letter)})",
            9,
            lambda line: decimal(line.sample.bits_per_second / rate),
            lambda line: "rate",
            keys="bits_per_second",
            doc="That payload over the measured time",
        ),
    )


def _column(
    title: str,
    narrow: int,
    cell: Callable[[Line], str],
    style: Callable[[Line], str] = lambda line: "",
    *,
    keys: str,
    doc: str,
) -> Column:
    column = Column(title, max(len(title), 7), narrow, cell, style, keys=keys, doc=doc)
    return replace(column, narrow=max(narrow, *map(len, column.words)))


def _interval(line: Line) -> str:
    return f"{line.sample.start_us / 1e6:6.2f}-{line.sample.end_us / 1e6:<6.2f}"


def _metric_column(metric: Metric, letter: str) -> Column:
    def cell(line: Line) -> str:
        if not line.shows(metric.side):
            return ""
        return format_value(metric.unit, line.value(metric), letter)

    def style(line: Line) -> str:
        return _alarm(line.value(metric)) if metric.unit is Unit.PERCENT else ""

    narrow = 5 if metric.unit in (Unit.PERCENT, Unit.MICROSECONDS) else 7
    return _column(title_of(metric, letter), narrow, cell, style, keys=metric.key, doc=metric.doc)


def title_of(metric: Metric, letter: str = DEFAULT_RATE_LETTER) -> str:
    """The metric's title, or its key in words, with its unit in parentheses unless it says one itself."""
    unit = {
        Unit.PERCENT: "%",
        Unit.MICROSECONDS: "ms",
        Unit.BYTES: "KiB",
        Unit.BITS_PER_SECOND: rate_unit(letter),
    }.get(metric.unit, "")
    title = metric.title or metric.key.removesuffix(f"_{metric.unit.value}").replace("_", " ")
    return f"{title}({unit})" if unit and not title.endswith(")") else title


def format_value(unit: Unit, value: Value, letter: str = DEFAULT_RATE_LETTER) -> str:
    """A figure in the unit that `title_of` announces; `-` when there is none."""
    if value is None:
        return NOT_AVAILABLE
    if isinstance(value, str):
        return value
    if unit is Unit.MICROSECONDS:
        return milliseconds(value)
    if unit is Unit.PERCENT:
        return f"{value:.2f}"
    if unit is Unit.BYTES:
        return decimal(value / 1024)
    if unit is Unit.BITS_PER_SECOND:
        return decimal(value / bits_per_rate_unit(letter))
    return f"{value}" if isinstance(value, int) else f"{value:.2f}"


def milliseconds(us: float) -> str:
    """`0.031`, `4.72`, `165.0`: a microsecond counts on loopback and is noise across an ocean."""
    ms = us / 1000
    if ms < 0.9995:
        return f"{ms:.3f}"
    return f"{ms:.2f}" if ms < 9.995 else f"{ms:.1f}"


def decimal(value: float) -> str:
    """Two places, three when that is all there is: `29.81`, `0.052`, `0.00`."""
    return f"{value:.3f}" if 0.0005 <= value < 0.995 else f"{value:.2f}"


def _alarm(percent: Value) -> str:
    """The style of a percentage: nothing lost, some lost, much lost."""
    if not isinstance(percent, (int, float)) or percent == 0:
        return "calm"
    return "warn" if percent < 5 else "alarm"
