"""Findings read off a fitted model of a path."""

from __future__ import annotations

from iperfpy.diagnosis import advice
from iperfpy.diagnosis.finding import Cause, Confidence, Finding
from iperfpy.diagnosis.path_model import PathModel
from iperfpy.diagnosis.random_loss import FEWEST_RUNS, FEWEST_STRETCHES
from iperfpy.plan import Direction
from iperfpy.protocols.units import counted, format_milliseconds, format_percent, format_rate, format_size


def findings(model: PathModel, direction: Direction) -> list[Finding]:
    """Give all findings about the path, the most limiting ones first."""
    read = [
        _mtu(model, direction),
        _policer(model, direction),
        _queue(model, direction),
        _rate_varies(model, direction),
        _loss(model, direction),
        _reordering(model, direction),
        _delay(model, direction),
    ]
    return [finding for finding in read if finding is not None]


def line(model: PathModel, direction: Direction) -> Finding:
    """The finding of a path without any other: its rate is the limit, or its rate is not known."""
    rate = model.rate_bits_per_s
    if rate is None:
        most = format_rate(model.capacity.most_arrived)
        return Finding(
            direction,
            Cause.UNKNOWN,
            Confidence.POSSIBLE,
            f"the rate of the path is not known: it carried all that was sent, up to {most}",
            evidence={"most_arrived_bits_per_s": round(model.capacity.most_arrived)},
        )
    if model.least:
        return Finding(
            direction,
            Cause.LINE,
            Confidence.POSSIBLE,
            f"the line: at least {format_rate(rate)}",
            "this machine held up the sender, whose bursts overflowed a short queue",
            "a second diagnosis, on a machine with less work beside it",
            evidence={"least_bits_per_s": round(rate)},
        )
    error, loss = model.rate_error or 0.0, model.loss
    timed = bool(model.capacity.overloaded)
    lost = f"{loss.lost} of {loss.sent} datagrams lost" if loss.negligible else "no loss"
    return Finding(
        direction,
        Cause.LINE,
        Confidence.SURE if timed else Confidence.POSSIBLE,
        f"the line: {format_rate(rate)}, no sign of anything else",
        f"{lost} below that rate, no queue beyond the usual, delay without variation",
        evidence={"rate_bits_per_s": round(rate), "error_bits_per_s": round(error)},
    )


def _mtu(model: PathModel, direction: Direction) -> Finding | None:
    mtu, hint = model.mtu_bytes, model.mtu_hint_bytes
    if mtu is None or hint is None or mtu >= hint:
        return None
    return Finding(
        direction,
        Cause.MTU,
        Confidence.SURE,
        f"a black hole: IP packets above {mtu} bytes vanish, though {hint} are announced",
        f"probes of {mtu} bytes came back, longer ones of the same flights did not",
        *advice.for_mtu(mtu),
        evidence={"mtu_bytes": mtu, "announced_bytes": hint},
    )


def _policer(model: PathModel, direction: Direction) -> Finding | None:
    bucket, rate = model.bucket, model.rate_bits_per_s
    if bucket is None or rate is None:
        return None
    rise = format_milliseconds(max(0.0, bucket.rise_us))
    waits = format_milliseconds(bucket.burst_bytes * 8e6 / rate)
    return Finding(
        direction,
        Cause.POLICER,
        Confidence.SURE,
        f"a policer: {format_rate(rate)}, burst {format_size(bucket.burst_bytes)}, drops what exceeds it",
        f"{bucket.losses} losses beyond {format_rate(rate)} added {rise} of delay;"
        f" a queue of this size would add {waits}",
        *advice.for_policer(rate),
        evidence={
            "rate_bits_per_s": round(rate),
            "error_bits_per_s": round(model.rate_error or 0.0),
            "burst_bytes": round(bucket.burst_bytes),
            "losses": bucket.losses,
            "delay_rise_us": round(bucket.rise_us),
        },
    )


def _queue(model: PathModel, direction: Direction) -> Finding | None:
    queue, rate = model.queue, model.rate_bits_per_s
    if queue is None or rate is None or queue.delay_us <= model.fair_queue_us:
        return None
    size, delay = format_size(queue.queue_bytes), format_milliseconds(queue.delay_us)
    bdp = queue.queue_bytes / model.bdp_bytes if model.bdp_bytes else None
    least = "" if queue.full else "at least "
    kind = {True: "active queue management", False: "tail drop", None: ""}[queue.managed]
    words = f"a queue of {least}{size} ({delay} at {format_rate(rate)}"
    words += f", {bdp:.2g} BDP" if bdp is not None else ""
    words += f"; {kind})" if kind and queue.full else ")"
    because = f"the round-trip time rises by {delay}"
    if queue.managed:
        because += f", and {queue.early} datagrams were dropped before the queue was full"
    elif queue.full:
        because += " before datagrams are lost"
    evidence: dict[str, float | int | str] = {
        "rate_bits_per_s": round(rate),
        "queue_bytes": round(queue.queue_bytes),
        "delay_us": round(queue.delay_us),
        "full": int(queue.full),
        "early_drops": queue.early,
        "drops": {True: "aqm", False: "tail", None: ""}[queue.managed],
    }
    if bdp is not None:
        evidence["bdp"] = round(bdp, 2)
    return Finding(
        direction,
        Cause.QUEUE,
        Confidence.SURE if queue.full else Confidence.LIKELY,
        words,
        because,
        *advice.for_queue(rate, model.base_rtt_us, managed=bool(queue.managed)),
        evidence=evidence,
    )


def _rate_varies(model: PathModel, direction: Direction) -> Finding | None:
    variation = model.rate
    if not variation.present:
        return None
    return Finding(
        direction,
        Cause.RATE_VARIES,
        Confidence.SURE,
        f"a rate that varies: {format_rate(variation.mean)} on average,"
        f" {format_percent(variation.deviation)} deviation",
        f"arrivals in {variation.windows} periods of {format_milliseconds(variation.window_us)}"
        " while the queue stood",
        *advice.for_rate_that_varies(),
        evidence={
            "mean_bits_per_s": round(variation.mean),
            "deviation": round(variation.deviation, 3),
            "periods": variation.windows,
        },
    )


def _loss(model: PathModel, direction: Direction) -> Finding | None:
    loss = model.loss
    if not loss.lost or loss.negligible:
        return None
    share = format_percent(loss.share)
    evidence: dict[str, float | int | str] = {
        "share": round(loss.share, 5),
        "error": round(loss.error, 5),
        "losses": loss.lost,
        "datagrams": loss.sent,
    }
    if loss.runs is not None:
        evidence["mean_run"] = round(loss.mean_run, 2)
    if not loss.present:
        in_runs = f", {loss.mean_run:.2g} in a row on average" if loss.mean_run > 1 else ""
        return Finding(
            direction,
            Cause.UNKNOWN,
            Confidence.POSSIBLE,
            f"{loss.lost} of {loss.sent} datagrams were lost below the path's rate{in_runs}:"
            f" too few to tell the cause ({loss.needed} needed)",
            evidence={**evidence, "losses_needed": loss.needed},
        )
    counted = f"{loss.lost} of {loss.sent} datagrams below the path's rate, in {loss.stretches} periods"
    if loss.in_bursts:
        return Finding(
            direction,
            Cause.BURSTS,
            Confidence.SURE,
            f"loss in bursts: {share} of the datagrams, {loss.mean_run:.2g} in a row on average",
            f"{counted}; single losses would come {1 / (1 - loss.share):.3g} in a row",
            *advice.for_loss(loss.share),
            evidence={**evidence, "bursts": loss.runs or 0},
        )
    if not loss.flat:
        return Finding(
            direction,
            Cause.UNKNOWN,
            Confidence.POSSIBLE,
            f"{share} of the datagrams were lost below the path's rate, not the same share at all rates:"
            " neither random loss nor the rate of the path explains that",
            counted,
            "a second diagnosis: a busy machine, or other traffic, loses like that",
            evidence=evidence,
        )
    flat = loss.stretches >= FEWEST_STRETCHES
    runs = ""
    if loss.runs is None:
        runs = "; the lengths of its bursts are not known"
    elif loss.in_bursts is None:
        runs = f", {loss.runs} bursts of {FEWEST_RUNS} needed to see their length"
    return Finding(
        direction,
        Cause.NOISE,
        Confidence.SURE if flat else Confidence.LIKELY,
        f"random loss: {share} (standard error {format_percent(loss.error)}) at any rate",
        counted + (", the same share at low and high rates" if flat else "") + runs,
        *advice.for_loss(loss.share),
        evidence=evidence,
    )


def _reordering(model: PathModel, direction: Direction) -> Finding | None:
    if not model.reorders:
        return None
    return Finding(
        direction,
        Cause.REORDERING,
        Confidence.SURE,
        f"reordering: {format_percent(model.late_share)} of the datagrams arrive after later ones",
        counted(model.late, "datagram"),
        *advice.for_reordering(),
        evidence={"share": round(model.late_share, 5), "late": model.late},
    )


def _delay(model: PathModel, direction: Direction) -> Finding | None:
    delay = model.delay
    # A second way explains a second delay.
    if not delay.present or (model.reorders and not delay.lump_us):
        return None
    spread = format_milliseconds(delay.spread_us)
    if delay.lump_us:
        lump = format_milliseconds(delay.lump_us)
        return Finding(
            direction,
            Cause.ACK_LUMPS,
            Confidence.SURE,
            f"{'acknowledgements' if delay.of_answers else 'arrivals'} in lumps, {lump} apart",
            f"echoes that left apart came back together; their delay varies by {spread}",
            *advice.for_lumps(),
            evidence={"lump_us": round(delay.lump_us), "spread_us": round(delay.spread_us)},
        )
    return Finding(
        direction,
        Cause.JITTER,
        Confidence.SURE,
        f"delay that varies by {spread} without load",
        "5th to 95th percentile of the echoes before the load",
        *advice.for_jitter(),
        evidence={"spread_us": round(delay.spread_us)},
    )
