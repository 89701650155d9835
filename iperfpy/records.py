"""The records that pass from the measuring side to the reporting side.

Channel.counters() --Sampler--> Sample (one end, one stream, one stretch of time)
own Sample + the peer's Sample (over the control channel) --> Row --> every Sink
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from iperfpy.plan import Plan
from iperfpy.protocols.contract import SocketAddress, Stream, Transport
from iperfpy.protocols.metrics import Side, Value


@dataclass(frozen=True, slots=True)
class Sample:
    """What one end measured of one stream between two moments of its own monotonic clock.

    `start_us`, `end_us`: measured times since the test started at that end (since the end of the omitted
    stretch, once that is over). `bytes`: payload in that stretch. `values`: by `Metric.key`, counters as
    differences, gauges as their last value and, for a gauge with `spread`, also `<key>_min`, `<key>_mean`,
    `<key>_max`. A key that is absent or None was not available.
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
        return (self.end_us - self.start_us) / 1e6

    @property
    def bits_per_second(self) -> float:
        """Payload bits per measured second; 0.0 over an empty stretch."""
        return self.bytes * 8 / self.seconds if self.end_us > self.start_us else 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a report: an interval or the whole test, of one stream or of all (`stream` 0).

    `local` is this end's sample, `peer` the other end's of the same stretch, when it is known.
    """

    stream: int
    local: Sample
    peer: Sample | None = None
    direction: str = "forward"

    def of(self, side: Side) -> Sample | None:
        """The sample of the end that sends, or of the end that receives, if known."""
        if self.local.side is side:
            return self.local
        return self.peer if self.peer is not None and self.peer.side is side else None


@dataclass(frozen=True, slots=True)
class ConnectedStream:
    """One open stream, for banners and the `connected` list of the JSON.

    `mss_bytes`: of a TCP connection. The buffers are as the system accounts for them, which on Linux is twice
    what was asked for.
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
    """Everything known when the data starts to flow."""

    __test__: ClassVar[bool] = False  # the name looks like a test case to pytest

    plan: Plan
    transport: Transport
    role: str  # "client" or "server"
    peer: SocketAddress  # of the control connection: the server as typed, or the accepted client
    peer_is_iperfpy: bool
    cookie: str
    connected: tuple[ConnectedStream, ...]
    unix_time: float
    tcp_mss: int | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Latency:
    """Round trips before the test and during it, see `measure.latency`. None: not known."""

    idle_rtt_us: float | None = None
    loaded_rtt_us_min: float | None = None
    loaded_rtt_us: float | None = None
    loaded_rtt_us_max: float | None = None

    @property
    def responsiveness_rpm(self) -> float | None:
        """Round trips per minute under load."""
        return 60e6 / self.loaded_rtt_us if self.loaded_rtt_us else None

    def record(self) -> dict[str, float | None]:
        """Every figure by name, for reports."""
        return {
            "idle_rtt_us": self.idle_rtt_us,
            "loaded_rtt_us": self.loaded_rtt_us,
            "loaded_rtt_us_min": self.loaded_rtt_us_min,
            "loaded_rtt_us_max": self.loaded_rtt_us_max,
            "responsiveness_rpm": self.responsiveness_rpm,
        }


ServerOutput = str | Mapping[str, Any]
"""A server's own report of a test: its text, or its JSON document. Empty: none."""


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The whole test: one summary `Row` per stream, CPU of both ends, and how it ended.

    `rows` carry the sender's and the receiver's figures of the whole measured stretch.
    `cpu_percent`: keys host_total, host_user, host_system and, when known, remote_*.
    `interrupted`: what ended the test early, one sentence, or empty. `failed`: it was a failure, and not
    somebody at this end who wanted it to end. `warnings`: those that `RunStarted` did not have yet.
    """

    __test__: ClassVar[bool] = False

    rows: tuple[Row, ...]
    cpu_percent: Mapping[str, float]
    interrupted: str = ""
    failed: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    server_output: ServerOutput = ""
    latency: Latency = Latency()


class Sink(Protocol):
    """Where a report goes: terminal, JSON, CSV. Rows come as they happen and are flushed as they come."""

    def start(self, start: RunStarted) -> None: ...
    def interval(self, rows: tuple[Row, ...]) -> None:
        """The rows of one interval, one per stream, in stream order. Sums are the sink's to make, by
        `measure.summary.total`."""

    def end(self, end: RunEnded) -> None: ...
    def error(self, message: str) -> None:
        """One sentence; nothing else will follow but `close`."""

    def close(self) -> None: ...


class KeepingSink(Sink, Protocol):
    """A sink that keeps what it is told, for the client that asked for it."""

    def kept(self) -> ServerOutput:
        """The report so far."""
