"""The values that parsing found: the record that passes from step 1 (parse) to step 2 (request)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from click.core import ParameterSource

from iperfpy.cli.common_flags import chooser
from iperfpy.cli.transport_flags import SharedFlag
from iperfpy.cli.value_types import Flag
from iperfpy.errors import ParameterError
from iperfpy.plan import Role
from iperfpy.protocols.contract import Transport


class ParsedOptions:
    """The value of every option, by click's parameter name, and which of them the user typed.

    `error`: the sentence about the first wrong word, or empty. With an error, `parsed[name]` raises it as
    `ParameterError`; `values` then has the values that could be read, for the report of the error.
    """

    def __init__(
        self,
        context: click.Context,
        transports: Mapping[str, Transport],
        shared: Sequence[SharedFlag],
        error: str = "",
    ) -> None:
        self._context = context
        self.transports = transports
        self.shared = shared
        self.error = error

    def __getitem__(self, name: str) -> Any:
        if self.error:
            raise ParameterError(self.error)
        return self._context.params[name]

    @property
    def values(self) -> Mapping[str, Any]:
        """Every value by parameter name. None: not typed and without a default, or not to be read."""
        return self._context.params

    @property
    def command(self) -> click.Command:
        """The command that was parsed, with all its options."""
        return self._context.command

    @property
    def transport(self) -> Transport:
        """The transport that --proto, or a flag of its own such as -u, selects.

        Raises
        ------
        ParameterError
            When the flags select more than one.
        """
        chosen = [name for name, one in self.transports.items() if one.flags and self.values[chooser(name)]]
        named: str = self.values["proto"]
        # `-u --proto udp` is redundant, not contradictory; the default of --proto contradicts nothing.
        if not chosen:
            return self.transports[named]
        if len(chosen) > 1 or (self.typed("proto") and named != chosen[0]):
            flag = self.transports[chosen[0]].flags[0]
            raise ParameterError(f"{flag} and another transport exclude each other")
        return self.transports[chosen[0]]

    def typed(self, name: str) -> bool:
        """True if the user typed the option, False if the value is its default."""
        return self._context.get_parameter_source(name) is ParameterSource.COMMANDLINE

    def typed_flags(self, role: Role) -> list[str]:
        """The flags of one role that were typed, as the help shows them."""
        return [
            option.opts[0]
            for option in self.command.params
            if isinstance(option, Flag) and option.role is role and self.typed(option.name or "")
        ]
