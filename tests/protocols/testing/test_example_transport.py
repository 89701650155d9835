"""The battery accepts the example plug-in as it is, without an installation."""

from __future__ import annotations

import pytest

from iperfpy.protocols.testing.conformance import CHECKS, Check, Subject, name_of
from tests.example_transport.iperfpy_echo import Echo, EchoSettings


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
async def test_contract(check: Check) -> None:
    await check(Subject(Echo(), EchoSettings(), changed=EchoSettings(chunk=4096)))
