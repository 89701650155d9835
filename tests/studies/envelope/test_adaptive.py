"""`--kcp-fec auto` over simulated paths: messages are less late, bulk data is as fast, and a step is
followed."""

from __future__ import annotations

import numpy as np
import pytest

from tests.studies.envelope.adaptive import STEP_LOSS, messages, step_rows
from tests.studies.envelope.price import delays_ms, run


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
