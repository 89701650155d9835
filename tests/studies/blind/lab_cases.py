"""Cases of the lab part: drawn paths as a line of the path language, and ends with a known limit.

    drawn(2001)    the path of the seed; its truth is that of the simulated part
    part(2001)     a path without properties, and a limit that needs a kernel, a processor or a filter

The relay of the lab shares the machine with both programs, so paths are slow: a seed with a fast path is
skipped, as is one with an option as its cause that `iperfpy diagnose` does not have.
"""

from __future__ import annotations

import random
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from math import exp, log
from typing import Any

from iperfpy.diagnosis.finding import Cause
from iperfpy.experiments.check_schedule import LONG_RTT_S
from iperfpy.protocols.simulator.path import Path
from iperfpy.protocols.simulator.path_language import describe
from tests.studies.blind.drawing import FAIR_QUEUE_RTTS, FAIR_QUEUE_US, PACKET, BlindPath, draw

FASTEST = 30e6
"""Bits per second of the fastest path that is run."""
PART_RATES, PART_RTTS_US = (20e6, 28e6), (25e3, 35e3)
"""Fast and long enough that eight packets are no deep queue and a small window is small, and short enough
for three rounds in 60 s, without which UDP is not compared with TCP."""
BACK_FAIR = 0.5
"""Queue of the way back, as a share of the one that counts as a line's."""
WINDOW = (0.15, 0.35)
"""Kernel buffers of an end, as shares of the bandwidth-delay product."""
LEAST_BUFFER = 8_192
FILTERED = (250, 400)
"""Thousandths of UDP that a filter drops."""
END_KINDS = frozenset({"receive-window", "send-window", "application"})
SIMULATED_KINDS = frozenset({"udp-differs", "processor", "spurious"})
"""Kinds of drawn paths that the simulator makes without a kernel; the parts have the same with one."""
ONE_TEST_S = 8
FED = (0.15, 0.5)
"""Rate of an application, as a share of the path's."""
IPERFPY = shlex.join([sys.executable, "-m", "iperfpy"])
SLOWED = "tests.studies.blind.slow_server"


@dataclass(frozen=True, slots=True)
class LabCase:
    """One run of the lab.

    Parameters
    ----------
    path : in the path language
    truth : cause -> its true figures, of the direction towards the far end
    rate : bits per second of IP packets that UDP gets through towards the far end
    near, far : shell commands that come before the program at that end
    server : command of the server
    feeder : shell command; the sender of one test sends its output; empty: the whole diagnosis is run
    """

    seed: int
    kinds: tuple[str, ...]
    path: str
    rate: float
    truth: dict[Cause, dict[str, float]]
    near: str = ""
    far: str = ""
    server: str = field(default=f"{IPERFPY} -s")
    feeder: str = ""

    @property
    def program(self) -> str:
        """Shell command of the program at the near end, after `near`."""
        if self.feeder:
            test = f'{IPERFPY} -c "$LAB_FAR" -t {ONE_TEST_S} -F /dev/stdin -J'
            return f"{self.feeder} | {test}"
        return f'exec {IPERFPY} diagnose "$LAB_FAR" -J'

    @property
    def name(self) -> str:
        """One line with the seed, the kinds and the path."""
        return f"{self.seed} lab {'+'.join(self.kinds) or 'none'}: {self.path}"


def reason_to_skip(path: BlindPath) -> str:
    """Give the reason why a drawn path cannot be run, empty for one that can."""
    if END_KINDS & set(path.kinds):
        return "a window or an application is no option of diagnose"
    if SIMULATED_KINDS & set(path.kinds):
        return "made by the simulator alone"
    if path.rate > FASTEST:
        return f"faster than {FASTEST / 1e6:.0f} Mb/s"
    if path.rtt_us > LONG_RTT_S * 1e6:
        return f"longer than {LONG_RTT_S * 1e3:.0f} ms: a diagnosis takes 120 s"
    return ""


def drawn(path: BlindPath) -> LabCase:
    """Describe a drawn path. The way back has the same rate: the diagnosis loads it as well."""
    back = plain(path.rate, path.rtt_us, path.fair_us).with_(**path.back)
    return LabCase(path.seed, path.kinds, describe(path.forward, back), path.rate, dict(path.truth))


def plain(rate: float, rtt_us: float, fair_us: float) -> Path:
    """Make one way of a line: a rate, a delay, and a queue that is no cause."""
    most = max(8 * PACKET, int(rate * BACK_FAIR * fair_us / 8e6))
    return Path(delay_us=rtt_us / 2, rate_bits_per_s=rate, buffer_bytes=most)


def part(seed: int) -> LabCase:
    """Draw a line, and give one of its ends, or UDP on it, the limit of the seed's turn."""
    rng = random.Random(f"blind lab {seed}")
    rate, rtt_us = _between(rng, *PART_RATES), _between(rng, *PART_RTTS_US)
    fair_us = max(FAIR_QUEUE_US, FAIR_QUEUE_RTTS * rtt_us)
    way = plain(rate, rtt_us, fair_us)
    kind = list(PARTS)[seed % len(PARTS)]
    made = PARTS[kind](rng, rate, rate * rtt_us / 8e6)
    return LabCase(seed, (kind,), describe(way, way), rate, **made)


def _between(rng: random.Random, low: float, high: float) -> float:
    return exp(rng.uniform(log(low), log(high)))


def _buffer(sysctl: str, size: int) -> str:
    """Write the kernel's smallest, usual and largest buffer of TCP in the namespace of one end."""
    return f"echo 4096 {size} {size} > /proc/sys/net/ipv4/{sysctl}"


def _size(rng: random.Random, bdp: float) -> int:
    return max(LEAST_BUFFER, int(rng.uniform(*WINDOW) * bdp))


def _receive_window(rng: random.Random, rate: float, bdp: float) -> dict[str, Any]:
    size = _size(rng, bdp)
    return {"far": _buffer("tcp_rmem", size), "truth": {Cause.RECEIVE_WINDOW: {"buffer_bytes": size}}}


def _send_buffer(rng: random.Random, rate: float, bdp: float) -> dict[str, Any]:
    size = _size(rng, bdp)
    return {"near": _buffer("tcp_wmem", size), "truth": {Cause.SEND_BUFFER: {"buffer_bytes": size}}}


def _datagrams_differ(rng: random.Random, rate: float, bdp: float) -> dict[str, Any]:
    """Drop a share of UDP at random as it enters the far end, and nothing else.

    A limit of nftables would not do: its bucket holds a second of the rate, so tests of 1.5 s differ.
    """
    thousandths = rng.randint(*FILTERED)
    far = (
        "nft add table inet filter"
        " && nft 'add chain inet filter in { type filter hook input priority 0; }'"
        f" && nft 'add rule inet filter in meta l4proto udp numgen random mod 1000 < {thousandths} drop'"
    )
    # The ladder consists of UDP, so to it the filter is a loss at any rate.
    truth = {Cause.DATAGRAMS_DIFFER: {}, Cause.NOISE: {"share": thousandths / 1000}}
    return {"far": far, "truth": truth}


def _processor(rng: random.Random, rate: float, bdp: float) -> dict[str, Any]:
    """Stop the server for most of the time, longer than its sockets can hold the path's rate."""
    stopped_s, working_s = rng.uniform(0.4, 0.7), rng.uniform(0.15, 0.25)
    server = f"{shlex.join([sys.executable, '-m', SLOWED])} {stopped_s:.3f} {working_s:.3f} -s"
    truth = {Cause.PROCESSOR: {"share": working_s / (working_s + stopped_s)}}
    return {"server": server, "truth": truth}


def _application(rng: random.Random, rate: float, bdp: float) -> dict[str, Any]:
    """Feed one TCP test from a pipe that gets less than the path carries."""
    pause_s = 0.05
    size = int(rng.uniform(*FED) * rate / 8 * pause_s)
    feeder = f"(while head -c {size} /dev/zero; do sleep {pause_s}; done)"
    return {"feeder": feeder, "truth": {Cause.APPLICATION: {"bits_per_s": size * 8 / pause_s}}}


PARTS: dict[str, Callable[[random.Random, float, float], dict[str, Any]]] = {
    "udp-differs": _datagrams_differ,
    "receive-window-of-tcp": _receive_window,
    "send-buffer-of-tcp": _send_buffer,
    "processor": _processor,
    "application-of-tcp": _application,
}


def cases(seeds: range, parts: int | None = None) -> tuple[list[LabCase], dict[str, int]]:
    """Give the cases of the seeds, a part for each of the first `parts` ones (None: all) and the drawn
    paths that can be run, and counts of skipped paths."""
    found: list[LabCase] = []
    skipped: dict[str, int] = {}
    for seed in seeds:
        path = draw(seed)
        if reason := reason_to_skip(path):
            skipped[reason] = skipped.get(reason, 0) + 1
        else:
            found.append(drawn(path))
        if parts is None or seed < seeds.start + parts:
            found.append(part(seed))
    return found, skipped
