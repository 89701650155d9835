"""The pieces of iperf3's JSON, with our figures beside its own.

Every function makes one object of the document that `iperf3 -J` prints (start, an element of
intervals, end). A metric that iperf3 also has appears twice: under its name in `Metric.iperf3`, for
tools that read iperf3's output, and under ours, whose key carries the unit.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Mapping, Sequence
from typing import Any

from iperfpy import __version__
from iperfpy.measure.sample import ConnectedStream, Row, Sample, TestEnd, TestStart
from iperfpy.measure.sampler import SPREADS
from iperfpy.measure.summary import by_direction, total
from iperfpy.plan import Direction
from iperfpy.report.text import host_of
from protocols.contract import Metric, Side, Unit, Value

Json = dict[str, Any]


def start_object(start: TestStart) -> Json:
    """`start`: who, when, and what was asked for."""
    plan = start.plan
    peer = {"host": host_of(start.peer), "port": start.peer[1]}
    told: Json = {
        "connected": [_connected(one) for one in start.connected],
        "version": f"iperfpy {__version__}",
        "system_info": " ".join(platform.uname()[index] for index in (0, 1, 2, 3, 4)),
        "timestamp": _timestamp(start.unix_time),
        "connecting_to" if start.role == "client" else "accepted_connection": peer,
        "cookie": start.cookie,
        "target_bitrate": plan.rate_bps,
        "fq_rate": plan.fq_rate_bps,
        "test_start": _test_start(start),
        "role": start.role,
        "transport": plan.transport,
        "direction": plan.direction.value,
        "peer_is_iperfpy": start.peer_is_iperfpy,
        "settings": plan.settings.record(),
        "warnings": list(start.warnings),
    }
    if start.tcp_mss is not None:
        told["tcp_mss_default"] = start.tcp_mss
    return clean(told)


def interval_object(start: TestStart, rows: Sequence[Row]) -> Json:
    """One element of `intervals`: a `streams` list and the sum of each direction."""
    metrics = start.transport.metrics
    told: Json = {"streams": [_interval_entry(start, row, _socket(start, row)) for row in rows]}
    for group in by_direction(rows):
        told["sum" + _suffix(start, group[0])] = _interval_entry(start, total(group, metrics), {})
    return clean(told)


def end_object(start: TestStart, end: TestEnd) -> Json:
    """`end`: both ends of every stream, the sums, processor time, and what the run adds."""
    metrics = start.transport.metrics
    told: Json = {"streams": [_stream_summary(start, row) for row in end.rows]}
    for group in by_direction(end.rows):
        row, suffix = total(group, metrics), _suffix(start, group[0])
        for side, name in ((Side.SENDER, "sum_sent"), (Side.RECEIVER, "sum_received")):
            sample = row.of(side)
            if sample is not None:
                told[name + suffix] = _summary_entry(start, row, sample, {})
    told["cpu_utilization_percent"] = dict(end.cpu_percent)
    if end.warnings:
        told["warnings"] = list(end.warnings)
    told.update(end.extra)
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


def _timestamp(unix_time: float) -> Json:
    return {
        "time": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(unix_time)),
        "timesecs": int(unix_time),
        "timemillisecs": int(unix_time * 1000),
    }


def _test_start(start: TestStart) -> Json:
    plan = start.plan
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
    }


def whole(value: float) -> int | float:
    """An int where the number is one, as iperf3 prints it."""
    return int(value) if value == int(value) else value


def _suffix(start: TestStart, row: Row) -> str:
    """iperf3 keeps the streams that the server sends in keys of their own when both directions run."""
    both = start.plan.direction is Direction.BIDIRECTIONAL
    return "_bidir_reverse" if both and row.direction == Direction.REVERSE.value else ""


def _socket(start: TestStart, row: Row) -> Json:
    found = (one.socket for one in start.connected if one.stream.id == row.stream)
    return {"socket": next(found, row.stream), "stream": row.stream}


def _interval_entry(start: TestStart, row: Row, head: Json) -> Json:
    """Times and bytes of this end; every metric from whichever end has it."""
    entry = head | _figures(row, row.local) | {"omitted": row.local.omitted}
    for side in Side:
        sample = row.of(side)
        entry |= _metrics(start.transport.metrics, side, sample)
    return entry | _ours(start, row, row.local)


def _stream_summary(start: TestStart, row: Row) -> Json:
    entry: Json = {}
    for side in Side:
        sample = row.of(side)
        if sample is not None:
            entry[side.value] = _summary_entry(start, row, sample, _socket(start, row))
    return entry


def _summary_entry(start: TestStart, row: Row, sample: Sample, head: Json) -> Json:
    """What one end measured over the whole test."""
    figures = head | _figures(row, sample) | _metrics(start.transport.metrics, sample.side, sample)
    return figures | _ours(start, row, sample)


def _figures(row: Row, sample: Sample) -> Json:
    return {
        "start": sample.start_us / 1e6,
        "end": sample.end_us / 1e6,
        "seconds": sample.seconds,
        "bytes": sample.bytes,
        "bits_per_second": sample.bits_per_second,
        "sender": row.local.side is Side.SENDER,
    }


def _ours(start: TestStart, row: Row, sample: Sample) -> Json:
    return {
        "direction": row.direction,
        "role": start.role,
        "side": sample.side.value,
        "transport": start.plan.transport,
    }


def _metrics(metrics: Sequence[Metric], side: Side, sample: Sample | None) -> Json:
    """Every figure of that end, under our key and, where iperf3 has it and it is known, under iperf3's."""
    told: Json = {}
    values: Mapping[str, Value] = sample.values if sample is not None else {}
    for metric in metrics:
        if metric.side is not side:
            continue
        told[metric.key] = values.get(metric.key)
        if metric.unit is Unit.TEXT:
            continue
        _add_iperf3(told, metric, metric.iperf3, values.get(metric.key))
        for name in SPREADS if metric.spread else ():
            told[f"{metric.key}_{name}"] = values.get(f"{metric.key}_{name}")
            _add_iperf3(
                told, metric, metric.iperf3 and f"{name}_{metric.iperf3}", told[f"{metric.key}_{name}"]
            )
    return told


def _add_iperf3(told: Json, metric: Metric, name: str, value: Value) -> None:
    """iperf3 prints counts, bytes and microseconds as integers."""
    if not name or value is None:
        return
    integral = metric.unit in (Unit.COUNT, Unit.BYTES, Unit.MICROSECONDS)
    finite = isinstance(value, float) and math.isfinite(value)
    told[name] = round(value) if integral and finite and isinstance(value, float) else value
