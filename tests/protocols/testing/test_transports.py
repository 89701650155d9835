"""The battery, for every transport in the registry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from iperfpy.protocols.contract import Transport
from iperfpy.protocols.registry import GROUP, transports
from iperfpy.protocols.settings import Settings, setting_fields
from iperfpy.protocols.testing.conformance import CHECKS, Check, Subject, name_of

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def changed(settings: type[Settings]) -> Settings:
    """Settings with every field away from its default that can be without knowing what it means."""
    values: dict[str, bool | int | str] = {}
    for field in setting_fields(settings):
        rule, kind = field.option, field.kind
        if kind is bool:
            values[field.name] = not field.default
        elif kind is int:
            low, high = rule.minimum or 0, rule.maximum
            values[field.name] = low if low != field.default or high is None else high
        elif rule.choices:
            values[field.name] = next(choice for choice in rule.choices if choice != field.default)
    return settings(**values)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("check", CHECKS, ids=name_of)
@pytest.mark.parametrize("name", transports())
def test_contract(name: str, check: Check, loop: str) -> None:
    transport = transports()[name]
    settings = transport.settings()
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(check(Subject(transport, settings, changed=changed(transport.settings))))


@pytest.mark.parametrize("check", CHECKS[:3], ids=name_of)
@pytest.mark.parametrize("name", transports())
async def test_contract_over_ipv6(name: str, check: Check) -> None:
    transport = transports()[name]
    await check(Subject(transport, transport.settings(), host="::1"))


def test_the_registry_names_what_it_holds() -> None:
    for name, transport in transports().items():
        assert isinstance(transport, Transport)
        assert transport.name == name, f"entry point {name!r} of {GROUP} loads {transport.name!r}"
        assert transport.summary
        assert transport.prefix
