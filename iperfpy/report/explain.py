"""`--explain`: the meaning of every figure, as the columns and the transport's metrics declare it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from iperfpy.protocols.contract import Transport
from iperfpy.protocols.metrics import Kind, Metric, Side
from iperfpy.report.columns import NOT_AVAILABLE, columns_for

WIDTH = 80
CLOSING = f"""\
Counts and percentages cover the interval, or in a summary the whole test. Sizes are powers of 1024, rates \
powers of 1000; the header gives the units (-f changes them). {NOT_AVAILABLE!r} and an empty field mean not \
available; zero means zero. The line RTT below the summary has the idle round-trip time, which is the \
shortest one of the control connection before the test, and the loaded one, which is the mean of the senders \
during the test (minimum to maximum). The line Responsiveness has the round trips per minute (RPM) of \
draft-ietf-ippm-responsiveness-09, by probes on new connections and by the load itself, if the test is not \
limited by a rate. Minimum, mean and maximum are KEY_min, KEY_mean and KEY_max."""


def explanation(transport: Transport, rate_letter: str = "") -> Iterator[str]:
    """The lines for one transport: the columns of its table, then its figures without a column."""
    known = {metric.key: metric for metric in transport.metrics}
    every = {metric.setting: True for metric in transport.metrics}
    columns = [
        (one.title, f"{one.keys}: {one.doc}{_note(known.get(one.keys), transport.prefix)}")
        for one in columns_for(transport.metrics, rate_letter, every)
    ]
    yield f"The table of --proto {transport.name}; before the colon, a figure's name in CSV and JSON:"
    yield from _entries(columns)
    # Sender and receiver apart: a user has only the figures of an end that runs iperfpy.
    for side in Side:
        others = [metric for metric in transport.metrics if not metric.title and metric.side is side]
        if others:
            yield from ("", f"Further figures of the {side.value}, in CSV, JSON and with -V:")
            noted = [(one.key, f"{one.doc}{_note(one, transport.prefix)}") for one in others]
            yield from _entries(noted)
    yield ""
    yield from textwrap.wrap(CLOSING, WIDTH)


def _note(metric: Metric | None, prefix: str) -> str:
    """A remark on the kind of the figure and on iperf3's name for it, or empty."""
    if metric is None:
        return ""
    parts = ["at the interval's end"] if metric.kind is Kind.GAUGE else []
    parts += ["with min, mean, max"] if metric.spread else []
    parts += [f"with --{prefix}-{metric.setting}"] if metric.setting else []
    parts += [f"{metric.iperf3} in iperf3"] if metric.iperf3 not in ("", metric.key) else []
    return f" ({', '.join(parts)})" if parts else ""


def _entries(entries: Sequence[tuple[str, str]]) -> Iterator[str]:
    width = max(len(name) for name, _ in entries)
    for name, text in entries:
        first, *rest = textwrap.wrap(text, WIDTH - width - 4)
        yield f"  {name:<{width}}  {first}"
        yield from (f"  {'':<{width}}  {more}" for more in rest)
