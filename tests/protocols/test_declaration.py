"""An incomplete transport is refused with a sentence, attribute by attribute of the contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from iperfpy.protocols.contract import Delivery, Iperf3Mapping, Transport
from iperfpy.protocols.declaration import check_declaration
from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.metrics import Metric
from iperfpy.protocols.registry import transports
from iperfpy.protocols.settings import Settings, option
from iperfpy.protocols.tcp import Tcp

ATTRIBUTES = list(Transport.__annotations__)
REQUIRED = [name for name in ATTRIBUTES if name not in vars(Transport)]
METHODS = [name for name, member in vars(Transport).items() if callable(member)]


def tcp_with(**attributes: Any) -> Transport:
    kind: type[Transport] = type("Mine", (Tcp,), attributes)
    return kind()


@dataclass(frozen=True, slots=True)
class Untold(Settings):
    size: int = 5


@dataclass(frozen=True, slots=True)
class Empty(Settings):
    size: int = option(0, help="a default below the minimum", minimum=1)


@dataclass(frozen=True, slots=True)
class Dashless(Settings):
    size: int = option(1, help="a size", flags=["size"])


@dataclass(frozen=True, slots=True)
class Numbered(Settings):
    size: int = option(1, help="a size", choices=[1, 2])  # type: ignore[list-item]


@pytest.mark.parametrize("name", transports())
def test_every_transport_is_complete(name: str) -> None:
    check_declaration(transports()[name])


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_attribute_of_another_type_is_named(name: str) -> None:
    with pytest.raises(TypeError, match=f"^`{name}` must be .*, not <object"):
        check_declaration(tcp_with(**{name: object()}))


def test_an_attribute_that_is_missing_is_named() -> None:
    assert {"prefix", "summary", "metrics", "settings"} <= set(REQUIRED)
    for name in REQUIRED:
        others = {one: getattr(Tcp, one) for one in REQUIRED if one != name}
        methods = {one: getattr(Tcp, one) for one in Transport.__abstractmethods__}
        mine: Transport = type("Mine", (Transport,), others | methods)()
        with pytest.raises(TypeError, match=f"it does not declare `{name}`"):
            check_declaration(mine)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_is_a_value_is_named(name: str) -> None:
    with pytest.raises(TypeError, match=f"`{name}` must be a method, not 5"):
        check_declaration(tcp_with(**{name: 5}))


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"metrics": (Metric(5, "a number for a key"),)}, "`metrics` must be"),  # type: ignore[arg-type]
        ({"metrics": (Metric("x", "text", unit="us"),)}, "`metrics` must be"),  # type: ignore[arg-type]
        ({"iperf3": Iperf3Mapping(key=None)}, "`iperf3` must be"),  # type: ignore[arg-type]
        ({"delivery": Delivery("", "", "", "", "", 1)}, "`delivery` must be"),  # type: ignore[arg-type]
        ({"flags": ("-x", 5)}, "`flags` must be"),
        ({"flags": ("x",)}, "`flags`: 'x' is not a flag"),
        ({"prefix": "two words"}, "`prefix` must be letters"),
        ({"name": ""}, "`name` must be letters"),
        ({"rate_bps": True}, "`rate_bps` must be int, not True"),
        ({"block_limits": (1, 2, 3)}, "`block_limits` must be"),
        ({"settings": Untold}, r"a setting must be declared by option\(\): size"),
        ({"settings": Empty}, "size must be at least 1"),
        ({"settings": Dashless}, "setting 'size': 'size' is not a flag"),
        ({"settings": Numbered}, r"setting 'size': an argument of option\(\)"),
    ],
    ids=str,
)
def test_a_part_of_another_type_is_found(attributes: dict[str, Any], sentence: str) -> None:
    with pytest.raises((TypeError, ValueError, SettingsError), match=sentence):
        check_declaration(tcp_with(**attributes))
