"""Cost of the KCP engines without sockets. Run as a program, it prints one JSON line.

python -m tests.studies.speed.engines ours kcp 512 200000        window, segments
python -m tests.studies.speed.engines lossy kcp-bbr 65000 200000  the same at 1 % loss
python -m tests.studies.speed.engines memory kcp-bbr 65000        peak memory of a sender with a full window
python -m tests.studies.speed.engines c 1024 200000               PyPI `kcp`, the C library
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable

from iperfpy.protocols.kcp import engine_factory
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.settings import KcpBbrSettings, KcpSettings
from tests.studies.speed.memory_path import MemoryPath

MTU, CONV = 1400, 0x1234567
WARM_ROUNDS = 3
LOSS = 0.01


def engine(name: str, window: int) -> Engine:
    """Make one end with these windows. A path in memory loses nothing that a timer would have to find, so the
    interval of stock KCP only sets how often its timers are checked."""
    if name == "kcp-bbr":
        return engine_factory.with_bbr(CONV, KcpBbrSettings(sndwnd=window, rcvwnd=65_535, mtu=MTU))
    return engine_factory.stock(CONV, KcpSettings(sndwnd=window, rcvwnd=65_535, mtu=MTU))


def warmed_path(name: str, window: int, loss: float) -> MemoryPath:
    """Make a path, and run it until its window is full."""
    path = MemoryPath(engine(name, window), engine(name, window), window, loss)
    while path.sender.sending.nxt - path.sender.sending.una < 0.9 * window:
        path.carry(max(512, window // 4))
        if path.acknowledged > 40 * window:
            break  # Congestion control may keep the window smaller; the measured number of segments shows it.
    path.carry(WARM_ROUNDS * window if window < 5000 else window)
    return path


def ours(name: str, window: int, segments: int, loss: float = 0.0) -> dict[str, float]:
    path = warmed_path(name, window, loss)
    costs = path.carry(segments).per_segment_us()
    held = path.sender.sending.nxt - path.sender.sending.una
    return {
        **{f"us_per_segment_{part}": value for part, value in costs.items()},
        "bits_per_s": 8e6 * (MTU - 24) / costs["both"],
        "window_filled": held / window,
    }


def memory(name: str, window: int) -> dict[str, float]:
    """Measure the peak memory of a process in which a sender fills its window.

    Every module of the program is loaded. The receiver is in the same process, but buffers nothing, because
    all segments arrive in order.
    """
    import iperfpy.api
    import iperfpy.cli.outputs  # noqa: F401 - loaded for its size

    path = warmed_path(name, window, 0.0)
    sending = path.sender.sending
    return {"peak_bytes": _peak_bytes(), "window_filled": (sending.nxt - sending.una) / window}


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def c_engine(window: int, segments: int) -> dict[str, float]:
    """Measure the C library through its Python binding, two ends joined by function calls."""
    from kcp.extension import KCP

    ends = [
        KCP(
            CONV,
            max_transmission=MTU,
            no_delay=True,
            update_interval=10,
            resend_count=2,
            no_congestion_control=True,
            send_window_size=window,
            receive_window_size=window,
        )
        for _ in range(2)
    ]
    wires: list[list[bytes]] = [[], []]
    for end, wire in zip(ends, wires, strict=True):
        end.include_outbound_handler(_collector(wire))
    block, received, now_ms = bytes(MTU - 24), 0, 0
    before = time.thread_time_ns()
    while received < segments:
        now_ms += 10
        # Keep one window queued, as a bulk sender does.
        while ends[0].get_outbound_packets() < window:
            ends[0].enqueue(block)
        for sending, receiving in ((0, 1), (1, 0)):
            ends[sending].update(now_ms)
            ends[sending].flush()
            datagrams, wires[sending] = wires[sending][:], wires[sending]
            wires[sending].clear()
            for datagram in datagrams:
                ends[receiving].receive(datagram)
        received += sum(1 for _ in ends[1].get_all_received())
    both = (time.thread_time_ns() - before) / 1000 / received
    return {"us_per_segment_both": both, "bits_per_s": 8e6 * (MTU - 24) / both}


def _collector(wire: list[bytes]) -> Callable[[object, bytes], None]:
    return lambda _, data: wire.append(bytes(data))


def main(arguments: list[str]) -> None:
    kind, *rest = arguments
    if kind == "c":
        figures = c_engine(int(rest[0]), int(rest[1]))
    elif kind == "memory":
        figures = memory(rest[0], int(rest[1]))
    else:
        figures = ours(rest[0], int(rest[1]), int(rest[2]), LOSS if kind == "lossy" else 0.0)
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
