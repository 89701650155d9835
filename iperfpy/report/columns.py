"""The terminal table's columns: three that every test has, and one for every metric that declares a title.

    Metric --_metric_column--> Column;  Row --> Line;  Column.cell(Line) --> the text of one cell

A column knows its title, its width and the way to its cell. The reporter loops over columns and never asks
for the protocol, so a transport's own figures appear without a change here.

The header gives the units, and they stay the same for the whole table: a user, or a script, can compare
10 seconds at 0.3 Mbit/s with one second at 900 Mbit/s. The first interval chooses them, unless -f does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from iperfpy.protocols.metrics import Metric, Unit, Value
from iperfpy.protocols.units import bits_per_rate_unit, letter_power, rate_unit, size_unit
from iperfpy.records import Row, Sample

NOT_AVAILABLE = "-"
DEFAULT_RATE_LETTER, FAST_RATE_LETTER = "m", "g"
FAST_BITS_PER_SECOND = 10_000_000_000
"""Rate of a first interval from which a table is in Gbit/s and GiB."""
ALWAYS_SHOWN = 1 << 30
"""Priority of the columns that no table leaves out."""
TRANSFER_PRIORITY = 3
"""Priority of the transfer: a narrow terminal rather shows the round-trip time and the share of losses."""


@dataclass(frozen=True, slots=True)
class Line:
    """The content of one printed line: a row, with the times and bytes of `sample`.

    A line of an interval shows figures of both ends, so that the table looks the same in both directions. A
    summary has a line for each end, with that end's figures only, and it shows a gauge's mean over the whole
    test instead of its last value.
    """

    row: Row
    sample: Sample
    summary: bool = False

    def value(self, metric: Metric) -> Value:
        """The figure of a metric, None if it is not available."""
        if self._is_alone(metric):
            return self.sample.values.get(metric.alone)
        if not self.summary:
            sample = self.row.of(metric.side)
            return sample.values.get(metric.key) if sample else None
        value = self.sample.values.get(metric.key)
        mean = self.sample.values.get(f"{metric.key}_mean") if metric.spread else None
        # Windows of several streams have no sum, and no mean stands for one in any format.
        return value if value is None or mean is None else mean

    def shows(self, metric: Metric) -> bool:
        """True if the line shows figures of the metric's end."""
        return not self.summary or self.sample.side is metric.side or self._is_alone(metric)

    def _is_alone(self, metric: Metric) -> bool:
        """True if the end that has this metric does not measure, and a figure of the other one stands in."""
        return bool(metric.alone) and self.row.peer is None and self.row.local.side is not metric.side


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Parameters
    ----------
    title : with the unit in parentheses
    width : characters, with the title and its unit on one line
    narrow : characters, with the title above the unit
    cell : gives the text of a line's cell
    style : gives the cell's style, a key of `screen.STYLES` or empty
    left : True if the cell is aligned to the left
    keys : the names of its figures in CSV and JSON
    doc : the meaning of its figures, for --explain
    priority : a table without room for all columns leaves out the lowest one first, see `Metric`
    """

    title: str
    width: int
    narrow: int
    cell: Callable[[Line], str]
    style: Callable[[Line], str] = lambda line: ""
    left: bool = False
    keys: str = ""
    doc: str = ""
    priority: int = ALWAYS_SHOWN

    @property
    def words(self) -> tuple[str, str]:
        """The title, and the unit, which may be empty."""
        title, _, unit = self.title.partition("(")
        return title, unit.removesuffix(")")


def rate_letter_for(rows: Iterable[Row]) -> str:
    """The unit of rates that suits the largest rate of a first interval, as a letter of iperf3's -f."""
    rates = (row.local.bits_per_second or 0.0 for row in rows)
    return FAST_RATE_LETTER if max(rates, default=0.0) >= FAST_BITS_PER_SECOND else DEFAULT_RATE_LETTER


def columns_for(
    metrics: Sequence[Metric], rate_letter: str = "", settings: Mapping[str, object] | None = None
) -> tuple[Column, ...]:
    """The columns of a table: interval, transfer, bandwidth, then titled metrics in the order of declaration.

    `rate_letter` is iperf3's -f. The unit of the transfer follows it (k and K: KiB, g and G: GiB). `settings`
    are those in force, by name: a metric that needs another one has no column (`Metric.setting`).
    """
    letter, on = rate_letter or DEFAULT_RATE_LETTER, settings or {}
    titled = [metric for metric in metrics if metric.title and (not metric.setting or on.get(metric.setting))]
    return (*_base_columns(letter), *(_metric_column(metric, letter) for metric in titled))


def _base_columns(letter: str) -> tuple[Column, Column, Column]:
    power = letter_power(letter)
    # Sizes are powers of 1024 and rates of 1000, as in iperf3; -f K, M, G, T ask for bytes per second.
    size, rate = 1024**power, bits_per_rate_unit(letter)
    return (
        Column(
            "Interval(s)",
            13,
            11,
            _interval,
            left=True,
            keys="start, end",
            doc="Measured seconds since the start of the test, or since the end of its omitted period (-O)",
        ),
        _column(
            f"Transfer({size_unit(power)})",
            8,
            lambda line: decimal(line.sample.bytes / size),
            keys="bytes",
            priority=TRANSFER_PRIORITY,
            doc="Payload that the receiver got, or that the sender knows to have arrived or left its queue",
        ),
        _column(
            f"Bandwidth({rate_unit(letter)})",
            9,
            lambda line: _rate(line.sample.bits_per_second, rate),
            lambda line: "rate",
            keys="bits_per_second",
            doc="Transfer divided by the measured time; not available below 0.01 s",
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
    priority: int = ALWAYS_SHOWN,
) -> Column:
    column = Column(title, max(len(title), 7), narrow, cell, style, keys=keys, doc=doc, priority=priority)
    return replace(column, narrow=max(narrow, *map(len, column.words)))


def _rate(bits_per_second: float | None, unit: float) -> str:
    return NOT_AVAILABLE if bits_per_second is None else decimal(bits_per_second / unit)


def _interval(line: Line) -> str:
    return f"{line.sample.start_us / 1e6:6.2f}-{line.sample.end_us / 1e6:<6.2f}"


def _metric_column(metric: Metric, letter: str) -> Column:
    def cell(line: Line) -> str:
        if not line.shows(metric):
            return ""
        return format_value(metric, line.value(metric), letter)

    def style(line: Line) -> str:
        return _alarm(line.value(metric)) if metric.unit is Unit.PERCENT else ""

    narrow = 5 if metric.unit in (Unit.PERCENT, Unit.MICROSECONDS) else 7
    title, priority = title_of(metric, letter), metric.priority
    return _column(title, narrow, cell, style, keys=metric.key, doc=metric.doc, priority=priority)


def title_of(metric: Metric, letter: str = DEFAULT_RATE_LETTER) -> str:
    """The metric's title, or its key in words, followed by its unit in parentheses.

    A title that ends with a parenthesis, such as `Lost(%)`, already has a unit.
    """
    unit = {
        Unit.PERCENT: "%",
        Unit.MICROSECONDS: "ms",
        Unit.BYTES: "bytes" if metric.whole else "KiB",
        Unit.BITS_PER_SECOND: rate_unit(letter),
    }.get(metric.unit, "")
    words = f"_{metric.key}_".replace(f"_{metric.unit.value}_", "_").strip("_")
    title = metric.title or words.replace("_", " ")
    return f"{title}({unit})" if unit and not title.endswith(")") else title


def format_value(metric: Metric, value: Value, letter: str = DEFAULT_RATE_LETTER) -> str:
    """Format a figure in the unit that `title_of` announces, or as `-` if it is not available."""
    if value is None:
        return NOT_AVAILABLE
    # A peer decides what it sends as a figure: a text stays as it is, whatever the unit.
    if isinstance(value, str):
        return value
    unit = metric.unit
    if unit is Unit.MICROSECONDS:
        return milliseconds(value)
    if unit is Unit.PERCENT:
        return f"{value:.2f}"
    if unit is Unit.BYTES and not metric.whole:
        return decimal(value / 1024)
    if unit is Unit.BITS_PER_SECOND:
        return decimal(value / bits_per_rate_unit(letter))
    return f"{value}" if isinstance(value, int) else f"{value:.2f}"


def milliseconds(us: float) -> str:
    """Format microseconds as milliseconds: `0.031`, `4.72`, `165.0`.

    A microsecond matters on loopback, and is noise on a path across an ocean.
    """
    ms = us / 1000
    if ms < 0.9995:
        return f"{ms:.3f}"
    return f"{ms:.2f}" if ms < 9.995 else f"{ms:.1f}"


def decimal(value: float) -> str:
    """Format with two decimals, or with three below 1: `29.81`, `0.052`, `0.00`."""
    return f"{value:.3f}" if 0.0005 <= value < 0.995 else f"{value:.2f}"


def _alarm(percent: Value) -> str:
    """The style of a percentage of losses: zero, below 5 %, more."""
    if not isinstance(percent, (int, float)) or percent == 0:
        return "calm"
    return "warn" if percent < 5 else "alarm"
