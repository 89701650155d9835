"""Processor time of a KCP test by part, in microseconds per 64 KiB of payload.

    python -m tests.studies.speed.profile --rounds 5 --seconds 2          a table in Markdown

Both ends are the real program over loopback, a process each. A timer of the process's own processor time
interrupts it (at the rate of the kernel's tick, commonly 250 times a second). The function on the stack names
the part, and the time since the interrupt before is charged to it. No function is wrapped, and time of other
programs does not count. `rest` is time outside all parts: the event loop, and Python between the parts.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import FrameType

from tests.studies.speed.processes import run_both
from tests.studies.speed.programs import HOST, duration, of_run

UNIT_BYTES = 65_536
INTERVAL_S = 0.001
TRANSPORTS, ENDS = ("kcp", "kcp-bbr"), ("send", "receive")
REST = "rest"
PARTS: dict[str, tuple[str, ...]] = {
    "sendmsg": ("iperfpy.protocols.datagrams.datagram_socket:DatagramSocket._sendmsg",),
    "recvmsg": ("iperfpy.protocols.datagrams.datagram_socket:DatagramSocket._read",),
    "runs of datagrams": ("iperfpy.protocols.datagrams.",),
    "copy into blocks": (
        "iperfpy.protocols.kcp.send_window:SendWindow.write",
        "iperfpy.protocols.kcp.packet_blocks:PacketBlock.fill",
        "iperfpy.protocols.kcp.packet_blocks:PacketBlock.put",
    ),
    "headers": (
        "iperfpy.protocols.kcp.send_window:SendWindow.stamp_",
        "iperfpy.protocols.kcp.packet_blocks:PacketBlock.stamp",
        "iperfpy.protocols.kcp.outbound:",
    ),
    "parsing": (
        "iperfpy.protocols.kcp.inbound:",
        "iperfpy.protocols.kcp.wire:expand",
    ),
    "receive window": ("iperfpy.protocols.kcp.receive_window:",),
    "building ACKs": (
        "iperfpy.protocols.kcp.owed_acks:",
        "iperfpy.protocols.kcp.wire:ack_segments",
        "iperfpy.protocols.kcp.wire:control_segment",
        "iperfpy.protocols.kcp.engine:Engine._send_acks",
        "iperfpy.protocols.kcp.outbound:Outbound.loose",
    ),
    "processing ACKs": (
        "iperfpy.protocols.kcp.delivery:",
        "iperfpy.protocols.kcp.send_window:",
        "iperfpy.protocols.kcp.packet_blocks:HeldPackets",
        "iperfpy.protocols.kcp.rtt_estimator:",
    ),
    "recovery": ("iperfpy.protocols.kcp.loss_recovery.",),
    "BBR": (
        "iperfpy.protocols.congestion.bbr.",
        "iperfpy.protocols.congestion.filters:",
        "iperfpy.protocols.congestion.congestion_control:",
    ),
    "pacing": ("iperfpy.protocols.congestion.pacer:",),
    "engine, hearing": (
        "iperfpy.protocols.kcp.engine:Engine.receive",
        "iperfpy.protocols.kcp.wire:",
    ),
    "engine, sending": ("iperfpy.protocols.kcp.",),
    "channel": ("iperfpy.protocols.kcp.channel:", "iperfpy.protocols.datagrams.stream_rounds:"),
    "the load": ("iperfpy.traffic.payload:",),
}
"""Part -> prefixes of its functions, as module:qualified.name; the longest matching prefix counts."""
_BY_LENGTH = sorted(
    ((name, part) for part, names in PARTS.items() for name in names), key=lambda x: -len(x[0])
)

Figures = dict[str, float]


def part_of(name: str) -> str | None:
    """Name the part to which a function belongs, or None."""
    return next((part for begin, part in _BY_LENGTH if name.startswith(begin)), None)


class Sampler:
    """Samples the main thread's stack every few milliseconds of processor time."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, str | None]] = []

    def start(self) -> None:
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0.0)

    def _sample(self, number: int, frame: FrameType | None) -> None:
        self._samples.append((time.process_time(), self._part(frame)))

    @staticmethod
    def _part(frame: FrameType | None) -> str | None:
        """Name the part of the innermost function that belongs to one. Time in numpy and in the standard
        library counts for the caller."""
        while frame is not None:
            module, function = frame.f_globals.get("__name__"), frame.f_code.co_qualname
            if function != "<module>" and (part := part_of(f"{module}:{function}")):
                return part
            frame = frame.f_back
        return None

    def seconds(self) -> Figures:
        return seconds(self._samples)


def seconds(samples: Sequence[tuple[float, str | None]]) -> Figures:
    """Sum processor time by part, from (time, part) of each sample. Samples before the first part are the
    program's start, and those after the last its end: neither counts."""
    busy = [at for at, (_, part) in enumerate(samples) if part]
    spent: dict[str, float] = defaultdict(float)
    if busy:
        for (before_s, _), (now_s, part) in pairwise(samples[busy[0] : busy[-1] + 1]):
            spent[part or REST] += now_s - before_s
    return dict(spent)


def run_sampled(file: str, arguments: Sequence[str]) -> int:
    """Run the program under the sampler, and write its samples to `file`."""
    from iperfpy.cli.main import main as program

    sampler = Sampler()
    sampler.start()
    status = program(arguments)
    sampler.stop()
    Path(file).write_text(json.dumps(sampler.seconds()))
    return status


def profile(transport: str, length_s: float) -> tuple[float, dict[str, Figures]]:
    """Run one test of one stream: units of payload carried, and seconds by part at each end."""
    with tempfile.TemporaryDirectory() as folder:
        files = {end: str(Path(folder, end)) for end in ENDS}

        def command(end: str, *flags: str) -> Sequence[str]:
            return (sys.executable, "-m", "tests.studies.speed.profile", "--sampled", files[end], *flags)

        def serve(port: int) -> Sequence[str]:
            return command("receive", "-s", "-1", "-p", str(port))

        def send(port: int) -> Sequence[str]:
            flags = ("-c", HOST, "-p", str(port), "-J", "--proto", transport, *duration(length_s))
            return command("send", *flags)

        # Each end runs under the sampler, which writes a file at its end.
        both = run_both(serve, send, "tcp", {}, length_s + 30.0)
        units = of_run(both.client.output, transport).bytes / UNIT_BYTES
        return units, {end: json.loads(Path(file).read_text()) for end, file in files.items()}


def table(columns: Mapping[str, Figures]) -> str:
    """Build the Markdown table: a row for each part with a visible share, and the sums last."""
    lines = [f"| µs per 64 KiB | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for part in (*PARTS, REST):
        values = [column.get(part, 0.0) for column in columns.values()]
        if max(values) >= 0.05:
            lines.append(f"| {part} | {' | '.join(f'{one:.1f}' if one >= 0.05 else '' for one in values)} |")
    sums = (f"**{sum(column.values()):.1f}**" for column in columns.values())
    return "\n".join([*lines, f"| **sum** | {' | '.join(sums)} |"])


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["--sampled"]:
        return run_sampled(arguments[1], arguments[2:])
    parser = argparse.ArgumentParser(prog="python -m tests.studies.speed.profile")
    parser.add_argument("--rounds", type=int, default=5, help="tests of each transport [5]")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a test [2]")
    options = parser.parse_args(arguments)
    columns: dict[str, dict[str, float]] = {}
    carried: dict[str, float] = defaultdict(float)
    for _ in range(options.rounds):
        for transport in TRANSPORTS:
            units, ends = profile(transport, options.seconds)
            carried[transport] += units
            for end, parts in ends.items():
                column = columns.setdefault(f"{transport}, {end}", defaultdict(float))
                for part, took_s in parts.items():
                    column[part] += took_s
    for name, column in columns.items():
        for part in column:
            column[part] *= 1e6 / carried[name.partition(",")[0]]
    print(table(columns))
    return 0


if __name__ == "__main__":
    sys.exit(main())
