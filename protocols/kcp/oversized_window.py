"""The warning about a send window that is many times as large as the path.

Stock KCP without congestion control keeps a whole window on the way. The part beyond bandwidth x round-trip
time waits in the queue of the bottleneck, or is dropped there and sent again. The messages of the control
connection wait behind it, so a test lasts longer than planned by the time that the queue takes to drain.
This module imports neither numpy nor sockets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from iperfpy.protocols.kcp.sender_limits import SenderLimit
from iperfpy.protocols.metrics import Value, number

TIMES = 4.0
"""A window of so many times the path is worth a warning, if the path also needs `DRAIN_S` to carry it. The
first alone would warn on every short path, such as loopback, where a window passes in milliseconds."""
DRAIN_S = 0.5
LIMITED_SHARE = 0.5
"""Share of the time for which the window was the limit; else it was not full."""
ROOM = 2
"""Times the path: enough that a lost segment, which takes a round trip more, does not stop the sender."""


def oversized_window(sender: Mapping[str, Value]) -> tuple[str, ...]:
    """A sentence if the window held many times as much as the path, else none.

    Parameters
    ----------
    sender : figures of a whole test by metric key, and the acknowledged payload under `bytes`
    """
    limited = {limit: number(sender.get(limit.metric_key)) or 0.0 for limit in SenderLimit}
    seconds = sum(limited.values()) / 1e6
    by_window = (limited[SenderLimit.SEND_WINDOW] + limited[SenderLimit.RECEIVE_WINDOW]) / 1e6
    carried, min_rtt_us = number(sender.get("bytes")), number(sender.get("min_rtt_us"))
    windows = [number(sender.get(key)) for key in ("snd_cwnd_bytes", "snd_wnd_bytes")]
    window, mtu = min((one for one in windows if one), default=0.0), number(sender.get("mtu_bytes"))
    # With congestion control (nc 0), its window is the limit, and adapts.
    if sender.get("congestion") != "none" or by_window <= LIMITED_SHARE * seconds:
        return ()
    if not (carried and min_rtt_us and mtu and window):
        return ()
    rate = carried / seconds
    path_bytes = rate * min_rtt_us / 1e6
    if window < TIMES * path_bytes or window < DRAIN_S * rate:
        return ()
    enough = max(1, math.ceil(ROOM * path_bytes / mtu))
    path = f"{rate * 8e-6:.3g} Mbit/s over {min_rtt_us / 1e3:.3g} ms"
    return (
        f"the send window is {window / path_bytes:,.0f} times as large as this path ({path}): the rest waits"
        f" in a queue, up to {window / rate:.1f} s, or is lost and sent again; try --kcp-sndwnd {enough},"
        " or kcp-bbr",
    )
