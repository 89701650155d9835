"""Chart of the grid: goodput and round-trip time over random loss, a panel for each buffer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from tests.studies import chart
from tests.studies.paths.cases import BUFFERS, LOSSES, RATES, RTTS_MS, lossy
from tests.studies.paths.run import Outcome

Points = dict[tuple[float, float, float, float], dict[str, list[float]]]
"""(rate, RTT in ms, buffer, loss) -> figures of all seeds."""
_COLOURS = {5e6: "#b2182b", 20e6: "#ef8a62", 100e6: "#4393c3", 500e6: "#053061"}
_MARKERS = {10.0: "o", 60.0: "s", 170.0: "^", 300.0: "D"}


def points(outcomes: Iterable[Outcome]) -> Points:
    """Collect the runs of the regular grid."""
    where = {
        lossy(rate, rtt_ms, buffer, loss).name: (rate, rtt_ms, buffer, loss)
        for rate in RATES
        for rtt_ms in RTTS_MS
        for buffer in BUFFERS
        for loss in LOSSES
    }
    found: Points = {}
    for outcome in outcomes:
        if outcome.name in where:
            values = found.setdefault(where[outcome.name], {"goodput": [], "rtt": []})
            for name, of in values.items():
                of.append(outcome.values[name])
    return found


def draw(path: Path, outcomes: Iterable[Outcome], title: str) -> bool:
    """Draw one point per path, the median of its seeds, with a line to the worst. Returns False without runs.

    Raises
    ------
    ImportError
        Without matplotlib.
    """
    from matplotlib.lines import Line2D

    found = points(outcomes)
    if not found:
        return False
    shape: dict[str, Any] = {"nrows": 2, "ncols": len(BUFFERS), "sharex": True, "sharey": "row"}
    with chart.figure(path, title, figsize=(12, 6.6), **shape) as (drawn, panels):
        for (rate, rtt_ms, buffer, loss), values in found.items():
            # Shift the points, so that paths with equal loss stand side by side.
            x = LOSSES.index(loss) + 0.16 * (RATES.index(rate) - 1.5) + 0.03 * (RTTS_MS.index(rtt_ms) - 1.5)
            for axes, name, worst in zip(panels[:, BUFFERS.index(buffer)], values, (min, max), strict=True):
                middle = median(values[name])
                axes.plot([x, x], [middle, worst(values[name])], color=_COLOURS[rate], linewidth=0.8)
                axes.plot(x, middle, _MARKERS[rtt_ms], color=_COLOURS[rate], markersize=3.5)
        for at, buffer in enumerate(BUFFERS):
            panels[0, at].set_title(f"buffer {buffer:g} BDP", fontsize=9)
            asked = [0.85 if buffer < 1 or loss > 0.3 else 0.93 for loss in LOSSES]
            panels[0, at].step(range(len(LOSSES)), asked, where="mid", color="black", linewidth=0.8)
            if buffer >= 1:
                panels[1, at].axhline(1.25, color="black", linewidth=0.8)
            panels[1, at].set_xticks(range(len(LOSSES)), [f"{100 * loss:g}" for loss in LOSSES])
            panels[1, at].set_xlabel("random loss, %")
        panels[0, 0].set_ylabel("goodput / limit")
        panels[1, 0].set_ylabel("mean RTT / base RTT")
        for axes in panels.flat:
            axes.grid(axis="y", linewidth=0.3)
        legend = [
            *(
                Line2D([], [], color=colour, label=f"{rate / 1e6:g} Mb/s")
                for rate, colour in _COLOURS.items()
            ),
            *(
                Line2D([], [], color="grey", linestyle="", marker=marker, label=f"{rtt_ms:g} ms")
                for rtt_ms, marker in _MARKERS.items()
            ),
            Line2D([], [], color="black", linewidth=0.8, label="at least, at most"),
        ]
        drawn.legend(handles=legend, ncols=len(legend), fontsize=8, loc="lower center", frameon=False)
        drawn.tight_layout(rect=(0, 0.05, 1, 0.96))
    return True
