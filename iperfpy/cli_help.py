"""The help, in the order in which a person looks for things, in under two screens."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import click

from iperfpy.cli_options import Flag

USAGE = """\
Usage: iperfpy -s [options]            run a server
       iperfpy -c HOST [options]       measure the path to it
       iperfpy demo [-t SEC]           measure every transport over loopback"""

EXAMPLES = """\
Examples:
  iperfpy -s                                        on one machine
  iperfpy -c 192.0.2.7                              TCP to it, 10 seconds
  iperfpy -c 192.0.2.7 --proto kcp-bbr -R --csv     KCP+BBR back from it, and a CSV
  iperfpy -c 192.0.2.7 -P 4 -O 2 -t 30s -J          4 streams, start-up left out, JSON

Sizes (-n -l -w) are powers of 1024, rates (-b) powers of 1000. A server is not protected by a
password: whoever reaches the port can measure."""

WIDTH, FLAG_WIDTH = 100, 36


class GroupedCommand(click.Command):
    """A command whose options are listed under the headings that they carry."""

    def get_help(self, ctx: click.Context) -> str:
        groups = {
            heading: [record for option in options if (record := option.get_help_record(ctx)) is not None]
            for heading, options in self._groups().items()
        }
        column = max(
            len(flag) for records in groups.values() for flag, _ in records if len(flag) <= FLAG_WIDTH
        )
        sections = [
            "\n".join((f"{heading}:", *_lines(records, column))) for heading, records in groups.items()
        ]
        return "\n\n".join((USAGE, *sections, EXAMPLES))

    def get_short_usage(self) -> str:
        return f"{USAGE}\n\nTry 'iperfpy --help' for the options."

    def _groups(self) -> dict[str, list[Flag]]:
        groups: dict[str, list[Flag]] = {}
        for option in self.params:
            if isinstance(option, Flag):
                groups.setdefault(option.heading, []).append(option)
        return groups


def _lines(records: list[tuple[str, str]], column: int) -> Iterator[str]:
    """Flags on the left, what they do on the right, folded there."""
    for flag, help in records:
        first, *rest = textwrap.wrap(help, WIDTH - column - 4) or [""]
        if len(flag) > column:
            yield f"  {flag}"
            flag = ""
        yield f"  {flag:<{column}}  {first}".rstrip()
        yield from (f"  {'':<{column}}  {more}" for more in rest)
