"""The lines about the messages of one test, below its table."""

from __future__ import annotations

from collections.abc import Iterator

from iperfpy.records import MessageTimes
from iperfpy.report.columns import NOT_AVAILABLE, milliseconds
from iperfpy.sampling.message_figures import BEYOND, PERCENTILES, figures

_TITLES = {name: f"P{percent:g}" for name, percent in PERCENTILES.items()}


def message_lines(times: MessageTimes) -> Iterator[str]:
    """`Messages: 1,000 of 100 bytes at 100 per second, 1,000 answered, 0 lost (0.00 %)`, then percentiles of
    their round trips. A percentile needs `BEYOND` messages beyond it."""
    found, per_s = figures(times), 1e6 / times.interval_us
    share = "" if found.lost_percent is None else f" ({found.lost_percent:.2f} %)"
    yield (
        f"Messages: {found.due:,} of {times.size_bytes:,} bytes at {per_s:.4g} per second,"
        f" {found.answered:,} answered, {found.lost:,} lost{share}"
    )
    if not found.answered:
        return
    values = {**{_TITLES[name]: getattr(found, name) for name in _TITLES}, "max": found.max_us}
    cells = [
        f"{title} {NOT_AVAILABLE if value is None else milliseconds(value)}"
        for title, value in values.items()
    ]
    missing = any(getattr(found, name) is None for name in _TITLES)
    needs = f" (a percentile needs {BEYOND} messages beyond it)" if missing else ""
    yield f"Round trips of messages: {', '.join(cells)} ms{needs}"
