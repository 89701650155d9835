"""One test, as JSON: python -m tests.studies.mtu.measure_one HOST PORT TRANSPORT REVERSE SECONDS [MTU]

Prints the intervals (end in seconds, receiver's bytes, sender's size of datagrams), the rate, the warnings,
and the time of the first notice about the path (`time.monotonic`, s; null without one).
"""

from __future__ import annotations

import json
import sys
import time

import iperfpy
from iperfpy.errors import IperfpyError
from iperfpy.protocols.metrics import Side
from iperfpy.records import Row, RunEnded, RunStarted

SIZE = "mtu_bytes"
"""The sender's metric that is its size of datagrams."""


class Notes:
    """A sink that keeps, per interval, its end, the receiver's bytes and the sender's size of datagrams; and
    the time of the first notice."""

    def __init__(self) -> None:
        self.intervals: list[tuple[float, int, int]] = []
        self.noticed_s: float | None = None

    def start(self, start: RunStarted) -> None: ...

    def interval(self, rows: tuple[Row, ...]) -> None:
        if rows[0].notices and self.noticed_s is None:
            self.noticed_s = time.monotonic()
        sender, receiver = rows[0].of(Side.SENDER), rows[0].of(Side.RECEIVER)
        if sender is not None:
            size = int(sender.values.get(SIZE) or 0)
            self.intervals.append((sender.end_us / 1e6, receiver.bytes if receiver else 0, size))

    def end(self, end: RunEnded) -> None: ...

    def error(self, message: str) -> None: ...

    def close(self) -> None: ...


def main(host: str, port: str, transport: str, reverse: str, seconds: str, mtu: str = "0") -> None:
    notes = Notes()
    result: dict[str, object]
    try:
        run = iperfpy.measure(
            host,
            port=int(port),
            transport=transport,
            seconds=float(seconds),
            interval=0.1,
            reverse=reverse == "1",
            settings={"mtu": int(mtu)} if int(mtu) else {},
            sinks=(notes,),
        )
    except IperfpyError as error:
        result = {"error": str(error)}
    else:
        result = {"bits_per_second": run.bits_per_second, "warnings": list(run.warnings)}
    print(json.dumps({"intervals": notes.intervals, "noticed_s": notes.noticed_s} | result))


if __name__ == "__main__":
    main(*sys.argv[1:])
