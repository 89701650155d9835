"""Golden trajectories of kcp-bbr: the controller's state at each round trip of eight paths, as text.

    python -m tests.protocols.trajectories            # write the files of tests/golden/trajectories again

A change of the controller shows as a difference in these files; read it before you commit it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as File
from typing import ClassVar

from iperfpy.protocols.congestion.congestion_control import Ack, CongestionControl, Loss
from iperfpy.protocols.simulator import Bulk, Change, Path, Simulation, bdp_bytes
from tests.studies.paths.watched import bbr_engine

FOLDER = File(__file__).parents[1] / "golden" / "trajectories"
ROUNDS = 60
SEED = 1
RATE, RTT_US = 8e6, 100_000
_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Case:
    """One path, with the title of its file."""

    name: str
    title: str
    forward: Path


def _buffered(bdp: float, **fields: object) -> Path:
    buffer = bdp_bytes(RATE, RTT_US, bdp)
    return Path(rate_bits_per_s=RATE, buffer_bytes=buffer, delay_us=RTT_US / 2).with_(**fields)


_STEPS = (Change(2_000_000, {"rate_bits_per_s": 24e6}), Change(5_000_000, {"rate_bits_per_s": 4e6}))

CASES = (
    Case("clean", "8 Mb/s, 100 ms, buffer 1 BDP", _buffered(1.0)),
    Case("loss-1", "the same with 1 % random loss", _buffered(1.0, loss=0.01)),
    Case("loss-10", "the same with 10 % random loss", _buffered(1.0, loss=0.1)),
    Case("loss-30", "the same with 30 % random loss", _buffered(1.0, loss=0.3)),
    Case("shallow", "8 Mb/s, 100 ms, buffer 0.1 BDP", _buffered(0.1)),
    Case("deep", "8 Mb/s, 100 ms, buffer 10 BDP", _buffered(10.0)),
    Case(
        "policer",
        "policed to 8 Mb/s with a bucket of 100 KB, 100 ms, no queue",
        Path(police_bits_per_s=RATE, bucket_bytes=100_000, delay_us=RTT_US / 2),
    ),
    Case(
        "rate-step",
        "8 Mb/s, from 2 s on 24, from 5 s on 4; 100 ms, buffer 100 KB",
        _buffered(1.0, changes=_STEPS),
    ),
)


class Recorder:
    """A controller that passes every call to another one and records its state at the end of each round.

    A round ends when a segment sent after its beginning is acknowledged.
    """

    name: ClassVar[str] = "recorder"

    def __init__(self, control: CongestionControl) -> None:
        self.lines: list[str] = []
        self._control = control
        self._round_start = 0

    @property
    def window(self) -> int:
        return self._control.window

    @property
    def pacing_rate(self) -> float:
        return self._control.pacing_rate

    @property
    def burst(self) -> int:
        return self._control.burst

    def on_sent(self, now_us: int, segments: int, in_flight: int) -> None:
        self._control.on_sent(now_us, segments, in_flight)

    def on_ack(self, ack: Ack) -> None:
        self._control.on_ack(ack)
        if ack.flight is not None and ack.flight.delivered >= self._round_start:
            self._round_start = ack.delivered
            self._record(ack)

    def on_loss(self, loss: Loss) -> None:
        self._control.on_loss(loss)

    def on_timeout(self, now_us: int) -> None:
        self._control.on_timeout(now_us)

    def on_idle(self, now_us: int) -> None:
        self._control.on_idle(now_us)

    def state(self) -> Mapping[str, float | int | str | None]:
        return self._control.state()

    def _record(self, ack: Ack) -> None:
        state = self._control.state()
        rate, noise = self._control.pacing_rate, float(state["noise_percent"] or 0.0)
        self.lines.append(
            f"{len(self.lines) + 1:5} {ack.now_us / 1e6:8.3f} {self._control.window:7} {rate:9.0f}"
            f" {ack.in_flight:9} {noise:6.2f}  {state['phase']}"
        )


def trajectory(case: Case) -> str:
    """Simulate a case and return the text of its file."""
    # The recorder takes the place of the controller, so that the engine's calls pass through it.
    sender, receiver = bbr_engine(SEED), bbr_engine(SEED)
    assert sender.control is not None
    recorder = Recorder(sender.control)
    sender.steer(recorder)
    simulation = Simulation(SEED)
    there, back = simulation.link(case.forward), simulation.link(Path(delay_us=case.forward.delay_us))
    simulation.flow(sender, receiver, there, back, Bulk(sender))
    while len(recorder.lines) < ROUNDS and simulation.now_us < _SECONDS * 1_000_000:
        simulation.run(simulation.now_us + RTT_US)
    heading = f"{'round':>5} {'s':>8} {'window':>7} {'pacing/s':>9} {'in flight':>9} {'noise%':>6}  phase"
    return "\n".join([f"# {case.title}", heading, *recorder.lines[:ROUNDS]]) + "\n"


def file_of(case: Case) -> File:
    return FOLDER / f"{case.name}.txt"


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        file_of(case).write_text(trajectory(case), encoding="utf-8")


if __name__ == "__main__":
    main()
