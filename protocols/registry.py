"""Every transport that can be named on a command line.

Built-in and third-party transports are found the same way: entry points in the group
`iperfpy.transports`, each naming a `Transport` subclass. The registry is the list of choices;
there is no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points

from iperfpy.protocols.contract import Transport
from iperfpy.protocols.errors import SettingsError

GROUP = "iperfpy.transports"


@cache
def transports() -> Mapping[str, Transport]:
    """Name -> transport, built-in ones first, then by name. A plug-in that cannot be imported is a
    `SettingsError` naming it, raised only here: nothing is half-registered."""
    found: dict[str, Transport] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda e: (not _ours(e.value), _order(e.name))):
        try:
            found[entry.name] = entry.load()()
        except Exception as error:
            raise SettingsError(
                f"transport {entry.name!r} ({entry.value}) cannot be loaded: {error}"
            ) from error
    return found


def transport(name: str) -> Transport:
    """The transport of that name.

    Raises
    ------
    SettingsError
        When there is none; the text lists those that there are.
    """
    try:
        return transports()[name]
    except KeyError:
        raise SettingsError(f"unknown transport {name!r} (known: {', '.join(transports())})") from None


def _ours(value: str) -> bool:
    return value.startswith("protocols.")


def _order(name: str) -> tuple[int, str]:
    built_in = ("tcp", "udp", "kcp", "kcp-bbr")
    return (built_in.index(name) if name in built_in else len(built_in), name)
