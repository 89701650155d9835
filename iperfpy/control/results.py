"""The figures that two ends exchange: iperf3's results, and the interval figures of iperfpy.

    results   iperf3's shape, exchanged once at the end; with iperfpy at both ends, with the whole samples
              under the key "iperfpy"
    stats     {"sequence": n, "finished": bool, "streams": [sample, ...]}, once per interval and direction
    sample    {"id": n, "start_us": n, "end_us": n, "bytes": n, "omitted": bool, "values": {key: value}}

A metric finds its place in iperf3's results by `Metric.iperf3`, the name of the same number in iperf3's
report; the table `RESULT_KEYS` maps that report's names and units to those of the results. iperf3's datagram
counts include the omitted period (-O) and carry `omitted_*` counts to subtract. iperf3 before 3.14 sends no
`omitted_*`; the local counts are used instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from iperfpy.control.clock_codec import decode_clock, encode_clock
from iperfpy.control.end_facts_codec import decode_end_facts, encode_end_facts
from iperfpy.control.parameters import EXTENSION, json_integer
from iperfpy.control.self_probes import SelfProbes, decode_self_probes, encode_self_probes
from iperfpy.errors import ProtocolError
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.metrics import Metric, Side, Unit, Value, ratios
from iperfpy.protocols.path_evidence import PathEvidence
from iperfpy.records import RTT_KEY, RTT_P95_KEY, EndFacts, HostClock, Sample, ServerOutput

RESULT_KEYS: Mapping[str, tuple[str, float, str]] = {
    "retransmits": ("retransmits", 1, ""),
    "packets": ("packets", 1, "omitted_packets"),
    "lost_packets": ("errors", 1, "omitted_errors"),
    "jitter_ms": ("jitter", 1e-3, ""),
}
"""Name in iperf3's report -> (name in its results, factor from the report's unit to that of the results, name
of the count of the omitted period, or empty)."""

UNAVAILABLE: Mapping[str, int] = {"retransmits": -1, "packets": 0, "errors": 0, "jitter": 0}
CPU_KEYS = {"cpu_util_total": "total", "cpu_util_user": "user", "cpu_util_system": "system"}
COUNTED_LATE = "counted_late"
"""Key of the extension. Absent from iperfpy 0.1.0, which reads its counters when it stops."""
EVIDENCE = "evidence"
"""Key of the extension: each end's record of the path, if both have the feature `PATH_EVIDENCE`."""
WARNINGS, MOST_WARNINGS, LONGEST_WARNING = "warnings", 8, 300
"""Key of the extension: the sentences of the server's streams, how many of them, and characters of each."""
OUTPUT_TEXT, OUTPUT_JSON = "server_output_text", "server_output_json"
TEXT_LIMIT = 256

Omitted = Mapping[int, Mapping[str, int]]
"""Stream id -> `omitted_packets`, `omitted_errors`: one end's counts of the omitted period."""


@dataclass(frozen=True, slots=True)
class Results:
    """The peer's figures of the whole test.

    Parameters
    ----------
    cpu_percent : total, user, system
    samples : by stream id
    omitted : stream id -> counts of the omitted period by metric key, as far as the peer sends them
    counted_late : True if an iperfpy peer read the counters that both ends compare after all senders had
        stopped
    evidence : stream id -> the peer's record of the path
    self_probes : round-trip times of the peer's senders by interval
    clock : the peer's clocks, of a message test
    warnings : reasons why the peer's end measured less than the path carries, a sentence each
    server : the facts about its end that a server tells
    """

    cpu_percent: Mapping[str, float]
    samples: Mapping[int, Sample]
    congestion: str = ""
    server_output: ServerOutput = ""
    omitted: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    counted_late: bool = False
    evidence: Mapping[int, PathEvidence] = field(default_factory=dict)
    self_probes: SelfProbes = field(default_factory=dict)
    clock: HostClock | None = None
    warnings: tuple[str, ...] = ()
    server: EndFacts = field(default_factory=EndFacts)


@dataclass(frozen=True, slots=True)
class Stats:
    """The peer's figures of one interval. `finished`: its senders have sent the whole amount; the document
    that says so first has no samples and is of no interval."""

    sequence: int
    finished: bool
    samples: Mapping[int, Sample] = field(default_factory=dict)


def key_count(metrics: Sequence[Metric]) -> int:
    """Number of figures of one stream."""
    return sum(len(metric.keys) for metric in metrics)


def encode_results(
    transport: Transport,
    totals: Iterable[Sample],
    cpu_percent: Mapping[str, float],
    congestion: str = "",
    *,
    extended: bool,
    server_output: ServerOutput = "",
    omitted: Omitted = MappingProxyType({}),
    evidence: Mapping[int, PathEvidence] = MappingProxyType({}),
    self_probes: SelfProbes = MappingProxyType({}),
    clock: HostClock | None = None,
    warnings: Sequence[str] = (),
    server: EndFacts | None = None,
) -> dict[str, Any]:
    """The results document of this end.

    Parameters
    ----------
    totals : samples of the whole test
    cpu_percent : keys of `CpuMeter.percent`
    congestion : congestion control of a TCP stream
    extended : True for an iperfpy peer, which gets the whole samples, too
    server_output : this server's report, for a client that asked for it
    omitted : this end's counts of the omitted period
    evidence : stream id -> this end's record of the path, for a peer that has the feature
    self_probes : round-trip times of this end's senders by interval, for a peer that has the feature
    clock : this end's clocks, of a message test
    warnings : sentences of this end's streams; the first ones are sent, shortened
    server : the facts about this end, if it is the server
    """
    samples = tuple(totals)
    body: dict[str, Any] = {
        key: float(cpu_percent.get(f"host_{part}", 0.0)) for key, part in CPU_KEYS.items()
    }
    body["sender_has_retransmits"] = _has_retransmits(transport, samples)
    if congestion:
        body["congestion_used"] = congestion
    if server_output:
        body[OUTPUT_TEXT if isinstance(server_output, str) else OUTPUT_JSON] = server_output
    body["streams"] = [
        _iperf3_stream(transport.metrics, sample, omitted.get(sample.stream, {})) for sample in samples
    ]
    if extended:
        body[EXTENSION] = {
            "streams": [encode_sample(sample, transport.metrics) for sample in samples],
            COUNTED_LATE: True,
            **_evidence(evidence),
            **encode_self_probes(self_probes),
            **encode_clock(clock),
            **encode_end_facts(server),
            **({WARNINGS: [text[:LONGEST_WARNING] for text in warnings[:MOST_WARNINGS]]} if warnings else {}),
        }
    return body


def decode_results(
    body: Mapping[str, Any],
    transport: Transport,
    sides: Mapping[int, Side],
    sender: str,
    omitted: Omitted = MappingProxyType({}),
) -> Results:
    """The results in a document of the peer.

    Parameters
    ----------
    sides : stream id -> the end of that stream that the peer is
    sender : name of the peer in errors
    omitted : this end's counts of the omitted period, for a peer that sends none
    """
    streams = body.get("streams")
    if not isinstance(streams, list) or not all(isinstance(stream, Mapping) for stream in streams):
        raise ProtocolError(f"{sender} sent results without a list of streams")
    samples, by_id = {}, {}
    for stream in streams:
        sample = _from_iperf3(stream, transport.metrics, sides, sender, omitted)
        samples[sample.stream], by_id[sample.stream] = sample, stream
    own = body.get(EXTENSION)
    if isinstance(own, Mapping):  # whole samples, exact to a microsecond: they replace iperf3's figures
        samples |= _samples(own, transport.metrics, sides, sender)
    cpu = {part: _figure(body.get(key)) for key, part in CPU_KEYS.items()}
    congestion = body.get("congestion_used")
    return Results(
        {part: value for part, value in cpu.items() if value is not None},
        samples,
        congestion[:TEXT_LIMIT] if isinstance(congestion, str) else "",
        _server_output(body),
        {sample: _omitted_of(stream, transport.metrics, sides[sample]) for sample, stream in by_id.items()},
        isinstance(own, Mapping) and own.get(COUNTED_LATE) is True,
        _peers_evidence(own, sides),
        decode_self_probes(own),
        decode_clock(own),
        _peers_warnings(own),
        decode_end_facts(own),
    )


def _peers_warnings(own: object) -> tuple[str, ...]:
    """The sentences in a peer's extension, bounded in number and length; empty if it sent none."""
    texts = own.get(WARNINGS) if isinstance(own, Mapping) else None
    if not isinstance(texts, list):
        return ()
    return tuple(text[:LONGEST_WARNING] for text in texts[:MOST_WARNINGS] if isinstance(text, str))


def _evidence(evidence: Mapping[int, PathEvidence]) -> dict[str, Any]:
    """The records of the path under their key, if there are any."""
    if not evidence:
        return {}
    from iperfpy.control.evidence_codec import encode_evidence  # numpy: not for every import of this module

    return {EVIDENCE: encode_evidence(evidence)}


def _peers_evidence(own: object, sides: Mapping[int, Side]) -> Mapping[int, PathEvidence]:
    """The records in a peer's extension; empty if it sent none."""
    if not isinstance(own, Mapping) or EVIDENCE not in own:
        return {}
    from iperfpy.control.evidence_codec import decode_evidence

    return decode_evidence(own[EVIDENCE], sides)


def encode_stats(
    sequence: int, samples: Iterable[Sample], metrics: Sequence[Metric] = (), *, finished: bool
) -> dict[str, Any]:
    """One interval of every stream. `metrics`: of the transport, for their names on the wire."""
    streams = [encode_sample(sample, metrics) for sample in samples]
    return {"sequence": sequence, "finished": finished, "streams": streams}


def decode_stats(
    body: Mapping[str, Any], transport: Transport, sides: Mapping[int, Side], sender: str
) -> Stats:
    """The interval figures in a document of the peer. Raises `ProtocolError`."""
    sequence = json_integer(body.get("sequence"))
    if sequence is None or sequence < 0:
        raise ProtocolError(f"{sender} sent interval figures without a number")
    samples = _samples(body, transport.metrics, sides, sender)
    return Stats(sequence, body.get("finished") is True, samples)


def encode_sample(sample: Sample, metrics: Sequence[Metric] = ()) -> dict[str, Any]:
    """A sample as a JSON object; figures that are not available are left out."""
    names = _wire_names(tuple(metrics))
    body: dict[str, Any] = {
        "id": sample.stream,
        "start_us": sample.start_us,
        "end_us": sample.end_us,
        "bytes": sample.bytes,
        "values": {names.get(key, key): value for key, value in sample.values.items() if value is not None},
    }
    if sample.omitted:
        body["omitted"] = True
    return body


@lru_cache(maxsize=8)
def _wire_names(metrics: tuple[Metric, ...]) -> dict[str, str]:
    """The name on the wire of each key of these metrics. Kept: an interval asks for it once per stream."""
    return {key: name for metric in metrics for key, name in zip(metric.keys, metric.wire_keys, strict=True)}


@lru_cache(maxsize=8)
def _texts(metrics: tuple[Metric, ...]) -> frozenset[str]:
    """The keys of those of these metrics that are texts."""
    return frozenset(key for metric in metrics if metric.unit is Unit.TEXT for key in metric.keys)


def decode_sample(body: object, metrics: Sequence[Metric], sides: Mapping[int, Side], sender: str) -> Sample:
    """A sample of the peer. Only figures that the transport declares are kept."""
    if not isinstance(body, Mapping):
        raise ProtocolError(f"{sender} sent a sample that is not an object")
    stream = _stream_id(body, sides, sender)
    start_us, end_us, count = (_natural(body, key, sender) for key in ("start_us", "end_us", "bytes"))
    if end_us < start_us:
        raise ProtocolError(f"{sender} sent a sample that ends before it starts")
    values = body.get("values", {})
    if not isinstance(values, Mapping):
        raise ProtocolError(f"{sender} sent a sample whose values are not an object")
    kept = _known_values(values, metrics)
    return Sample(stream, sides[stream], start_us, end_us, count, kept, body.get("omitted") is True)


def _server_output(body: Mapping[str, Any]) -> ServerOutput:
    """The server's report, requested or not: an iperf3 server may still serve an earlier client's request."""
    document, text = body.get(OUTPUT_JSON), body.get(OUTPUT_TEXT)
    if isinstance(document, Mapping):
        return document
    return text if isinstance(text, str) else ""


def _samples(
    body: Mapping[str, Any], metrics: Sequence[Metric], sides: Mapping[int, Side], sender: str
) -> dict[int, Sample]:
    streams = body.get("streams")
    if not isinstance(streams, list) or len(streams) > len(sides):
        raise ProtocolError(f"{sender} sent figures without a list of at most {len(sides)} streams")
    samples = (decode_sample(stream, metrics, sides, sender) for stream in streams)
    return {sample.stream: sample for sample in samples}


def omitted_counts(metrics: Sequence[Metric], counted: Mapping[str, Value]) -> dict[str, int]:
    """The counts of the omitted period, under the keys of the results."""
    keys = ((metric.key, RESULT_KEYS[metric.iperf3][2]) for metric in metrics if metric.iperf3 in RESULT_KEYS)
    return {theirs: value for ours, theirs in keys if theirs and isinstance(value := counted.get(ours), int)}


def _omitted_of(body: Mapping[str, Any], metrics: Sequence[Metric], side: Side) -> dict[str, int]:
    """A peer's counts of the omitted period, by the keys of its metrics."""
    keys = (
        (metric.key, RESULT_KEYS[metric.iperf3][2])
        for metric in metrics
        if metric.side is side and metric.iperf3 in RESULT_KEYS
    )
    counts = ((ours, json_integer(body.get(theirs))) for ours, theirs in keys if theirs)
    return {ours: count for ours, count in counts if count is not None and count >= 0}


def _iperf3_stream(metrics: Sequence[Metric], sample: Sample, omitted: Mapping[str, int]) -> dict[str, Any]:
    body: dict[str, Any] = {"id": sample.stream, "bytes": sample.bytes, **UNAVAILABLE}
    for metric in metrics:
        value = sample.values.get(metric.key) if metric.side is sample.side else None
        if metric.iperf3 in RESULT_KEYS and isinstance(value, int | float):
            key, factor, part = RESULT_KEYS[metric.iperf3]
            factor *= metric.iperf3_scale
            body[key] = (value if factor == 1 else value * factor) + omitted.get(part, 0)
    parts = {"omitted_errors": 0, "omitted_packets": 0, **omitted}
    return body | parts | {"start_time": 0, "end_time": sample.seconds}


def _from_iperf3(
    body: Mapping[str, Any],
    metrics: Sequence[Metric],
    sides: Mapping[int, Side],
    sender: str,
    omitted: Omitted,
) -> Sample:
    stream = _stream_id(body, sides, sender)
    side = sides[stream]
    # The peer's own counts of the omitted period, if it sends them, replace this end's.
    body = {**omitted.get(stream, {}), **body}
    values: dict[str, Value] = {}
    for metric in metrics:
        if metric.side is side and metric.iperf3 in RESULT_KEYS:
            key, factor, part = RESULT_KEYS[metric.iperf3]
            value = _available(body.get(key), factor * metric.iperf3_scale)
            values[metric.key] = _without(value, _available(body.get(part), 1))
    values.update((key, value) for key, value in ratios(metrics, values).items() if value is not None)
    end = _figure(body.get("end_time"))
    end_us = round(end * 1e6) if end is not None and 0 <= end < 1e9 else 0
    return Sample(stream, side, 0, end_us, _natural(body, "bytes", sender), values)


def _available(value: object, factor: float) -> Value:
    """The figure in the metric's own unit, None if it is negative: iperf3 means not available."""
    whole = json_integer(value)
    number = _figure(value) if whole is None else whole
    if number is None or number < 0:
        return None
    return number if factor == 1 else number / factor


def _without(value: Value, omitted: Value) -> Value:
    """A count less its omitted part, if both are numbers."""
    if not isinstance(value, int | float) or not isinstance(omitted, int | float):
        return value
    return max(0, value - omitted)


def _known_values(values: Mapping[str, Any], metrics: Sequence[Metric]) -> dict[str, Value]:
    kept: dict[str, Value] = {}
    texts = _texts(tuple(metrics))
    for key, name in _wire_names(tuple(metrics)).items():
        value = values.get(name)
        if key in texts:
            if isinstance(value, str):
                kept[key] = value[:TEXT_LIMIT]
        elif _figure(value) is not None:
            kept[key] = value
    # Only the sample of a whole test has it, and only from an end that knows of it.
    p95_us = _figure(values.get(RTT_P95_KEY))
    if p95_us is not None and p95_us >= 0 and f"{RTT_KEY}_max" in kept:
        kept[RTT_P95_KEY] = p95_us
    return kept


def _stream_id(body: Mapping[str, Any], sides: Mapping[int, Side], sender: str) -> int:
    stream = json_integer(body.get("id"))
    if stream is None or stream not in sides:
        raise ProtocolError(f"{sender} sent figures of a stream that the test does not have")
    return stream


def _natural(body: Mapping[str, Any], key: str, sender: str) -> int:
    value = json_integer(body.get(key))
    if value is None or value < 0:
        raise ProtocolError(f"{sender} sent figures in which {key!r} is not a number from 0 up")
    return value


def _figure(value: object) -> float | int | None:
    """A JSON number within the range of a 64-bit one, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 2**64:
        return None
    return value


def _has_retransmits(transport: Transport, samples: Sequence[Sample]) -> int:
    """iperf3's flag: 1 if this end sends and can count retransmissions, 0 if it cannot, -1 if it only
    receives."""
    sent = [sample for sample in samples if sample.side is Side.SENDER]
    keys = [metric.key for metric in transport.metrics if metric.iperf3 == "retransmits"]
    if not sent:
        return -1
    return int(any(sample.values.get(key) is not None for sample in sent for key in keys))
