"""A document of iperf3 in the form of one of iperfpy, so that one reader reads both.

    iperf3's document --as_ours--> its keys, and ours beside them --document_reader--> records

iperf3's figures are put under our keys in our units. Keys of iperfpy that iperf3 has no figure for stay away;
the settings of the transport, which iperf3 does not store, are the defaults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from iperfpy.errors import DocumentError
from iperfpy.plan import Direction
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.metrics import SPREADS, Kind, Side
from iperfpy.protocols.registry import transports
from iperfpy.store.direction_figures import DAMAGE, direction_value, sends_here, transport_name
from iperfpy.store.document_part import DocumentPart

Json = dict[str, Any]


def is_iperf3s(document: Mapping[str, Any]) -> bool:
    """True if a test that started has none of the records of iperfpy."""
    start = document.get("start")
    return isinstance(start, Mapping) and "test_start" in start and "settings" not in start


def as_ours(document: Mapping[str, Any]) -> Json:
    """The document with the keys of iperfpy. Raises `DocumentError` if it is damaged, or of a protocol that
    no transport speaks."""
    whole = DocumentPart(document)
    try:
        name = transport_name(whole.part("start"))
        spoken = (one for one in transports().values() if one.iperf3.key and one.iperf3.key == name)
        transport = next(spoken, None)
        if transport is None:
            raise DocumentError(f"the test is over {name}, which iperfpy does not speak")
        return _Translation(whole, transport).document()
    except DAMAGE as error:
        raise DocumentError(
            f"the document of iperf3 cannot be read: {type(error).__name__} {error}"
        ) from error


class _Translation:
    """The translation of one document; each method raises `ValueError` for a damaged part."""

    def __init__(self, whole: DocumentPart, transport: Transport) -> None:
        self._whole, self._transport = whole, transport
        self._start = whole.part("start")
        self._both = direction_value(whole) == Direction.BIDIRECTIONAL.value
        self._connected = self._start.parts("connected", ())
        # iperf3 numbers its streams 1, 3, 4, ... and its documents know them by their sockets.
        self._ids = {
            one.whole("socket"): number + (number > 1) for number, one in enumerate(self._connected, 1)
        }

    def document(self) -> Json:
        """The whole document."""
        whole = dict(self._whole.values)
        intervals = [
            {**one.values, "streams": [self._interval(stream) for stream in one.parts("streams")]}
            for one in self._whole.parts("intervals", ())
        ]
        made: Json = {**whole, "start": self._started(), "intervals": intervals}
        if self._whole.values.get("end"):
            made["end"] = self._ended(self._whole.part("end"))
        return made

    def _started(self) -> Json:
        start, asked = self._start, self._start.part("test_start")
        stamp = start.part("timestamp")
        seconds = stamp.whole("timesecs")
        sending = self._sending()
        return {
            **start.values,
            "timestamp": {"timemillisecs": 1000 * seconds, **stamp.values},
            "connected": [
                {
                    **one.values,
                    "stream": self._ids[one.whole("socket")],
                    "sends": sending.get(one.whole("socket"), True),
                }
                for one in self._connected
            ],
            # Older versions leave some parameters out.
            "test_start": {"target_bitrate": 0, "interval": 1, "omit": 0, "tos": 0, **asked.values},
            "transport": self._transport.name,
            "direction": direction_value(self._whole),
            "role": "client" if "connecting_to" in start.values else "server",
            "peer_is_iperfpy": False,
            "settings": self._transport.settings().record(),
            "fq_rate": asked.whole("fqrate", 0),
            "warnings": [],
            # A server of iperf3 writes 0 for a segment size that it does not know.
            "tcp_mss_default": start.whole_or_none("tcp_mss_default") or None,
        }

    def _sending(self) -> dict[int, bool]:
        """Socket -> True if this end sends on it."""
        intervals = self._whole.parts("intervals", ())
        streams = intervals[0].parts("streams") if intervals else ()
        return {one.whole("socket"): self._sends(one) for one in streams}

    def _sends(self, entry: DocumentPart) -> bool:
        """True if this end sends on the stream of an entry. iperf3 before 3.7 does not say it."""
        way = Direction(direction_value(self._whole))
        return entry.flag("sender", sends_here(self._whole, Direction.FORWARD if self._both else way))

    def _place(self, entry: DocumentPart) -> Json:
        """The keys of a stream: its number and its direction."""
        forward = self._sends(entry) == sends_here(self._whole, Direction.FORWARD)
        direction = Direction.FORWARD if forward else Direction.REVERSE
        return {"stream": self._ids[entry.whole("socket")], "direction": direction.value}

    def _interval(self, entry: DocumentPart) -> Json:
        side = Side.SENDER if self._sends(entry) else Side.RECEIVER
        own = {**self._place(entry), "side": side.value, "peer": None}
        return {"omitted": False, **entry.values, **own, **dict(self._figures(entry, side))}

    def _ended(self, end: DocumentPart) -> Json:
        return {
            **end.values,
            "streams": [dict(self._summary(one)) for one in end.parts("streams")],
            "latency": {},
        }

    def _summary(self, stream: DocumentPart) -> Iterator[tuple[str, Json]]:
        """The objects of both ends of a stream."""
        merged_as = self._transport.iperf3.merged_as
        merged = stream.part(merged_as) if merged_as and merged_as in stream.values else None
        for side in Side:
            if merged is not None:
                entry = DocumentPart({**merged.values, "bytes": self._arrived(merged, side)})
            elif side.value in stream.values:
                entry = stream.part(side.value)
            else:
                continue
            # Without the results of the other end, iperf3 writes zeros for it.
            own = (side is Side.SENDER) == self._sends(entry)
            if own or entry.whole("bytes"):
                figures = dict(self._figures(entry, side, summary=True))
                yield (
                    side.value,
                    {**entry.values, **self._place(entry), **figures, "sender": self._sends(entry)},
                )

    def _arrived(self, merged: DocumentPart, side: Side) -> int:
        """Bytes of one end, from iperf3's object of both ends: those that were sent, without the lost."""
        sent = merged.whole("bytes")
        count, lost = (merged.number_or_none(key) or 0 for key in ("packets", "lost_packets"))
        return sent if side is Side.SENDER or not count else round(sent * (1 - lost / count))

    def _figures(
        self, entry: DocumentPart, side: Side, *, summary: bool = False
    ) -> Iterator[tuple[str, Any]]:
        """Our keys of the metrics that iperf3 has as well."""
        for metric in self._transport.metrics:
            if metric.side is not side or not metric.iperf3:
                continue
            value = entry.number_or_none(metric.iperf3)
            spread = {name: entry.number_or_none(f"{name}_{metric.iperf3}") for name in SPREADS}
            # A summary has the mean of a gauge, not its last value.
            if value is None and summary and metric.kind is Kind.GAUGE:
                value = spread["mean"]
            if value is not None:
                yield metric.key, _ours(value, metric.iperf3_scale)
            for name, one in spread.items() if metric.spread else ():
                if one is not None:
                    yield f"{metric.key}_{name}", _ours(one, metric.iperf3_scale)


def _ours(value: float, scale: float) -> float:
    return value if scale == 1 else value / scale
