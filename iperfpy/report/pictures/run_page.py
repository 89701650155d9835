"""The page of one test: its figures, its limit, its panels over time, and the spread of its samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from iperfpy.diagnosis.evidence import RunEvidence
from iperfpy.diagnosis.finding import SURENESS, Cause, Finding
from iperfpy.plan import WAYS, Role
from iperfpy.protocols.addresses import named
from iperfpy.protocols.metrics import Meaning, Metric, Side, with_meaning
from iperfpy.protocols.units import format_rate, format_size
from iperfpy.records import RunStarted, Sample
from iperfpy.report.columns import format_value, milliseconds, title_of
from iperfpy.report.pictures.page_model import (
    Axis,
    Block,
    Box,
    Boxes,
    Cloud,
    Curve,
    Distribution,
    Facts,
    Headline,
    Mark,
    Page,
    Scatter,
    Statement,
    Table,
    quantile_curve,
    thinned_curve,
)
from iperfpy.report.pictures.repeat_command import repeat_command
from iperfpy.report.pictures.run_timeline import (
    ROUND_TRIP,
    DrawnWay,
    rate_scale,
    started_of,
    timeline_of,
    ways_of,
)
from iperfpy.store.interval_series import arrived_rate, first_known, values_of
from iperfpy.store.stored_run import End, Run

FEWEST_POINTS, MOST_BOXES, MOST_STREAMS = 5, 16, 16


def page_of(run: Run) -> Page:
    """The page of a test; of one that failed before it started, a page with the error."""
    started = run.started
    if started is None:
        return Page("Test that did not start", error=run.error, program=run.version)
    plan, ways = started.plan, ways_of(run)
    timeline, scatter = timeline_of(run), _scatter(run, ways)
    pictures: list[Block | None] = [timeline, scatter, _distribution(run, ways), _streams(run, ways)]
    blocks: list[Block] = [block for block in pictures if block is not None]
    return Page(
        title=plan.title or f"{plan.transport} {_directions(ways)}, {started_of(run).peer[0]}",
        subtitle=_subtitle(run, ways),
        unix_time=started.unix_time,
        headlines=tuple(_headlines(run, ways)),
        verdict=tuple(_verdict(run.diagnosis, ways)),
        blocks=(*blocks, _totals(run, ways), *_facts(run)),
        command=repeat_command(started),
        warnings=run.warnings,
        error=run.error,
        program=run.version,
    )


def _directions(ways: Sequence[DrawnWay]) -> str:
    return " and ".join(WAYS[way.direction] for way in ways)


def _subtitle(run: Run, ways: Sequence[DrawnWay]) -> str:
    plan = run.plan
    ends = run.intervals[-1].end if run.intervals else 0.0
    parts = [
        f"{plan.transport} {_directions(ways)}",
        f"between this host and {started_of(run).peer[0]}",
        f"{ends:.3g} s measured",
    ]
    if plan.parallel > 1:
        parts.append(
            f"{plan.parallel} streams per direction" if len(ways) > 1 else f"{plan.parallel} streams"
        )
    if plan.rate_bps:
        parts.append(f"at most {format_rate(plan.rate_bps)} per stream")
    return ", ".join(parts)


# -- headlines and verdict


def _headlines(run: Run, ways: Sequence[DrawnWay]) -> Iterator[Headline]:
    if not run.rows:
        return
    for way in ways:
        rate = run.total("bits_per_second", direction=way.direction)
        if rate == rate:  # not NaN
            value, _, unit = format_rate(rate).partition(" ")
            yield Headline(value, unit, way.label("received"))
    latency = run.latency
    if latency.loaded_rtt_us is not None:
        idle = "" if latency.idle_rtt_us is None else f", {milliseconds(latency.idle_rtt_us)} ms idle"
        yield Headline(milliseconds(latency.loaded_rtt_us), "ms", f"round-trip time under load{idle}")
    for direction, increase in latency.bufferbloat_us.items():
        yield Headline(f"+{milliseconds(increase)}", "ms", f"bufferbloat {WAYS[direction]}")
    metrics = started_of(run).transport.metrics
    for meaning, word in ((Meaning.RESENT, "sent again"), (Meaning.PATH_LOSS, "lost on the path")):
        for metric, way in product(with_meaning(metrics, meaning)[-1:], ways):
            share = run.total(metric.key, direction=way.direction)
            if share == share:
                yield Headline(f"{share:.2f}", "%", way.label(word))
    if latency.responsiveness_rpm is not None:
        sure = latency.responsiveness.confidence
        said = f", confidence {sure.value.lower()}" if sure is not None else ""
        yield Headline(f"{latency.responsiveness_rpm:.0f}", "RPM", f"responsiveness under load{said}")


def _verdict(findings: Sequence[Finding], ways: Sequence[DrawnWay]) -> Iterator[Statement]:
    """The limit of each direction, its evidence and advice, then the other findings about the path."""
    for way in ways:
        found = [one for one in findings if one.direction is way.direction]
        if found:
            label = f"Limit {WAYS[way.direction]}" if way.several else "Limit"
            yield statement(label, found)


def statement(label: str, found: Sequence[Finding]) -> Statement:
    """A statement about the first finding; the others are lines below it. `found` is not empty."""
    first, *others = found
    unknown = first.cause is Cause.UNKNOWN
    sentence = (
        f"not known: {first.sentence}" if unknown else f"{first.sentence} ({SURENESS[first.confidence]})"
    )
    lines = [("evidence", first.because), ("do", first.advice)]
    for one in others:
        lines += [
            ("also", f"{one.sentence} ({SURENESS[one.confidence]})"),
            ("evidence", one.because),
            ("do", one.advice),
        ]
    return Statement(label, sentence, tuple(line for line in lines if line[1]))


# -- shapes


def _scatter(run: Run, ways: Sequence[DrawnWay]) -> Scatter | None:
    """Rate against round-trip time, a point per interval."""
    pairs = {
        way: [
            (delay / 1e3, bits)
            for delay, bits in zip(
                values_of(run, way.direction, first_known(f"{ROUND_TRIP}_mean", ROUND_TRIP)),
                values_of(run, way.direction, arrived_rate),
                strict=True,
            )
            if delay is not None and bits is not None
        ]
        for way in ways
        if ROUND_TRIP in run.figures
    }
    unit, scale = rate_scale([bits for points in pairs.values() for _, bits in points])
    clouds = tuple(
        Cloud(way.name(), way.slot, tuple((delay, bits / scale) for delay, bits in points))
        for way, points in pairs.items()
        if len(points) >= FEWEST_POINTS
    )
    if not clouds:
        return None
    return Scatter(
        "Rate against delay",
        Axis("round-trip time", "ms", inverted=True),
        Axis("throughput", unit),
        clouds,
        "A point per interval. Better is up and to the right. The ellipse is one standard deviation.",
    )


def _distribution(run: Run, ways: Sequence[DrawnWay]) -> Distribution | None:
    """Round-trip times under load: of the packets where the run has their record, else of its intervals."""
    note = "Means of short periods, weighted by their packets."
    evidence = {one.direction: one for one in run.evidence}
    recorded = (_packet_curve(way, evidence.get(way.direction)) for way in ways)
    curves = [curve for curve in recorded if curve is not None]
    if not curves and ROUND_TRIP in run.figures:
        note = "Means of the intervals."
        for way in ways:
            means = values_of(run, way.direction, first_known(f"{ROUND_TRIP}_mean", ROUND_TRIP))
            known = [value / 1e3 for value in means if value is not None]
            if len(known) >= FEWEST_POINTS:
                curves.append(quantile_curve(way.name(), way.slot, known))
    if not curves:
        return None
    idle = run.latency.idle_rtt_us
    marks = () if idle is None else (Mark("idle", idle / 1e3),)
    return Distribution(
        "Round-trip time under load", Axis("round-trip time", "ms"), tuple(curves), marks, note
    )


def _packet_curve(way: DrawnWay, evidence: RunEvidence | None) -> Curve | None:
    """The distribution of the delays in a sender's record of its packets; None without round-trip times."""
    weighted: list[tuple[float, int]] = []
    for path in evidence.path if evidence is not None else ():
        flight = path.flight
        if flight is not None and not flight.one_way:
            pairs = zip(flight.delay_us.tolist(), flight.arrived_packets.tolist(), strict=True)
            weighted += [(delay / 1e3, packets) for delay, packets in pairs if delay == delay and packets]
    if len(weighted) < FEWEST_POINTS:
        return None
    # A period's mean says nothing of the tail within it: the largest share is that of so many periods.
    largest = len(weighted) / (len(weighted) + 1)
    total, points, seen = sum(packets for _, packets in weighted), [], 0
    for delay, packets in sorted(weighted):
        seen += packets
        points.append((delay, largest * seen / total))
    return Curve(way.name(), way.slot, thinned_curve(points), len(weighted))


def _streams(run: Run, ways: Sequence[DrawnWay]) -> Boxes | None:
    """The throughput of each stream over the intervals, where there are several streams."""
    if run.plan.parallel < 2:
        return None
    rates: dict[tuple[DrawnWay, int], list[float]] = {}
    for interval in run.intervals:
        for row in interval.rows:
            way = next(way for way in ways if way.direction is row.direction)
            rate = arrived_rate(row)
            if rate is not None and not interval.omitted:
                rates.setdefault((way, row.stream), []).append(rate)
    unit, scale = rate_scale([rate for values in rates.values() for rate in values])
    boxes = tuple(
        Box(way.name(f"stream {stream}"), way.slot, tuple(value / scale for value in values))
        for (way, stream), values in rates.items()
    )
    if not boxes:
        return None
    note = "Throughput of the intervals: median, quartiles, and every interval."
    if len(boxes) > MOST_BOXES:
        note += f" The first {MOST_BOXES} of {len(boxes)} streams."
    return Boxes("Streams", Axis("throughput", unit), boxes[:MOST_BOXES], note)


# -- text


def _totals(run: Run, ways: Sequence[DrawnWay]) -> Table:
    """The whole test: a row per figure of the terminal's table, a column per direction and end."""
    columns: list[tuple[str, Side, Sample]] = []
    for way in ways:
        for row in (row for row in run.sums if row.direction is way.direction):
            both = ((side, row.of(side)) for side in (Side.SENDER, Side.RECEIVER))
            columns += [(way.label(side.value), side, sample) for side, sample in both if sample is not None]
    rows = [("Payload", *(format_size(sample.bytes) for _, _, sample in columns))]
    rates = [sample.bits_per_second for _, _, sample in columns]
    rows.append(("Throughput", *("-" if rate is None else format_rate(rate) for rate in rates)))
    for metric in started_of(run).transport.metrics:
        if metric.title:
            cells = tuple(_total_cell(metric, sample) for _, _, sample in columns)
            rows.append((_figure_name(metric), *cells))
    return Table("Whole test", ("Figure", *(name for name, _, _ in columns)), tuple(rows))


def _total_cell(metric: Metric, sample: Sample) -> str:
    if metric.side is not sample.side:
        return ""
    # A polled gauge is its mean over the test, as in the terminal's summary.
    mean = sample.values.get(f"{metric.key}_mean") if metric.spread else None
    return format_value(metric, sample.values.get(metric.key) if mean is None else mean)


def _figure_name(metric: Metric) -> str:
    title, _, unit = title_of(metric).removesuffix(")").partition("(")
    return f"{title}, {unit}" if unit else title


def _facts(run: Run) -> Iterator[Facts]:
    started = started_of(run)
    plan = run.plan
    settings = plan.settings.by_flag(started.transport.prefix)
    test = [
        ("Transport", plan.transport),
        ("Streams per direction", str(plan.parallel)),
        ("Block", f"{plan.block_bytes:,} bytes"),
        ("Report interval", f"{plan.interval_us / 1e6:g} s" if plan.interval_us else "the whole test"),
        *((f"Setting {flag}", text or "on") for flag, text in settings.items()),
        ("Extra data", plan.extra_data),
        ("Identifier", started.cookie),
    ]
    for title, end in (("Client", run.client), ("Server", run.server)):
        facts = *_end_facts(end), ("Not known", "" if end.role is started.role else _untold(started, end))
        yield Facts(title, tuple(row for row in facts if row[1]))
    yield Facts("Test", tuple(row for row in test if row[1]))


def _end_facts(end: End) -> Iterator[tuple[str, str]]:
    shown = [named(address) for address in end.addresses[:MOST_STREAMS]]
    more = len(end.addresses) - len(shown)
    yield "Address" if len(shown) == 1 else "Addresses", "; ".join(shown) + (f"; {more} more" if more else "")
    yield "Program", end.version
    yield "System", end.system_info
    yield "Congestion control", end.congestion
    if end.mss_bytes:
        yield "Maximum segment size", f"{end.mss_bytes:,} bytes"
    buffers = (("send", end.send_buffer_bytes), ("receive", end.receive_buffer_bytes))
    known = [f"{name} {format_size(size)}" for name, size in buffers if size]
    yield "Socket buffers", f"{', '.join(known)}, as the system counts them" if known else ""
    cpu = [
        f"{end.cpu_percent[key]:.1f} % {key}" for key in ("total", "user", "system") if key in end.cpu_percent
    ]
    yield "Processor time", f"{', '.join(cpu)} (of one processor)" if cpu else ""


def _untold(started: RunStarted, end: End) -> str:
    """The facts that the other end did not tell, with the reason; empty if it told all."""
    names = [
        name
        for name, fact in (
            ("program", end.version),
            ("system", end.system_info),
            ("socket buffers", end.send_buffer_bytes or end.receive_buffer_bytes),
        )
        if not fact
    ]
    if not names:
        return ""
    missing = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    if started.alone:
        reason = "without a control connection, nothing tells them"
    elif end.role is Role.CLIENT:
        reason = "a client does not tell them"
    else:
        teller = "the server did" if started.peer_is_iperfpy else "iperf3 does"
        reason = f"{teller} not tell them"
    return f"{missing}: {reason}"
