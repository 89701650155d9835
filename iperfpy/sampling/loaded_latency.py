"""Round-trip times of the path without load and under it, as every transport's sender measures them.

idle            before the test, on the control connection: its shortest round trip (TCP_INFO, min_rtt);
                or that of the data, if something on the path ends connections on the way: `idle_us`
loaded          while data flows, by the flow that carries it: the sender's `rtt_us`, of all streams
bufferbloat     the 95th percentile of its readings less the idle time, for each direction
responsiveness  round trips per minute, by probes under load: `sampling.responsiveness`
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from iperfpy.plan import Direction
from iperfpy.protocols.metrics import Side, number
from iperfpy.records import RTT_KEY, RTT_P95_KEY, Latency, Responsiveness, Row

LEAST_KEYS = (f"{RTT_KEY}_min", "min_rtt_us")
"""Keys of a sender's shortest round-trip time."""
APART_US = 10_000.0
"""Time by which datagrams take longer than a connection that goes another way:
a busy machine answers a datagram some milliseconds late, too."""


def idle_us(
    connection_us: float | None, opening_us: Sequence[int | None], rows: Iterable[Row]
) -> float | None:
    """The round-trip time of the path before the test, microseconds; None if it is not known.

    It is that of the control connection, which the kernel measures, unless a proxy on the way answers in the
    place of the server: a relay, or an accelerator for satellite links. Then the connection's time is that to
    the proxy, and a datagram's round trip takes more than twice as long.

    Parameters
    ----------
    connection_us : shortest round trip of the control connection
    opening_us : `Channel.opening_us` of each stream
    rows : one per stream, of the whole test
    """
    opened = [float(each) for each in opening_us if each is not None]
    if connection_us is None or not opened:
        return connection_us
    senders = [sample.values for row in rows if (sample := row.of(Side.SENDER)) is not None]
    known = [number(values.get(key)) for values in senders for key in LEAST_KEYS]
    # An opening that was repeated took longer than a round trip; data has met a queue, perhaps.
    least_us = min([*opened, *(each for each in known if each)])
    return least_us if least_us > 2 * connection_us + APART_US else connection_us


def latency(
    idle_us: float | None, rows: Iterable[Row], responsiveness: Responsiveness | None = None
) -> Latency:
    """The latency of a whole test. Streams without a round-trip time of their sender are left out.

    Parameters
    ----------
    idle_us : round-trip time before the test, None if the system does not measure it
    rows : one per stream, of the whole test
    responsiveness : of the whole test, None if it has none
    """
    rows = tuple(rows)
    senders = [sample.values for row in rows if (sample := row.of(Side.SENDER)) is not None]
    lows, means, highs = (
        [known for values in senders if (known := number(values.get(f"{RTT_KEY}_{name}"))) is not None]
        for name in ("min", "mean", "max")
    )
    return Latency(
        idle_rtt_us=idle_us,
        loaded_rtt_us_min=min(lows, default=None),
        loaded_rtt_us=sum(means) / len(means) if means else None,
        loaded_rtt_us_max=max(highs, default=None),
        responsiveness=responsiveness or Responsiveness(),
        forward_rtt_us_p95=_p95_us(rows, Direction.FORWARD),
        reverse_rtt_us_p95=_p95_us(rows, Direction.REVERSE),
    )


def _p95_us(rows: Iterable[Row], direction: Direction) -> float | None:
    """The 95th percentile of the round-trip times of a direction; None if no sender of it has one.

    Streams may have queues of their own, and their percentiles do not add up, so the longest one counts.
    """
    senders = [row.of(Side.SENDER) for row in rows if row.direction is direction]
    found = [number(sample.values.get(RTT_P95_KEY)) for sample in senders if sample is not None]
    return max((p95_us for p95_us in found if p95_us is not None), default=None)
