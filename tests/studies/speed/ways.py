"""Ways to move bytes over TCP: the one that the transport uses, and its alternatives, in one run.

    python -m tests.studies.speed.ways                      about a minute
    python -m tests.studies.speed.ways --only loops --rounds 9

Bare loops at both ends of a loopback connection, one process each, one second a run, in turns. `threads` has
blocking calls in a thread; protocols/tcp has the same calls of 1 MiB, and waits for room or data before each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mmap
import os
import resource
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

KIB, MIB = 1024, 1024 * 1024
SO_ZEROCOPY, MSG_ZEROCOPY, MSG_ERRQUEUE = 60, 0x4000000, 0x2000  # of Linux
COMPLETIONS_EVERY = 8


@dataclass(frozen=True, slots=True)
class Way:
    """One way to carry a stream. `send`, `receive`: names below; sizes are those of one call."""

    group: str
    name: str
    send: str = "blocking"
    receive: str = "blocking"
    send_bytes: int = MIB
    receive_bytes: int = MIB
    low_water_bytes: int = 0
    """SO_RCVLOWAT: least number of bytes that wakes the receiver."""


def _size(size_bytes: int) -> str:
    return f"{size_bytes // MIB} MiB" if size_bytes >= MIB else f"{size_bytes // KIB} KiB"


WAYS = (
    *(Way("sizes", f"send {_size(size)}, recv 1 MiB", send_bytes=size) for size in (128 * KIB, MIB, 4 * MIB)),
    *(
        Way("sizes", f"send 1 MiB, recv {_size(size)}", receive_bytes=size)
        for size in (128 * KIB, 512 * KIB, 4 * MIB)
    ),
    Way("sizes", "send 1 MiB, recv 1 MiB, SO_RCVLOWAT 256 KiB", low_water_bytes=256 * KIB),
    Way("copies", "send, recv"),
    Way("copies", "sendfile, recv", send="sendfile"),
    Way("copies", "MSG_ZEROCOPY, recv", send="zerocopy"),
    Way("copies", "send, recv with MSG_TRUNC", receive="truncate"),
    Way("copies", "sendfile, recv with MSG_TRUNC", send="sendfile", receive="truncate"),
    *(
        Way("loops", f"{loop}, {_size(size)}", loop, loop, size, size)
        for size in (MIB, 16 * KIB)
        for loop in ("threads", "asyncio", "uvloop")
    ),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """Figures of one run: payload bits per second, processor seconds per 10^9 bytes and calls per MiB at each
    end."""

    bits_per_s: float
    send_s_per_gb: float
    receive_s_per_gb: float
    sends_per_mib: float
    receives_per_mib: float


# ---------------------------------------------------------------------- ends
# Each gives (bytes, calls). A sender makes one call at least: a busy machine may start it too late.


def send_blocking(sock: socket.socket, way: Way, until: float) -> tuple[int, int]:
    block, total, calls = memoryview(os.urandom(way.send_bytes)), 0, 0
    while not calls or time.monotonic() < until:
        total += sock.send(block)
        calls += 1
    return total, calls


def send_file(sock: socket.socket, way: Way, until: float) -> tuple[int, int]:
    total, calls = 0, 0
    with tempfile.TemporaryFile() as file:
        file.write(os.urandom(way.send_bytes))
        file.flush()
        while not calls or time.monotonic() < until:
            total += os.sendfile(sock.fileno(), file.fileno(), 0, way.send_bytes)
            calls += 1
    return total, calls


def send_zerocopy(sock: socket.socket, way: Way, until: float) -> tuple[int, int]:
    """Read the error queue, on which the kernel returns buffers; all of them are the same buffer here."""
    sock.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    block = mmap.mmap(-1, way.send_bytes)
    total, calls = 0, 0
    while not calls or time.monotonic() < until:
        total += sock.send(block, MSG_ZEROCOPY)
        calls += 1
        if calls % COMPLETIONS_EVERY == 0:
            calls += _read_completions(sock)
    return total, calls


def _read_completions(sock: socket.socket) -> int:
    for calls in range(COMPLETIONS_EVERY + 1):
        try:
            sock.recvmsg(0, 128, MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return calls + 1
    return COMPLETIONS_EVERY + 1


def receive_blocking(sock: socket.socket, way: Way, flags: int = 0) -> tuple[int, int]:
    if way.low_water_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, way.low_water_bytes)
    buffer, total, calls = bytearray(way.receive_bytes), 0, 0
    while size := sock.recv_into(buffer, way.receive_bytes, flags):
        total += size
        calls += 1
    return total, calls


def receive_truncated(sock: socket.socket, way: Way) -> tuple[int, int]:
    return receive_blocking(sock, way, socket.MSG_TRUNC)


async def send_on_loop(sock: socket.socket, way: Way, until: float) -> tuple[int, int]:
    loop, block, calls = asyncio.get_running_loop(), memoryview(os.urandom(way.send_bytes)), 0
    while not calls or time.monotonic() < until:
        await loop.sock_sendall(sock, block)
        calls += 1
    return calls * way.send_bytes, calls


async def receive_on_loop(sock: socket.socket, way: Way) -> tuple[int, int]:
    loop, buffer, total, calls = asyncio.get_running_loop(), bytearray(way.receive_bytes), 0, 0
    while size := await loop.sock_recv_into(sock, buffer):
        total += size
        calls += 1
    return total, calls


def _on_loop(kind: str, sock: socket.socket, way: Way, until: float) -> tuple[int, int]:
    sock.setblocking(False)
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if kind == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(send_on_loop(sock, way, until) if until else receive_on_loop(sock, way))


def _in_thread(work: Callable[[], tuple[int, int]]) -> tuple[int, int]:
    done: list[tuple[int, int]] = []
    thread = threading.Thread(target=lambda: done.append(work()))
    thread.start()
    thread.join()
    return done[0]


def carry(sock: socket.socket, way: Way, until: float) -> tuple[int, int]:
    """Run this end; `until` 0: it receives."""
    kind = way.send if until else way.receive
    if kind in ("asyncio", "uvloop"):
        return _on_loop(kind, sock, way, until)
    if kind == "threads":
        return _in_thread(lambda: send_blocking(sock, way, until) if until else receive_blocking(sock, way))
    if until:
        senders = {"blocking": send_blocking, "sendfile": send_file, "zerocopy": send_zerocopy}
        return senders[kind](sock, way, until)
    return receive_truncated(sock, way) if kind == "truncate" else receive_blocking(sock, way)


# ---------------------------------------------------------------------- runs


def run(way: Way, seconds: float) -> Cost:
    """Run once, with a process for each end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        receiving = _child(lambda: _account(listener.accept()[0], way, 0))
        sending = _child(lambda: _account(socket.create_connection(address), way, time.monotonic() + seconds))
        sent, received = _result(sending), _result(receiving)
    # Payload is the receiver's count: the sender's includes bytes left in its buffer.
    gb, mib = received["bytes"] / 1e9, received["bytes"] / MIB
    return Cost(
        received["bytes"] * 8 / sent["wall_s"],
        sent["cpu_s"] / gb,
        received["cpu_s"] / gb,
        sent["calls"] / mib,
        received["calls"] / mib,
    )


def _account(sock: socket.socket, way: Way, until: float) -> dict[str, float]:
    before, began = _cpu_s(), time.monotonic()
    with sock:
        total, calls = carry(sock, way, until)
    return {"bytes": total, "calls": calls, "cpu_s": _cpu_s() - before, "wall_s": time.monotonic() - began}


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _child(work: Callable[[], dict[str, float]]) -> tuple[int, int]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    return child, reading


def _result(child: tuple[int, int]) -> dict[str, float]:
    pid, reading = child
    with open(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    result: dict[str, float] = json.loads(answer)
    return result


def line(way: Way, costs: list[Cost]) -> str:
    """Give the medians of all runs and the spread of the rate as a row of a Markdown table."""

    def median(pick: Callable[[Cost], float]) -> float:
        return statistics.median(pick(cost) for cost in costs)

    rates = [cost.bits_per_s / 1e9 for cost in costs]
    cells = (
        way.name,
        f"{statistics.median(rates):.1f}",
        f"{min(rates):.1f}..{max(rates):.1f}",
        f"{median(lambda cost: cost.send_s_per_gb):.3f}",
        f"{median(lambda cost: cost.receive_s_per_gb):.3f}",
        f"{median(lambda cost: cost.sends_per_mib):.1f}",
        f"{median(lambda cost: cost.receives_per_mib):.1f}",
    )
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.studies.speed.ways", description="Ways to use TCP."
    )
    parser.add_argument("--only", choices=("sizes", "copies", "loops"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.6)
    options = parser.parse_args(arguments)
    ways = [way for way in WAYS if options.only in (None, way.group)]
    costs: dict[Way, list[Cost]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way in ways:
            costs[way].append(run(way, options.seconds))
    print("| way | Gb/s | spread | send s/GB | receive s/GB | sends/MiB | receives/MiB |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(line(way, costs[way]) for way in ways))


if __name__ == "__main__":
    main(sys.argv[1:])
