"""Tables of the study of odd paths."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from tests.studies.odd_paths.contenders import CONTENDERS
from tests.studies.odd_paths.simulate import Outcome
from tests.studies.odd_paths.verdicts import OURS, Judged, Runs, groups, judged_rtt, percentile
from tests.studies.table import Table


def targets(rows: Sequence[Judged]) -> Table:
    """Build the table of targets."""
    cells = [
        (
            row.target.what,
            f"{'>=' if row.target.least else '<='} {bound:g}"
            if (bound := row.target.bound) is not None
            else "",
            f"{row.value:.3f}" if row.runs else "",
            str(row.runs),
            row.verdict,
        )
        for row in rows
    ]
    return Table(("target", "bound", "figure", "of", "verdict"), cells)


def kinds(runs: Runs) -> Table:
    """Build the table per kind: goodput of every contender, RTT and settling of kcp-bbr."""
    headings = ("kind", "paths", "p10", "median", "least", "RTT p50", "RTT p90", "in time")
    peers = [name for name in CONTENDERS if name != OURS]
    rows = []
    for title, names in groups(runs):
        # A record that is not complete lacks some senders on some paths.
        mine = [runs[name, OURS] for name in names if (name, OURS) in runs]
        goodput = [one.values["goodput"] for one in mine]
        factors = [one.values["rtt"] for one in mine if judged_rtt(one)]
        settled = [after <= allowed and reached for one in mine for _, after, allowed, reached in one.settled]
        figures = [percentile(goodput, 10), percentile(goodput, 50), min(goodput, default=float("nan"))]
        figures += [percentile(factors, 50), percentile(factors, 90)]
        cells = [title, str(len(mine)), *map(_figure, figures)]
        cells.append(f"{sum(settled)}/{len(settled)}" if settled else "")
        for peer in peers:
            theirs = [runs[name, peer].values["goodput"] for name in names if (name, peer) in runs]
            cells.append(_figure(percentile(theirs, 50)))
        rows.append(cells)
    return Table((*headings, *(f"{peer} median" for peer in peers)), rows)


def _figure(value: float) -> str:
    return "" if value != value else f"{value:.3f}"


def worst(runs: Runs, count: int) -> Table:
    """Build the table of the paths on which kcp-bbr is furthest below the limit."""
    # Goodput decides; the RTT as a multiple of the path's own is shown beside it.
    mine = sorted(
        (one for one in runs.values() if one.contender == OURS), key=lambda one: one.values["goodput"]
    )
    rows = []
    for one in mine[:count]:
        cells = []
        for name in CONTENDERS:
            peer = runs.get((one.name, name))
            cells.append(f"{peer.values['goodput']:.3f} ({peer.values['rtt']:.2f})" if peer else "")
        rows.append([*cells, one.name])
    return Table((*(f"{name} (RTT)" for name in CONTENDERS), "path"), rows)


def given(runs: Runs) -> Table:
    """Build the table of paths that were given as texts: goodput as a share of the limit, and RTT as a
    multiple of the path's own, of every contender."""
    names = list(dict.fromkeys(name for name, _ in runs))
    contenders = [one for one in CONTENDERS if any((name, one) in runs for name in names)]
    cells = []
    for name in names:
        found = [runs.get((name, contender)) for contender in contenders]
        known = next(one.values for one in found if one is not None)
        row = [name, f"{known['limit'] / 1e6:.2f}", f"{known['own_rtt_us'] / 1e3:.0f}"]
        for one in found:
            row += (
                [f"{one.values['goodput']:.2f}", f"{one.values['rtt']:.2f}", f"{one.values['dropped']:.1%}"]
                if one
                else ["", "", ""]
            )
        cells.append(row)
    headings = [head for one in contenders for head in (one, "RTT", "dropped")]
    return Table(("path", "limit, Mb/s", "own RTT, ms", *headings), cells)


def values(outcome: Outcome) -> dict[str, Any]:
    """Give one run as a row of the CSV file."""
    settled = [after for _, after, _, _ in outcome.settled]
    return {
        "kinds": outcome.kinds,
        "seed": outcome.seed,
        "contender": outcome.contender,
        **outcome.values,
        "changes": len(settled),
        "in_time": sum(after <= allowed and reached for _, after, allowed, reached in outcome.settled),
        "settled_median_s": median(settled) if settled else "",
        "path": outcome.name,
    }
