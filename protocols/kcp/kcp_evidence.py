"""The evidence of a KCP sender about its path, from an engine at the end of a test."""

from __future__ import annotations

from iperfpy.protocols.kcp.ack_timing import HEADERS_BYTES
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.way_back import INTERVALS_PER_RTT
from iperfpy.protocols.path_evidence import EvidenceLimit, PathEvidence

SPURIOUS_SHARE = 0.1
"""Share of losses found spurious up to which the runs of losses are those of the path."""
STALL_US = 1_000_000
OWN_LUMPS = 2.0
"""Intervals between acknowledgements that the peer itself may put into one lump."""


def path_evidence(engine: Engine, now_us: int, headers_bytes: int = HEADERS_BYTES) -> PathEvidence | None:
    """The record of the path that a sending engine has by now; None if it has sent nothing.

    Parameters
    ----------
    headers_bytes : of IP and UDP, in each packet
    """
    if not engine.counts.segments_sent:
        return None
    record, rtt, state = engine.delivery.record, engine.rtt, {}
    if engine.control is not None:
        state = dict(engine.control.state())
    packet_bytes = engine.sending.mtu + headers_bytes
    runs, lost = _loss_runs(engine)
    displaced = record.displacements

    def figure(key: str, factor: float = 1.0) -> float | None:
        value = state.get(key)
        return value * factor if isinstance(value, (int, float)) else None

    return PathEvidence(
        flight=record.flights.bins(_known_until_us(engine, now_us), headers_bytes),
        loss_runs=runs,
        lost_in_runs=lost,
        min_rtt_us=float(rtt.minimum_us) if rtt.samples else None,
        rtt_us=record.flights.delays.record(),
        noise_share=figure("noise_percent", 0.01),
        delay_spread_us=figure("delay_spread_us"),
        lump_us=_lump_us(figure("lump_us"), engine),
        rate_bits_per_s=figure("bandwidth_segments_per_s", 8 * packet_bytes) or None,
        rate_deviation=record.rates.deviation,
        displaced_packets=displaced.count,
        displacement_us=displaced.percentile(95) if displaced.count else None,
        limited_us={
            EvidenceLimit[limit.name]: us for limit, us in engine.limits.of_load(now_us).items() if us
        },
        packet_bytes=packet_bytes,
    )


def _lump_us(lump_us: float | None, engine: Engine) -> float | None:
    """The lumps of the path: 0.0 for those that the peer makes, which holds acknowledgements back."""
    interval_us = engine.rtt.minimum_us / INTERVALS_PER_RTT * engine.delivery.way_back.thinning
    return 0.0 if lump_us is not None and lump_us < OWN_LUMPS * interval_us else lump_us


def _known_until_us(engine: Engine, now_us: int) -> int:
    """The time up to which the fate of all transmissions is known: they were overtaken by one that arrived,
    or left so long ago that a stall of this machine does not explain it either."""
    rtt, delivery = engine.rtt, engine.delivery
    overtaken_us = delivery.newest_us - max(rtt.minimum_us // 8, int(delivery.record.displacements.most_us))
    return max(overtaken_us, now_us - max(STALL_US, 4 * rtt.timeout_us(1_000, 30_000, STALL_US)))


def _loss_runs(engine: Engine) -> tuple[int | None, int | None]:
    """Runs of consecutive transmissions that were lost, and the transmissions in them. (None, None) if the
    recovery does not follow runs, or if it took much for lost that had arrived."""
    delivery, recovery = engine.delivery, engine.recovery
    if not recovery.obeys_limits or recovery.spurious_losses > SPURIOUS_SHARE * delivery.marked_lost:
        return None, None
    return delivery.lost_runs, delivery.lost
