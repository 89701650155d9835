"""The metrics of a KCP stream, and an engine's record of them.

This module imports neither numpy nor sockets: a transport's metrics are needed before its first stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from iperfpy.protocols.kcp.sender_limits import SenderLimit
from iperfpy.protocols.metrics import Kind, Meaning, Metric, Side, Unit, Value

if TYPE_CHECKING:
    from iperfpy.protocols.datagrams.batch import DatagramBatch
    from iperfpy.protocols.kcp.engine import Engine

_SENT = "segments_sent"
_US, _BYTES, _PERCENT = Unit.MICROSECONDS, Unit.BYTES, Unit.PERCENT
_GAUGE, _RATIO = Kind.GAUGE, Kind.RATIO


def _share(
    key: str,
    title: str,
    of: str,
    doc: str,
    priority: int,
    *,
    wire: str = "",
    meaning: Meaning = Meaning.RESENT_CAUSE,
    label: str = "",
) -> Metric:
    return Metric(
        key,
        doc,
        _PERCENT,
        _RATIO,
        title=title,
        numerator=of,
        denominator=_SENT,
        wire=wire,
        priority=priority,
        meaning=meaning,
        label=label,
    )


METRICS = (
    Metric(
        "rtt_us",
        "Smoothed round-trip time of all acknowledged segments",
        _US,
        _GAUGE,
        title="RTT",
        spread=True,
        iperf3="rtt",
        priority=5,
    ),
    Metric(
        "retransmits", "Data segments transmitted again", title="Retrans", iperf3="retransmits", priority=1
    ),
    _share(
        "retrans_percent",
        "Retrans(%)",
        "retransmits",
        "Retransmissions, as a share of all data segments transmitted",
        4,
        meaning=Meaning.RESENT,
    ),
    _share(
        "timeout_percent",
        "RTO(%)",
        "timeouts",
        "Resent by timeout (RTO), as a share of all data segments transmitted",
        3,
        wire="lost_percent",
        label="timeout",
    ),
    _share(
        "early_percent",
        "Early(%)",
        "early",
        "Resent early, as a share of all data segments transmitted",
        2,
        label="early",
    ),
    _share(
        "fast_percent",
        "Fast(%)",
        "fast",
        "Resent fast, as a share of all data segments transmitted",
        2,
        label="fast",
    ),
    Metric(_SENT, "Data segments transmitted, including retransmissions"),
    Metric("timeouts", "Segments resent because their timer (RTO) ran out", wire="lost"),
    Metric(
        "early",
        "Resent early: passed by an ACK with nothing new to send; a tail probe; the hole of a full window",
    ),
    Metric("fast", "Segments resent because enough ACKs, or an ACK sent late enough, passed them"),
    Metric("spurious", "Retransmissions of segments that had arrived"),
    Metric(
        "spurious_percent",
        "Spurious retransmissions, as a share of all retransmissions",
        _PERCENT,
        _RATIO,
        numerator="spurious",
        denominator="retransmits",
        meaning=Meaning.RESENT_IN_VAIN,
    ),
    Metric("rttvar_us", "Variation of the round-trip time (RFC 6298)", _US, _GAUGE, iperf3="rttvar"),
    Metric("min_rtt_us", "Shortest round-trip time yet", _US, _GAUGE),
    Metric(
        "snd_cwnd_bytes",
        "Congestion window, or the send window where there is none",
        _BYTES,
        _GAUGE,
        iperf3="snd_cwnd",
        meaning=Meaning.WINDOW,
        label="congestion window",
    ),
    Metric("snd_wnd_bytes", "Receive window that the peer advertises", _BYTES, _GAUGE, iperf3="snd_wnd"),
    Metric(
        "mtu_start_bytes",
        "UDP payload of a full datagram, as the control connection's segment size suggests it",
        _BYTES,
        _GAUGE,
        whole=True,
        meaning=Meaning.FIRST_DATAGRAM,
    ),
    Metric(
        "mtu_bytes",
        "UDP payload of a full datagram now, as the path carries it",
        _BYTES,
        _GAUGE,
        whole=True,
        meaning=Meaning.FULL_DATAGRAM,
    ),
    Metric(
        "mtu_tried_bytes",
        "UDP payload of the longest datagram that probes tried, as the interfaces or the network announce it",
        _BYTES,
        _GAUGE,
        whole=True,
        meaning=Meaning.LONGEST_TRIED,
    ),
    Metric(
        "mtu_passed_bytes",
        "UDP payload of the longest datagram of which a probe came through; both are empty without an answer",
        _BYTES,
        _GAUGE,
        whole=True,
        meaning=Meaning.LONGEST_PASSED,
    ),
    Metric(
        "segment_payload_bytes",
        "Payload of a full segment, without its headers",
        _BYTES,
        _GAUGE,
        whole=True,
        meaning=Meaning.FULL_PAYLOAD,
    ),
    Metric(
        "in_flight_bytes",
        "Transmitted and neither acknowledged nor given up",
        _BYTES,
        _GAUGE,
        meaning=Meaning.WINDOW,
        label="in flight",
    ),
    Metric("unacked_segments", "From the first unacknowledged segment to the next new one", kind=_GAUGE),
    Metric("queue_us_sum", "Time between write and first transmission, summed over segments", _US),
    Metric("queue_segments", "Segments transmitted for the first time"),
    Metric(
        "queue_us",
        "Mean time that data waited in the sender before its first transmission",
        _US,
        _RATIO,
        numerator="queue_us_sum",
        denominator="queue_segments",
    ),
    Metric("congestion", "Congestion control algorithm, `none` without any", Unit.TEXT, _GAUGE),
    Metric("limited_by", "Limit that keeps the sender from sending more", Unit.TEXT, _GAUGE),
    *(
        Metric(
            limit.metric_key,
            f"Time for which the sender was limited by {limit.phrase}",
            _US,
            meaning=Meaning.SENDER_LIMIT,
            label=limit.label,
        )
        for limit in SenderLimit
    ),
    Metric("datagrams_sent", "Datagrams handed to the network, from the first data on"),
    Metric(
        "wire_bytes_sent",
        "UDP payload handed to the network, KCP headers and acknowledgements included",
        _BYTES,
    ),
    Metric(
        "path_loss_percent",
        "Datagrams that did not arrive, as a share of those sent, by the counters of both ends",
        _PERCENT,
        Kind.MISSING,
        numerator="datagrams_received",
        denominator="datagrams_sent",
        meaning=Meaning.PATH_LOSS,
    ),
    Metric(
        "duplicates_percent",
        "Data segments that arrived again, as a share of all retransmissions; spurious_percent estimates it",
        _PERCENT,
        Kind.ACROSS,
        numerator="duplicates",
        denominator="retransmits",
        meaning=Meaning.RESENT_IN_VAIN,
    ),
    Metric("datagrams_received", "Datagrams from the network, from the first data on", side=Side.RECEIVER),
    Metric("wire_bytes_received", "UDP payload from the network", _BYTES, side=Side.RECEIVER),
    Metric("segments_received", "Data segments accepted, each once", side=Side.RECEIVER),
    Metric("duplicates", "Data segments that had arrived before", side=Side.RECEIVER),
    Metric("held_segments", "Data segments held for one that is missing", kind=_GAUGE, side=Side.RECEIVER),
    Metric("acks_sent", "ACK segments, or acknowledgements in ranges", side=Side.RECEIVER),
)
"""Of both KCP transports; the keys are those of `record`."""

BBR_METRICS = (
    Metric("bbr_phase", "State of BBR's state machine", Unit.TEXT, _GAUGE),
    Metric(
        "bandwidth_bits_per_second",
        "BBR's estimate of the path's bandwidth, in datagram bytes",
        Unit.BITS_PER_SECOND,
        _GAUGE,
    ),
    Metric("pacing_bits_per_second", "Rate of transmission, in datagram bytes", Unit.BITS_PER_SECOND, _GAUGE),
    Metric(
        "inflight_bound_bytes",
        "Most in flight that BBR allows after the losses seen; none before there was any",
        _BYTES,
        _GAUGE,
    ),
    Metric("bbr_min_rtt_us", "BBR's windowed minimum of the round-trip time", _US, _GAUGE),
    Metric("noise_percent", "Loss that the path shows while it is not overloaded", _PERCENT, _GAUGE),
)

ENVELOPE_METRICS = (
    Metric(
        "recover_percent",
        "Data datagrams that forward error correction restored, as a share of those sent",
        _PERCENT,
        Kind.ACROSS,
        title="Recover(%)",
        numerator="fec_recovered",
        denominator="fec_data_sent",
        alone="fec_recovered_percent",
        setting="fec",
        priority=4,
    ),
    Metric("fec_data_sent", "Data datagrams sent with forward error correction"),
    Metric("fec_parity_sent", "Parity datagrams sent"),
    Metric("fec_data_bytes", "KCP bytes of the data datagrams", _BYTES),
    Metric("fec_added_bytes", "Bytes that headers and parity of forward error correction added", _BYTES),
    Metric(
        "fec_overhead_percent",
        "Bytes that forward error correction added, as a share of the KCP bytes",
        _PERCENT,
        _RATIO,
        numerator="fec_added_bytes",
        denominator="fec_data_bytes",
    ),
    Metric(
        "fec_residual_percent",
        "Data datagrams that neither arrived nor were restored, as a share of those sent",
        _PERCENT,
        Kind.MISSING,
        numerator="fec_data_whole",
        denominator="fec_data_sent",
        whole_test=True,
    ),
    Metric(
        "fec_added_datagrams", "Bytes that forward error correction added, in data datagrams of mean length"
    ),
    Metric(
        "fec_gain",
        "Data datagrams restored, in per cent of those sent, for each per cent of bytes that forward error"
        " correction added",
        kind=Kind.ACROSS,
        numerator="fec_recovered",
        denominator="fec_added_datagrams",
    ),
    Metric("fec_geometry", "Data and parity datagrams of a set now, or off", Unit.TEXT, _GAUGE),
    Metric("fec_reason", "Reason of --kcp-fec auto for that", Unit.TEXT, _GAUGE),
    Metric(
        "fec_path_loss_percent",
        "Datagrams that the path loses before any recovery, as --kcp-fec auto measures it",
        _PERCENT,
        _GAUGE,
    ),
    Metric("fec_data_whole", "Data datagrams that arrived or were restored", side=Side.RECEIVER),
    Metric("fec_recovered", "Data datagrams restored from parity", side=Side.RECEIVER),
    Metric(
        "fec_lost",
        "Data datagrams that neither arrived nor were restored, by the sequence numbers that arrived",
        side=Side.RECEIVER,
    ),
    Metric(
        "fec_data_expected",
        "Data datagrams that arrived, were restored, or are missing by the sequence numbers",
        side=Side.RECEIVER,
    ),
    Metric(
        "fec_recovered_percent",
        "Data datagrams restored, as a share of those that the receiver expected by sequence numbers",
        _PERCENT,
        _RATIO,
        Side.RECEIVER,
        numerator="fec_recovered",
        denominator="fec_data_expected",
    ),
    Metric(
        "fec_lost_percent",
        "Data datagrams that stayed lost, as a share of those that the receiver expected by sequence numbers",
        _PERCENT,
        _RATIO,
        Side.RECEIVER,
        numerator="fec_lost",
        denominator="fec_data_expected",
        whole_test=True,
    ),
    Metric("fec_parity_received", "Parity datagrams that arrived", side=Side.RECEIVER),
    Metric(
        "fec_parity_wasted", "Parity datagrams that were not needed, or did not suffice", side=Side.RECEIVER
    ),
    Metric("fec_unusable", "Datagrams whose header contradicts the agreed sets", side=Side.RECEIVER),
    Metric("crypt_rejected", "Datagrams that did not decrypt, and were dropped", side=Side.RECEIVER),
    Metric("crypt_replayed", "Copies of encrypted datagrams, dropped", side=Side.RECEIVER),
)
"""Of both KCP transports: the figures of the envelope's layers (envelope/)."""
_NO_ENVELOPE: dict[str, Value] = {
    metric.key: None for metric in ENVELOPE_METRICS if metric.kind in (Kind.COUNTER, Kind.GAUGE)
}


def record(
    engine: Engine, now_us: int, unsent: Sequence[DatagramBatch] = (), *, sends: bool = True
) -> dict[str, Value]:
    """Every counter and gauge of an engine, by metric key; totals since it was made. Those of an envelope are
    None.

    Parameters
    ----------
    unsent : datagrams that it let go, and that wait for room in the socket
    sends : True if the payload is what was acknowledged, False if it is what arrived
    """
    counts, sending, receiving, rtt = engine.counts, engine.sending, engine.receiving, engine.rtt
    known, waiting = rtt.samples > 0, sum(batch.count for batch in unsent)
    mss, envelope_bytes = sending.mss, engine.options.envelope_bytes
    first_mtu = engine.options.mtu if engine.sizes is None else engine.sizes.range.first
    window = engine.control.window if engine.control else sending.limit
    figures: dict[str, Value] = {
        "bytes": sending.bytes_acked if sends else receiving.bytes,
        "rtt_us": round(engine.delivery.mean_rtt.value_us) or None,
        "rttvar_us": round(rtt.variation_us) if known else None,
        "min_rtt_us": rtt.minimum_us if known else None,
        "retransmits": counts.retransmitted,
        "segments_sent": counts.segments_sent,
        "timeouts": counts.lost,
        "early": counts.early,
        "fast": counts.fast,
        "spurious": engine.recovery.spurious,
        "snd_cwnd_bytes": window * mss,
        "snd_wnd_bytes": engine.peer_window * mss,
        "mtu_start_bytes": first_mtu + envelope_bytes,
        "mtu_bytes": sending.mtu + envelope_bytes,
        **_searched(engine, envelope_bytes),
        "segment_payload_bytes": mss,
        "in_flight_bytes": engine.recovery.in_flight * mss,
        "unacked_segments": sending.nxt - sending.una,
        "queue_us_sum": counts.queue_us,
        "queue_segments": counts.queued_segments,
        "congestion": engine.control.name if engine.control else "none",
        "limited_by": engine.limited_by.label,
        **{limit.metric_key: us for limit, us in engine.limits.until(now_us).items()},
        "datagrams_sent": max(0, counts.datagrams_sent - counts.sent_before_data - waiting),
        "wire_bytes_sent": counts.wire_bytes_sent - sum(batch.size for batch in unsent),
        "datagrams_received": counts.datagrams_received - counts.received_before_data,
        "wire_bytes_received": counts.wire_bytes_received,
        # Segments above a gap have arrived, too, though their payload is not handed on yet.
        "segments_received": receiving.segments + receiving.stored,
        "duplicates": receiving.duplicates,
        "held_segments": receiving.stored,
        "acks_sent": counts.acks_sent,
        **_NO_ENVELOPE,
    }
    if engine.control is not None:
        figures |= congestion_record(engine.control.state(), 8 * (sending.mtu + envelope_bytes))
    return figures


def _searched(engine: Engine, envelope_bytes: int) -> dict[str, Value]:
    """The sizes that probes tried, None without a search that was judged.

    A peer that joins no parts, such as iperfpy 0.1.0, may have refused the longer ones itself: then they say
    nothing about the path.
    """
    sizes = engine.sizes
    passed, tried = (None, None) if sizes is None else (sizes.passed, sizes.tried)
    if passed is None or tried is None or (passed < tried and not engine.peer_takes_parts):
        passed = tried = None
    return {
        "mtu_tried_bytes": tried and tried + envelope_bytes,
        "mtu_passed_bytes": passed and passed + envelope_bytes,
    }


def congestion_record(state: Mapping[str, float | int | str | None], bits: int) -> dict[str, Value]:
    """A controller's state by metric key; each segment fills a datagram of `bits` bits."""

    def rate(key: str) -> float | None:
        value = state.get(key)
        return value * bits if isinstance(value, (int, float)) else None

    # Bytes and bits of whole datagrams: the path carries KCP's headers, too.
    bound = state.get("inflight_bound_segments")
    return {
        "bbr_phase": state.get("phase"),
        "bandwidth_bits_per_second": rate("bandwidth_segments_per_s"),
        "pacing_bits_per_second": rate("pacing_segments_per_s"),
        "inflight_bound_bytes": None if bound is None else float(bound) * bits / 8,
        "bbr_min_rtt_us": state.get("min_rtt_us"),
        "noise_percent": state.get("noise_percent"),
    }
