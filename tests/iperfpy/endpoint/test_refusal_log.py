"""Log lines of refused clients: one each, as many as an address may cause."""

from __future__ import annotations

import logging

import pytest

from iperfpy.endpoint.refusal_log import ADDRESSES, BURST, RefusalLog


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "iperfpy.service")
    return caplog


def test_a_refusal_names_the_client_and_the_reason(lines: pytest.LogCaptureFixture) -> None:
    RefusalLog(lambda: 0.0).refused(("192.0.2.7", 4000), "this server is busy")
    assert lines.messages == ["refused 192.0.2.7 port 4000: this server is busy"]


def test_one_address_cannot_fill_the_log_nor_hide_another(lines: pytest.LogCaptureFixture) -> None:
    now_s = 0.0
    log = RefusalLog(lambda: now_s)
    for port in range(1000):
        log.refused(("192.0.2.7", port), "busy")
    assert len(lines.messages) == BURST
    log.refused(("192.0.2.8", 1), "busy")
    now_s = 1.5
    log.refused(("192.0.2.7", 1), "busy")
    assert lines.messages[BURST:] == [
        "refused 192.0.2.8 port 1: busy",
        f"refused 192.0.2.7 port 1: busy ({1000 - BURST} lines of this address left out)",
    ]
    assert log.count == 1002


def test_the_memory_for_addresses_is_bounded(lines: pytest.LogCaptureFixture) -> None:
    log = RefusalLog(lambda: 0.0)
    for number in range(2 * ADDRESSES):
        log.refused((f"2001:db8:0:{number:x}::1", 1), "busy")
    assert len(log._quotas) == ADDRESSES
