"""What was asked for: frozen records that the command line makes and the rest obeys."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from iperfpy.protocols.settings import Settings


class Direction(enum.Enum):
    """Which way the payload flows."""

    FORWARD = "forward"  # client to server
    REVERSE = "reverse"  # server to client
    BIDIRECTIONAL = "bidirectional"


@dataclass(frozen=True, slots=True)
class Plan:
    """One test, as the client asks and the server agrees. Both ends hold an equal Plan.

    Exactly one of `duration_us`, `total_bytes`, `total_blocks` ends the test (the others are 0;
    all 0: run until interrupted). `rate_bps` is per stream, 0 unlimited; `burst_blocks` as iperf3's `-b n/m`.
    `tos` (a byte of the IP header) and `fq_rate_bps` (the kernel's pacing) are for every data socket, 0:
    not set. `server_cpu` is where the client wants the server to run.
    """

    transport: str
    settings: Settings
    direction: Direction = Direction.FORWARD
    duration_us: int = 10_000_000
    total_bytes: int = 0
    total_blocks: int = 0
    omit_us: int = 0
    parallel: int = 1
    block_bytes: int = 128 * 1024
    rate_bps: int = 0
    burst_blocks: int = 0
    interval_us: int = 1_000_000
    title: str = ""
    extra_data: str = ""
    get_server_output: bool = False  # the server's own report comes back with its results
    tos: int = 0
    fq_rate_bps: int = 0
    pacing_timer_us: int = 1000
    server_cpu: int | None = None
