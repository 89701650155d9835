"""Reads the JSON document of a test back into the records that it was written from.

    start       --> RunStarted (with the Plan and the transport's settings)
    intervals   --> Row per stream and interval, with this end's Sample and the peer's
    end         --> RunEnded

The counterpart of `iperf3_document`. A figure is read under our key; iperf3's names repeat it in iperf3's
units, and sums are computed again from the streams.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from iperfpy.errors import DocumentError
from iperfpy.plan import Direction, Plan, Role
from iperfpy.protocols.contract import SocketAddress, Stream, Transport
from iperfpy.protocols.errors import TransportError
from iperfpy.protocols.metrics import Metric, Side, Value
from iperfpy.protocols.registry import transport as transport_named
from iperfpy.protocols.settings import Settings
from iperfpy.records import ConnectedStream, Latency, Row, RunEnded, RunStarted, Sample, ServerOutput
from iperfpy.store.iperf3_document import INTERRUPTED

Json = Mapping[str, Any]

SUMS = ("sum", "sum_sent", "sum_received")
END_KEYS = {
    "streams",
    "latency",
    "cpu_utilization_percent",
    "warnings",
    *SUMS,
    *(f"{name}_bidir_reverse" for name in SUMS),
}
"""Keys of `end` that are read, or that follow from others; the rest is `RunEnded.extra`."""


def read_start(document: Json, transport: Transport | None) -> RunStarted | None:
    """The record of a test's start, or None if the test failed before it started.

    `transport` None: the registered transport of the name in the document.

    Raises
    ------
    DocumentError
        The document was not written by iperfpy, is damaged, or needs a transport that is not installed.
    """
    start = document.get("start")
    if not isinstance(start, Mapping) or "version" not in start:
        raise DocumentError("this is not the document of a test: it has no start with a version")
    if "test_start" not in start:
        return None
    # iperf3's own documents lack the settings, the peer's figures of an interval, and our keys.
    if "settings" not in start:
        raise DocumentError(f"{start['version']} wrote this document, without the records of iperfpy")
    try:
        return _start(document, start, transport or transport_named(start["transport"]))
    except TransportError as error:
        raise DocumentError(f"cannot read the settings of the run: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged("start", error) from error


def read_intervals(document: Json, start: RunStarted) -> list[tuple[Row, ...]]:
    """The rows of every interval, one per stream. Raises `DocumentError`."""
    try:
        return [
            tuple(_interval_row(start, entry) for entry in interval["streams"])
            for interval in document.get("intervals", ())
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged("intervals", error) from error


def read_end(document: Json, start: RunStarted) -> RunEnded | None:
    """The record of a test's end, or None if the document has none. Raises `DocumentError`."""
    end = document.get("end")
    if not end:
        return None
    # The prefix tells a test that its user ended from one that failed.
    error = str(document.get("error", ""))
    try:
        return RunEnded(
            rows=tuple(_summary_row(start, entry) for entry in end["streams"]),
            cpu_percent=dict(end["cpu_utilization_percent"]),
            interrupted=error.removeprefix(INTERRUPTED),
            failed=bool(error) and not error.startswith(INTERRUPTED),
            extra={key: value for key, value in end.items() if key not in END_KEYS},
            warnings=tuple(end.get("warnings", ())),
            server_output=_server_output(document),
            latency=_latency(end["latency"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as wrong:
        raise _damaged("end", wrong) from wrong


def _damaged(part: str, error: Exception) -> DocumentError:
    return DocumentError(f"the {part} of the run cannot be read: {type(error).__name__} {error}")


def _start(document: Json, start: Json, transport: Transport) -> RunStarted:
    plan = _plan(document, start, transport)
    role = Role(start["role"])
    peer = start["connecting_to" if role is Role.CLIENT else "accepted_connection"]
    return RunStarted(
        plan=plan,
        transport=transport,
        role=role,
        peer=(peer["host"], peer["port"]),
        peer_is_iperfpy=bool(start["peer_is_iperfpy"]),
        cookie=str(start["cookie"]),
        connected=_connected(start, plan),
        # Half a millisecond later, so that the truncation to milliseconds gives the stored number again.
        unix_time=(start["timestamp"]["timemillisecs"] + 0.5) / 1000,
        warnings=tuple(start["warnings"]),
    )


def _plan(document: Json, start: Json, transport: Transport) -> Plan:
    asked = start["test_start"]
    return Plan(
        transport=transport.name,
        settings=_settings(transport.settings, start["settings"]),
        direction=Direction(start["direction"]),
        duration_us=_us(asked["duration"]),
        total_bytes=asked["bytes"],
        total_blocks=asked["blocks"],
        omit_us=_us(asked["omit"]),
        parallel=asked["num_streams"],
        block_bytes=asked["blksize"],
        rate_bps=asked["target_bitrate"],
        # Our keys have defaults here: documents of earlier versions do not have them.
        burst_blocks=start.get("burst_blocks", 0),
        interval_us=_us(asked["interval"]),
        title=document.get("title", ""),
        extra_data=document.get("extra_data", ""),
        get_server_output=bool(_server_output(document)),
        tos=asked["tos"],
        fq_rate_bps=start["fq_rate"],
        pacing_timer_us=start.get("pacing_timer_us", 1000),
        server_cpu=start.get("server_cpu"),
    )


def _settings(kind: type[Settings], stored: Json) -> Settings:
    """The settings of a run; those that this version does not know are left out."""
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in stored.items() if name in known})


def _connected(start: Json, plan: Plan) -> tuple[ConnectedStream, ...]:
    """The data streams. Buffers and segment size are stored for the first one only."""
    return tuple(
        ConnectedStream(
            stream=Stream(entry["stream"], index, 0, entry["sends"], plan.block_bytes),
            socket=entry["socket"],
            local=_address(entry, "local"),
            remote=_address(entry, "remote"),
            # Conversation numbers are not stored: they keep strangers out of a KCP session.
            mss_bytes=None if index else start.get("tcp_mss", start.get("tcp_mss_default")),
            send_buffer_bytes=None if index else start["sndbuf_actual"] or None,
            receive_buffer_bytes=None if index else start["rcvbuf_actual"] or None,
        )
        for index, entry in enumerate(start["connected"])
    )


def _address(entry: Json, end: str) -> SocketAddress:
    return (entry[f"{end}_host"], entry[f"{end}_port"])


def _interval_row(start: RunStarted, entry: Json) -> Row:
    """A row of one stream. The entry has the figures of both ends under keys that only one of them uses."""
    own = Side(entry["side"])
    other = Side.RECEIVER if own is Side.SENDER else Side.SENDER
    peer = entry.get("peer")
    return Row(
        stream=entry["stream"],
        local=_sample(start.transport.metrics, own, entry, entry),
        peer=None if peer is None else _sample(start.transport.metrics, other, peer, entry),
        direction=Direction(entry["direction"]),
    )


def _summary_row(start: RunStarted, entry: Json) -> Row:
    """A row of the whole test. At least one end's object is there; `sender` in it names the local end."""
    ends = {side: entry[side.value] for side in Side if side.value in entry}
    first = next(iter(ends.values()))
    own = Side.SENDER if first["sender"] else Side.RECEIVER
    samples = {side: _sample(start.transport.metrics, side, one, one) for side, one in ends.items()}
    local = samples.pop(own)
    return Row(first["stream"], local, next(iter(samples.values()), None), Direction(first["direction"]))


def _sample(metrics: Sequence[Metric], side: Side, period: Json, figures: Json) -> Sample:
    """Read a sample: its times and bytes from `period`, its metrics from `figures`."""
    keys = [key for metric in metrics if metric.side is side for key in metric.keys]
    values: dict[str, Value] = {key: figures[key] for key in keys if key in figures}
    return Sample(
        stream=figures["stream"],
        side=side,
        start_us=_us(period["start"]),
        end_us=_us(period["end"]),
        bytes=period["bytes"],
        values=values,
        omitted=period.get("omitted", False),
    )


def _latency(stored: Json) -> Latency:
    return Latency(**{field.name: stored.get(field.name) for field in dataclasses.fields(Latency)})


def _server_output(document: Json) -> ServerOutput:
    output: ServerOutput = document.get("server_output_text") or document.get("server_output_json") or ""
    return output


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
