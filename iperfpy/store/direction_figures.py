"""The result of a test by direction, read from the document of iperfpy or of iperf3.

    document --directions_of--> DirectionFigures, one per direction, for a list or a comparison
    document --about_test-----> About, the line of the index

It reads keys of the document alone, so that a test of iperf3, or with a transport that is not installed, has
figures as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from iperfpy.errors import DocumentError
from iperfpy.plan import Direction
from iperfpy.protocols.units import format_rate
from iperfpy.store.document_part import DocumentPart
from iperfpy.store.run_index import TEST, About, path_signature

BIDIRECTIONAL_SUFFIX = "_bidir_reverse"
"""Suffix of iperf3's keys for the streams that the server sends while both directions run."""
DAMAGE = (KeyError, TypeError, ValueError)
LOSSES = ("loss_percent", "lost_percent")
"""Our key, and iperf3's, of a receiver that loses datagrams."""


@dataclass(frozen=True, slots=True)
class DirectionFigures:
    """One direction of one test.

    Parameters
    ----------
    transport : its name, with the sender's congestion control if that is known and not a part of the name
    direction : FORWARD or REVERSE
    bits_per_second : payload rate of the whole test, as the receiver counted it, if its count is known
    rtt_us : mean round-trip time under load; None: not known
    resent_percent : retransmissions, as a share of the segments sent; None: not known, or there are none
    loss_percent : share of the datagrams that the path lost, of a transport that repeats none; else None
    series : bit/s of each interval that is not omitted, at the end that wrote the document
    interval_s : length of these intervals, 0 if there is none
    """

    transport: str
    direction: Direction
    bits_per_second: float
    rtt_us: float | None = None
    resent_percent: float | None = None
    loss_percent: float | None = None
    series: tuple[float, ...] = ()
    interval_s: float = 0.0

    def headline(self) -> dict[str, float | None]:
        """The figures by name, the unit at the end of a name."""
        return {
            "bits_per_second": self.bits_per_second,
            "rtt_us": self.rtt_us,
            "resent_percent": self.resent_percent,
            "loss_percent": self.loss_percent,
        }


def is_test(document: Mapping[str, Any]) -> bool:
    """True if the document is that of a test, by iperfpy or iperf3, which may have failed."""
    start = document.get("start")
    return isinstance(start, Mapping) and "version" in start and "intervals" in document


def directions_of(document: Mapping[str, Any]) -> tuple[DirectionFigures, ...]:
    """The figures of each direction; none if the test failed before its end.

    Raises
    ------
    DocumentError
        It is not the document of a test, or is damaged.
    """
    if not is_test(document):
        raise DocumentError("this is not the document of a test")
    try:
        return tuple(_directions(DocumentPart(document)))
    except DAMAGE as error:
        raise DocumentError(f"the figures of the run cannot be read: {error}") from error


def about_test(document: Mapping[str, Any]) -> About:
    """The facts of a test for the index. Raises `DocumentError`."""
    found = directions_of(document)
    try:
        return _about(DocumentPart(document), found)
    except DAMAGE as error:
        raise DocumentError(f"the start of the run cannot be read: {error}") from error


def started_at(document: Mapping[str, Any]) -> float:
    """Seconds since the epoch at which a run began; 0 if it failed before."""
    with contextlib.suppress(*DAMAGE):
        stamp = DocumentPart(document).part("start").part("timestamp")
        if "timemillisecs" in stamp.values:
            return stamp.unix_time("timemillisecs", 1000)
        return stamp.unix_time("timesecs")
    return 0.0


def direction_value(document: DocumentPart) -> str:
    """The value of `Direction` that a test was asked for."""
    start = document.part("start")
    if "direction" in start.values:
        return str(Direction(start.text("direction")).value)
    asked, end = start.part("test_start"), document.values.get("end")
    # iperf3 before 3.17 does not repeat --bidir among the parameters.
    both = isinstance(end, Mapping) and any(key.endswith(BIDIRECTIONAL_SUFFIX) for key in end)
    if both or asked.flag("bidir", False):
        return str(Direction.BIDIRECTIONAL.value)
    return str((Direction.REVERSE if asked.flag("reverse", False) else Direction.FORWARD).value)


def sends_here(document: DocumentPart, direction: Direction) -> bool:
    """True if the end that wrote the document is the sender of a direction."""
    return (direction is Direction.FORWARD) == ("accepted_connection" not in document.part("start").values)


def transport_name(start: DocumentPart) -> str:
    """The transport of a test; iperf3's document names the protocol in capitals."""
    if "transport" in start.values:
        return start.text("transport")
    return start.part("test_start").text("protocol").lower()


# -- parts


def _directions(document: DocumentPart) -> Iterator[DirectionFigures]:
    start, end = document.part("start"), document.values.get("end")
    if "test_start" not in start.values or not isinstance(end, Mapping) or not end:
        return
    wanted = Direction(direction_value(document))
    both = wanted is Direction.BIDIRECTIONAL
    for direction in (Direction.FORWARD, Direction.REVERSE) if both else (wanted,):
        suffix = BIDIRECTIONAL_SUFFIX if both and direction is Direction.REVERSE else ""
        figures = _figures(document, DocumentPart(end), direction, suffix)
        if figures is not None:
            yield figures


def _figures(
    document: DocumentPart, end: DocumentPart, direction: Direction, suffix: str
) -> DirectionFigures | None:
    """The figures of one direction; None if the document has no rate of it."""
    sums = {
        name: end.part(name + suffix)
        if isinstance(end.values.get(name + suffix), Mapping)
        else DocumentPart({})
        for name in ("sum", "sum_sent", "sum_received")
    }
    sent, received = sums["sum_sent"], sums["sum_received"]
    rate = received.number_or_none("bits_per_second")
    if not rate:
        # The receiver's count is not known: iperf3 writes 0 then, and older UDP documents have one sum only.
        rate = next(
            (found for one in (sent, sums["sum"]) if (found := one.number_or_none("bits_per_second"))), rate
        )
    if rate is None:
        return None
    start = document.part("start")
    name = transport_name(start)
    datagrams = any(key in one.values for key in LOSSES for one in (received, sums["sum"]))
    series, seconds = _series(document, suffix)
    return DirectionFigures(
        transport=_with_congestion(name, sent, end),
        direction=direction,
        bits_per_second=rate,
        rtt_us=_rtt(sent, end, sends=sends_here(document, direction)),
        resent_percent=None if datagrams else _resent(start, sent),
        loss_percent=_loss(received, sums["sum"]) if datagrams else None,
        series=series,
        interval_s=seconds,
    )


def _with_congestion(name: str, sent: DocumentPart, end: DocumentPart) -> str:
    """`tcp bbr`, or the name alone if it says the congestion control or that is not known."""
    for control in (sent.values.get("congestion"), end.values.get("sender_tcp_congestion")):
        if isinstance(control, str) and control and control != "none":
            return name if control in name else f"{name} {control}"
    return name


def _rtt(sent: DocumentPart, end: DocumentPart, *, sends: bool) -> float | None:
    """Mean round-trip time under load, microseconds. `sends`: this end is the sender."""
    for key in ("rtt_us_mean", "rtt_us"):
        if (mean := sent.number_or_none(key)) is not None:
            return mean
    # iperf3 has it by stream, and 0 where this end does not send.
    means = []
    for stream in end.parts("streams", ()):
        sender = stream.values.get("sender")
        if isinstance(sender, Mapping) and sender.get("sender", sends) == sends:
            mean = DocumentPart(sender).number_or_none("mean_rtt")
            means += [mean] if mean else []
    return sum(means) / len(means) if means else None


def _resent(start: DocumentPart, sent: DocumentPart) -> float | None:
    """Retransmissions as a share of the segments sent, per cent; iperf3's counts give segments of the MSS."""
    if (share := sent.number_or_none("retrans_percent")) is not None:
        return share
    count = sent.number_or_none("retransmits")
    size = start.whole_or_none("tcp_mss", "tcp_mss_default")
    sent_bytes = sent.number_or_none("bytes")
    if count is None or not size or not sent_bytes:
        return None
    return 100 * count / (sent_bytes / size + count)


def _loss(received: DocumentPart, whole: DocumentPart) -> float | None:
    found = (one.number_or_none(key) for one in (received, whole) for key in LOSSES)
    return next((share for share in found if share is not None), None)


def _series(document: DocumentPart, suffix: str) -> tuple[tuple[float, ...], float]:
    """bit/s of each interval that has a length and is not omitted, and their usual length in seconds."""
    sums = []
    for interval in document.parts("intervals", ()):
        if isinstance(interval.values.get("sum" + suffix), Mapping):
            one = interval.part("sum" + suffix)
            known = one.number_or_none("bits_per_second") is not None
            if known and not one.flag("omitted", False) and one.number("seconds") > 0:
                sums.append(one)
    if not sums:
        return (), 0.0
    lengths = sorted(one.number("seconds") for one in sums)
    usual = lengths[len(lengths) // 2]
    # A last interval that is much shorter is another kind of sample.
    full = [one for one in sums if one.number("seconds") >= usual / 2]
    return tuple(one.number("bits_per_second") for one in full), float(usual)


def _about(document: DocumentPart, found: tuple[DirectionFigures, ...]) -> About:
    start = document.part("start")
    peer = next((key for key in ("connecting_to", "accepted_connection") if key in start.values), "")
    connected = start.parts("connected", ())
    local, remote = (connected[0].text(key, "") if connected else "" for key in ("local_host", "remote_host"))
    headline: dict[str, float | str | None] = {}
    for one in found:
        # The second direction of a bidirectional test has its own names.
        prefix = "reverse_" if len(found) > 1 and one.direction is Direction.REVERSE else ""
        headline |= {prefix + name: value for name, value in one.headline().items() if value is not None}
    known = "test_start" in start.values
    return About(
        kind=TEST,
        unix_time=started_at(document.values),
        hosts=tuple(host for host in (local, start.part(peer).text("host") if peer else "") if host),
        transports=tuple(dict.fromkeys(one.transport for one in found))
        or ((transport_name(start),) if known else ()),
        directions=(direction_value(document),) if known else (),
        path=path_signature(local, remote, start.whole_or_none("tcp_mss", "tcp_mss_default")),
        summary=" / ".join(format_rate(one.bits_per_second) for one in found),
        headline=headline,
        version=start.text("version"),
        title=document.text("title", ""),
        error=document.text("error", ""),
    )
