"""The warning about a send window that is many times as large as the path.

Stock KCP without congestion control keeps a whole window on the way. The part beyond bandwidth x round-trip
time waits in the queue of the bottleneck, or is dropped there and sent again. The messages of the control
connection wait behind it, so a test lasts longer than planned by the time that the queue takes to drain.
This module imports neither numpy nor sockets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from iperfpy.protocols.kcp.sender_limits import SenderLimit
from iperfpy.protocols.metrics import Metric, Value, number
from iperfpy.protocols.window_size import enough_of, limited_s

TIMES = 4.0
"""A window of so many times the path is worth a warning, if the path also needs `DRAIN_S` to carry it. The
first alone would warn on every short path, such as loopback, where a window passes in milliseconds."""
DRAIN_S = 0.5
LIMITED_SHARE = 0.5
"""Share of the time for which the window was the limit; else it was not full."""


def oversized_window(sender: Mapping[str, Value], metrics: Sequence[Metric]) -> tuple[str, ...]:
    """A sentence if the window held many times as much as the path, else none.

    Parameters
    ----------
    sender : figures of a whole test by metric key, and the acknowledged payload under `bytes`
    metrics : those of the transport
    """
    windows_limits = (SenderLimit.SEND_WINDOW, SenderLimit.RECEIVE_WINDOW)
    by_window = sum(number(sender.get(limit.metric_key)) or 0.0 for limit in windows_limits) / 1e6
    seconds, enough = limited_s(sender, metrics), enough_of(sender, metrics)
    carried, min_rtt_us = number(sender.get("bytes")), number(sender.get("min_rtt_us"))
    windows = [number(sender.get(key)) for key in ("snd_cwnd_bytes", "snd_wnd_bytes")]
    window = min((one for one in windows if one), default=0.0)
    # With congestion control (nc 0), its window is the limit, and adapts.
    if sender.get("congestion") != "none" or by_window <= LIMITED_SHARE * seconds:
        return ()
    if not (carried and min_rtt_us and window and enough):
        return ()
    rate = carried / seconds
    path_bytes = rate * min_rtt_us / 1e6
    if window < TIMES * path_bytes or window < DRAIN_S * rate:
        return ()
    path = f"{rate * 8e-6:.3g} Mbit/s over {min_rtt_us / 1e3:.3g} ms"
    return (
        f"the send window is {window / path_bytes:,.0f} times the bandwidth-delay product of this path"
        f" ({path}): the rest waits in a queue, up to {window / rate:.1f} s, or is lost and sent again;"
        f" try --kcp-sndwnd {enough}, or kcp-bbr",
    )
