"""The conclusions of one test: what limited it, from the figures and the path records of both ends."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from iperfpy.diagnosis.evidence import EndFigures, RunEvidence
from iperfpy.diagnosis.finding import Finding
from iperfpy.endpoint.agreed_test import AgreedTest
from iperfpy.protocols.addresses import plain_host
from iperfpy.protocols.metrics import CONGESTION_KEY, Side, Value
from iperfpy.protocols.path_evidence import HELD_UP, PathEvidence, merged
from iperfpy.protocols.settings import setting_fields
from iperfpy.records import Row, Sample
from iperfpy.sampling.sums import by_direction, total

log = logging.getLogger(__name__)


def evidence_of(
    test: AgreedTest,
    rows: Sequence[Row],
    own: Mapping[int, PathEvidence],
    peers: Mapping[int, PathEvidence],
    cpu_percent: Mapping[str, float],
    idle_rtt_us: float | None,
    quiet_us: int = 0,
) -> tuple[RunEvidence, ...]:
    """The measurements of each direction that was measured long enough for a rate.

    Parameters
    ----------
    rows : one per stream, of the whole test
    own, peers : stream id -> record of the path, of this end and of the peer
    cpu_percent : keys of `RunEnded.cpu_percent`
    quiet_us : time at the end of the test in which no payload moved in any direction
    """
    paths = {
        stream: path
        for stream in {**own, **peers}
        if (path := merged(own.get(stream), peers.get(stream))) is not None
    }
    measured = (_direction(test, group, paths, cpu_percent, idle_rtt_us) for group in by_direction(rows))
    return tuple(replace(one, quiet_s=quiet_us / 1e6) for one in measured if one is not None)


def with_held_up(evidence: PathEvidence | None, sends: bool, held_up_us: int) -> PathEvidence | None:
    """The record of a stream with the time for which this end, its sender or its receiver, was held up."""
    if not held_up_us:
        return evidence
    known = evidence or PathEvidence()
    return replace(known, extra={**known.extra, HELD_UP[sends]: held_up_us})


def findings_of(evidence: Sequence[RunEvidence]) -> tuple[Finding, ...]:
    """The conclusions of all directions, each direction's in order. A fault in them costs no figure of the
    test: it is logged, and that direction has none."""
    from iperfpy.diagnosis.one_run import conclude  # numpy: not for every import of this module

    findings: list[Finding] = []
    for run in evidence:
        try:
            findings += conclude(run)
        except Exception as error:
            log.error("no conclusion for %s: %s: %s", run.direction.value, type(error).__name__, error)
            log.debug("where the fault is", exc_info=error)
    return tuple(findings)


def _direction(
    test: AgreedTest,
    rows: Sequence[Row],
    paths: Mapping[int, PathEvidence],
    cpu_percent: Mapping[str, float],
    idle_rtt_us: float | None,
) -> RunEvidence | None:
    transport, plan = test.transport, test.plan
    whole = total(rows, transport.metrics)
    sender, receiver = whole.of(Side.SENDER), whole.of(Side.RECEIVER)
    measured = receiver or sender or whole.local
    if measured.bits_per_second is None:
        return None
    records = tuple(paths[row.stream] for row in rows if row.stream in paths)
    drops = [path.extra["kernel_drops"] for path in records if "kernel_drops" in path.extra]
    sent, received = _figures(sender), _figures(receiver)
    flags, windows = _windows(test)
    return RunEvidence(
        transport=transport.name,
        reliable=transport.reliable,
        # A transport that repeats losses and names no congestion control has one, as far as is known.
        controlled=transport.reliable and sent.get(CONGESTION_KEY) != "none",
        streams=len(rows),
        seconds=measured.seconds,
        bits_per_second=measured.bits_per_second,
        direction=whole.direction,
        target_bits_per_second=float(plan.rate_bps),
        sender=sent,
        receiver=received,
        path=records,
        cpu_percent=_cpu(whole.local.side, cpu_percent),
        idle_rtt_us=idle_rtt_us,
        block_bytes=plan.block_bytes if transport.datagrams else 0,
        over_udp=transport.over_udp,
        window_flags=flags,
        windows=windows,
        same_host=_same_host(test),
        kernel_drops=int(sum(drops)) if drops else None,
        figures=EndFigures.of(transport, sent, received),
    )


def _same_host(test: AgreedTest) -> bool:
    """True if the streams' two addresses are those of one host."""
    channel = test.streams[0].channel
    local, remote = channel.local_address, channel.remote_address
    return bool(local[0]) and plain_host(local[0]) == plain_host(remote[0])


def _windows(test: AgreedTest) -> tuple[tuple[str, str] | tuple[()], tuple[int, int] | tuple[()]]:
    """The flags of send and receive window, and their values if these are in segments."""
    transport, settings = test.transport, test.plan.settings
    if not transport.window_settings:
        return (), ()
    known = {each.name: each for each in setting_fields(type(settings))}
    sending, receiving = (known[name] for name in transport.window_settings)
    flags = (sending.flags(transport.prefix)[0], receiving.flags(transport.prefix)[0])
    record = settings.record()
    values = (record[sending.name], record[receiving.name])
    if sending.option.unit != "segments" or not all(isinstance(value, int) for value in values):
        return flags, ()
    return flags, values


def _figures(sample: Sample | None) -> Mapping[str, Value]:
    return {} if sample is None else {"bytes": sample.bytes, **sample.values}


def _cpu(local: Side, percent: Mapping[str, float]) -> dict[str, float]:
    """Processor time by end of the stream. With both directions at once, both ends are both."""
    other = Side.RECEIVER if local is Side.SENDER else Side.SENDER
    ends = {"host_": f"{local.value}_", "remote_": f"{other.value}_"}
    return {
        key.replace(prefix, end, 1): value
        for key, value in percent.items()
        for prefix, end in ends.items()
        if key.startswith(prefix)
    }
