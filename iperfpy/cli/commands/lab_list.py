"""`iperfpy lab list`: the presets, their paths and where their figures come from."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

import click

from iperfpy.cli.exit_status import DONE, complain
from iperfpy.cli.usage_errors import sentence
from iperfpy.protocols.simulator.path_language import PathTextError, parse
from iperfpy.protocols.simulator.presets import PRESETS
from iperfpy.report.screen import screen_for


def table(names: Sequence[str]) -> None:
    """Print three lines per preset: its title, its path, its source."""
    screen, width = screen_for(sys.stdout), max(map(len, PRESETS)) + 2
    for name in names:
        preset = PRESETS[name]
        kind = "synthetic: " if preset.synthetic else ""
        screen.line((f"{name:<{width}}", "header"), (f"{kind}{preset.title}", ""))
        screen.line((f"{'':{width}}{preset.path}", ""))
        screen.line((f"{'':{width}}{preset.source}", "muted"))


@click.command("iperfpy lab list", add_help_option=False)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "-J", "--json", "as_json", is_flag=True, help="print JSON: name, path, title, source, synthetic"
)
@click.option("-h", "--help", "help", is_flag=True, help="print this help and exit")
@click.pass_context
def command(context: click.Context, names: tuple[str, ...], as_json: bool, help: bool) -> int:
    """List the presets, which `preset=NAME` puts into a path; all of them, or those that are named."""
    if help:
        click.echo(context.get_help())
        return DONE
    for name in names:
        parse(f"preset={name}")
    chosen = names or tuple(PRESETS)
    if as_json:
        print(json.dumps([{"name": name, **asdict(PRESETS[name])} for name in chosen], indent=2))
    else:
        table(chosen)
    return DONE


def main(words: Sequence[str]) -> int:
    """Run `iperfpy lab list WORDS`; returns the exit status."""
    try:
        with command.make_context("iperfpy lab list", list(words)) as context:
            status = command.invoke(context)
    except click.UsageError as error:
        return complain(sentence(error), kind="parameter error")
    except PathTextError as error:
        return complain(str(error), kind="parameter error")
    return int(status)
