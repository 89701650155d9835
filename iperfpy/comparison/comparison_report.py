"""The records of a comparison: its contenders, its tests with their figures, and how it ended.

Everything else (medians, intervals, ranks, sentences) follows from these records, so a stored comparison
needs no more than them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from iperfpy.diagnosis.finding import Finding
from iperfpy.plan import Direction

SERIES = ("end_s", "bits_per_second", "rtt_us", "loss_percent", "resent_percent")
"""Keys of `MeasuredTest.series`."""
COLUMNS = ("series", "resent_series", "limit_series")
"""Fields of `MeasuredTest` that are columns."""

Columns = Mapping[str, tuple[float | None, ...]]
"""Columns by name, one value for each report interval; None: not known."""


@dataclass(frozen=True, slots=True)
class ContenderFacts:
    """A transport with its settings, as it takes part.

    Parameters
    ----------
    name : of the contender, unique in a comparison: "tcp bbr"
    transport : registered name
    settings : those that the user chose, by name
    rate_bps : payload rate that the user chose, 0: none
    ranked : True if its rate is a result: the transport adapts it, and repeats what is lost
    """

    name: str
    transport: str
    settings: Mapping[str, bool | int | str | None] = field(default_factory=dict)
    rate_bps: int = 0
    ranked: bool = True


@dataclass(frozen=True, slots=True)
class MeasuredTest:
    """One test of a contender in one direction. None: not known.

    Parameters
    ----------
    contender : its name
    round : 1, 2, ...
    started_s : seconds from the beginning of the comparison to the data
    error : the sentence of a failed test, else empty. No statistic uses the figures of a failed test
    seconds : time of data
    steady_from_s : length of the start-up that the steady rate leaves out
    steady_bits_per_second : payload that arrived after the start-up
    packet_bits_per_second : the same in IP packets
    target_bits_per_second : payload rate at which it was sent, 0: as fast as it went
    startup_s : time until 90 % of the steady rate was reached
    startup_bytes : payload that arrived during the start-up
    idle_rtt_us : round-trip time before the data
    rtt_us : percentiles p5, p50, p95 and max of the round-trip time after the start-up
    wire_per_payload : bytes of the sender's IP packets for each byte of payload
    resent_percent : retransmissions, as a share of the data segments
    in_vain_percent : retransmissions of data that had arrived, as a share of the retransmissions
    loss_percent : datagrams that the path lost
    sent_bytes : bytes of the sender's IP packets
    limit : the most important conclusion about what limited this test
    series : by the keys `SERIES`; a document of an earlier version has only the first three
    resent_series : retransmissions as a share of the data segments by cause, per cent
    limit_series : shares of the intervals, 0 to 1, by the limit that held the sender
    """

    contender: str
    direction: Direction
    round: int
    started_s: float
    error: str = ""
    seconds: float = 0.0
    steady_from_s: float = 0.0
    steady_bits_per_second: float | None = None
    packet_bits_per_second: float | None = None
    target_bits_per_second: float = 0.0
    startup_s: float | None = None
    startup_bytes: int | None = None
    idle_rtt_us: float | None = None
    rtt_us: Mapping[str, float] = field(default_factory=dict)
    wire_per_payload: float | None = None
    resent_percent: float | None = None
    in_vain_percent: float | None = None
    loss_percent: float | None = None
    sent_bytes: int = 0
    limit: Finding | None = None
    series: Columns = field(default_factory=dict)
    resent_series: Columns = field(default_factory=dict)
    limit_series: Columns = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """True if no statistic may use it."""
        return bool(self.error) or self.steady_bits_per_second is None


@dataclass(frozen=True, slots=True)
class MeasuredMessages:
    """The messages of a contender in one round: the client sends them over the idle path, the server echoes.

    Parameters
    ----------
    contender, round, started_s, error : as those of `MeasuredTest`
    size_bytes, per_s : of each message; messages a second
    due : messages that were to be sent by then
    sent : messages that the transport took
    round_trip_us : of the answered messages, in order, from the due time to the arrival of the echo
    wire_bytes : bytes of IP packets in both directions, None: not known
    """

    contender: str
    round: int
    started_s: float
    error: str = ""
    size_bytes: int = 0
    per_s: int = 0
    due: int = 0
    sent: int = 0
    round_trip_us: tuple[int, ...] = ()
    wire_bytes: int | None = None

    @property
    def failed(self) -> bool:
        """True if no statistic may use it."""
        return bool(self.error) or not self.round_trip_us


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A contender that could not be measured.

    Parameters
    ----------
    direction : None: in neither direction, or for messages
    messages : True if only its messages could not be measured
    """

    contender: str
    direction: Direction | None
    reason: str
    messages: bool = False


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """A whole comparison.

    Parameters
    ----------
    host, port : the server, as the user named it
    unix_time : seconds since the epoch at which it began
    seconds, limit_s : time that it took, and the most that the user gave it
    sent_bytes : bytes of IP packets that both ends sent; those of acknowledgements and messages as estimated
    budget_bytes : the user's limit of these, 0: none
    seed : of the random order
    contenders : in the user's order
    directions : those that were measured
    tests : in the order in which they ran, failed ones too
    messages : tests of messages, in the order in which they ran, failed ones too
    rounds : number of rounds that were completed
    test_s, startup_s, rest_s : planned seconds of a test, of its start-up, and of the rest before it
    converged : True if it ended because every interval was narrow enough
    left_out : contenders that could not be measured, each with its reason
    version, system_info : this program and machine
    server_version, server_system_info : those of the server, as far as it told them
    peer_is_iperfpy : False: a stock iperf3; None: no test has begun
    address : the server's address in the tests; empty: no test has begun
    warnings : sentences of the tests about this end, each once
    error : sentence that ended the comparison early, else empty
    stopped : True if that was the user of this end
    """

    host: str
    port: int
    unix_time: float
    seconds: float
    limit_s: float = 0.0
    sent_bytes: int = 0
    budget_bytes: int = 0
    seed: int = 0
    contenders: tuple[ContenderFacts, ...] = ()
    directions: tuple[Direction, ...] = ()
    tests: tuple[MeasuredTest, ...] = ()
    messages: tuple[MeasuredMessages, ...] = ()
    rounds: int = 0
    test_s: float = 0.0
    startup_s: float = 0.0
    rest_s: float = 0.0
    converged: bool = False
    left_out: tuple[LeftOut, ...] = ()
    version: str = ""
    system_info: str = ""
    server_version: str = ""
    server_system_info: str = ""
    peer_is_iperfpy: bool | None = None
    address: str = ""
    warnings: tuple[str, ...] = ()
    error: str = ""
    stopped: bool = False

    def of(self, contender: str, direction: Direction) -> list[MeasuredTest]:
        """The tests of a contender in a direction that have figures, in order."""
        return [
            one
            for one in self.tests
            if one.contender == contender and one.direction is direction and not one.failed
        ]

    def failures(self, contender: str, direction: Direction) -> list[MeasuredTest]:
        """The failed tests of a contender in a direction."""
        return [
            one
            for one in self.tests
            if one.contender == contender and one.direction is direction and one.failed
        ]

    def messages_of(self, contender: str) -> list[MeasuredMessages]:
        """The tests of messages of a contender that have figures, in order."""
        return [one for one in self.messages if one.contender == contender and not one.failed]

    @property
    def measured(self) -> bool:
        """True if any test has figures."""
        bulk = any(not one.failed for one in self.tests)
        return bulk or any(not one.failed for one in self.messages)

    @property
    def failed(self) -> bool:
        """True if an error ended it early that was not its user."""
        return bool(self.error) and not self.stopped


def steady_rates(tests: Sequence[MeasuredTest]) -> list[float]:
    """The steady rates of tests with figures, bits per second."""
    return [one.steady_bits_per_second for one in tests if one.steady_bits_per_second is not None]
