"""What to do about a cause: one line for the user. This module may name transports: advice must."""

from __future__ import annotations

from iperfpy.diagnosis.finding import Cause
from iperfpy.protocols.units import format_rate

BELOW_POLICER = 0.98
"""Share of a policer's rate at which a paced sender loses nothing."""
_HEADERS = 28
"""IPv4 and UDP."""


def for_mtu(mtu_bytes: int) -> tuple[str]:
    """Advice about packets that vanish."""
    return (
        f"datagrams of at most {mtu_bytes - _HEADERS} bytes (kcp: --mtu {mtu_bytes - _HEADERS};"
        f" udp: -l {mtu_bytes - _HEADERS}); tcp: clamp the MSS to {mtu_bytes - 40}",
    )


def for_policer(rate: float) -> tuple[str]:
    """Advice about a policer."""
    pace = format_rate(BELOW_POLICER * rate)
    return (
        f"pace at {pace} (kcp-bbr does), or ask the provider for a shaper; a larger window makes it worse",
    )


def for_queue(rate: float, rtt_us: float, *, managed: bool) -> tuple[str]:
    """Advice about a deep queue."""
    if managed:
        return ("",)
    segments = max(4, round(rate * rtt_us / 8e6 / 1_428)) if rtt_us else 0
    window = f"kcp: --sndwnd {segments} instead of a larger window; " if segments else ""
    return (f"kcp-bbr keeps it short; {window}router: fq_codel or CAKE at {format_rate(0.95 * rate)}",)


def for_rate_that_varies() -> tuple[str]:
    """Advice about a rate that varies."""
    return ("kcp-bbr or tcp bbr (-C bbr) follow the rate; a fixed rate (-b) does not",)


def for_loss(share: float) -> tuple[str]:
    """Advice about loss that no sender causes."""
    if share < 0.001:
        return ("",)
    return ("kcp-bbr keeps its rate under such loss; tcp cubic does not. Radio or cable may need repair",)


def for_reordering() -> tuple[str]:
    """Advice about packets that overtake others."""
    return (
        "kcp-bbr, or tcp with RACK: both wait for late packets; kcp resends them (--resend 0 stops that)",
    )


def for_jitter() -> tuple[str]:
    """Advice about delay that varies."""
    return ("kcp-bbr allows for it; kcp's timeouts may resend in vain (--nodelay 0)",)


def for_lumps() -> tuple[str]:
    """Advice about arrivals in lumps."""
    return ("a window of the rate times the longest distance more than usual; kcp-bbr adds it",)


def for_spurious() -> tuple[str]:
    """Advice about retransmissions of packets that had arrived."""
    return ("kcp-bbr, or calmer timers: kcp with --mode normal, or a window of one bandwidth-delay product",)


def for_end(cause: Cause, segments: int | None, flags: tuple[str, ...]) -> str:
    """Advice about a limit of one of the two ends. `flags`: of the send and the receive window."""
    if cause in (Cause.SEND_WINDOW, Cause.RECEIVE_WINDOW) and flags:
        flag = flags[cause is Cause.RECEIVE_WINDOW]
        return f"{flag} {2 * segments}" if segments else f"a larger {flag}"
    return {
        Cause.APPLICATION: "nothing on the path: the application decides",
        Cause.SEND_WINDOW: "a larger window (-w)",
        Cause.RECEIVE_WINDOW: "a larger window at the receiver (-w, net.ipv4.tcp_rmem)",
        Cause.SEND_BUFFER: "a larger send buffer (-w, net.ipv4.tcp_wmem)",
        Cause.PROCESSOR: "larger blocks (-l), or fewer streams (-P)",
    }[cause]
