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
from iperfpy.protocols.metrics import Metric, Side
from iperfpy.protocols.registry import transport as transport_named
from iperfpy.protocols.registry import transports
from iperfpy.protocols.settings import Settings
from iperfpy.records import (
    RTT_P95_KEY,
    ConnectedStream,
    EndFacts,
    Latency,
    Responsiveness,
    Row,
    RpmConfidence,
    RunEnded,
    RunStarted,
    Sample,
    ServerOutput,
)
from iperfpy.store.document_part import DocumentPart
from iperfpy.store.finding_object import read_finding
from iperfpy.store.iperf3_document import INTERRUPTED
from iperfpy.store.stored_transport import StoredSettings, StoredTransport, read_plugin

Json = Mapping[str, Any]

DAMAGE = (KeyError, TypeError, ValueError)
"""Raised by `DocumentPart`, by enumerations, and by the records, for a value that is missing or of another
kind."""
SUMS = ("sum", "sum_sent", "sum_received")
END_KEYS = {
    "streams",
    "latency",
    "server",
    "cpu_utilization_percent",
    "warnings",
    *SUMS,
    *(f"{name}_bidir_reverse" for name in SUMS),
}
"""Keys of `end` that are read, or that follow from others; the rest is `RunEnded.extra`."""


def read_start(document: Json, transport: Transport | None) -> RunStarted | None:
    """The record of a test's start, or None if the test failed before it started.

    `transport` None: the registered transport of the name in the document, or else the one that the document
    describes.

    Raises
    ------
    DocumentError
        The document is not that of a test, is damaged, or needs a transport that is not installed.
    """
    start = document.get("start")
    if not isinstance(start, Mapping) or "version" not in start:
        raise DocumentError("this is not the document of a test: it has no start with a version")
    if "test_start" not in start:
        return None
    try:
        read = DocumentPart(start)
        return _start(DocumentPart(document), read, transport or _transport(read))
    except TransportError as error:
        raise DocumentError(f"cannot read the settings of the run: {error}") from error
    except DAMAGE as error:
        raise _damaged("start", error) from error


def read_intervals(document: Json, start: RunStarted) -> list[tuple[Row, ...]]:
    """The rows of every interval, one per stream. Raises `DocumentError`."""
    try:
        return [
            tuple(_interval_row(start, entry) for entry in interval.parts("streams"))
            for interval in DocumentPart(document).parts("intervals", ())
        ]
    except DAMAGE as error:
        raise _damaged("intervals", error) from error


def read_end(document: Json, start: RunStarted) -> RunEnded | None:
    """The record of a test's end, or None if the document has none. Raises `DocumentError`."""
    if not document.get("end"):
        return None
    # The prefix tells a test that its user ended from one that failed.
    error = str(document.get("error", ""))
    try:
        end = DocumentPart(document).part("end")
        cpu = end.part("cpu_utilization_percent")
        return RunEnded(
            rows=tuple(_summary_row(start, entry) for entry in end.parts("streams")),
            cpu_percent={name: cpu.number(name) for name in cpu.values},
            interrupted=error.removeprefix(INTERRUPTED),
            failed=bool(error) and not error.startswith(INTERRUPTED),
            extra={key: value for key, value in end.values.items() if key not in END_KEYS},
            warnings=end.texts("warnings", ()),
            server_output=_server_output(DocumentPart(document)),
            latency=_latency(end.part("latency")),
            findings=tuple(read_finding(one) for one in DocumentPart(document).parts("diagnosis", ())),
            server=_end_facts(end.part("server")) if "server" in end.values else EndFacts(),
        )
    except DAMAGE as wrong:
        raise _damaged("end", wrong) from wrong


def _damaged(part: str, error: Exception) -> DocumentError:
    return DocumentError(f"the {part} of the run cannot be read: {type(error).__name__} {error}")


def _transport(start: DocumentPart) -> Transport:
    """The registered transport of the run, or the one that the document describes. Raises `TransportError`
    if there is neither."""
    name = start.text("transport")
    if name not in transports() and "plugin" in start.values:
        return read_plugin(name, start.part("plugin"))
    return transport_named(name)


def _start(document: DocumentPart, start: DocumentPart, transport: Transport) -> RunStarted:
    plan = _plan(document, start, transport)
    role = Role(start.text("role"))
    peer = start.part("connecting_to" if role is Role.CLIENT else "accepted_connection")
    return RunStarted(
        plan=plan,
        transport=transport,
        role=role,
        peer=(peer.text("host"), peer.whole("port")),
        peer_is_iperfpy=start.flag("peer_is_iperfpy"),
        cookie=start.text("cookie"),
        connected=_connected(start, plan),
        # Half a millisecond later, so that the truncation to milliseconds gives the stored number again.
        unix_time=start.part("timestamp").unix_time("timemillisecs", 1000) + 0.0005,
        warnings=start.texts("warnings"),
    )


def _plan(document: DocumentPart, start: DocumentPart, transport: Transport) -> Plan:
    asked = start.part("test_start")
    return Plan(
        transport=transport.name,
        settings=_settings(transport, start.part("settings")),
        direction=Direction(start.text("direction")),
        duration_us=asked.microseconds("duration"),
        total_bytes=asked.whole("bytes"),
        total_blocks=asked.whole("blocks"),
        omit_us=asked.microseconds("omit"),
        parallel=asked.whole("num_streams"),
        block_bytes=asked.whole("blksize"),
        rate_bps=asked.whole("target_bitrate"),
        # Our keys have defaults here: documents of earlier versions do not have them.
        burst_blocks=start.whole("burst_blocks", 0),
        interval_us=asked.microseconds("interval"),
        title=document.text("title", ""),
        extra_data=document.text("extra_data", ""),
        get_server_output=bool(_server_output(document)),
        tos=asked.whole("tos"),
        fq_rate_bps=start.whole("fq_rate"),
        pacing_timer_us=start.whole("pacing_timer_us", 1000),
        server_cpu=start.whole_or_none("server_cpu"),
    )


def _settings(transport: Transport, stored: DocumentPart) -> Settings:
    """The settings of a run; those that this version does not know are left out."""
    if isinstance(transport, StoredTransport):
        return StoredSettings(dict(stored.values))
    known = {field.name for field in dataclasses.fields(transport.settings)}
    return transport.settings(**{name: value for name, value in stored.values.items() if name in known})


def _connected(start: DocumentPart, plan: Plan) -> tuple[ConnectedStream, ...]:
    """The data streams. Buffers and segment size are stored for the first one only."""
    return tuple(
        ConnectedStream(
            stream=Stream(entry.whole("stream"), index, 0, entry.flag("sends"), plan.block_bytes),
            socket=entry.whole("socket"),
            local=_address(entry, "local"),
            remote=_address(entry, "remote"),
            # Conversation numbers are not stored: they keep strangers out of a KCP session.
            mss_bytes=None if index else start.whole_or_none("tcp_mss", "tcp_mss_default"),
            send_buffer_bytes=None if index else start.whole_or_none("sndbuf_actual") or None,
            receive_buffer_bytes=None if index else start.whole_or_none("rcvbuf_actual") or None,
        )
        for index, entry in enumerate(start.parts("connected"))
    )


def _address(entry: DocumentPart, end: str) -> SocketAddress:
    return (entry.text(f"{end}_host"), entry.whole(f"{end}_port"))


def _interval_row(start: RunStarted, entry: DocumentPart) -> Row:
    """A row of one stream. The entry has the figures of both ends under keys that only one of them uses."""
    own = Side(entry.text("side"))
    other = Side.RECEIVER if own is Side.SENDER else Side.SENDER
    has_peer = entry.values.get("peer") is not None
    return Row(
        stream=entry.whole("stream"),
        local=_sample(start.transport.metrics, own, entry, entry),
        peer=_sample(start.transport.metrics, other, entry.part("peer"), entry) if has_peer else None,
        direction=Direction(entry.text("direction")),
        notices=entry.texts("warnings", ()),
    )


def _summary_row(start: RunStarted, entry: DocumentPart) -> Row:
    """A row of the whole test. At least one end's object is there; `sender` in it names the local end."""
    ends = {side: entry.part(side.value) for side in Side if side.value in entry.values}
    if not ends:
        raise ValueError("a stream has neither a sender nor a receiver")
    first = next(iter(ends.values()))
    own = Side.SENDER if first.flag("sender") else Side.RECEIVER
    samples = {side: _sample(start.transport.metrics, side, one, one) for side, one in ends.items()}
    local = samples.pop(own)
    return Row(
        first.whole("stream"), local, next(iter(samples.values()), None), Direction(first.text("direction"))
    )


def _sample(metrics: Sequence[Metric], side: Side, period: DocumentPart, figures: DocumentPart) -> Sample:
    """Read a sample: its times and bytes from `period`, its metrics from `figures`."""
    keys = [key for metric in metrics if metric.side is side for key in metric.keys]
    if side is Side.SENDER:
        keys.append(RTT_P95_KEY)
    return Sample(
        stream=figures.whole("stream"),
        side=side,
        start_us=period.microseconds("start"),
        end_us=period.microseconds("end"),
        bytes=period.whole("bytes"),
        values={key: figures.figure(key) for key in keys if key in figures.values},
        omitted=period.flag("omitted", False),
    )


def _latency(stored: DocumentPart) -> Latency:
    names = [field.name for field in dataclasses.fields(Latency) if field.name != "responsiveness"]
    return Latency(
        **{name: stored.number_or_none(name) for name in names}, responsiveness=_responsiveness(stored)
    )


def _responsiveness(stored: DocumentPart) -> Responsiveness:
    """The halves of the responsiveness. A document without them has another figure under that name: 60 s over
    the loaded round-trip time."""
    if "loaded_responsiveness_rpm" not in stored.values:
        return Responsiveness()
    confidence = stored.values.get("responsiveness_confidence")
    return Responsiveness(
        stored.number_or_none("foreign_responsiveness_rpm"),
        stored.number_or_none("loaded_responsiveness_rpm"),
        RpmConfidence(stored.text("responsiveness_confidence")) if confidence is not None else None,
        stored.whole("foreign_probes"),
        stored.whole("self_probes"),
    )


def _end_facts(stored: DocumentPart) -> EndFacts:
    sizes = (stored.whole_or_none(key) for key in ("mss_bytes", "send_buffer_bytes", "receive_buffer_bytes"))
    return EndFacts(stored.text("version", ""), stored.text("system_info", ""), *sizes)


def _server_output(document: DocumentPart) -> ServerOutput:
    """The report of the server: text, or a document."""
    if document.values.get("server_output_text"):
        return document.text("server_output_text")
    if document.values.get("server_output_json"):
        return dict(document.part("server_output_json").values)
    return ""
