"""Warnings of a stream that a window keeps from showing all that the path carries."""

from __future__ import annotations

from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.engine_options import MAX_WINDOW
from iperfpy.protocols.kcp.sender_limits import SenderLimit

WORTH_A_WARNING = 0.01
"""Share of the time for which a limit must hold before it is warned of."""


def window_warning(engine: Engine, now_us: int) -> tuple[str, ...]:
    """A sentence if KCP's widest window limited the sender for more than `WORTH_A_WARNING` of the time.

    No setting makes that window wider: its field has 16 bits.
    """
    held = engine.limits.until(now_us)
    share = held[SenderLimit.SEND_WINDOW] / max(1, sum(held.values()))
    if engine.sending.limit < MAX_WINDOW or share <= WORTH_A_WARNING:
        return ()
    return (
        f"KCP's window of {MAX_WINDOW} segments limited the sender for {100 * share:.0f} % of the time: "
        "this path carries more than one stream can have in flight (-P uses several)",
    )


def memory_warning(engine: Engine) -> tuple[str, ...]:
    """A sentence if this end's memory budget made the send window smaller than was asked for."""
    if engine.sending.limit >= engine.options.send_window:
        return ()
    return (
        f"the memory for one test limits the send window to {engine.sending.limit} segments "
        f"of the {engine.options.send_window} that were asked for",
    )
