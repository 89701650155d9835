"""The JSON document of a test: iperf3's keys, with our figures beside its own.

    RunStarted --start_object--> start          Row ... --interval_object--> an element of intervals
    RunEnded   --end_object----> end            all three --Iperf3Document--> the whole document

A metric that iperf3 also has appears twice: under its name in `Metric.iperf3`, for tools that read iperf3's
output, and under our key, which carries the unit. `document_reader` reads the document back.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from iperfpy import __version__
from iperfpy.plan import Direction, Plan, Role, Texts
from iperfpy.protocols.addresses import plain_host
from iperfpy.protocols.contract import SocketAddress
from iperfpy.protocols.metrics import SPREADS, Kind, Metric, Side, Unit, Value
from iperfpy.records import (
    RTT_P95_KEY,
    ConnectedStream,
    MessageTimes,
    Row,
    RunEnded,
    RunStarted,
    Sample,
    finite,
)
from iperfpy.sampling.host import system_info
from iperfpy.sampling.sums import by_direction, total
from iperfpy.store.finding_object import finding_object
from iperfpy.store.stored_transport import plugin_of

Json = dict[str, Any]

SUMMARY_SPREADS = ("max_snd_cwnd", "max_snd_wnd", "max_rtt", "min_rtt", "mean_rtt")
"""Sender minimum, mean and maximum keys that iperf3 always includes in `end`, even when they are unknown."""

INTERRUPTED = "interrupt - "
"""iperf3's prefix in `error` for a test that its own user ended early."""


class Iperf3Document:
    """The document of one test, built as its records arrive (the first four methods of a `Sink`).

    Parameters
    ----------
    version, system_info : of the program that measured; empty: this program on this machine
    plan : the test, or its texts, so that they are in the document even if it never starts; None: not known
        yet

    Attributes
    ----------
    document : the document so far; JSON values only
    """

    def __init__(self, version: str = "", system_info: str = "", plan: Plan | Texts | None = None) -> None:
        self._program = {"version": version, "system_info": system_info} if version else {}
        self._start: RunStarted | None = None
        self.document: Json = {"start": program_object() | self._program, "intervals": [], "end": {}}
        if plan is not None:
            self.document |= _texts_of(plan)

    def start(self, start: RunStarted) -> None:
        self._start = start
        self.document["start"] = start_object(start) | self._program
        self.document |= _texts_of(start.plan)

    def interval(self, rows: tuple[Row, ...]) -> None:
        if self._start is not None:
            self.document["intervals"].append(interval_object(self._start, rows))

    def end(self, end: RunEnded) -> None:
        if self._start is not None:
            self.document["end"] = end_object(self._start, end)
        self.document |= server_output_of(end) | diagnosis_of(end)
        if end.interrupted:
            self.document["error"] = error_of(end)

    def error(self, message: str) -> None:
        self.document["error"] = message


def _texts_of(plan: Plan | Texts) -> Json:
    """The user's texts, as far as there are any (-T, --extra-data)."""
    texts = {"title": plan.title, "extra_data": plan.extra_data}
    return {key: text for key, text in texts.items() if text}


def diagnosis_of(end: RunEnded) -> Json:
    """The conclusions about what limited the test under our key, or an empty object if there are none."""
    found: Json = finite({"diagnosis": [finding_object(one) for one in end.findings]})
    return found if end.findings else {}


def error_of(end: RunEnded) -> str:
    """The reason that ended the test early, with iperf3's prefix if this end's user was the reason."""
    return end.interrupted if end.failed else f"{INTERRUPTED}{end.interrupted}"


def server_output_of(end: RunEnded) -> Json:
    """The server's own report under iperf3's key for its form, or an empty object if there is none."""
    output = end.server_output
    if not output:
        return {}
    return (
        {"server_output_text": output} if isinstance(output, str) else {"server_output_json": finite(output)}
    )


def program_object() -> Json:
    """The part of `start` that is known before a test has started."""
    return {
        "connected": [],
        "version": f"iperfpy {__version__}",
        "system_info": system_info(),
    }


def start_object(start: RunStarted) -> Json:
    """`start`: the two ends, the time, and the parameters of the test."""
    plan = start.plan
    peer = {"host": host_of(start.peer), "port": start.peer[1]}
    entry: Json = program_object() | {
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
        **plugin_of(start.transport),
        "burst_blocks": plan.burst_blocks,
        "pacing_timer_us": plan.pacing_timer_us,
        "server_cpu": plan.server_cpu,
        "warnings": list(start.warnings),
        **({"measured_alone": True} if start.alone else {}),
    }
    result: Json = finite(entry)
    return result


def interval_object(start: RunStarted, rows: Sequence[Row]) -> Json:
    """One element of `intervals`: a `streams` list and the sum of each direction."""
    metrics = start.transport.metrics
    entry: Json = {"streams": [_stream_interval(start, row) for row in rows]}
    for group in by_direction(rows):
        entry["sum" + _suffix(start, group[0])] = _interval_entry(start, total(group, metrics), {})
    result: Json = finite(entry)
    return result


def end_object(start: RunStarted, end: RunEnded) -> Json:
    """`end`: both ends of every stream, the sums, processor time, and the keys of `RunEnded.extra`."""
    metrics, merged = start.transport.metrics, start.transport.iperf3.merged_as
    entry: Json = {"streams": [_stream_summary(start, row) for row in end.rows]}
    for group in by_direction(end.rows):
        row, suffix = total(group, metrics), _suffix(start, group[0])
        if merged:
            entry["sum" + suffix] = _merged_entry(start, row, {})
        for side, name in ((Side.SENDER, "sum_sent"), (Side.RECEIVER, "sum_received")):
            sample = row.of(side)
            if sample is not None:
                entry[name + suffix] = _sum_entry(start, row, sample)
    entry["latency"] = end.latency.record()
    if end.messages is not None:
        entry["messages"] = _messages(end.messages)
    entry["cpu_utilization_percent"] = dict(end.cpu_percent)
    if server := end.server.record():
        entry["server"] = server
    entry.update(end.extra)
    if end.warnings:
        entry["warnings"] = list(end.warnings)
    result: Json = finite(entry)
    return result


def _messages(times: MessageTimes) -> Json:
    """The messages of a test, and the figures of their round trips, null where they are not known."""
    from iperfpy.sampling.message_figures import figures  # numpy: few tests have messages

    head = {"size_bytes": times.size_bytes, "messages_per_s": 1e6 / times.interval_us}
    return {**head, **figures(times).record()}


def host_of(address: SocketAddress) -> str:
    """Give the host without the prefix that a dual-stack socket puts before an IPv4 address."""
    return plain_host(address[0])


def time_of(unix_time: float) -> str:
    """Format a time as iperf3 does: `Wed, 25 Nov 2026 22:10:55 GMT`."""
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(unix_time))


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
    """Socket buffers as requested (0: none) and as granted, and the segment size if there is one."""
    asked = start.transport.iperf3.options(start.plan.settings)
    first = start.connected[0] if start.connected else None
    entry: Json = {
        "sock_bufsize": asked.socket_buffer_bytes or 0,
        "sndbuf_actual": (first and first.send_buffer_bytes) or 0,
        "rcvbuf_actual": (first and first.receive_buffer_bytes) or 0,
    }
    if first is not None and first.mss_bytes is not None:
        entry |= {"tcp_mss": asked.mss_bytes} if asked.mss_bytes else {"tcp_mss_default": first.mss_bytes}
    return entry


def _timestamp(unix_time: float) -> Json:
    return {
        "time": time_of(unix_time),
        "timesecs": int(unix_time),
        "timemillisecs": int(unix_time * 1000),
    }


def _test_start(start: RunStarted) -> Json:
    plan = start.plan
    offload = int(start.transport.iperf3.options(plan.settings).offload)
    return {
        "protocol": plan.transport.upper(),
        "num_streams": plan.parallel,
        "blksize": plan.block_bytes,
        "omit": int_if_whole(plan.omit_us / 1e6),
        "duration": int_if_whole(plan.duration_us / 1e6),
        "bytes": plan.total_bytes,
        "blocks": plan.total_blocks,
        "reverse": int(plan.direction is Direction.REVERSE),
        "tos": plan.tos,
        "target_bitrate": plan.rate_bps,
        "bidir": int(plan.direction is Direction.BIDIRECTIONAL),
        "fqrate": plan.fq_rate_bps,
        "interval": int_if_whole(plan.interval_us / 1e6),
        "gso": offload,
        "gro": offload,
    }


def int_if_whole(value: float) -> int | float:
    """Give an int if the number is one, as iperf3 prints it."""
    return int(value) if value == int(value) else value


def _suffix(start: RunStarted, row: Row) -> str:
    """The suffix of iperf3's keys for the streams that the server sends while both directions run."""
    both = start.plan.direction is Direction.BIDIRECTIONAL
    return "_bidir_reverse" if both and row.direction is Direction.REVERSE else ""


def _socket(start: RunStarted, row: Row) -> Json:
    found = (one.socket for one in start.connected if one.stream.id == row.stream)
    return {"socket": next(found, row.stream), "stream": row.stream}


def _stream_interval(start: RunStarted, row: Row) -> Json:
    """One stream's interval, with `peer`: times and bytes of the peer's sample of the same interval."""
    entry = _interval_entry(start, row, _socket(start, row))
    if row.peer is not None:
        entry["peer"] = _times_and_bytes(row.peer) | {"omitted": row.peer.omitted}
    if row.notices:
        entry["warnings"] = list(row.notices)
    return entry


def _interval_entry(start: RunStarted, row: Row, head: Json) -> Json:
    """Times and bytes of this end, and the metrics of both ends.

    Where both ends have a figure for one of iperf3's names, this end's figure is shown under it.
    """
    entry = head | _figures(row, row.local) | {"omitted": row.local.omitted}
    metrics = start.transport.metrics
    there, here = sorted(Side, key=lambda side: side is row.local.side)
    for side in (there, here):
        entry |= _own_names(metrics, side, row.of(side)) | _iperf3_names(start, side, row.of(side))
    return entry | _ours(start, row, row.local)


def _stream_summary(start: RunStarted, row: Row) -> Json:
    entry: Json = {}
    head = _socket(start, row)
    merged_as = start.transport.iperf3.merged_as
    if merged_as:
        entry[merged_as] = _merged_entry(start, row, head)
    for side in Side:
        sample = row.of(side)
        if sample is not None:
            entry[side.value] = _summary_entry(start, row, sample, head)
    return entry


def _summary_entry(start: RunStarted, row: Row, sample: Sample, head: Json) -> Json:
    """The figures that one end measured over the whole test."""
    figures = head | _figures(row, sample) | _own_names(start.transport.metrics, sample.side, sample)
    return figures | _iperf3_names(start, sample.side, sample, summary=True) | _ours(start, row, sample)


def _sum_entry(start: RunStarted, row: Row, sample: Sample) -> Json:
    """The sum over the streams of one direction, as one end counted it.

    iperf3's `sender` key means "this program sends on these streams". Where iperf3 merges both ends of a
    stream it means "the sender counted this", and the loss figures of a sender are 0.
    """
    entry = _summary_entry(start, row, sample, {})
    if not start.transport.iperf3.merged_as:
        return entry
    nothing = _iperf3_names(start, Side.RECEIVER, Sample(0, Side.RECEIVER, 0, 0, 0), summary=True)
    return nothing | entry | {"sender": sample.side is Side.SENDER}


def _merged_entry(start: RunStarted, row: Row, head: Json) -> Json:
    """iperf3's merged object of both ends: bytes and datagrams as sent, loss and jitter as received."""
    samples = {side: row.of(side) for side in Side}
    sample = samples[Side.SENDER] or row.local
    entry = head | _figures(row, sample)
    for side in (Side.RECEIVER, Side.SENDER):
        entry |= _iperf3_names(start, side, samples[side], summary=True)
    # Ratios are computed again: the sender's count has just replaced the receiver's under iperf3's name.
    names = {metric.key: metric.iperf3 for metric in start.transport.metrics}
    for metric in start.transport.metrics:
        if metric.kind is Kind.RATIO and metric.iperf3 in entry:
            whole_count = entry.get(names.get(metric.denominator, "")) or 0
            part = entry.get(names.get(metric.numerator, "")) or 0
            entry[metric.iperf3] = 100 * part / whole_count if whole_count else 0
    return entry | _ours(start, row, sample)


def _figures(row: Row, sample: Sample) -> Json:
    return _times_and_bytes(sample) | {"sender": row.local.side is Side.SENDER}


def _times_and_bytes(sample: Sample) -> Json:
    return {
        "start": sample.start_us / 1e6,
        "end": sample.end_us / 1e6,
        "seconds": sample.seconds,
        "bytes": sample.bytes,
        "bits_per_second": sample.bits_per_second,
    }


def _ours(start: RunStarted, row: Row, sample: Sample) -> Json:
    return {
        "direction": row.direction.value,
        "role": start.role.value,
        "side": sample.side.value,
        "transport": start.plan.transport,
    }


def _own_names(metrics: Sequence[Metric], side: Side, sample: Sample | None) -> Json:
    """Every figure of one end under our key, null where it is not available.

    A key that iperf3 has as well is left out instead: its readers add such a figure up where they find it.
    """
    values: Mapping[str, Value] = sample.values if sample is not None else {}
    names = {
        key: values.get(key)
        for metric in metrics
        if metric.side is side
        for key in metric.keys
        if key != metric.iperf3 or values.get(key) is not None
    }
    if RTT_P95_KEY in values:
        names[RTT_P95_KEY] = values[RTT_P95_KEY]
    return names


def _iperf3_names(start: RunStarted, side: Side, sample: Sample | None, *, summary: bool = False) -> Json:
    """The figures of one end that iperf3 has as well, under its names and in its units.

    iperf3 prints 0 for a figure that it always prints and does not know. The same is done here under its
    name, unless that is also our key: readers of iperf3's output rely on the key and on the type.
    """
    entry: Json = {}
    if sample is None:
        return entry
    merged = bool(start.transport.iperf3.merged_as)
    for metric in start.transport.metrics:
        if metric.side is not side or not metric.iperf3 or metric.unit is Unit.TEXT:
            continue
        # In `end`, iperf3 leaves gauges out unless it merges both ends of a stream.
        always = metric.iperf3 != metric.key and (not summary or merged or metric.kind is not Kind.GAUGE)
        _put(entry, metric, metric.iperf3, sample.values.get(metric.key), always)
        for name in SPREADS if metric.spread else ():
            theirs = f"{name}_{metric.iperf3}"
            always = summary and theirs in SUMMARY_SPREADS
            _put(entry, metric, theirs, sample.values.get(f"{metric.key}_{name}"), always)
    return entry


def _put(entry: Json, metric: Metric, name: str, value: Value, always: bool) -> None:
    """Add a figure in iperf3's type: counts, bytes and microseconds are integers."""
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        value = 0 if always else None
    if value is None:
        return
    integral = metric.unit in (Unit.COUNT, Unit.BYTES, Unit.MICROSECONDS)
    if metric.iperf3_scale != 1:
        entry[name] = value * metric.iperf3_scale
    else:
        entry[name] = round(value) if integral else value
