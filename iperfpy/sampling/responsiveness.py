"""Responsiveness under working conditions: draft-ietf-ippm-responsiveness-09, without HTTP and TLS.

Section 5.3 of the draft has two kinds of probes. Both exist here, in the form that this program can send:

    foreign   a new TCP connection to the server's control port while the load runs: duration of the handshake
              (`tcp_f`), then time between a request of 37 bytes and its answer of 1 byte (for `http_f`)
    self      the load-bearing connections themselves: the smoothed round-trip time of their senders, which
              section 5.3 permits where no request can be multiplexed into the load (for `http_l`)

There is no TLS, so section 5.3.1.2 ("TCP-only") applies. The load is that of the test: a fixed number of
streams (-P) of its transport for a fixed time; no connections are added (INC is 0).

    ProbeLog     probes and payload, by intervals of `ID_US`
    assess       intervals -> Responsiveness
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from iperfpy.plan import Plan
from iperfpy.protocols.contract import Transport
from iperfpy.records import Responsiveness, RpmConfidence

MAD = 4
"""Moving average distance: intervals in a moving average (section 5.2)."""
ID_US = 5_000_000
"""Duration of an interval (section 5.2)."""
TMP = 0.95
"""Share of the samples that the trimmed mean keeps: the longest 5 % are left out (sections 5.2 and 5.3.1)."""
SDT = 0.05
"""Standard deviation, over the latest value, below which a series is stable (section 5.2)."""
MPS = 100
"""Most probes of a kind per interval (section 5.3: "MPS probes per ID")."""
PTC = 0.01
"""Most of the capacity that probes may take. Section 5.2 has 5 %: measured rates would be too low."""
KEPT = 2 * MAD - 1
"""Intervals that keep their probes: those of the latest `MAD` moving averages."""
COMPLETE = 0.9
"""Share of `ID_US` from which on the last interval of a test counts as a whole one."""


@dataclass(slots=True)
class ProbeInterval:
    """One interval: its payload, and the probes that were completed in it. Times are microseconds.

    `index` counts from the beginning of the measured time. `seconds` is the time between the first and the
    last reading of the payload.
    """

    index: int
    seconds: float = 0.0
    payload_bytes: int = 0
    connect_us: list[float] = field(default_factory=list)
    request_us: list[float] = field(default_factory=list)
    self_us: list[float] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """True if the interval lasted nearly as long as the draft asks for."""
        return self.seconds * 1e6 >= COMPLETE * ID_US

    @property
    def goodput(self) -> float:
        """Payload bytes per second."""
        return self.payload_bytes / self.seconds if self.seconds else 0.0


class ProbeLog:
    """Collects probes and payload of one end, by intervals. Nothing counts before `begin`.

    The last `KEPT` intervals stay, so its size does not depend on the duration of the test.
    """

    def __init__(self) -> None:
        self.intervals: deque[ProbeInterval] = deque(maxlen=KEPT)
        self._zero_us: int | None = None
        self._read_us = self._read_bytes = 0
        self._slot = -1
        self._averages: deque[float] = deque(maxlen=MAD)
        self._saturated_at: int | None = None

    def begin(self, now_us: int, payload_bytes: int = 0) -> None:
        """The measured time begins, with this payload counted so far."""
        self.intervals.clear()
        self._averages.clear()
        self._saturated_at = None
        self._zero_us = self._read_us = now_us
        self._read_bytes = payload_bytes
        self._slot = -1

    def read(self, now_us: int, payload_bytes: int, round_trips_us: Sequence[float]) -> None:
        """Take the payload so far, and one of the latest round-trip times of this end's senders.

        The senders take turns, and the times are spread over the interval (section 5.3).
        """
        interval = self._at(now_us)
        if interval is None:
            return
        interval.seconds += max(0, now_us - self._read_us) / 1e6
        interval.payload_bytes += max(0, payload_bytes - self._read_bytes)
        self._read_us, self._read_bytes = now_us, payload_bytes
        slot = (now_us - self._zero_us) * MPS // ID_US if self._zero_us is not None else 0
        if round_trips_us and slot > self._slot:
            self._slot = slot
            interval.self_us.append(round_trips_us[len(interval.self_us) % len(round_trips_us)])

    def add_foreign(self, now_us: int, connect_us: float, request_us: float) -> None:
        """Take a foreign probe that was completed now."""
        interval = self._at(now_us)
        if interval is not None and len(interval.connect_us) < MPS:
            interval.connect_us.append(connect_us)
            interval.request_us.append(request_us)

    @property
    def goodput_bits_per_s(self) -> float | None:
        """Payload rate of the present interval; None before its first reading."""
        return 8 * self.intervals[-1].goodput if self.intervals and self.intervals[-1].seconds else None

    @property
    def saturated_at(self) -> int | None:
        """Index of the interval that declared goodput saturation (section 5.4), None if none has."""
        return self._saturated_at

    def _at(self, now_us: int) -> ProbeInterval | None:
        """The interval of a time, None before the beginning. The interval before it is closed."""
        if self._zero_us is None or now_us < self._zero_us:
            return None
        index = (now_us - self._zero_us) // ID_US
        if not self.intervals or self.intervals[-1].index < index:
            if self.intervals:
                self._close(self.intervals[-1])
            self.intervals.append(ProbeInterval(index))
        return self.intervals[-1]

    def _close(self, interval: ProbeInterval) -> None:
        """Compute the moving average of the goodput at the end of an interval, and declare saturation."""
        latest = [one.goodput for one in self.intervals][-MAD:]
        self._averages.append(statistics.fmean(latest))
        if self._saturated_at is None and is_stable(self._averages):
            self._saturated_at = interval.index


def applies_to(plan: Plan, transport: Transport) -> bool:
    """True if the test has the load that section 5.1 describes: senders that seek the capacity of the path.

    A rate that the user set (-b, --fq-rate), UDP, which has no congestion control, and single messages do not
    fill it, or flood it.
    """
    limited = plan.rate_bps or plan.fq_rate_bps or plan.messages_per_s
    return transport.reliable and not limited


def with_self_probes(
    intervals: Sequence[ProbeInterval], others_us: Mapping[int, Sequence[float]]
) -> list[ProbeInterval]:
    """The intervals, with the self probes of the other end's senders, which go by index, among them."""
    return [replace(one, self_us=[*one.self_us, *others_us.get(one.index, ())]) for one in intervals]


def assess(intervals: Sequence[ProbeInterval], saturated_at: int | None) -> Responsiveness:
    """The responsiveness at the end of a test, with its confidence (sections 5.4 and 5.4.1).

    Parameters
    ----------
    intervals : the latest ones, at most `KEPT`, in order
    saturated_at : index of the interval that declared goodput saturation, None if none has
    """
    current = _over(intervals[-MAD:])
    complete = [one for one in intervals if one.is_complete]
    if current.rpm is None:
        return current
    stage = [one for one in complete if saturated_at is not None and one.index > saturated_at]
    # The stage of responsiveness begins after the goodput was saturated.
    confidence = RpmConfidence.LOW
    if len(stage) >= MAD:
        last = len(complete)
        values = [_over(complete[max(0, end - MAD) : end]).rpm for end in range(last - MAD + 1, last + 1)]
        known = [value for value in values if value is not None]
        stable = len(known) == MAD and is_stable(known)
        confidence = RpmConfidence.HIGH if stable else RpmConfidence.MEDIUM
    return replace(current, confidence=confidence)


def _over(intervals: Sequence[ProbeInterval]) -> Responsiveness:
    """The responsiveness over all probes of some intervals."""
    connect = [us for one in intervals for us in one.connect_us]
    request = [us for one in intervals for us in one.request_us]
    own = [us for one in intervals for us in one.self_us]
    return Responsiveness(foreign_rpm(connect, request), loaded_rpm(own), None, len(connect), len(own))


def foreign_rpm(connect_us: Sequence[float], request_us: Sequence[float]) -> float | None:
    """60 s / ((TM(tcp_f) + TM(http_f)) / 2), section 5.3.1.2, in round trips per minute. None: no probes."""
    handshake, exchange = trimmed_mean(connect_us), trimmed_mean(request_us)
    if handshake is None or exchange is None or handshake + exchange <= 0:
        return None
    return 60e6 / ((handshake + exchange) / 2)


def loaded_rpm(self_us: Sequence[float]) -> float | None:
    """60 s / TM(http_l), section 5.3.1.2, in round trips per minute; None without samples."""
    mean = trimmed_mean(self_us)
    return 60e6 / mean if mean else None


def trimmed_mean(samples_us: Sequence[float]) -> float | None:
    """The mean of the shortest 95 % of the samples (section 5.3.1: single-sided, at the TMP percentile).

    Of fewer than 20 samples none is left out. None without samples.
    """
    if not samples_us:
        return None
    kept = len(samples_us) - int(len(samples_us) * (1 - TMP) + 1e-9)
    return statistics.fmean(sorted(samples_us)[:kept])


def is_stable(values: Sequence[float]) -> bool:
    """True if `MAD` values have a standard deviation below `SDT` of the latest one (section 5.4)."""
    return len(values) >= MAD and statistics.stdev(values) < SDT * values[-1]
