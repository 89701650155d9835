"""The columns of a CSV: equal for every built-in transport, so that one file holds tests of all of them.

    ABOUT     the test, and the stream and period of the row
    figures   every metric of the built-in transports, empty where a transport does not have it
    WHOLE     figures of the whole test, and the sentences about it
    PLUGIN    one JSON object with the metrics of a plug-in, which may use any key

An installed plug-in therefore changes no header, and rows of this version can be added to the same file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache

from iperfpy.protocols.metrics import Value
from iperfpy.protocols.registry import built_in_transports
from iperfpy.records import finite
from iperfpy.report.screen import printable

ABOUT = (
    *("type", "time", "monotonic_s", "test_id", "role", "host", "port", "title"),
    *("transport", "direction", "congestion", "streams", "stream", "side"),
    *("start", "end", "bytes", "bits_per_second", "omitted"),
    *("sender_bytes", "sender_bits_per_second", "receiver_bytes", "receiver_bits_per_second"),
)
LATENCY = (
    *("idle_rtt_us", "forward_rtt_us_p95", "reverse_rtt_us_p95"),
    *("forward_bufferbloat_us", "reverse_bufferbloat_us"),
    *("responsiveness_rpm", "responsiveness_confidence"),
    *("foreign_responsiveness_rpm", "loaded_responsiveness_rpm"),
)
"""Columns of the whole test, filled in the row `sum`; its `rtt_us_min`, `_mean` and `_max` are the
round-trip times under load."""
WARNINGS, ERROR, PLUGIN = "warnings", "error", "plugin_metrics"


@cache
def header() -> tuple[str, ...]:
    """The names of all columns."""
    metrics = (metric for one in built_in_transports().values() for metric in one.metrics)
    # The congestion control has its column among those about the test; transports share other keys, too.
    figures = dict.fromkeys(key for metric in metrics for key in metric.keys if key not in ABOUT)
    return (*ABOUT, *figures, *LATENCY, WARNINGS, ERROR, PLUGIN)


def cells(values: Mapping[str, Value]) -> list[str]:
    """One row, from the values of those columns that are not empty. Raises KeyError for another column."""
    named = dict.fromkeys(header(), "")
    for name, value in values.items():
        if name not in named:
            raise KeyError(name)
        named[name] = field(value)
    return list(named.values())


def plugin_cell(figures: Mapping[str, Value]) -> str:
    """The metrics of a plug-in as one JSON object; null where a figure is not available."""
    return json.dumps(finite(figures), separators=(",", ":"), allow_nan=False)


def field(value: Value) -> str:
    """Format a cell: empty for None, NaN and infinities; at most six decimals; a text on one line."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, str):
        return text_cell(printable(value))
    return f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def text_cell(text: str) -> str:
    """A cell of text, which may come from the peer. An apostrophe keeps a spreadsheet from running it as a
    formula (OWASP, "CSV injection")."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
