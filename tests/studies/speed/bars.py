"""Bar chart of the speed study: each row as a factor of its target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.studies import chart
from tests.studies.speed.rows import figures, number, target
from tests.studies.speed.summary import Result, Verdict

COLOURS = {Verdict.AIM: chart.GREEN, Verdict.LIMIT: chart.BLUE, Verdict.BELOW: chart.RED}


def draw(path: Path, results: Sequence[Result], title: str) -> bool:
    """Draw a horizontal bar per row that has a target; 1 is the target. Returns False if no row has one.

    Raises
    ------
    ImportError
        Without matplotlib.
    """
    from matplotlib.patches import Patch
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    scored = [(result, score) for result in results if (score := result.score)]
    if not scored:
        return False
    size = (11, 1.6 + 0.27 * len(scored))
    with chart.figure(path, title, figsize=size, layout="constrained") as (_, axes):
        aims = [aim for result, _ in scored if (aim := aim_of(result))]
        places = range(len(scored))
        scores = [score for _, score in scored]
        colours = [COLOURS[result.verdict] for result, _ in scored]
        # Bars start at 1, the target, so that a missed target extends to the left.
        axes.barh(places, [score - 1 for score in scores], left=1.0, height=0.62, color=colours)
        axes.set_yticks(places, [result.row.what for result, _ in scored], fontsize=8)
        axes.set_ylim(len(scored) - 0.4, -0.6)
        axes.set_xscale("log")
        axes.set_xlim(min(0.5, 0.8 * min(scores)), max(2.0, 1.3 * max(scores + aims)))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda factor, _: f"{factor:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="x", labelsize=8)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.axvline(1.0, color="black", linewidth=1)
        for place, (result, _) in zip(places, scored, strict=True):
            axes.annotate(
                label(result),
                (1.0, place),
                (6, 0),
                xycoords=axes.get_yaxis_transform(),
                textcoords="offset points",
                va="center",
                fontsize=7,
            )
            if aim := aim_of(result):
                axes.plot(aim, place, "k|", markersize=9)
        axes.set_xlabel(
            "better than the target by this factor, logarithmic (1: just reached; |: the aim)", fontsize=8
        )
        names = [Patch(color=colour, label=verdict.value) for verdict, colour in COLOURS.items()]
        axes.legend(
            handles=names, fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False
        )
    return True


def aim_of(result: Result) -> float | None:
    """Give the aim as a factor of the target, or None if the row has no aim."""
    limit, aim = result.row.limit, result.row.aim
    if not limit or not aim:
        return None
    return limit / aim if result.row.less_is_better else aim / limit


def label(result: Result) -> str:
    """Label a bar: the judged figure, its target, and the medians of both contestants."""

    def median(of_ours: bool) -> str:
        spread = result.ours if of_ours else result.theirs
        return figures(spread, result.row).partition("\n")[0]

    wanted = target(result.row.limit, result.row)
    if result.row.theirs is None:
        return f"{median(True)} ({wanted})"
    return f"{number(result.judged or 0.0)} ({wanted})   {median(True)} : {median(False)}"
