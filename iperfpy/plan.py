"""The parameters of one test, on which client and server agree: frozen, and equal at both ends."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NamedTuple

from iperfpy.protocols.settings import Settings
from iperfpy.protocols.units import SECOND_US

DEFAULT_DURATION_US = 10 * SECOND_US
UNSIZED_BYTES = 1 << 62
"""`Plan.total_bytes` of a pipe or a device that is sent (-F): more than any test carries, so that its end, or
the user's time limit, ends the test."""


class Role(enum.Enum):
    """The part that one end plays on the control connection."""

    CLIENT = "client"
    SERVER = "server"


class Direction(enum.Enum):
    """Direction of the payload."""

    FORWARD = "forward"  # client to server
    REVERSE = "reverse"  # server to client
    BIDIRECTIONAL = "bidirectional"  # both at once, on separate streams


WAYS = {Direction.FORWARD: "up", Direction.REVERSE: "down"}
"""Direction -> its name in sentences and tables of a path, seen from the client."""


class EndCondition(enum.Enum):
    """The condition that ends a test."""

    TIME = "time"  # -t
    AMOUNT = "amount"  # -n or -k: a number of bytes or blocks
    INTERRUPT = "interrupt"  # -t 0: the user stops it


class Texts(NamedTuple):
    """The user's own texts about a test (-T, --extra-data): as much of a plan as is known of a command line
    with an error."""

    title: str = ""
    extra_data: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """One test, as the client asks for it and the server agrees to it.

    Parameters
    ----------
    transport : registered name of the transport
    settings : settings of that transport
    direction : which end sends
    duration_us, total_bytes, total_blocks
        Exactly one of them ends the test, and the others are 0. All 0: run until interrupted.
    omit_us : time at the start that is left out of the results (-O)
    parallel : number of streams per direction
    block_bytes : length of a block (-l), a datagram's payload for a datagram transport
    fits_path : True if that length is the transport's own, which the client shortens where datagrams of it
        would not fit the path
    rate_bps : payload bits per second per stream (-b), 0: unlimited
    burst_blocks : blocks sent back to back at that rate (`-b n/m`), 0: none
    interval_us : report interval (-i), 0: report the whole test only
    title, extra_data : text of the user, repeated in reports
    get_server_output : True if the server returns its own report with its results
    tos : type-of-service byte (traffic class in IPv6) of every data socket, 0: not set
    fq_rate_bps : the kernel's pacing rate (SO_MAX_PACING_RATE) of every data socket, 0: not set
    pacing_timer_us : iperf3's pacing timer; sent to the peer, otherwise unused
    server_cpu : processor on which the client wants the server to run
    messages_per_s : messages of `block_bytes` that the client sends per second and the server echoes, on one
        stream that goes both ways; 0: a bulk test
    """

    transport: str
    settings: Settings
    direction: Direction = Direction.FORWARD
    duration_us: int = DEFAULT_DURATION_US
    total_bytes: int = 0
    total_blocks: int = 0
    omit_us: int = 0
    parallel: int = 1
    block_bytes: int = 128 * 1024
    rate_bps: int = 0
    burst_blocks: int = 0
    interval_us: int = SECOND_US
    title: str = ""
    extra_data: str = ""
    get_server_output: bool = False
    tos: int = 0
    fq_rate_bps: int = 0
    pacing_timer_us: int = 1000
    server_cpu: int | None = None
    messages_per_s: int = 0
    fits_path: bool = field(default=False, compare=False)  # the test is the same one

    @property
    def ends_by(self) -> EndCondition:
        """The condition that ends this test."""
        if self.total_bytes or self.total_blocks:
            return EndCondition.AMOUNT
        return EndCondition.TIME if self.duration_us else EndCondition.INTERRUPT

    @property
    def amount_bytes(self) -> int:
        """Payload of one direction, all streams together, that ends the test (-n, -k); 0: none does."""
        return self.total_bytes or self.total_blocks * self.block_bytes

    @property
    def message_count(self) -> int:
        """Messages of the whole test; 0 for a bulk test."""
        return max(1, self.messages_per_s * self.duration_us // SECOND_US) if self.messages_per_s else 0

    @property
    def asked_bps(self) -> int:
        """Payload bits per second that the test asks for, all streams together; 0: it names no rate."""
        if self.messages_per_s:
            return 2 * 8 * self.block_bytes * self.messages_per_s  # the echoes, too
        return self.rate_bps * self.stream_count

    @property
    def stream_count(self) -> int:
        """Number of data streams, both directions together."""
        return self.parallel * (2 if self.direction is Direction.BIDIRECTIONAL else 1)
