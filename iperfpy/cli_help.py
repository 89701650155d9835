"""The help, in the order in which a person looks for things, in under two screens."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

from iperfpy.cli_options import Flag

SUBCOMMANDS = ("demo", "completion")
USAGE = """\
Usage: iperfpy -s [options]            run a server
       iperfpy -c HOST [options]       measure the path to it
       iperfpy demo [-t SEC]           measure every transport over loopback
"""

EXAMPLES = """
Examples:
  iperfpy -s                                      on one machine
  iperfpy -c 192.0.2.7                            TCP to it, 10 seconds
  iperfpy -c 192.0.2.7 --proto kcp-bbr -R --csv   KCP+BBR from it, and a CSV
  iperfpy -c 192.0.2.7 -P 4 -O 2 -t 30s -J        4 streams, start-up left out

Sizes (-n -k -l -w) are powers of 1024, rates (-b) of 1000; times: 30s, 2m, 0.5."""

WIDTH, FLAG_WIDTH = 80, 27


class GroupedCommand(click.Command):
    """A command whose options are listed under the headings that they carry."""

    def get_help(self, ctx: click.Context) -> str:
        groups = self.groups()
        common = [option for options in groups.values() for option in options if not option.rare]
        flags = [flag for option in common if len(flag := spelled(option)) <= FLAG_WIDTH]
        column = max(map(len, flags))
        sections = ["\n".join((f"{head}:", *_lines(options, column))) for head, options in groups.items()]
        return "\n".join((USAGE, *sections, EXAMPLES))

    def get_short_usage(self) -> str:
        return f"{USAGE}\n\nTry 'iperfpy --help' for the options."

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        words = [word for word in SUBCOMMANDS if word.startswith(incomplete)] if not ctx.args else []
        return [*map(CompletionItem, words), *super().shell_complete(ctx, incomplete)]

    def groups(self) -> dict[str, list[Flag]]:
        """The options by heading, in the order in which both came."""
        groups: dict[str, list[Flag]] = {}
        for option in self.params:
            if isinstance(option, Flag):
                groups.setdefault(option.heading, []).append(option)
        return groups


def spelled(option: click.Option) -> str:
    """`-t, --time SEC`; two names and one of them short is enough."""
    names = [*option.opts[:2], *option.secondary_opts]
    kind = "" if option.is_flag else option.metavar or option.type.name
    return f"{', '.join(names)} {kind}".rstrip()


def _lines(options: list[Flag], column: int) -> Iterator[str]:
    """Flags on the left, what they do on the right, folded there; rare ones by name only."""
    for option in options:
        if option.rare:
            continue
        flag = spelled(option)
        first, *rest = textwrap.wrap(option.help or "", WIDTH - column - 4) or [""]
        if len(flag) > column:
            yield f"  {flag}"
            flag = ""
        yield f"  {flag:<{column}}  {first}".rstrip()
        yield from (f"  {'':<{column}}  {more}" for more in rest)
    rare = [max(option.opts, key=len) for option in options if option.rare]
    if rare:
        yield from textwrap.wrap(
            f"  In the manual: {', '.join(rare)}", WIDTH, subsequent_indent="    ", break_on_hyphens=False
        )
