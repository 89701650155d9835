"""Flags made from the transports' `Settings`, and settings made from the flags that were typed.

    Settings field --flags_of--> SharedFlag --option_of--> click option      before parsing
    typed text --settings_of--> value of the field of the chosen transport   after parsing

Several transports may declare one flag. It is one option, and the transport that `--proto` names decides on
the type, the unit and the range of its value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from iperfpy.cli.secret_flags import key_flags
from iperfpy.cli.value_types import Flag, Parsed
from iperfpy.plan import Role
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.settings import Setting, Settings, setting_fields

_METAVARS = {"bytes": "SIZE", "bits_per_second": "RATE", "microseconds": "US", "milliseconds": "MS"}


@dataclass(slots=True)
class SharedFlag:
    """One option of the command line. `fields`: transport name -> the settings field that it sets."""

    flags: list[str]
    fields: dict[str, Setting] = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)

    @property
    def parameter(self) -> str:
        """click's parameter name, with a prefix: a field may have the name of one of our own parameters."""
        return "setting_" + self.name.lstrip("-").replace("-", "_")

    @property
    def name(self) -> str:
        """The longest spelling, for sentences about the flag."""
        return max(self.flags, key=len)

    @property
    def declared(self) -> Setting:
        """The field of the first transport that declares the flag."""
        return next(iter(self.fields.values()))

    @property
    def off(self) -> str:
        """`--no-...` if a boolean is on by default in one of the transports, else empty."""
        on = any(one.default is True for one in self.fields.values())
        return "--no-" + self.name.lstrip("-") if on else ""

    @property
    def spellings(self) -> list[str]:
        """Every word that click takes for this flag."""
        return [*self.flags, self.off] if self.off else self.flags


def without_conflicts(
    transports: Mapping[str, Transport], own: Sequence[str]
) -> tuple[dict[str, Transport], dict[str, str]]:
    """The transports with flags that do not contradict each other or the program's `own` ones; and name ->
    reason for the others. An earlier transport has precedence, so a plug-in cannot disable a built-in one."""
    usable: dict[str, Transport] = {}
    reasons: dict[str, str] = {}
    for name, transport in transports.items():
        tried = {**usable, name: transport}
        try:
            shared = shared_flags(tried)
        except SettingsError as error:
            reasons[name] = str(error)
            continue
        selecting = (flag for one in tried.values() for flag in one.flags)
        settings = (word for one in shared for word in one.spellings)
        claims = Counter((*own, *selecting, *settings, *key_flags(tried)))
        twice = next((flag for flag, times in claims.items() if times > 1), None)
        if twice is None:
            usable[name] = transport
        else:
            reasons[name] = f"transport {name!r} declares the flag {twice}, which is in use already"
    return usable, reasons


def shared_flags(transports: Mapping[str, Transport]) -> list[SharedFlag]:
    """Every transport's flags, in order of declaration. Flags with a spelling in common become one. Raises
    `SettingsError` if one is with a value in one transport, and without one in another."""
    found: list[SharedFlag] = []
    for name, transport in transports.items():
        for one in setting_fields(transport.settings):
            flags = one.flags(transport.prefix)
            # One common spelling is enough: transports may add aliases of their own to a flag.
            shared = next((s for s in found if set(s.flags) & set(flags)), None)
            if shared is None:
                shared = SharedFlag([])
                found.append(shared)
            _join(shared, name, one, flags)
    return found


def _join(shared: SharedFlag, name: str, one: Setting, flags: Sequence[str]) -> None:
    if shared.fields and (shared.declared.kind is bool) is not (one.kind is bool):
        raise SettingsError(f"transport {name!r} declares {flags[0]} with a value, another one without")
    shared.fields[name] = one
    shared.flags += [flag for flag in flags if flag not in shared.flags]
    shared.aliases += [alias for alias in one.option.aliases if alias not in shared.aliases]


def option_of(shared: SharedFlag, transports: Mapping[str, Transport]) -> Flag:
    """The click option. Its value stays text until the transport is known."""
    one = shared.declared
    names = [shared.parameter, *sorted(shared.flags, key=len)]
    choices = f": {', '.join(one.option.choices)}" if one.option.choices else ""
    help = one.option.help + choices + _default_note(shared)
    owners = tuple(shared.fields)
    every = len(owners) == len(transports)
    heading = "With every --proto" if every else f"With --proto {' or '.join(owners)}"
    role = None if any(field.option.at_server for field in shared.fields.values()) else Role.CLIENT
    # None marks a flag that was not typed: the transport's own default then holds, on or off.
    if one.kind is bool:
        if shared.off:
            names[-1] += f"/{shared.off}"
        return Flag(heading, names, help, role=role, transports=owners, is_flag=True, default=None)
    setting, hidden = Parsed("setting", str, one.option.choices), one.option.hidden
    return Flag(
        heading,
        names,
        help,
        role=role,
        transports=owners,
        type=setting,
        metavar=_metavar(one),
        hidden=hidden,
    )


def _metavar(one: Setting) -> str:
    rule = one.option
    if rule.metavar or rule.choices:
        return rule.metavar or "NAME"
    return _METAVARS.get(rule.unit, "N" if one.kind is int else "NAME")


def _default_note(shared: SharedFlag) -> str:
    """The default in brackets: ` [1400]` if it is the same everywhere, else ` [kcp 512]`; empty if unset."""
    defaults = {name: one.default for name, one in shared.fields.items()}
    shown = {name: _shown(value) for name, value in defaults.items() if value not in (None, False, "")}
    if not shown:
        return ""
    if len(set(shown.values())) == 1 and len(shown) == len(defaults):
        return f" [{next(iter(shown.values()))}]"
    return f" [{', '.join(f'{name} {value}' for name, value in shown.items())}]"


def _shown(value: object) -> str:
    return "on" if value is True else str(value)


def ignored_flags(
    transport: Transport,
    transports: Mapping[str, Transport],
    shared: Sequence[SharedFlag],
    typed: Mapping[str, Any],
) -> list[str]:
    """The typed flags that have no effect on the transport and are no error, as with iperf3.

    Between iperf3's own transports, a flag of one is allowed with the other: `--gsro` without `-u`.
    """
    if not transport.iperf3.key:
        return []
    return [
        one.name
        for one in shared
        if typed.get(one.parameter) is not None
        and transport.name not in one.fields
        and any(transports[name].iperf3.key for name in one.fields)
    ]


def settings_of(
    transport: Transport,
    shared: Sequence[SharedFlag],
    typed: Mapping[str, Any],
    ignored: Sequence[str] = (),
) -> Settings:
    """The transport's settings from the parsed values (by `SharedFlag.parameter`, None: not typed).

    `ignored`: the flags to leave out, from `ignored_flags`.

    Raises
    ------
    SettingsError
        When the transport does not have a flag that was typed, or refuses its value. The text names the flag.
    """
    values: dict[str, Any] = {}
    for one in shared:
        value = typed.get(one.parameter)
        if value is None or one.name in ignored:
            continue
        if transport.name not in one.fields:
            raise SettingsError(f"{one.flags[0]} does not apply to --proto {transport.name}")
        target = one.fields[transport.name]
        # Settings check themselves, but their sentence does not know the flag: so each value is checked here.
        try:
            parsed = target.parsed(value) if isinstance(value, str) else value
            if target.zero_is_unset and parsed == 0:
                continue
            values[target.name] = parsed
            target.check(parsed)
        except SettingsError as error:
            raise SettingsError(f"{error} ({one.flags[0]})") from None
    return transport.settings(**values)


def rewritten(argv: Sequence[str], spellings: Mapping[str, str]) -> list[str]:
    """The words with aliases in the spelling that click knows: `-sw 512` becomes `--kcp-sndwnd 512`."""
    result = []
    for argument in argv:
        word, equals, value = argument.partition("=")
        result.append(spellings[word] + equals + value if word in spellings else argument)
    return result


def spellings_of(shared: Sequence[SharedFlag], known: Collection[str]) -> dict[str, str]:
    """Alias -> the flag that click knows.

    An alias that several flags claim means the first of them, and one among the `known` flags of the command
    means that flag: a plug-in takes no word away.
    """
    spellings = {"-proto": "--proto"}
    for one in shared:
        for alias in one.aliases:
            if alias not in known:
                spellings.setdefault(alias, one.name)
    return spellings


def click_flags(options: Sequence[click.Option]) -> list[str]:
    """Every spelling that the options claim."""
    return [flag for option in options for flag in (*option.opts, *option.secondary_opts)]
