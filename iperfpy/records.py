"""The records that a running test gives to its reports.

Channel.counters() --Sampler--> Sample (one end, one stream, one period of time)
own Sample + the peer's Sample (over the control channel) --> Row --> every Sink
"""

from __future__ import annotations

import contextlib
import enum
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from iperfpy.diagnosis.bufferbloat import increase_us
from iperfpy.diagnosis.evidence import RunEvidence
from iperfpy.diagnosis.finding import Finding
from iperfpy.plan import Direction, Plan, Role
from iperfpy.protocols.contract import SocketAddress, Stream, Transport
from iperfpy.protocols.metrics import Side, Value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHORTEST_MEASURED_US = 10_000
"""Shortest period that has a rate: its ends are known to about a millisecond, as event loops wake up."""

RTT_KEY, RTT_P95_KEY = "rtt_us", "rtt_us_p95"
"""Key of the metric that is a transport's round-trip time, and of the 95th percentile of its readings, which
only a `Sample` of the whole test has."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One end's measurement of one stream between two moments of that end's monotonic clock.

    Parameters
    ----------
    stream : stream number, 0 for a sum over streams
    side : the end of the stream that measured
    start_us, end_us : measured times since the test started at that end (since the end of the omitted
        period, once that is over)
    bytes : payload in that period
    values : by `Metric.key`; counters as differences, gauges as their last value and, for a gauge with
        `spread`, also `<key>_min`, `<key>_mean`, `<key>_max`; of the whole test also `RTT_P95_KEY`. Absent or
        None: not available
    omitted : True if the sample belongs to the omitted period (-O)
    """

    stream: int
    side: Side
    start_us: int
    end_us: int
    bytes: int
    values: Mapping[str, Value] = field(default_factory=dict)
    omitted: bool = False

    @property
    def seconds(self) -> float:
        """Length of the period, seconds."""
        return (self.end_us - self.start_us) / 1e6

    @property
    def bits_per_second(self) -> float | None:
        """Payload bits per measured second; None over a period shorter than `SHORTEST_MEASURED_US`."""
        measured = self.end_us - self.start_us >= SHORTEST_MEASURED_US
        return self.bytes * 8 / self.seconds if measured else None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a report: an interval or the whole test, of one stream or of all (`stream` 0).

    `local` is this end's sample, and `peer` the peer's sample of the same period, or None while it is not
    known. `direction` is FORWARD or REVERSE, also in a bidirectional test. `notices` are the sentences of
    `Transport.notices` that this interval was the first to ask for.
    """

    stream: int
    local: Sample
    peer: Sample | None = None
    direction: Direction = Direction.FORWARD
    notices: tuple[str, ...] = ()

    def of(self, side: Side) -> Sample | None:
        """The sample that the sender, or the receiver, of the stream took; None if not known."""
        if self.local.side is side:
            return self.local
        return self.peer if self.peer is not None and self.peer.side is side else None


@dataclass(frozen=True, slots=True)
class ConnectedStream:
    """One open stream.

    Parameters
    ----------
    stream : its number, index and direction
    socket : file descriptor
    local, remote : addresses; an IPv4 address has its plain form on a dual-stack socket, too
    mss_bytes : maximum segment size, of a TCP connection
    send_buffer_bytes, receive_buffer_bytes : as the system accounts for them; Linux counts double
    """

    stream: Stream
    socket: int
    local: SocketAddress
    remote: SocketAddress
    mss_bytes: int | None = None
    send_buffer_bytes: int | None = None
    receive_buffer_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The facts of a test when its data begins to flow.

    Parameters
    ----------
    plan, transport : the test that both ends agreed on
    role : the part of this end
    peer : address of the control connection's other end: the server as the user named it, or the client
    peer_is_iperfpy : True if the peer speaks the extended protocol
    cookie : iperf3's identifier of the test, 36 characters
    connected : one record per stream, in stream order
    unix_time : seconds since the epoch
    tcp_mss : maximum segment size of the control connection, bytes
    congestion : congestion control of this end's senders; empty: it has none, or this end sends nothing
    warnings : sentences about conditions that limit the result, each once
    alone : True if the peer has no control connection: nothing is known of its end
    until : words for the end of the test, if that is neither the plan's time nor its amount nor the user;
        or empty
    """

    plan: Plan
    transport: Transport
    role: Role
    peer: SocketAddress
    peer_is_iperfpy: bool
    cookie: str
    connected: tuple[ConnectedStream, ...]
    unix_time: float
    tcp_mss: int | None = None
    congestion: str = ""
    warnings: tuple[str, ...] = ()
    alone: bool = False
    until: str = ""


class RpmConfidence(enum.Enum):
    """The confidence in a responsiveness, draft-ietf-ippm-responsiveness-09, section 5.4.1."""

    LOW = "Low"  # fewer intervals than the moving average has
    MEDIUM = "Medium"  # enough of them, and not stable
    HIGH = "High"  # stable


@dataclass(frozen=True, slots=True)
class Responsiveness:
    """Round trips per minute under load, see `sampling.responsiveness`. None: not measured.

    Parameters
    ----------
    foreign_rpm : on new connections beside the load
    loaded_rpm : on the load-bearing connections
    confidence : known if both halves are
    foreign_probes, self_probes : number of probes behind the figures
    """

    foreign_rpm: float | None = None
    loaded_rpm: float | None = None
    confidence: RpmConfidence | None = None
    foreign_probes: int = 0
    self_probes: int = 0

    @property
    def rpm(self) -> float | None:
        """The mean of both halves, section 5.3.1.2 of the draft; None if one of them was not measured."""
        if self.foreign_rpm is None or self.loaded_rpm is None:
            return None
        return (self.foreign_rpm + self.loaded_rpm) / 2


@dataclass(frozen=True, slots=True)
class Latency:
    """Round-trip times before the test and under its load, see `sampling.loaded_latency`. None: not known.

    Parameters
    ----------
    idle_rtt_us : before the test
    loaded_rtt_us_min, loaded_rtt_us, loaded_rtt_us_max : of all streams; the second one is the mean
    forward_rtt_us_p95, reverse_rtt_us_p95 : 95th percentile under the load of each direction
    """

    idle_rtt_us: float | None = None
    loaded_rtt_us_min: float | None = None
    loaded_rtt_us: float | None = None
    loaded_rtt_us_max: float | None = None
    responsiveness: Responsiveness = Responsiveness()
    forward_rtt_us_p95: float | None = None
    reverse_rtt_us_p95: float | None = None

    @property
    def bufferbloat_us(self) -> Mapping[Direction, float]:
        """The increase of the round-trip time under load, of each direction in which it is known; see
        `diagnosis.bufferbloat`. A single test has no grade."""
        loaded = {
            Direction.FORWARD: self.forward_rtt_us_p95,
            Direction.REVERSE: self.reverse_rtt_us_p95,
        }
        return {
            direction: increase
            for direction, p95_us in loaded.items()
            if (increase := increase_us(self.idle_rtt_us, p95_us)) is not None
        }

    @property
    def responsiveness_rpm(self) -> float | None:
        """The responsiveness in round trips per minute; None if one of its halves was not measured."""
        return self.responsiveness.rpm

    def record(self) -> dict[str, float | str | None]:
        """Every figure by name, for reports."""
        found = self.responsiveness
        return {
            "idle_rtt_us": self.idle_rtt_us,
            "loaded_rtt_us": self.loaded_rtt_us,
            "loaded_rtt_us_min": self.loaded_rtt_us_min,
            "loaded_rtt_us_max": self.loaded_rtt_us_max,
            "forward_rtt_us_p95": self.forward_rtt_us_p95,
            "reverse_rtt_us_p95": self.reverse_rtt_us_p95,
            "forward_bufferbloat_us": self.bufferbloat_us.get(Direction.FORWARD),
            "reverse_bufferbloat_us": self.bufferbloat_us.get(Direction.REVERSE),
            "responsiveness_rpm": found.rpm,
            "responsiveness_confidence": found.confidence.value if found.confidence is not None else None,
            "foreign_responsiveness_rpm": found.foreign_rpm,
            "loaded_responsiveness_rpm": found.loaded_rpm,
            "foreign_probes": found.foreign_probes,
            "self_probes": found.self_probes,
        }


@dataclass(frozen=True, slots=True)
class HostClock:
    """The clocks of one end of a test.

    Parameters
    ----------
    wall_us : its wall clock less its monotonic clock, when the test began; microseconds
    wall_step_us : change of that difference until the end: the wall clock was set
    host : a name for the monotonic clock, which both ends of one host have in common, and which no other test
        has; empty: not known
    """

    wall_us: int
    wall_step_us: int = 0
    host: str = ""


@dataclass(frozen=True, slots=True)
class EndFacts:
    """An end's own account of itself; the server tells its client. Empty, or None: not known.

    Parameters
    ----------
    version : its program
    system_info : its system, release and kind of processor; not the name of the machine
    mss_bytes, send_buffer_bytes, receive_buffer_bytes : of its first data socket, see `ConnectedStream`
    """

    version: str = ""
    system_info: str = ""
    mss_bytes: int | None = None
    send_buffer_bytes: int | None = None
    receive_buffer_bytes: int | None = None

    def record(self) -> dict[str, str | int]:
        """The known facts by name."""
        return {key: value for key, value in asdict(self).items() if value not in ("", None)}


UNANSWERED = 0xFFFF_FFFF
"""In `MessageTimes.round_trip_us`: no echo came."""


@dataclass(frozen=True, slots=True, eq=False)
class RoundTrips:
    """The round trips of a latency test, as its document keeps them. Times are microseconds.

    Parameters
    ----------
    size_bytes : of each message, header included
    interval_us : mean distance of two due times
    sent : messages handed to the transport
    round_trip_us : (n,) uint32, by number of the message, of all n that were due: from its due time to the
        arrival of its echo, or `UNANSWERED`. Time that it waited for room in the transport is part of it
    repeated : echoes that had arrived before
    wire_bytes : bytes of IP packets that the client has sent and received for them; None: not known
    begun_us : due time of the first message, of the client's monotonic clock
    clocks : of the client and of the server; None: the server told none
    """

    size_bytes: int
    interval_us: float
    sent: int
    round_trip_us: NDArray[np.uint32]
    repeated: int = 0
    wire_bytes: tuple[int, int] | None = None
    begun_us: int = 0
    clocks: tuple[HostClock, HostClock] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MessageTimes(RoundTrips):
    """The messages of a latency test (`traffic.messages`), by the client's clock. Times are microseconds.

    Parameters
    ----------
    there_us : (n,) int64: from its due time, by the client's clock, to its arrival, by the server's clock;
        the clocks differ by an unknown amount. 0 where `round_trip_us` is `UNANSWERED`
    held_us : (sent,) uint32: from its due time until the transport took it: the timers of this program, and
        the wait for room
    """

    there_us: NDArray[np.int64] = field(kw_only=True)
    held_us: NDArray[np.uint32] = field(kw_only=True)


ServerOutput = str | Mapping[str, Any]
"""A server's own report of a test: its text, or its JSON document. Empty: none."""


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The whole test, and how it ended.

    Parameters
    ----------
    rows : one per stream, with the sender's and the receiver's figures of the whole measured period
    cpu_percent : keys host_total, host_user, host_system and, if the peer sent its results, remote_*;
        per cent of one core
    interrupted : the sentence that ended the test early, or says why it measured nothing; or empty
    failed : True if that was a failure; False if the user of this end stopped the test
    extra : further keys of iperf3's document, such as `sender_tcp_congestion`
    warnings : the ones that `RunStarted` did not have
    server_output : the server's own report, if the plan asked for it
    findings : conclusions about what limited the test, of each direction the most important one first
    evidence : the measurements that they come from, one per direction. No document stores them
    messages : the times of a message test, at the client
    server : the server's account of its end, at the client
    """

    rows: tuple[Row, ...]
    cpu_percent: Mapping[str, float]
    interrupted: str = ""
    failed: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    server_output: ServerOutput = ""
    latency: Latency = Latency()
    findings: tuple[Finding, ...] = ()
    evidence: tuple[RunEvidence, ...] = field(default=(), compare=False, repr=False)
    messages: MessageTimes | None = field(default=None, compare=False, repr=False)
    server: EndFacts = EndFacts()


class Sink(Protocol):
    """A receiver of a test's records: terminal, JSON, CSV, or a Python program.

    A test calls `start` once, `interval` for every interval, then `end`. A test that failed before data
    flowed calls only `error`. The calls come from the event loop's thread, as the records arise; an
    exception ends the test.
    """

    def start(self, start: RunStarted) -> None:
        """Data begins to flow."""

    def interval(self, rows: tuple[Row, ...]) -> None:
        """The rows of one interval, one per stream, in stream order; `sampling.sums.total` adds them up."""

    def end(self, end: RunEnded) -> None:
        """The test is over; it may have been interrupted, or have failed."""

    def error(self, message: str) -> None:
        """The test failed before data flowed; `message` is one sentence."""

    def close(self) -> None:
        """No further call follows."""


def tell_all(sinks: Iterable[Sink], tell: Callable[[Sink], None]) -> None:
    """Call `tell` with every sink, also if it raises for one of them, and raise the first exception then."""
    with contextlib.ExitStack() as calls:
        for sink in reversed(tuple(sinks)):  # the stack calls in reverse order
            calls.callback(tell, sink)


class ServerOutputSink(Sink, Protocol):
    """A sink that keeps the server's report for the client that asked for it."""

    def output(self) -> ServerOutput:
        """The report so far."""


def finite(value: Any) -> Any:
    """Copy a JSON value with null for NaN and infinities.

    JSON cannot hold them, and a peer, a kernel or a plug-in may have measured them; null means not available.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value
