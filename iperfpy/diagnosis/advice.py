"""Advice about a cause, one line for the user. This module may name transports: advice must."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log

from iperfpy.diagnosis.finding import Cause
from iperfpy.diagnosis.path_model import PathModel
from iperfpy.protocols.units import format_rate
from iperfpy.protocols.window_size import enough_segments

BELOW_POLICER = 0.98
"""Share of a policer's rate at which a paced sender loses nothing."""
_HEADERS = 28
"""IPv4 and UDP."""
KCP_HEADER_BYTES, KCP_MOST_SEGMENTS = 24, 65_535
"""Header and widest window of the recommended transport, as it declares them itself."""
_EFFICIENCY, _UNDER_LOSS, _UNDER_BURSTS = 0.97, 0.9, 0.8
"""Shares of the rate, less random loss, that kcp-bbr carries after its start, measured over paths of the
blind test: on most; under random loss, or with arrivals in lumps; under loss in bursts."""
_WINDOW_BDP = 2.5
"""Bandwidth-delay products of the recommended window without loss: two of the controller, and a reserve."""
_REPAIR_RTTS = 1.25
"""Round trips of a repair: a reordering window of a quarter (RFC 8985), and the way there and back."""
_USUAL_DATAGRAM, _USUAL_WINDOW = 1_400, 2_048
BETTER = 1.1
"""Factor from which on an improvement is promised."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Settings for a path, and the rate that they lead to.

    Parameters
    ----------
    transport : name of the transport
    window : segments of both windows, at least
    pace_bits_per_s : rate of IP packets for a sender that is paced by hand; None: not known
    datagram_bytes : UDP payload of a full datagram
    expected_bits_per_s : payload rate that follows from the model of the path; None: it does not tell
    measured_bits_per_s : payload rate of that transport in the diagnosis itself; None: it did not run
    """

    transport: str
    window: int
    pace_bits_per_s: float | None
    datagram_bytes: int
    expected_bits_per_s: float | None
    measured_bits_per_s: float | None = None

    def improves(self, carried_bits_per_s: float) -> bool:
        """True if these settings are known to carry clearly more than a test with others did; else those
        stay."""
        # One short test has more of chance than the model, which all tests have made.
        known = self.expected_bits_per_s or self.measured_bits_per_s or 0.0
        return known >= BETTER * carried_bits_per_s

    def promise(self, carried_bits_per_s: float | None) -> float | None:
        """Factor over a test that carried this payload rate; None if nothing better is to be expected."""
        if not self.expected_bits_per_s or not carried_bits_per_s:
            return None
        factor = self.expected_bits_per_s / carried_bits_per_s
        return factor if factor >= BETTER else None


def recommend(model: PathModel, measured_bits_per_s: float | None = None) -> Recommendation:
    """Derive settings from the model of a path.

    measured_bits_per_s : payload rate that the recommended transport carried in the diagnosis
    """
    longest = model.mtu_bytes - _HEADERS if model.mtu_bytes else _USUAL_DATAGRAM
    datagram = min(_USUAL_DATAGRAM, longest)
    rate, loss = model.rate_bits_per_s, model.loss
    lost = loss.share if loss.present else 0.0
    window = _USUAL_WINDOW
    if model.bdp_bytes is not None and rate is not None:
        delayed = model.bdp_bytes + rate * (model.delay.spread_us + model.delay.lump_us) / 8e6
        window = max(window, _window(delayed / (datagram + _HEADERS), lost))
    expected = None
    # A controller follows a rate that varies with a delay: how well depends on the periods.
    if rate is not None and not model.rate.present:
        payload = (datagram - KCP_HEADER_BYTES) / (datagram + _HEADERS)
        lossy = _UNDER_LOSS if lost or model.delay.lump_us else _EFFICIENCY
        expected = (_UNDER_BURSTS if loss.in_bursts else lossy) * rate * (1 - lost) * payload
    pace = None if rate is None else BELOW_POLICER * rate
    return Recommendation("kcp-bbr", window, pace, datagram, expected, measured_bits_per_s)


def _window(on_the_way: float, lost: float) -> int:
    """Segments of a window that never waits for a repair, with `on_the_way` segments on the way.

    A segment occupies the window until it and all before it have arrived. Of n segments, one is lost about
    log n / log(1 / lost) times in a row, and each repair takes `_REPAIR_RTTS`.
    """
    rtts = _WINDOW_BDP
    if lost > 0.0 and on_the_way > 1.0:
        rtts = max(rtts, 1.0 + _REPAIR_RTTS * (1.0 + log(on_the_way) / log(1.0 / lost)))
    return min(KCP_MOST_SEGMENTS, ceil(rtts * on_the_way / (1.0 - lost)))


def for_mtu(mtu_bytes: int) -> tuple[str]:
    """Advice about packets that vanish."""
    return (
        f"datagrams of at most {mtu_bytes - _HEADERS} bytes (kcp: --kcp-mtu {mtu_bytes - _HEADERS};"
        f" udp: -l {mtu_bytes - _HEADERS}); tcp: clamp the MSS to {mtu_bytes - 40}",
    )


def for_policer(rate: float, *, adapts: bool = False) -> tuple[str]:
    """Advice about a policer. `adapts`: the transport in use does what the advice would recommend."""
    if adapts:
        return ("ask the provider for a shaper; this transport finds the rate after its start",)
    pace = format_rate(BELOW_POLICER * rate)
    return (
        f"pace at {pace} (-b; kcp-bbr finds it), or ask the provider for a shaper; a larger window makes it"
        " worse",
    )


def for_overfilled() -> tuple[str]:
    """Advice about a path that drops a part of what a sender without congestion control sends at once."""
    return ("kcp-bbr, which finds the rate of the path; a larger window loses more",)


def for_queue(
    rate: float,
    rtt_us: float,
    *,
    managed: bool,
    adapts: bool = False,
    enough: int | None = None,
) -> tuple[str]:
    """Advice about a deep queue.

    Parameters
    ----------
    adapts : True if the transport in use keeps the queue short already
    enough : segments that fill the path by the figures of the test, if it is one test
    """
    if managed:
        return ("",)
    if adapts:
        return (f"router: fq_codel or CAKE at {format_rate(0.95 * rate)}, for the traffic of others",)
    packet = _USUAL_DATAGRAM + _HEADERS
    payload = _USUAL_DATAGRAM - KCP_HEADER_BYTES
    # A warning about the window of the same test must give the same number.
    segments = enough or (enough_segments(rate * payload / packet, rtt_us, payload) if rtt_us else 0)
    window = f"kcp: --kcp-sndwnd {segments} instead of a larger window; " if segments else ""
    return (f"kcp-bbr keeps it short; {window}router: fq_codel or CAKE at {format_rate(0.95 * rate)}",)


def for_rate_that_varies() -> tuple[str]:
    """Advice about a rate that varies."""
    return ("kcp-bbr or tcp bbr (-C bbr) follow the rate; a fixed rate (-b) does not",)


def for_loss(share: float, *, adapts: bool = False) -> tuple[str]:
    """Advice about loss that no sender causes. `adapts`: the transport in use keeps its rate already."""
    if share < 0.001:
        return ("",)
    if adapts:
        return ("this transport keeps its rate under such loss. Radio or cable may need repair",)
    return ("kcp-bbr keeps its rate under such loss; tcp cubic does not. Radio or cable may need repair",)


def for_reordering() -> tuple[str]:
    """Advice about packets that overtake others."""
    return (
        "kcp-bbr, or tcp with RACK: both wait for late packets; kcp resends them (--kcp-resend 0 stops that)",
    )


def for_jitter() -> tuple[str]:
    """Advice about delay that varies."""
    return ("kcp-bbr allows for it; kcp's timeouts may resend in vain (--kcp-nodelay 0)",)


def for_lumps() -> tuple[str]:
    """Advice about arrivals in lumps."""
    return ("a window of the rate times the longest distance more than usual; kcp-bbr adds it",)


def for_spurious() -> tuple[str]:
    """Advice about retransmissions of packets that had arrived."""
    return ("kcp-bbr, or calmer timers: --kcp-mode normal, or a window of one bandwidth-delay product",)


def for_end(cause: Cause, window: str, flags: tuple[str, ...]) -> str:
    """Advice about a limit of one of the two ends. `window`: the value to set, empty: not known. `flags`: of
    the send and the receive window."""
    if cause in (Cause.SEND_WINDOW, Cause.RECEIVE_WINDOW) and flags:
        flag = flags[cause is Cause.RECEIVE_WINDOW]
        return f"{flag} {window}" if window else f"a larger {flag}"
    return {
        Cause.APPLICATION: "nothing on the path: the application decides",
        Cause.SEND_WINDOW: "a larger window (-w)",
        Cause.RECEIVE_WINDOW: "a larger window at the receiver (-w, net.ipv4.tcp_rmem)",
        Cause.SEND_BUFFER: "a larger send buffer (-w, net.ipv4.tcp_wmem)",
        Cause.PROCESSOR: "larger blocks (-l), or fewer streams (-P)",
    }[cause]
