"""Round-trip times of the path without load and under it, as every transport's sender measures them.

idle            before the test, on the control connection: its shortest round trip (TCP_INFO, min_rtt)
loaded          while data flows, by the flow that carries it: the sender's `rtt_us`, of all streams
responsiveness  round trips per minute, by probes under load: `sampling.responsiveness`
"""

from __future__ import annotations

from collections.abc import Iterable

from iperfpy.protocols.metrics import Side, number
from iperfpy.records import Latency, Responsiveness, Row

RTT_KEY = "rtt_us"
"""Key of the metric that is a transport's round-trip time."""


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
    )
