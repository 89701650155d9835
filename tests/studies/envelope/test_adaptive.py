"""`--kcp-fec auto` over simulated paths: messages are less late, bulk data is as fast, and a step is
followed."""

from __future__ import annotations

import numpy as np
import pytest

from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.simulator import Bulk, Path, Simulation, bdp_bytes
from tests.studies.envelope.adaptive import STEP_LOSS, messages, step_rows
from tests.studies.envelope.price import End, delays_ms, run


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "loss"), [("kcp", 0.05), ("kcp-bbr", 0.1)])
def test_messages_are_less_late_for_bytes_that_are_stated(kind: str, loss: float) -> None:
    found = messages(kind, loss, 6.0, seed=2)
    assert found.lower_percent > 30
    assert 15 < found.overhead_percent < 110
    assert found.restored_percent > 100 * loss / 2
    assert found.gain == pytest.approx(found.restored_percent / found.overhead_percent, rel=0.6)


def test_bulk_data_has_no_parity_for_a_reason() -> None:
    figures = run("kcp-bbr", "auto", 0.02, 1.0, bulk=True).sender.figures()
    assert figures["fec_parity_sent"] == 0
    assert figures["fec_geometry"] == "off"
    assert "bulk data" in figures["fec_reason"]


class WaitingBulk(Bulk):
    """Bulk data of a stream that was opened some time before its load, as a channel does it.

    Parameters
    ----------
    load_us : time at which the load is there
    opening_bytes : leave at once, to prove the peer's address
    """

    def __init__(self, engine: Engine, load_us: int, opening_bytes: int) -> None:
        super().__init__(engine)
        self._engine, self._load_us, self._opening_bytes = engine, load_us, opening_bytes
        self._is_opened = self._has_load = False

    def feed(self, now_us: int) -> int:
        if now_us >= self._load_us:
            if not self._has_load:
                self._engine.limits.load_begins(now_us)
                self._has_load = True
            return super().feed(now_us)
        if self._is_opened:
            return 0
        self._is_opened = True
        self._engine.probe()
        return self._engine.write(memoryview(bytes(self._opening_bytes)), now_us)

    def due_us(self) -> int | None:
        return None if self._has_load else self._load_us


@pytest.mark.parametrize("opening_bytes", [0, 1])
def test_bulk_data_has_no_parity_however_long_its_stream_waited(opening_bytes: int) -> None:
    """The time between the handshake and the load is no limit by the application."""
    sender, receiver = (End("kcp-bbr", "auto", push=False) for _ in range(2))
    simulation = Simulation(seed=1)
    path = Path(20e6, bdp_bytes(20e6, 40_000), 20_000.0, loss=0.05)
    writer = WaitingBulk(sender.engine, 1_500_000, opening_bytes)
    simulation.flow(sender, receiver, simulation.link(path), simulation.link(path), writer)
    simulation.run(2_700_000)
    assert sender.figures()["fec_data_sent"] > 1_000
    assert sender.figures()["fec_parity_sent"] == 0


@pytest.mark.slow
def test_a_step_of_the_loss_is_followed() -> None:
    rows = step_rows(seed=1, step_s=7, compares=False)
    parity = [0 if row["geometry"] == "off" else int(row["geometry"].partition(":")[2]) for row in rows]
    assert parity[6] <= 1  # the path has lost nothing for 7 s
    assert all(parity[9:14])
    assert max(parity[9:14]) >= 3
    assert parity[-1] == 0
    assert rows[13]["measured_percent"] == pytest.approx(100 * STEP_LOSS, abs=2.5)
    assert sum(row["restored"] for row in rows[7:15]) > 15


def test_parity_delays_no_message_on_a_path_without_loss() -> None:
    auto, plain = (delays_ms(run("kcp-bbr", fec, 0.0, 1.0, bulk=False), 1.0) for fec in ("auto", "off"))
    assert float(np.max(auto - plain)) < 1.0
