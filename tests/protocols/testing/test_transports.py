"""The conformance checks over every transport in the registry, on both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from iperfpy.protocols.contract import Transport
from iperfpy.protocols.registry import GROUP, transports
from iperfpy.protocols.testing import conformance
from iperfpy.protocols.testing.conformance import CHECKS, Check, Subject, name_of

pytestmark = [pytest.mark.live, pytest.mark.long]

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
OVER_IPV6 = (
    conformance.forward_bulk_is_counted_exactly,
    conformance.reverse_bulk_is_counted_exactly,
    conformance.blocks_of_any_size_arrive,
)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("check", CHECKS, ids=name_of)
@pytest.mark.parametrize("name", transports())
def test_contract(name: str, check: Check, loop: str) -> None:
    transport = transports()[name]
    check(Subject(transport, transport.settings(), loop_factory=LOOPS[loop]))


@pytest.mark.parametrize("check", OVER_IPV6, ids=name_of)
@pytest.mark.parametrize("name", transports())
def test_contract_over_ipv6(name: str, check: Check) -> None:
    transport = transports()[name]
    check(Subject(transport, transport.settings(), host="::1"))


def test_the_registry_names_what_it_holds() -> None:
    for name, transport in transports().items():
        assert isinstance(transport, Transport)
        assert transport.name == name, f"entry point {name!r} of {GROUP} loads {transport.name!r}"
        assert transport.summary
        assert transport.prefix
