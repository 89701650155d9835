"""Cost and gain of forward error correction on simulated paths: delays of messages, rate of bulk data.

    python -m tests.studies.envelope.price [--seconds 60] [--name fec-price-2026-11-30]
    python -m tests.studies.envelope.price --lab     also over real sockets: lab_price.py

Messages have 100 bytes, 100 a second, over a round-trip time of 170 ms and 20 Mbit/s. A delay is that between
writing a message and its delivery in order; the path itself takes 85 ms. Overhead is the growth of all bytes
that the sender carried, without those of the other direction. Bulk data fills the same path
with a queue of one bandwidth-delay product.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path as File
from typing import Any, NamedTuple

import numpy as np

from iperfpy.protocols.datagrams.batch import DatagramBatch
from iperfpy.protocols.kcp import engine_factory
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.envelope.enveloped_engine import EnvelopedEngine
from iperfpy.protocols.kcp.envelope.layer_factory import layers_of
from iperfpy.protocols.kcp.settings import KcpBbrSettings, KcpSettings
from iperfpy.protocols.simulator import Bulk, Path, Simulation, bdp_bytes
from iperfpy.protocols.simulator.application import Paced
from iperfpy.protocols.simulator.path import Change
from tests.studies.envelope.lab_price import study
from tests.studies.machine import RESULTS
from tests.studies.record import append_line, write_table
from tests.studies.table import Table

RATE, RTT_US = 20e6, 170_000
MESSAGE_BYTES, MESSAGES_PER_S = 100, 100
LOSSES = (0.02, 0.05, 0.1)
GEOMETRIES = ("off", "1:1", "2:1", "4:2", "10:3")
BULK_S, BULK_KIND = 10.0, "kcp-bbr"
"""The fixed windows of stock KCP overflow such a queue with any geometry."""
KINDS = ("kcp", "kcp-bbr")
HEAVY_LOSS = 0.3
"""From here on, messages may arrive long after the last one was written."""


class End:
    """An engine in its envelope, as the simulation wants it. `received`: (time, payload bytes so far)."""

    def __init__(self, kind: str, fec: str, *, push: bool) -> None:
        self.received: list[tuple[int, int]] = []
        self._now_us = 0
        self.engine = _engine(kind, fec, self._deliver, push=push)
        kinds = {"kcp": KcpSettings, "kcp-bbr": KcpBbrSettings}
        layers = layers_of(kinds[kind](fec=fec), None, os.urandom, agreed=True)
        self._end = EnvelopedEngine(self.engine, layers) if layers else self.engine

    def _deliver(self, payload: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        before = self.received[-1][1] if self.received else 0
        self.received.append((self._now_us, before + payload.size))

    def figures(self) -> dict[str, Any]:
        """The counters of the envelope; empty without one."""
        return dict(self._end.figures()) if isinstance(self._end, EnvelopedEngine) else {}

    def receive(self, batch: DatagramBatch, now_us: int) -> None:
        self._now_us = now_us
        self._end.receive(batch, now_us)

    def transmit(self, now_us: int) -> list[DatagramBatch]:
        return self._end.transmit(now_us)

    def deadline_us(self) -> int | None:
        return self.engine.deadline_us()


def _engine(kind: str, fec: str, deliver: Any, *, push: bool) -> Engine:
    if kind == "kcp":
        return engine_factory.stock(7, KcpSettings(fec=fec, push=push), deliver)
    return engine_factory.with_bbr(7, KcpBbrSettings(fec=fec, push=push), deliver)


class Sent(NamedTuple):
    """The ends after a run."""

    sender: End
    receiver: End


def run(
    kind: str,
    fec: str,
    loss: float,
    seconds: float,
    *,
    bulk: bool,
    seed: int = 3,
    changes: tuple[Change, ...] = (),
    watch: Callable[[Sent, int], None] | None = None,
) -> Sent:
    """One flow for so many seconds, and some more for messages that are late.

    Parameters
    ----------
    changes : of the path there; watch : is called every second of the simulation
    """
    sender, receiver = End(kind, fec, push=not bulk), End(kind, fec, push=not bulk)
    simulation = Simulation(seed=seed)
    path = Path(RATE, bdp_bytes(RATE, RTT_US), RTT_US / 2, loss=loss, changes=changes)
    there, back = simulation.link(path), simulation.link(path.with_(rate_bits_per_s=None))
    rate = 8.0 * MESSAGE_BYTES * MESSAGES_PER_S
    total = int(seconds * MESSAGES_PER_S) * MESSAGE_BYTES
    writer = Bulk(sender.engine) if bulk else Messages(sender.engine, rate, total)
    simulation.flow(sender, receiver, there, back, writer)
    if watch is not None:
        simulation.every(1_000_000, partial(watch, Sent(sender, receiver)))
    late_s = 0 if bulk else 5 if loss < HEAVY_LOSS else 60
    simulation.run(int((seconds + late_s) * 1e6))
    return Sent(sender, receiver)


class Messages(Paced):
    """Messages at their due times, up to a number of bytes."""

    def __init__(self, engine: Engine, rate_bits_per_s: float, total_bytes: int) -> None:
        super().__init__(engine, rate_bits_per_s, MESSAGE_BYTES)
        self._total_bytes = total_bytes

    def _room(self) -> int:
        return min(super()._room(), self._total_bytes - self.written_bytes, MESSAGE_BYTES)

    def due_us(self) -> int | None:
        return super().due_us() if self.written_bytes < self._total_bytes else None


def delays_ms(sent: Sent, seconds: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The delay of each message; those that never arrived count as infinite."""
    count = int(seconds * MESSAGES_PER_S)
    written_us = np.arange(count) * 1e6 / MESSAGES_PER_S
    times, totals = (np.array(column) for column in zip(*sent.receiver.received, strict=True))
    at = np.searchsorted(totals, (np.arange(count) + 1) * MESSAGE_BYTES)
    arrived_us = np.append(times.astype(np.float64), np.inf)[at]
    return (arrived_us - written_us) / 1000


def bulk_mbit_per_s(fec: str, loss: float) -> float:
    """Payload rate of bulk data."""
    sent = run(BULK_KIND, fec, loss, BULK_S, bulk=True)
    return sent.receiver.engine.receiving.bytes * 8 / BULK_S / 1e6


def rows(seconds: float) -> Iterator[dict[str, Any]]:
    for kind in KINDS:
        for loss in LOSSES:
            plain_bytes = 0
            for fec in GEOMETRIES:
                sent = run(kind, fec, loss, seconds, bulk=False)
                late = delays_ms(sent, seconds)
                wire_bytes = sent.sender.engine.counts.wire_bytes_sent
                plain_bytes = plain_bytes or wire_bytes
                yield {
                    "kind": kind,
                    "loss": loss,
                    "fec": fec,
                    **{f"p{share}_ms": float(np.percentile(late, share)) for share in (50, 99, 99.9)},
                    "overhead_percent": 100 * (wire_bytes / plain_bytes - 1),
                    "bulk_mbit_per_s": bulk_mbit_per_s(fec, loss) if kind == BULK_KIND else None,
                }


def table(found: list[dict[str, Any]]) -> Table:
    headings = ("transport", "lost", "FEC", "P50 (ms)", "P99 (ms)", "P99.9 (ms)", "overhead", "bulk (Mbit/s)")
    return Table(
        headings,
        [
            (
                *(row["kind"], f"{row['loss'] * 100:g} %", row["fec"]),
                *(f"{row[key]:.0f}" for key in ("p50_ms", "p99_ms", "p99.9_ms")),
                f"{row['overhead_percent']:+.0f} %",
                "" if row["bulk_mbit_per_s"] is None else f"{row['bulk_mbit_per_s']:.1f}",
            )
            for row in found
        ],
        left=3,
    )


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.studies.envelope.price")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--name", default="fec-price")
    parser.add_argument(
        "--lab", action="store_true", help="messages and echoes, in the simulator and in the lab"
    )
    parser.add_argument("--minutes", type=float, default=0.0, help="with --lab: begin no run after that time")
    options = parser.parse_args(arguments)
    where = File(RESULTS, options.name)
    where.parent.mkdir(parents=True, exist_ok=True)
    if options.lab:
        jobs = [(kind, loss, fec) for kind in KINDS for loss in LOSSES for fec in GEOMETRIES]
        study(jobs, options.seconds, options.minutes, where)
        return
    found = []
    for row in rows(options.seconds):
        append_line(where.with_suffix(".jsonl"), row)
        found.append(row)
    made = table(found)
    made.show()
    write_table(where, made, found)


if __name__ == "__main__":
    main(sys.argv[1:])
