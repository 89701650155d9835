"""`--kcp-fec auto` on simulated paths: delays of messages, rate of bulk data, and a step of the loss.

    python -m tests.studies.envelope.adaptive [--seconds 30] [--seeds 5] [--name fec-auto-2026-11-30]
    python -m tests.studies.envelope.adaptive --messages 40,60     these losses alone, in percent

Messages, path and overhead are those of tests/studies/envelope/price.py: 100 messages of 100 bytes a second
over 170 ms and 20 Mbit/s, with random loss in both directions. The overhead is the growth of all bytes that
the sender carried.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path as File
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from iperfpy.protocols.simulator.path import Change
from tests.studies.envelope.price import BULK_S, MESSAGES_PER_S, Sent, delays_ms, run
from tests.studies.machine import RESULTS
from tests.studies.record import write_table
from tests.studies.table import Table

LOSSES = (0.0, 0.02, 0.05, 0.1)
BULK_LOSSES = (0.0, 0.02, 0.05)
KINDS = ("kcp", "kcp-bbr")
STEP_LOSS, STEP_S = 0.05, 20
STEP_KIND = "kcp-bbr"


class Messages(NamedTuple):
    """One run of messages without forward error correction, and one with `auto`, over the same seed."""

    plain_p50_ms: float
    auto_p50_ms: float
    plain_p99_ms: float
    auto_p99_ms: float
    overhead_percent: float
    restored_percent: float
    gain: float
    residual_percent: float
    geometry: str

    @property
    def lower_percent(self) -> float:
        """Share by which the 99th percentile is lower."""
        return 100 * (1 - self.auto_p99_ms / self.plain_p99_ms)


def messages(kind: str, loss: float, seconds: float, seed: int) -> Messages:
    plain = run(kind, "off", loss, seconds, bulk=False, seed=seed)
    auto = run(kind, "auto", loss, seconds, bulk=False, seed=seed)
    sent, got = auto.sender.figures(), auto.receiver.figures()
    data = sent["fec_data_sent"]
    plain_p50, plain_p99 = np.percentile(delays_ms(plain, seconds), (50, 99))
    auto_p50, auto_p99 = np.percentile(delays_ms(auto, seconds), (50, 99))
    return Messages(
        plain_p50_ms=float(plain_p50),
        auto_p50_ms=float(auto_p50),
        plain_p99_ms=float(plain_p99),
        auto_p99_ms=float(auto_p99),
        overhead_percent=100 * (_wire_bytes(auto) / _wire_bytes(plain) - 1),
        restored_percent=100 * got["fec_recovered"] / data,
        gain=got["fec_recovered"] / max(1, sent["fec_added_datagrams"]),
        residual_percent=max(0.0, 100 * (1 - got["fec_data_whole"] / data)),
        geometry=sent["fec_geometry"],
    )


def _wire_bytes(sent: Sent) -> int:
    return sent.sender.engine.counts.wire_bytes_sent


def message_rows(seconds: float, seeds: int, losses: Sequence[float] = LOSSES) -> Iterator[dict[str, Any]]:
    for kind in KINDS:
        for loss in losses:
            runs = [messages(kind, loss, seconds, seed) for seed in range(1, seeds + 1)]
            yield {
                "part": "messages",
                "kind": kind,
                "loss": loss,
                "plain_p50_ms": median(one.plain_p50_ms for one in runs),
                "auto_p50_ms": median(one.auto_p50_ms for one in runs),
                "plain_p99_ms": median(one.plain_p99_ms for one in runs),
                "auto_p99_ms": median(one.auto_p99_ms for one in runs),
                "least_lower_percent": min(one.lower_percent for one in runs),
                "lower_percent": median(one.lower_percent for one in runs),
                "overhead_percent": median(one.overhead_percent for one in runs),
                "restored_percent": median(one.restored_percent for one in runs),
                "gain": median(one.gain for one in runs),
                "residual_percent": median(one.residual_percent for one in runs),
                "geometry": " ".join(one.geometry for one in runs),
            }


def bulk_mbit_per_s(fec: str, loss: float, seed: int) -> tuple[float, dict[str, Any]]:
    """Payload rate of bulk data over kcp-bbr, and the sender's figures."""
    sent = run("kcp-bbr", fec, loss, BULK_S, bulk=True, seed=seed)
    return sent.receiver.engine.receiving.bytes * 8 / BULK_S / 1e6, sent.sender.figures()


def bulk_rows(seeds: int) -> Iterator[dict[str, Any]]:
    for loss in BULK_LOSSES:
        plain = [bulk_mbit_per_s("off", loss, seed)[0] for seed in range(1, seeds + 1)]
        auto = [bulk_mbit_per_s("auto", loss, seed) for seed in range(1, seeds + 1)]
        yield {
            "part": "bulk",
            "kind": "kcp-bbr",
            "loss": loss,
            "plain_mbit_per_s": median(plain),
            "auto_mbit_per_s": median(rate for rate, _ in auto),
            "parity_sent": sum(figures["fec_parity_sent"] for _, figures in auto),
            "reason": " / ".join(sorted({figures["fec_reason"] for _, figures in auto})),
        }


def step_rows(seed: int = 1, step_s: int = STEP_S, *, compares: bool = True) -> list[dict[str, Any]]:
    """Messages while the loss goes from 0 to `STEP_LOSS` and back: a row for every second. `compares`: the
    same without forward error correction, beside it."""
    found: list[dict[str, Any]] = []
    changes = tuple(
        Change(at_s * 1_000_000, {"loss": loss}) for at_s, loss in ((step_s, STEP_LOSS), (2 * step_s, 0.0))
    )

    def watch(sent: Sent, now_us: int) -> None:
        figures, got = sent.sender.figures(), sent.receiver.figures()
        found.append(
            {
                "part": "step",
                "kind": STEP_KIND,
                "second": now_us // 1_000_000,
                "loss": STEP_LOSS if step_s < now_us / 1e6 <= 2 * step_s else 0.0,
                "measured_percent": figures["fec_path_loss_percent"],
                "geometry": figures["fec_geometry"],
                "restored": got["fec_recovered"] - sum(row["restored"] for row in found),
                "parity_sent": figures["fec_parity_sent"] - sum(row["parity_sent"] for row in found),
                "reason": figures["fec_reason"],
            }
        )

    seconds = 3 * step_s
    auto = run(STEP_KIND, "auto", 0.0, seconds, bulk=False, seed=seed, changes=changes, watch=watch)
    ends = {"auto_worst_ms": auto}
    if compares:
        ends["plain_worst_ms"] = run(STEP_KIND, "off", 0.0, seconds, bulk=False, seed=seed, changes=changes)
    for key, sent in ends.items():
        by_second = delays_ms(sent, seconds).reshape(seconds, MESSAGES_PER_S)
        for row, late in zip(found, by_second, strict=False):
            row[key] = float(late.max())
    return found[:seconds]


def message_table(found: list[dict[str, Any]]) -> Table:
    headings = (
        *(
            "transport",
            "lost",
            "P50 off (ms)",
            "P50 auto (ms)",
            "P99 off (ms)",
            "P99 auto (ms)",
            "lower",
            "at least",
            "overhead",
            "restored",
        ),
        *("per 1 % added", "stayed lost", "sets in the end"),
    )
    return Table(
        headings,
        [
            (
                *(row["kind"], f"{100 * row['loss']:g} %"),
                *(f"{row['plain_p50_ms']:.0f}", f"{row['auto_p50_ms']:.0f}"),
                *(f"{row['plain_p99_ms']:.0f}", f"{row['auto_p99_ms']:.0f}", f"{row['lower_percent']:.0f} %"),
                *(f"{row['least_lower_percent']:.0f} %", f"{row['overhead_percent']:+.0f} %"),
                *(f"{row['restored_percent']:.2f} %", f"{row['gain']:.2f} %"),
                *(f"{row['residual_percent']:.2f} %", row["geometry"]),
            )
            for row in found
        ],
        left=2,
    )


def bulk_table(found: list[dict[str, Any]]) -> Table:
    headings = ("lost", "off (Mbit/s)", "auto (Mbit/s)", "parity datagrams", "reason")
    return Table(
        headings,
        [
            (
                *(f"{100 * row['loss']:g} %", f"{row['plain_mbit_per_s']:.2f}"),
                *(f"{row['auto_mbit_per_s']:.2f}", str(row["parity_sent"]), row["reason"]),
            )
            for row in found
        ],
    )


def step_table(found: list[dict[str, Any]]) -> Table:
    headings = (
        *("second", "lost", "measured", "sets", "parity sent", "restored"),
        *("slowest, auto (ms)", "slowest, off (ms)"),
    )
    return Table(
        headings,
        [
            (
                *(str(row["second"]), f"{100 * row['loss']:g} %", f"{row['measured_percent']:.2f} %"),
                *(row["geometry"], str(row["parity_sent"]), str(row["restored"])),
                *(f"{row['auto_worst_ms']:.0f}", f"{row['plain_worst_ms']:.0f}"),
            )
            for row in found
        ],
        left=1,
    )


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.studies.envelope.adaptive")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--messages", default="", help="losses in percent, as 40,60: only messages")
    parser.add_argument("--name", default="fec-auto")
    options = parser.parse_args(arguments)
    where = File(RESULTS, options.name)
    where.parent.mkdir(parents=True, exist_ok=True)
    parts: tuple[
        tuple[str, Callable[[], list[dict[str, Any]]], Callable[[list[dict[str, Any]]], Table]], ...
    ] = (
        ("step", step_rows, step_table),
        ("bulk", lambda: list(bulk_rows(1)), bulk_table),
        ("messages", lambda: list(message_rows(options.seconds, options.seeds)), message_table),
    )
    if options.messages:
        losses = [float(percent) / 100 for percent in options.messages.split(",")]
        parts = (
            ("messages", lambda: list(message_rows(options.seconds, options.seeds, losses)), message_table),
        )
    for name, rows, table in parts:
        found = rows()
        made = table(found)
        made.show()
        write_table(where.with_name(f"{options.name}-{name}"), made, found)


if __name__ == "__main__":
    main(sys.argv[1:])
