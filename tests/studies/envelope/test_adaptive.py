"""`--kcp-fec auto` over simulated paths: messages are less late, bulk data is as fast, and a step is
followed."""

from __future__ import annotations

import numpy as np
import pytest

from tests.studies.envelope.adaptive import STEP_LOSS, messages, step_rows
from tests.studies.envelope.price import delays_ms, run


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "loss"), [("kcp", 0.05), ("kcp-bbr", 0.02), ("kcp-bbr", 0.1)])
def test_messages_are_less_late_for_bytes_that_are_stated(kind: str, loss: float) -> None:
    found = messages(kind, loss, 8.0, seed=2)
    assert found.lower_percent > 30
    assert 15 < found.overhead_percent < 90
    assert found.restored_percent > 100 * loss / 2
    assert found.gain == pytest.approx(found.restored_percent / found.overhead_percent, rel=0.6)


def test_bulk_data_has_no_parity_for_a_reason() -> None:
    auto = run("kcp-bbr", "auto", 0.02, 2.0, bulk=True)
    plain = run("kcp-bbr", "off", 0.02, 2.0, bulk=True)
    figures = auto.sender.figures()
    assert figures["fec_parity_sent"] == 0
    assert figures["fec_geometry"] == "off"
    assert "bulk data" in figures["fec_reason"]
    rates = [sent.receiver.engine.receiving.bytes for sent in (auto, plain)]
    assert rates[0] > 0.95 * rates[1]


@pytest.mark.slow
def test_a_step_of_the_loss_is_followed() -> None:
    rows = step_rows(seed=1, step_s=8)
    sets = [row["geometry"] for row in rows]
    assert sets[7] == "off"  # the path has lost nothing for 8 s
    assert all(each != "off" for each in sets[10:16])
    assert sets[-1] == "off"
    assert rows[15]["measured_percent"] == pytest.approx(100 * STEP_LOSS, abs=2.0)
    assert sum(row["restored"] for row in rows[8:17]) > 20


def test_messages_over_a_path_without_loss_arrive_as_without_parity() -> None:
    sent = run("kcp-bbr", "auto", 0.0, 2.0, bulk=False)
    assert float(np.max(delays_ms(sent, 2.0))) < 90
