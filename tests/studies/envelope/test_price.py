"""The price study on a short run: forward error correction shortens delays of messages, for its overhead."""

from __future__ import annotations

import numpy as np
import pytest

from tests.studies.envelope.price import MESSAGES_PER_S, Sent, delays_ms, run

SECONDS = 5.0


def late(sent: Sent) -> float:
    return float(np.percentile(delays_ms(sent, SECONDS), 99))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kcp", "kcp-bbr"])
def test_messages_on_a_lossy_path_are_less_late(kind: str) -> None:
    plain = run(kind, "off", 0.05, SECONDS, bulk=False)
    corrected = run(kind, "10:3", 0.05, SECONDS, bulk=False)
    assert np.isfinite(delays_ms(corrected, SECONDS)).all()
    assert len(delays_ms(plain, SECONDS)) == SECONDS * MESSAGES_PER_S
    assert late(corrected) < 0.7 * late(plain)
    grown = corrected.sender.engine.counts.wire_bytes_sent / plain.sender.engine.counts.wire_bytes_sent
    assert 1.2 < grown < 1.5
