"""docs/columns.md explains every column of the table and of the CSV, and every key that it names exists.

`python -m tests.iperfpy.report.test_columns_page` writes the page's list of figures again.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from iperfpy.protocols.metrics import Kind, Metric, Side, Unit
from iperfpy.protocols.registry import BUILT_IN, built_in_transports, transports
from iperfpy.records import Latency, Row, Sample
from iperfpy.report import compare_csv
from iperfpy.report.columns import Line, columns_for
from iperfpy.report.csv_columns import header
from iperfpy.report.table import layout_for

PATH = Path(__file__).parents[3] / "docs" / "columns.md"
PAGE = PATH.read_text()
CSV = PAGE.partition("\n## CSV\n")[2].partition("\n## JSON\n")[0]
CSV_OF_COMPARISON = PAGE.partition("\n## CSV of a comparison\n")[2].partition("\n## ")[0]


def table_rows(text: str) -> list[list[str]]:
    """The cells of every line of a table, without heads."""
    lines = (line for line in text.splitlines() if line.startswith("| "))
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if not line.startswith(("| column", "| key"))
    ]


def keys_in(cell: str) -> list[str]:
    return re.findall(r"`([a-z][a-z0-9_]*)`", cell)


BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->\n"


def figures() -> str:
    """The figures of the built-in transports: keys, transports, the end that measures, meaning.

    A key has a row for each text, with the transports that share it.
    """
    rows: dict[str, dict[tuple[str, str, str], list[str]]] = {}
    for name, one in built_in_transports().items():
        for metric in one.metrics:
            spread = ", and its `_min`, `_mean`, `_max`" if metric.spread else ""
            text = metric.doc.replace("|", "/")
            owners = rows.setdefault(metric.key, {}).setdefault((spread, metric.side.value, text), [])
            owners.append(name)
    lines = ["| column | transports | end | meaning |", "|---|---|---|---|"]
    for key, texts in rows.items():
        for (spread, side, text), owners in texts.items():
            by = "all" if len(owners) == len(BUILT_IN) else ", ".join(owners)
            lines.append(f"| `{key}`{spread} | {by} | {side} | {text} |")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", transports())
def test_every_column_of_a_table_is_on_the_page(name: str) -> None:
    explained = {title.partition("(")[0] for row in table_rows(PAGE) for title in re.split(r", ", row[0])}
    for column in columns_for(transports()[name].metrics):
        assert column.words[0] in explained
        assert all(f"`{key}`" in PAGE for key in column.keys.split(", "))


def test_every_key_on_the_page_exists() -> None:
    known = {key for one in transports().values() for metric in one.metrics for key in metric.keys}
    known |= {*header(), *Latency().record()}
    # In the first tables the key stands in one of two columns, in those of the CSV in the first.
    rest = PAGE.replace(CSV, "").replace(CSV_OF_COMPARISON, "")
    cells = [cell for row in table_rows(rest) for cell in row[:2]]
    cells += [row[0] for row in table_rows(CSV)]
    named = {key for cell in cells for key in keys_in(cell)}
    assert len(named) > 80
    assert named <= known


def test_the_page_has_the_columns_of_the_csv_of_a_comparison() -> None:
    named = [key for row in table_rows(CSV_OF_COMPARISON) for key in re.findall(r"`([a-z0-9_]+)`", row[0])]
    assert sorted(named) == sorted(compare_csv.header())


def test_the_list_of_figures_is_that_of_the_transports() -> None:
    assert PAGE.partition(BEGIN)[2].partition(END)[0] == figures()


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_page_has_the_order_in_which_columns_leave_a_narrow_table(name: str) -> None:
    metrics = transports()[name].metrics
    columns = columns_for(metrics, "", {metric.setting: True for metric in metrics})
    widest = sum(one.width for one in columns) * 2
    left: list[str] = []
    shown = set(columns)
    for room in range(widest, 0, -1):
        now = set(layout_for(columns, 6, room).columns)
        left += [column.title for column in columns if column in shown - now]
        shown = now
    assert {column.title.partition("(")[0] for column in shown} == {"Interval", "Bandwidth"}
    rows = [row for row in table_rows(PAGE) if name in row[0].split(", ") and len(row) == 2]
    (order,) = [row[1].split(", ") for row in rows]
    units = ("(ms)", "(MiB)", "(KiB)")
    assert order == [_without_unit(title, units) for title in reversed(left)]


def _without_unit(title: str, units: tuple[str, ...]) -> str:
    """`RTT(ms)` as `RTT`; a percentage keeps its unit, which tells it from the count."""
    return next((title.removesuffix(unit) for unit in units if title.endswith(unit)), title)


def test_every_column_of_the_csv_is_explained() -> None:
    explained = {key for row in table_rows(CSV) for key in keys_in(row[0])}
    spread = {f"{key}{end}" for key in explained for end in ("_min", "_mean", "_max")}
    assert set(header()) <= explained | spread


def test_the_column_of_an_end_that_does_not_measure_has_the_figure_of_the_other_one() -> None:
    metric = Metric("of_sender", "", Unit.PERCENT, Kind.ACROSS, title="Recover(%)", alone="of_receiver")
    alone = Sample(1, Side.RECEIVER, 0, 1_000_000, 9, {"of_receiver": 4.0})
    for summary in (False, True):
        line = Line(Row(1, alone), alone, summary)
        assert line.shows(metric)
        assert line.value(metric) == 4.0
    both = Row(1, alone, Sample(1, Side.SENDER, 0, 1_000_000, 9, {"of_sender": 5.0}))
    assert Line(both, alone).value(metric) == 5.0
    assert not Line(both, alone, summary=True).shows(metric)


if __name__ == "__main__":
    head, _, rest = PAGE.partition(BEGIN)
    PATH.write_text(f"{head}{BEGIN}{figures()}{END}{rest.partition(END)[2]}")
