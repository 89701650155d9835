"""Conclusions from one ordinary test: its limit, and the next thing to try.

One test is less than an experiment: nothing was varied. So a cause is named only if the record of this test
decides, and `Cause.UNKNOWN` names the number that is missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from iperfpy.diagnosis import advice, policer
from iperfpy.diagnosis.calm_bins import calm_losses
from iperfpy.diagnosis.end_limits import (
    ENDS,
    MOST,
    end_limits,
    held_up,
    largest,
    limit_shares,
    lost_datagrams,
    one_machine,
    overfilled,
    own_rate,
    processor,
    quiet,
    sending_machine,
    sent_datagrams,
)
from iperfpy.diagnosis.evidence import RunEvidence
from iperfpy.diagnosis.finding import Cause, Confidence, Finding
from iperfpy.diagnosis.path_model import FAIR_QUEUE_RTTS, FAIR_QUEUE_US
from iperfpy.diagnosis.policer import PolicerTest
from iperfpy.diagnosis.stretches import drain_rate, settled_rate
from iperfpy.protocols.path_evidence import EvidenceLimit, PathEvidence
from iperfpy.protocols.units import format_milliseconds, format_percent, format_rate, format_size

EMULATED_US = 2_000
"""Shortest round trip from which on something emulates a path between two ends of one machine."""
_SPURIOUS, _FEWEST_RESENT = 0.3, 20
_DISPLACED, _FEWEST_DISPLACED = 1e-3, 5
_NOISE = 1e-3
_AGREE = 3.0
"""Factor between the loss in the sender's model of the path and that of its record, at most."""
_VARIES, _PERIOD_US, _FEWEST_PACKETS, _TIMES_CHANCE = 0.15, 1e5, 25, 3.0
"""Deviation from which on a rate is said to vary, the periods of `rate_deviation`, and packets in one."""
_USUAL_PACKET = 1_500
_MANY = 40
"""Round trips from which on the start of a test weighs little."""
_SPREAD_US, _SPREAD_RTTS, _SPREAD_PACKETS = 5e3, 0.1, 4.0
_LUMP_SPREADS, _LUMP_PACKETS = 1.13, 10.0
"""Lumps are as wide as the whole variation, and `delay_spread_us` is three quarters of that; they hold some
packets."""
_ORDER = (Cause.POLICER, Cause.SPURIOUS, Cause.QUEUE, Cause.RATE_VARIES)
"""Limits of the path, the most limiting first; other findings are properties of it."""


def conclude(run: RunEvidence) -> tuple[Finding, ...]:
    """Conclude from one test; the most limiting cause first, one `Cause.UNKNOWN` if nothing decides."""
    path = largest(run.path)
    if (stopped := quiet(run)) is not None:
        return (stopped,)
    tests = [
        policer.detect(one.flight, one.min_rtt_us, sampled=bool(one.extra.get("sampled")))
        for one in run.path
        if one.flight is not None
    ]
    test = max(tests, key=lambda one: (one.policed, one.losses), default=None)
    by_chance = _lost_by_chance(run, path, test)
    ends = [
        own_rate(run, by_chance=by_chance),
        *end_limits(run),
        processor(run),
        sending_machine(run, by_chance=by_chance),
        _policer(run, test),
    ]
    # Times and losses of an end that did not run for a while are not those of the path.
    path_only = () if held_up(run) else _of_path(run, path, test)
    # Delay and reordering between two ends of one machine are those of its processors.
    # An emulated path between them has a delay, which is there without load, too.
    known = (run.idle_rtt_us, path.min_rtt_us if path is not None else None)
    alone = run.same_host and min((one for one in known if one), default=0.0) < EMULATED_US
    if alone:
        # A limit that held now and then says less than the machine that both ends share.
        main = [one for one in ends if one is not None and float(one.evidence.get("share", 1.0)) > MOST]
        read: list[Finding | None] = [*main, one_machine(run)]
    else:
        read = [*ends, *path_only]
    findings = [finding for finding in read if finding is not None]
    # A property of the path, such as jitter, is not its limit: the rate of the path is.
    if not any(_rank(finding)[0] < 2 for finding in findings):
        line = None if alone else _line(run, path, test)
        findings += [line] if line is not None else [_unknown(run, test)] if not findings else []
    return tuple(sorted(findings, key=_rank))


def _of_path(
    run: RunEvidence, path: PathEvidence | None, test: PolicerTest | None
) -> tuple[Finding | None, ...]:
    """Findings about the path but for a policer."""
    reordering = _reordering(run)
    return (
        _queue(run, path, test),
        # Packets that arrive late are resent in vain: that is the path, not the timers.
        _spurious(run) if reordering is None else None,
        _noise(run, path, test),
        reordering,
        _variation(run, path),
        _rate_varies(run, path),
        _mtu(run),
    )


def limit_line(findings: Sequence[Finding]) -> str:
    """Name the limit of the test in one line."""
    first = findings[0] if findings else None
    if first is None or first.cause is Cause.UNKNOWN:
        return f"Limited by: not known ({first.sentence if first else 'nothing was measured'})"
    return f"Limited by: {first.sentence}" + (f" ({first.because})" if first.because else "")


def advice_line(findings: Sequence[Finding]) -> str:
    """Give the advice about the limit in one line; empty if there is none."""
    # Advice about a property of the path would read as advice about the limit that stands above it.
    words = findings[0].advice if findings else ""
    return f"Try: {words}" if words else ""


def _adapts(run: RunEvidence) -> bool:
    """True if the transport in use is of the kind that the advice recommends: congestion control over UDP."""
    return run.controlled and run.over_udp


def sender_findings(run: RunEvidence) -> list[Finding]:
    """Findings about the two ends and their timers, none about the path."""
    in_vain = None if held_up(run) or _reordering(run) else _spurious(run)
    others = (processor(run), in_vain)
    return [*end_limits(run), *(finding for finding in others if finding is not None)]


def _policer(run: RunEvidence, test: PolicerTest | None) -> Finding | None:
    if test is None or not test.policed:
        return None
    rate = test.rate_bits_per_s
    return Finding(
        run.direction,
        Cause.POLICER,
        # Counters of the kernel do not tell which packet was lost.
        Confidence.SURE if test.exact and not _sampled(run) else Confidence.LIKELY,
        f"a policer: {format_rate(rate)}, burst {format_size(test.burst_bytes)}, drops what exceeds it",
        f"{policer.sentence(test)}, {test.losses} losses, the first after {test.first_loss_us / 1e6:.2f} s",
        *advice.for_policer(rate, adapts=_adapts(run)),
        evidence={
            "rate_bits_per_s": round(rate),
            "burst_bytes": round(test.burst_bytes),
            "losses": test.losses,
            "checks": test.passed,
        },
    )


def _sampled(run: RunEvidence) -> bool:
    """True if the record is one of the kernel's counters."""
    return any(path.extra.get("sampled") for path in run.path)


def _queue(run: RunEvidence, path: PathEvidence | None, test: PolicerTest | None) -> Finding | None:
    if path is None or not path.min_rtt_us or "p95" not in path.rtt_us:
        return None
    rise = path.rtt_us["p95"] - path.min_rtt_us - (path.delay_spread_us or 0.0)
    if rise <= max(FAIR_QUEUE_US, FAIR_QUEUE_RTTS * path.min_rtt_us):
        return None
    # In a pause of the application, the last segment waits for a delayed ACK (RFC 1122, 4.2.3.2).
    if path.extra.get("sampled") and limit_shares(run).get(EvidenceLimit.APPLICATION, 0.0) > MOST:
        return None
    # A queue drains at the rate of the path. The payload of the whole test has its start, and not its copies.
    drained = drain_rate(path.flight) if path.flight is not None else 0.0
    rate = path.rate_bits_per_s or max(drained, run.bits_per_second)
    size = (path.rtt_us.get("max", path.rtt_us["p95"]) - path.min_rtt_us) * rate / 8e6
    return Finding(
        run.direction,
        Cause.QUEUE,
        Confidence.LIKELY,
        f"the path, behind a queue that this test filled: {format_size(size)}"
        f" ({format_milliseconds(rise)} at {format_rate(rate)})",
        f"round-trip times rise from {format_milliseconds(path.min_rtt_us)}"
        f" to {format_milliseconds(path.rtt_us['p95'])}",
        *advice.for_queue(
            rate, path.min_rtt_us, managed=False, adapts=_adapts(run), enough=run.figures.enough_segments
        ),
        evidence={"queue_bytes": round(size), "delay_us": round(rise), "rate_bits_per_s": round(rate)},
    )


def _spurious(run: RunEvidence) -> Finding | None:
    resent, needless = run.figures.resent, run.resent_in_vain
    if not resent or needless is None or resent < _FEWEST_RESENT or needless <= _SPURIOUS * resent:
        return None
    share = needless / resent
    return Finding(
        run.direction,
        Cause.SPURIOUS,
        Confidence.SURE,
        f"retransmissions in vain: {format_percent(share)} of {resent} had arrived",
        "the timers resend, not the path loses",
        "" if _adapts(run) else advice.for_spurious()[0],
        evidence={"share": round(share, 3), "retransmits": resent},
    )


def _noise(run: RunEvidence, path: PathEvidence | None, test: PolicerTest | None) -> Finding | None:
    """Random loss that the sender's model of the path and its record of the packets both show. A sender of
    datagrams has no model: theirs shows in the record alone."""
    if _lost_by_chance(run, path, test):
        return _random_loss(run, sent_datagrams(run), lost_datagrams(run), "datagrams, beside short delays")
    if path is None or path.flight is None or not path.noise_share or (test and test.policed):
        return None
    rate = path.rate_bits_per_s or settled_rate(path.flight)
    sent, lost = calm_losses(path.flight, rate, path.packet_bytes or _USUAL_PACKET)
    if lost < policer.FEWEST_SAMPLES or lost < _NOISE * sent:
        return None
    if not 1 / _AGREE < path.noise_share * sent / lost < _AGREE:
        return None
    return _random_loss(run, sent, lost, "packets that found no queue of the sender's own")


def _random_loss(run: RunEvidence, sent: int, lost: int, words: str) -> Finding:
    share = lost / sent
    error = (share * (1 - share) / sent) ** 0.5
    return Finding(
        run.direction,
        Cause.NOISE,
        Confidence.LIKELY,
        f"random loss: {format_percent(share)} (standard error {format_percent(error)}) without a queue",
        f"{lost} of {sent} {words}",
        *advice.for_loss(share, adapts=_adapts(run)),
        evidence={"share": round(share, 5), "error": round(error, 5), "losses": lost},
    )


def _lost_by_chance(run: RunEvidence, path: PathEvidence | None, test: PolicerTest | None) -> bool:
    """True if datagrams were lost by chance: no bucket predicts the losses, and no queue stood, not even one
    that a router keeps short by drops at random."""
    if run.reliable or path is None or test is None or not path.min_rtt_us:
        return False
    # A receiver that is too slow drops at times that no bucket predicts either.
    if run.kernel_drops or processor(run) is not None:
        return False
    # A rate above that of the path raises the usual round trip, not only some of them.
    flat = path.rtt_us.get("p50", math.inf) - path.min_rtt_us <= FAIR_QUEUE_US
    return flat and test.code is policer.Code.RANDOM


def _reordering(run: RunEvidence) -> Finding | None:
    displaced = sum(path.displaced_packets or 0 for path in run.path)
    packets = sum(int(path.flight.arrived_packets.sum()) for path in run.path if path.flight is not None)
    if not packets or displaced < _FEWEST_DISPLACED or displaced < _DISPLACED * packets:
        return None
    share = displaced / packets
    return Finding(
        run.direction,
        Cause.REORDERING,
        Confidence.SURE,
        f"reordering: {format_percent(share)} of the packets arrive after later ones",
        f"{displaced} packets",
        "" if _adapts(run) else advice.for_reordering()[0],
        evidence={"share": round(share, 5), "late": displaced},
    )


def _variation(run: RunEvidence, path: PathEvidence | None) -> Finding | None:
    if path is None or not path.min_rtt_us:
        return None
    # The delay of a slow path varies by some packets' time of service, and so do its acknowledgements.
    packet_us = (path.packet_bytes or _USUAL_PACKET) * 8e6 / max(run.bits_per_second, 1.0)
    least_us = max(_SPREAD_US, _SPREAD_RTTS * path.min_rtt_us, _SPREAD_PACKETS * packet_us)
    spread, lump = path.delay_spread_us or 0.0, path.lump_us or 0.0
    # Acknowledgements come once in some milliseconds anyway: lumps are those as wide as the variation.
    if spread < least_us:
        return None
    if lump > max(least_us, _LUMP_SPREADS * spread, _LUMP_PACKETS * packet_us):
        return Finding(
            run.direction,
            Cause.ACK_LUMPS,
            Confidence.LIKELY,
            f"acknowledgements in lumps, {format_milliseconds(lump)} apart",
            "",
            "" if _adapts(run) else advice.for_lumps()[0],
            evidence={"lump_us": round(lump), "spread_us": round(spread)},
        )
    return Finding(
        run.direction,
        Cause.JITTER,
        Confidence.LIKELY,
        f"delay that varies by {format_milliseconds(spread)}, also when less is sent",
        "",
        "" if _adapts(run) else advice.for_jitter()[0],
        evidence={"spread_us": round(spread)},
    )


def _rate_varies(run: RunEvidence, path: PathEvidence | None) -> Finding | None:
    if path is None or (path.rate_deviation or 0.0) < _VARIES:
        return None
    deviation = path.rate_deviation or 0.0
    packets = run.bits_per_second * _PERIOD_US / 8e6 / (path.packet_bytes or _USUAL_PACKET)
    if packets < _FEWEST_PACKETS:
        return None
    # Losses, and arrivals that jitter or lumps move across the edges of a period, vary its rate as well.
    moved_us = max(path.delay_spread_us or 0.0, path.lump_us or 0.0)
    chance = (path.noise_share or 0.0) / packets + 2 * (moved_us / 3.1 / _PERIOD_US) ** 2
    if deviation**2 < _VARIES**2 + _TIMES_CHANCE * chance:
        return None
    return Finding(
        run.direction,
        Cause.RATE_VARIES,
        Confidence.LIKELY,
        f"a rate that varies: {format_percent(deviation)} deviation",
        "rate of delivery over periods in which the sender kept the path busy",
        "" if _adapts(run) else advice.for_rate_that_varies()[0],
        evidence={"deviation": round(deviation, 3)},
    )


def _mtu(run: RunEvidence) -> Finding | None:
    now, first = run.figures.full_datagram, run.figures.first_datagram
    if not run.over_udp or not now or not first or now >= first:
        return None
    return Finding(
        run.direction,
        Cause.MTU,
        Confidence.LIKELY,
        f"datagrams above {now:.0f} bytes vanish, though {first:.0f} were announced",
        "the sender found the longest one that passes",
        *advice.for_mtu(int(now) + 28),
        evidence={"mtu_bytes": int(now) + 28, "announced_bytes": int(first) + 28},
    )


def _line(run: RunEvidence, path: PathEvidence | None, test: PolicerTest | None) -> Finding | None:
    """The path itself, if congestion control held the sender for most of the time, nothing was lost, or a
    sender without congestion control sent too much at once."""
    if run.reliable and not run.controlled and overfilled(path):
        return _overfilled(run, path)
    shares = limit_shares(run)
    held = sum(shares.get(limit, 0.0) for limit in (EvidenceLimit.PACING, EvidenceLimit.CONGESTION_WINDOW))
    losses = test.losses if test is not None else 0
    if not run.controlled or test is None or (losses and held < MOST):
        return None
    because = f"congestion control held the sender for {format_percent(held)} of the time" if held else ""
    if losses and test.code is policer.Code.FEW_LOSSES:
        because += f"; {policer.sentence(test)}"
    round_trips = run.seconds * 1e6 / path.min_rtt_us if path is not None and path.min_rtt_us else _MANY
    short = round_trips < _MANY
    if short:
        because += f"; the test had {round_trips:.0f} round trips, and its start took some of them"
    return Finding(
        run.direction,
        Cause.LINE,
        Confidence.POSSIBLE if short else Confidence.LIKELY,
        f"the path: {format_rate(run.bits_per_second)}",
        because.removeprefix("; "),
        "a longer test (-t)" if short else "",
        evidence={"rate_bits_per_s": round(run.bits_per_second), "share": round(held, 3)},
    )


def _overfilled(run: RunEvidence, path: PathEvidence | None) -> Finding:
    flight = path.flight if path is not None else None
    lost = 1 - flight.arrived_packets.sum() / max(1, flight.sent_packets.sum()) if flight is not None else 0.0
    return Finding(
        run.direction,
        Cause.LINE,
        Confidence.LIKELY,
        f"the path, which drops packets that leave together: {format_rate(run.bits_per_second)} arrived",
        f"{format_percent(lost)} of the packets were lost, the larger part where many left at once",
        *advice.for_overfilled(),
        evidence={"rate_bits_per_s": round(run.bits_per_second), "lost_share": round(float(lost), 4)},
    )


def _unknown(run: RunEvidence, test: PolicerTest | None) -> Finding:
    losses = test.losses if test is not None else 0
    missing = "the sender gave no record of the path"
    if test is not None:
        missing = policer.sentence(test) if losses else "nothing in the record of the path decides"
    return Finding(
        run.direction,
        Cause.UNKNOWN,
        Confidence.POSSIBLE,
        missing,
        "",
        "iperfpy diagnose, which varies the rate",
        evidence={"losses": losses, "losses_needed": policer.FEWEST_SAMPLES},
    )


def _rank(finding: Finding) -> tuple[int, int]:
    """Sort: limits of the ends that hold most of the time, limits of the path, then properties of it."""
    if finding.cause in ENDS and float(finding.evidence.get("share", 0.0)) > MOST:
        return 0, 0
    # A window that carries no more than arrived is the limit, though a long start hides it for a while.
    if "ceiling_bits_per_s" in finding.evidence:
        return 1, -1
    if finding.cause in _ORDER or finding.cause in ENDS:
        return 1, _ORDER.index(finding.cause) if finding.cause in _ORDER else len(_ORDER)
    return 2, finding.cause is not Cause.LINE
