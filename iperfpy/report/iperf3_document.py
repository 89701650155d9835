"""The pieces of iperf3's JSON, with our figures beside its own.

Every function makes one object of the document that `iperf3 -J` prints (start, an element of
intervals, end). A metric that iperf3 also has appears twice: under its name in `Metric.iperf3`, for
tools that read iperf3's output, and under ours, whose key carries the unit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from iperfpy import __version__
from iperfpy.plan import Direction, Role
from iperfpy.protocols.metrics import Kind, Metric, Side, Unit, Value
from iperfpy.records import ConnectedStream, Row, RunEnded, RunStarted, Sample
from iperfpy.report.terminal import host_of, time_of
from iperfpy.sampling.host import system_info
from iperfpy.sampling.sampler import SPREADS
from iperfpy.sampling.sums import by_direction, total

Json = dict[str, Any]

SUMMARY_SPREADS = ("max_snd_cwnd", "max_snd_wnd", "max_rtt", "min_rtt", "mean_rtt")
"""Those spreads of a sender's gauges that iperf3 always prints at the end."""


def program_object() -> Json:
    """What `start` holds before anything has been started."""
    return {
        "connected": [],
        "version": f"iperfpy {__version__}",
        "system_info": system_info(),
    }


def start_object(start: RunStarted) -> Json:
    """`start`: who, when, and what was asked for."""
    plan = start.plan
    peer = {"host": host_of(start.peer), "port": start.peer[1]}
    told: Json = program_object() | {
        "connected": [_connected(one) for one in start.connected],
        "timestamp": _timestamp(start.unix_time),
        "connecting_to" if start.role is Role.CLIENT else "accepted_connection": peer,
        "cookie": start.cookie,
        "target_bitrate": plan.rate_bps,
        "fq_rate": plan.fq_rate_bps,
        **_sockets(start),
        "test_start": _test_start(start),
        "role": start.role.value,
        "transport": plan.transport,
        "direction": plan.direction.value,
        "peer_is_iperfpy": start.peer_is_iperfpy,
        "settings": plan.settings.record(),
        "warnings": list(start.warnings),
    }
    return clean(told)


def interval_object(start: RunStarted, rows: Sequence[Row]) -> Json:
    """One element of `intervals`: a `streams` list and the sum of each direction."""
    metrics = start.transport.metrics
    told: Json = {"streams": [_interval_entry(start, row, _socket(start, row)) for row in rows]}
    for group in by_direction(rows):
        told["sum" + _suffix(start, group[0])] = _interval_entry(start, total(group, metrics), {})
    return clean(told)


def end_object(start: RunStarted, end: RunEnded) -> Json:
    """`end`: both ends of every stream, the sums, processor time, and what the run adds."""
    metrics, merged = start.transport.metrics, start.transport.iperf3_stream
    told: Json = {"streams": [_stream_summary(start, row) for row in end.rows]}
    for group in by_direction(end.rows):
        row, suffix = total(group, metrics), _suffix(start, group[0])
        if merged:
            told["sum" + suffix] = _merged_entry(start, row, {})
        for side, name in ((Side.SENDER, "sum_sent"), (Side.RECEIVER, "sum_received")):
            sample = row.of(side)
            if sample is not None:
                told[name + suffix] = _sum_entry(start, row, sample)
    told["latency"] = end.latency.record()
    told["cpu_utilization_percent"] = dict(end.cpu_percent)
    told.update(end.extra)
    if end.warnings:
        told["warnings"] = list(end.warnings)
    return clean(told)


def clean(record: Mapping[str, Any]) -> Json:
    """The record with what JSON cannot say (NaN, infinities) as null: a peer's figures may be any float."""
    return {str(key): _clean(item) for key, item in record.items()}


def _clean(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return clean(value)
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return value


def _connected(one: ConnectedStream) -> Json:
    return {
        "socket": one.socket,
        "local_host": host_of(one.local),
        "local_port": one.local[1],
        "remote_host": host_of(one.remote),
        "remote_port": one.remote[1],
        "stream": one.stream.id,
        "sends": one.stream.sends,
    }


def _sockets(start: RunStarted) -> Json:
    """The buffers that were asked for (0: none) and that there are; the segment size where there is one."""
    asked = start.transport.iperf3_parameters(start.plan.settings, start.plan.block_bytes)
    first = start.connected[0] if start.connected else None
    told: Json = {
        "sock_bufsize": asked.get("window") or 0,
        "sndbuf_actual": (first and first.send_buffer_bytes) or 0,
        "rcvbuf_actual": (first and first.receive_buffer_bytes) or 0,
    }
    if first is not None and first.mss_bytes is not None:
        told |= {"tcp_mss": asked["MSS"]} if asked.get("MSS") else {"tcp_mss_default": first.mss_bytes}
    return told


def _timestamp(unix_time: float) -> Json:
    return {
        "time": time_of(unix_time),
        "timesecs": int(unix_time),
        "timemillisecs": int(unix_time * 1000),
    }


def _test_start(start: RunStarted) -> Json:
    plan = start.plan
    asked = start.transport.iperf3_parameters(plan.settings, plan.block_bytes)
    return {
        "protocol": plan.transport.upper(),
        "num_streams": plan.parallel,
        "blksize": plan.block_bytes,
        "omit": whole(plan.omit_us / 1e6),
        "duration": whole(plan.duration_us / 1e6),
        "bytes": plan.total_bytes,
        "blocks": plan.total_blocks,
        "reverse": int(plan.direction is Direction.REVERSE),
        "tos": plan.tos,
        "target_bitrate": plan.rate_bps,
        "bidir": int(plan.direction is Direction.BIDIRECTIONAL),
        "fqrate": plan.fq_rate_bps,
        "interval": whole(plan.interval_us / 1e6),
        "gso": int(bool(asked.get("gso"))),
        "gro": int(bool(asked.get("gro"))),
    }


def whole(value: float) -> int | float:
    """An int where the number is one, as iperf3 prints it."""
    return int(value) if value == int(value) else value


def _suffix(start: RunStarted, row: Row) -> str:
    """iperf3 keeps the streams that the server sends in keys of their own when both directions run."""
    both = start.plan.direction is Direction.BIDIRECTIONAL
    return "_bidir_reverse" if both and row.direction is Direction.REVERSE else ""


def _socket(start: RunStarted, row: Row) -> Json:
    found = (one.socket for one in start.connected if one.stream.id == row.stream)
    return {"socket": next(found, row.stream), "stream": row.stream}


def _interval_entry(start: RunStarted, row: Row, head: Json) -> Json:
    """Times and bytes of this end; every metric from whichever end has it, this end's under iperf3's names
    where both ends have a figure of that name."""
    entry = head | _figures(row, row.local) | {"omitted": row.local.omitted}
    metrics = start.transport.metrics
    there, here = sorted(Side, key=lambda side: side is row.local.side)
    for side in (there, here):
        entry |= _own_names(metrics, side, row.of(side)) | _iperf3_names(start, side, row.of(side))
    return entry | _ours(start, row, row.local)


def _stream_summary(start: RunStarted, row: Row) -> Json:
    entry: Json = {}
    head = _socket(start, row)
    if start.transport.iperf3_stream:
        entry[start.transport.iperf3_stream] = _merged_entry(start, row, head)
    for side in Side:
        sample = row.of(side)
        if sample is not None:
            entry[side.value] = _summary_entry(start, row, sample, head)
    return entry


def _summary_entry(start: RunStarted, row: Row, sample: Sample, head: Json) -> Json:
    """What one end measured over the whole test."""
    figures = head | _figures(row, sample) | _own_names(start.transport.metrics, sample.side, sample)
    return figures | _iperf3_names(start, sample.side, sample, summary=True) | _ours(start, row, sample)


def _sum_entry(start: RunStarted, row: Row, sample: Sample) -> Json:
    """The same of all streams of a direction. `sender` means "the streams are sent by this end"; but where
    iperf3 merges both ends of a stream, "the sender counted this", and a sender has lost nothing."""
    entry = _summary_entry(start, row, sample, {})
    if not start.transport.iperf3_stream:
        return entry
    nothing = _iperf3_names(start, Side.RECEIVER, Sample(0, Side.RECEIVER, 0, 0, 0), summary=True)
    return nothing | entry | {"sender": sample.side is Side.SENDER}


def _merged_entry(start: RunStarted, row: Row, head: Json) -> Json:
    """iperf3's mixture of both ends: bytes and datagrams as sent, what became of them as received."""
    samples = {side: row.of(side) for side in Side}
    sample = samples[Side.SENDER] or row.local
    entry = head | _figures(row, sample)
    for side in (Side.RECEIVER, Side.SENDER):
        entry |= _iperf3_names(start, side, samples[side], summary=True)
    names = {metric.key: metric.iperf3 for metric in start.transport.metrics}
    for metric in start.transport.metrics:
        if metric.kind is Kind.RATIO and metric.iperf3 in entry:
            whole_count = entry.get(names.get(metric.denominator, "")) or 0
            part = entry.get(names.get(metric.numerator, "")) or 0
            entry[metric.iperf3] = 100 * part / whole_count if whole_count else 0
    return entry | _ours(start, row, sample)


def _figures(row: Row, sample: Sample) -> Json:
    return {
        "start": sample.start_us / 1e6,
        "end": sample.end_us / 1e6,
        "seconds": sample.seconds,
        "bytes": sample.bytes,
        "bits_per_second": sample.bits_per_second,
        "sender": row.local.side is Side.SENDER,
    }


def _ours(start: RunStarted, row: Row, sample: Sample) -> Json:
    return {
        "direction": row.direction.value,
        "role": start.role.value,
        "side": sample.side.value,
        "transport": start.plan.transport,
    }


def _own_names(metrics: Sequence[Metric], side: Side, sample: Sample | None) -> Json:
    """Every figure of that end under our key, null where it is not available."""
    values: Mapping[str, Value] = sample.values if sample is not None else {}
    return {
        key: values.get(key)
        for metric in metrics
        if metric.side is side
        for key in (metric.key, *(f"{metric.key}_{name}" for name in SPREADS if metric.spread))
    }


def _iperf3_names(start: RunStarted, side: Side, sample: Sample | None, *, summary: bool = False) -> Json:
    """The figures of that end that iperf3 has as well, under its names and in its units.

    Where iperf3 always prints a figure, it prints 0 for one that it does not know; so do we, under its name
    when that is not also ours: readers of iperf3's output rely on the key and on the type.
    """
    told: Json = {}
    if sample is None:
        return told
    merged = bool(start.transport.iperf3_stream)
    for metric in start.transport.metrics:
        if metric.side is not side or not metric.iperf3 or metric.unit is Unit.TEXT:
            continue
        always = metric.iperf3 != metric.key and (not summary or merged or metric.kind is not Kind.GAUGE)
        _put(told, metric, metric.iperf3, sample.values.get(metric.key), always)
        for name in SPREADS if metric.spread else ():
            theirs = f"{name}_{metric.iperf3}"
            always = summary and theirs in SUMMARY_SPREADS
            _put(told, metric, theirs, sample.values.get(f"{metric.key}_{name}"), always)
    return told


def _put(told: Json, metric: Metric, name: str, value: Value, always: bool) -> None:
    """iperf3 prints counts, bytes and microseconds as integers."""
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        value = 0 if always else None
    if value is None:
        return
    integral = metric.unit in (Unit.COUNT, Unit.BYTES, Unit.MICROSECONDS)
    if metric.iperf3_scale != 1:
        told[name] = value * metric.iperf3_scale
    else:
        told[name] = round(value) if integral else value
