"""Every transport that can be named on a command line.

An entry point names a `Transport` subclass: those of plug-ins come from the group `iperfpy.transports` of
installed packages, the built-in ones from the table below, so that a checkout runs without an installation.
The registry is the list of choices; there is no other.

    transports()          name -> transport, those that could be loaded
    unusable()            name -> reason, the plug-ins that could not
    transport("quic")     one of them, or a `SettingsError` with the reason

A plug-in that cannot be loaded, or is incomplete, does not affect tests of other transports.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import NamedTuple

from iperfpy.protocols.contract import Transport
from iperfpy.protocols.errors import SettingsError

GROUP = "iperfpy.transports"
BUILT_IN = {
    "tcp": "iperfpy.protocols.tcp:Tcp",
    "udp": "iperfpy.protocols.udp:Udp",
    "kcp": "iperfpy.protocols.kcp:Kcp",
    "kcp-bbr": "iperfpy.protocols.kcp:KcpBbr",
}
"""Name -> class of each transport of this distribution, in the order in which they are listed."""


class _Registry(NamedTuple):
    loaded: dict[str, Transport]
    unusable: dict[str, str]


def transports() -> Mapping[str, Transport]:
    """Name -> transport, built-in ones first, then by name. Plug-ins that cannot be loaded are left out."""
    return _registry().loaded


def built_in_transports() -> Mapping[str, Transport]:
    """The transports of this distribution, without those of plug-ins."""
    return {name: one for name, one in transports().items() if name in BUILT_IN}


def unusable() -> Mapping[str, str]:
    """Name -> sentence, for each plug-in that cannot be loaded."""
    return _registry().unusable


def transport(name: str) -> Transport:
    """The transport of that name. Raises the `SettingsError` of `unknown_transport` if there is none."""
    found = transports().get(name)
    if found is None:
        raise unknown_transport(name, transports())
    return found


def unknown_transport(name: str, known: Iterable[str]) -> SettingsError:
    """The error for a name that is not among `known`: the reason why its plug-in cannot be loaded, or a list
    of the known names."""
    reason = unusable().get(name)
    return SettingsError(reason or f"unknown transport {name!r} (known: {', '.join(known)})")


@cache
def _registry() -> _Registry:
    loaded: dict[str, Transport] = {}
    broken: dict[str, str] = {}
    own = [EntryPoint(name, value, GROUP) for name, value in BUILT_IN.items()]
    plugins = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    entries = [*own, *(entry for entry in plugins if BUILT_IN.get(entry.name) != entry.value)]
    for entry in entries:
        try:
            made = _load(entry)
        # A plug-in is code of others, and its module may raise anything while it is imported.
        except (Exception, SystemExit) as error:
            reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
            broken[entry.name] = f"transport {entry.name!r} ({entry.value}) cannot be loaded: {reason[0]}"
        else:
            loaded.setdefault(entry.name, made)  # ours comes first: no plug-in replaces it
    return _Registry(loaded, broken)


def _load(entry: EntryPoint) -> Transport:
    """The transport that an entry point names, if it is one that the program can use."""
    made: Transport = entry.load()()
    if BUILT_IN.get(entry.name) == entry.value:  # tests have checked it, and `--help` shall not wait for that
        return made
    from iperfpy.protocols.declaration import check_declaration

    if not isinstance(made, Transport):
        raise TypeError("it is not a Transport")
    check_declaration(made)
    if made.name != entry.name:
        raise ValueError(f"it calls itself {made.name!r}")
    return made
