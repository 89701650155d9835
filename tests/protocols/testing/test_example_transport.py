"""The conformance checks accept the example plug-in without an installation."""

from __future__ import annotations

import pytest

from iperfpy.protocols.testing.conformance import CHECKS, Check, Subject, name_of
from tests.example_transport.iperfpy_echo import Echo, EchoSettings

pytestmark = pytest.mark.live


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
def test_contract(check: Check) -> None:
    check(Subject(Echo(), EchoSettings()))
