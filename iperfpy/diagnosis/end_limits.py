"""Limits of the two ends of one test: windows, buffers, programs and processors.

time by limit of the sender      end_limits        its windows, buffer, application, processor
time without its program         held_up           the processor of either end
processor time, kernel drops     processor
rate of -b                       own_rate
time without data                quiet
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from iperfpy.diagnosis import advice
from iperfpy.diagnosis.calm_bins import drops_by_load
from iperfpy.diagnosis.evidence import RunEvidence
from iperfpy.diagnosis.finding import Cause, Confidence, Finding
from iperfpy.diagnosis.stretches import settled_rate
from iperfpy.protocols.path_evidence import HELD_UP, EvidenceLimit, PathEvidence
from iperfpy.protocols.units import format_milliseconds, format_percent, format_rate

_LIMITS: Mapping[str, tuple[Cause, str]] = {
    EvidenceLimit.APPLICATION: (Cause.APPLICATION, "the application, which had nothing to send"),
    EvidenceLimit.RECEIVE_WINDOW: (Cause.RECEIVE_WINDOW, "the receiver's window"),
    EvidenceLimit.SEND_WINDOW: (Cause.SEND_WINDOW, "the send window"),
    EvidenceLimit.SEND_BUFFER: (Cause.SEND_BUFFER, "the send buffer"),
    EvidenceLimit.PROCESSOR: (Cause.PROCESSOR, "the sender's processor"),
}
"""Limit -> cause, and its words."""
_WINDOWS = (Cause.SEND_WINDOW, Cause.RECEIVE_WINDOW)
ENDS = frozenset(cause for cause, _ in _LIMITS.values())
NOTICED, MOST = 0.1, 0.5
"""Shares of the time from which on a limit is named, and is the main one (ndt7 has the first)."""
CEILING = 1.25
"""What a window carries per round trip, over the rate, from which on the window is not the limit."""
_HELD_SHARE = 0.2
"""Share of the time from which on losses may hold up the window. On drawn paths with losses, small windows
limited for 0.23 to 0.66 of the time."""
REPAIR_RTTS = 1.25
"""Round trips until a lost segment has arrived again, beyond its first one (RFC 8985)."""
_MOST_LOST, _RARE = 0.9, 0.01
"""Largest share of losses that repairs are counted for, and share of the windows below which they are not."""
_FEW_LOST = 1e-3
"""Share of datagrams that may be lost for another reason than the limit."""
_OWN_RATE = 0.97
"""Share of the rate of -b from which on that rate is the limit."""
_PERIOD_US, _FEWEST_DELAYS = 200_000, 4
"""Periods in which the variation of the delay is short-term, and known delays in one."""
_BUSY_PERCENT = 95.0
_SLOW_WORDS = "less work beside the test on that machine, or a faster one"


def limit_shares(run: RunEvidence) -> Mapping[str, float]:
    """Give the share of the time, 0 to 1, for which each limit held, over all streams."""
    total: dict[str, float] = {}
    for path in run.path:
        for key, us in path.limited_us.items():
            total[key] = total.get(key, 0.0) + us
    streams = sum(bool(path.limited_us) for path in run.path)
    whole_us = max(streams * run.seconds * 1e6, sum(total.values())) or 1.0
    return {key: us / whole_us for key, us in total.items()}


def end_limits(run: RunEvidence) -> list[Finding]:
    """Findings about the two ends, by the time for which each limited the sender; the longest first."""
    stopped = held_up(run)
    # A program that does not run reads nothing and writes nothing: that explains full and empty buffers.
    if stopped is not None:
        return [stopped]
    named = sorted(
        (
            (share, *_LIMITS[key])
            for key, share in limit_shares(run).items()
            if key in _LIMITS and share > NOTICED
        ),
        reverse=True,
    )
    found = (_end_limit(run, share, cause, words) for share, cause, words in named)
    return [finding for finding in found if finding is not None]


def held_up(run: RunEvidence) -> Finding | None:
    """Name the end that was stopped, or got no processor, for a part of the time; None if neither was."""
    whole_us = run.seconds * 1e6 or 1.0
    ends = [
        (max((float(path.extra.get(key, 0)) for path in run.path), default=0.0) / whole_us, name)
        for key, name in zip(HELD_UP, ("receiver", "sender"), strict=True)
    ]
    # Several streams of one end report the same program, and a stop may last beyond the measured time.
    share, name = max(ends)
    share = min(1.0, share)
    if share <= NOTICED:
        return None
    return Finding(
        run.direction,
        Cause.PROCESSOR,
        Confidence.SURE if share > MOST else Confidence.LIKELY,
        f"the {name}'s program, which did not run for {format_percent(share)} of the time",
        "it was stopped, or got no processor",
        _SLOW_WORDS,
        evidence={"share": round(share, 3)},
    )


def _end_limit(run: RunEvidence, share: float, cause: Cause, words: str) -> Finding | None:
    """Describe one limit; None for a window that another cause keeps full.

    A window is full of segments that wait for their repair if the path drops what exceeds its rate: a larger
    one loses more. A window that carries more per round trip than arrived is full because the path's queue,
    or a loss, holds up its segments. If the receiver's kernel announces it, and round trips do not explain
    it either, the receiver's program left data unread.
    """
    evidence: dict[str, float | int | str] = {"share": round(share, 3)}
    because = f"for {format_percent(share)} of the time"
    path = largest(run.path)
    segments = _window_segments(run, path, cause)
    if cause in _WINDOWS and overfilled(path):
        return None
    # Only a window of a known size has a ceiling; a send buffer, or an application, has none.
    if segments and path is not None and path.min_rtt_us:
        rtt_us = own_rtt_us(path, segments)
        ceiling = segments * (path.packet_bytes or 0) * 8e6 / rtt_us
        held, most = _held(run, path, segments), CEILING * _rate(run)
        # A window that losses hold up is closed for much of the time.
        if ceiling > most * (held if share > _HELD_SHARE else 1.0):
            # Segments after a loss fill the receiver's buffer until the repair arrives.
            unread = cause is Cause.RECEIVE_WINDOW and ceiling > most * held
            return _unread(run, path, share, ceiling) if unread else None
        evidence |= {"window_segments": segments, "ceiling_bits_per_s": round(ceiling)}
        because += f"; {segments} segments per {format_milliseconds(rtt_us)} are {format_rate(ceiling)}"
    return Finding(
        run.direction,
        cause,
        Confidence.SURE if share > MOST else Confidence.LIKELY,
        words,
        because,
        advice.for_end(cause, _twice(run, path, segments), run.window_flags),
        evidence=evidence,
    )


def overfilled(path: PathEvidence | None) -> bool:
    """True if the stream sent more at once than the path takes, which dropped the excess."""
    # Counters of the kernel date a loss a round trip late, beside other packets.
    return (
        path is not None
        and path.flight is not None
        and not path.extra.get("sampled")
        and drops_by_load(path.flight)
    )


def _twice(run: RunEvidence, path: PathEvidence | None, segments: int | None) -> str:
    """Twice the window, as its flag takes it: in segments if the settings say so, else in bytes; "" if it is
    not known."""
    if not segments:
        return ""
    if run.windows:
        return str(2 * segments)
    size = 2 * segments * (path.packet_bytes or 0) if path is not None else 0
    return f"{math.ceil(size / 1024)}K, if the kernel allows it (net.core.rmem_max)" if size else ""


def _rate(run: RunEvidence) -> float:
    """Payload rate of the test; of its later part if that is more, because a short test over a long path is a
    start for most of its time. What left within a round trip may be one window, at any rate."""
    settled = (
        settled_rate(path.flight)
        for path in run.path
        if path.flight is not None
        and len(path.flight.sent_bytes) * path.flight.width_us > 2 * path.rtt_us.get("p50", 0.0)
    )
    return max(run.bits_per_second, *settled, 0.0)


def _held(run: RunEvidence, path: PathEvidence, segments: int) -> float:
    """Factor by which losses by chance lengthen the time of a window: it is held up until the last of them is
    repaired, and that much is its own doing. A repair may be lost again. A retransmission in vain shows no
    arrival of its own, and holds nothing up."""
    if path.flight is None:
        return 1.0
    sent = max(1, int(path.flight.sent_packets.sum()))
    every = sum(int(one.flight.sent_packets.sum()) for one in run.path if one.flight is not None)
    in_vain = (run.resent_in_vain or 0) * sent / max(1, every)
    lost_share = min(_MOST_LOST, max(0.0, 1 - (int(path.flight.arrived_packets.sum()) + in_vain) / sent))
    # The kernel's TCP does not tell the runs of losses.
    share = min(1.0, path.loss_runs / sent) if path.loss_runs else lost_share
    repairs = 0.0
    while (holed := 1 - (1 - share) ** segments) > _RARE:  # share of the windows with a repair of this order
        repairs += holed
        share *= lost_share
    return 1 + REPAIR_RTTS * repairs


def own_rtt_us(path: PathEvidence, segments: int) -> float:
    """Usual round-trip time of the path itself for a window of so many segments, in microseconds.

    A queue that the window fills changes slowly, in round trips; jitter and lumps change the delay from one
    packet to the next. So short-term variation is the path's, and so is the variation that the sender's model
    finds also when less is sent. A window also waits for each of its packets that comes late.
    """
    varies_us = max(_short_variation_us(path), path.delay_spread_us or 0.0)
    late_us = 0.0
    if path.flight is not None and path.displaced_packets and path.displacement_us:
        share = path.displaced_packets / max(1, int(path.flight.arrived_packets.sum()))
        late_us = path.displacement_us * (1 - (1 - min(1.0, share)) ** segments)
    return (path.min_rtt_us or 0.0) + max(varies_us, late_us)


def _short_variation_us(path: PathEvidence) -> float:
    """Median over periods of `_PERIOD_US` of the median delay above the least one."""
    flight = path.flight
    if flight is None or not len(flight.delay_us):
        return 0.0
    periods = np.array_split(flight.delay_us, max(1, len(flight.delay_us) * flight.width_us // _PERIOD_US))
    known = [delays for period in periods if len(delays := period[~np.isnan(period)]) >= _FEWEST_DELAYS]
    return float(np.median([np.median(delays) - delays.min() for delays in known])) if known else 0.0


def _unread(run: RunEvidence, path: PathEvidence, share: float, ceiling: float) -> Finding | None:
    """Name the receiver's program, if its kernel's window would have carried more; None if a queue of
    the path explains the full window."""
    # The usual round trip contains the queue of the path: a window that stands there carries just the rate.
    window, usual_us = path.extra.get("peer_window_bytes"), path.rtt_us.get("p50")
    if not window or not usual_us or window * 8e6 / usual_us <= CEILING * _rate(run):
        return None
    return Finding(
        run.direction,
        Cause.PROCESSOR,
        Confidence.LIKELY,
        "the receiver's program, which left data unread",
        f"its window was closed for {format_percent(share)} of the time, and open it carries"
        f" {format_rate(ceiling)}",
        _SLOW_WORDS,
        evidence={"share": round(share, 3), "ceiling_bits_per_s": round(ceiling)},
    )


def _window_segments(run: RunEvidence, path: PathEvidence | None, cause: Cause) -> int | None:
    """Segments of the window that limits: of the settings, as the receiver announced it, or about the number
    in flight; None if unknown."""
    if cause not in _WINDOWS:
        return None
    if run.windows:
        return run.windows[cause is Cause.RECEIVE_WINDOW]
    if path is None or not path.packet_bytes or "p50" not in path.rtt_us:
        return None
    if cause is Cause.RECEIVE_WINDOW and (window := path.extra.get("peer_window_bytes")):
        return round(window / path.packet_bytes) or None
    return round(run.bits_per_second * path.rtt_us["p50"] / 8e6 / path.packet_bytes) or None


def own_rate(run: RunEvidence, *, by_chance: bool = False) -> Finding | None:
    """Name the rate that the test asked for, if it was reached.

    by_chance : True if the losses do not depend on the rate: that of the datagrams that left counts
    """
    target = run.target_bits_per_second * max(1, run.streams)
    if not target or _reached(run, by_chance) < _OWN_RATE * target:
        return None
    return Finding(
        run.direction,
        Cause.APPLICATION,
        Confidence.LIKELY if by_chance else Confidence.SURE,
        f"the test's own rate, {format_rate(target)} (-b)",
        _carried(run) + ", by chance" * by_chance,
        "a higher -b, or -b 0",
        evidence={"target_bits_per_s": round(target), "share": 1.0},
    )


def _reached(run: RunEvidence, by_chance: bool) -> float:
    """Payload rate that arrived; with losses by chance, that of the datagrams that left."""
    sent, lost = sent_datagrams(run), lost_datagrams(run)
    return run.bits_per_second * (sent / (sent - lost) if by_chance and sent > lost else 1.0)


def _carried(run: RunEvidence) -> str:
    if run.reliable:
        return "the path carried it"
    lost, sent = lost_datagrams(run), sent_datagrams(run)
    return f"{lost:,} of {sent:,} datagrams were lost" if lost else "all of it arrived"


def quiet(run: RunEvidence) -> Finding | None:
    """Say that no payload moved for most of the test, up to its end; None if some did, or if the sender's own
    record has the reason. A sender that waits for data, such as iperf3 at the end of its -F file, may keep a
    processor busy all the same."""
    share = min(1.0, run.quiet_s / run.seconds) if run.seconds else 0.0
    if share <= MOST or any(held > MOST for held in limit_shares(run).values()):
        return None
    return Finding(
        run.direction,
        Cause.UNKNOWN,
        Confidence.SURE,
        f"no data moved in the last {run.quiet_s:.2f} of {run.seconds:.2f} s: the sender had no more of it,"
        " or the path carried none",
        evidence={"quiet_s": round(run.quiet_s, 2), "share": round(share, 3)},
    )


def processor(run: RunEvidence) -> Finding | None:
    """Name a core that was busy, or a receiving kernel that dropped datagrams."""
    busiest = max(
        (
            (run.cpu_percent[f"{end}_total"], end)
            for end in ("sender", "receiver")
            if f"{end}_total" in run.cpu_percent
        ),
        default=(0.0, ""),
    )
    lost = lost_datagrams(run)
    dropped = run.kernel_drops or 0
    if dropped and lost and dropped > lost / 2:
        return Finding(
            run.direction,
            Cause.PROCESSOR,
            Confidence.SURE,
            f"the receiving machine: its kernel dropped {dropped} datagrams that had arrived",
            f"{format_percent(dropped / lost)} of the losses",
            "a larger socket buffer (-w), fewer streams, or a lower rate (-b)",
            evidence={"kernel_drops": dropped, "share": 1.0},
        )
    if busiest[0] < _BUSY_PERCENT:
        return None
    return Finding(
        run.direction,
        Cause.PROCESSOR,
        Confidence.LIKELY,
        f"the {busiest[1]}'s processor: {busiest[0]:.0f} % of a core",
        "",
        "larger blocks (-l), or -Z; a path this fast needs more than one process",
        evidence={"percent": round(busiest[0], 1), "share": busiest[0] / 100},
    )


def one_machine(run: RunEvidence) -> Finding:
    """Name the machine that both ends share."""
    return Finding(
        run.direction,
        Cause.PROCESSOR,
        Confidence.LIKELY,
        "this machine: both ends run on it, and no network is between them",
        "",
        "the other end on another machine; larger blocks (-l) cost less time per byte",
        evidence={"rate_bits_per_s": round(run.bits_per_second), "share": MOST},
    )


def sending_machine(run: RunEvidence, *, by_chance: bool = False) -> Finding | None:
    """Name the limit of datagrams that all arrived, though fewer left than the test asked for.

    by_chance : True if those that did not arrive were lost whatever the rate
    """
    sent = sent_datagrams(run)
    target = run.target_bits_per_second * max(1, run.streams)
    if run.reliable or not sent or (not by_chance and lost_datagrams(run) > _FEW_LOST * sent):
        return None
    if target and _reached(run, by_chance) >= _OWN_RATE * target:
        return None
    asked = f"{format_rate(target)} were asked for" if target else "no rate was asked for"
    return Finding(
        run.direction,
        Cause.PROCESSOR,
        Confidence.LIKELY,
        "the sending machine: all that it sent arrived" + ", but for random loss" * by_chance,
        asked,
        "larger datagrams (-l), or more streams (-P)",
        evidence={"rate_bits_per_s": round(run.bits_per_second), "share": 1.0},
    )


def lost_datagrams(run: RunEvidence) -> int:
    """Datagrams of an unreliable transport that did not arrive, with those after the last arrival, which no
    record of the path has."""
    if run.reliable:
        return 0
    flights = [path.flight for path in run.path if path.flight is not None]
    recorded = sum(int((flight.sent_packets - flight.arrived_packets).sum()) for flight in flights)
    return max(recorded, int(run.figures.lost or 0))


def sent_datagrams(run: RunEvidence) -> int:
    """Datagrams that left, 0 if no record of the path has any."""
    recorded = sum(int(path.flight.sent_packets.sum()) for path in run.path if path.flight is not None)
    return max(recorded, int(run.figures.sent or 0)) if recorded else 0


def largest(paths: Sequence[PathEvidence]) -> PathEvidence | None:
    """Give the stream that sent most: most is known about it."""

    def sent(path: PathEvidence) -> int:
        return int(path.flight.sent_bytes.sum()) if path.flight is not None else 0

    return max(paths, key=sent, default=None)
