"""`iperfpy demo`: `iperfpy compare` with every transport, between two programs of this machine.

    a trial of the lab --allowed--> this process becomes `iperfpy lab PATH --server ... -- iperfpy compare`
                       --refused--> a server process, and the comparison over loopback

The trial is a process of its own: one that was refused some of its namespaces must end.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence

import click

from iperfpy.cli.exit_status import complain
from iperfpy.cli.usage_errors import sentence
from iperfpy.cli.value_types import Parsed, duration
from iperfpy.errors import IperfpyError
from iperfpy.local_server import LocalServer, environment, python_module
from iperfpy.protocols.operating_system import LINUX
from iperfpy.protocols.registry import transports
from iperfpy.protocols.units import SECOND_US

PATH = "delay=20ms both:20M,queue=2bdp,loss=1"
PATH_IN_WORDS = "20 Mbit/s, 40 ms, 1 % loss each way"
TRIAL_S = 20.0
"""Longest time of the trial: a few namespaces, and a program that does nothing."""
SECONDS = Parsed("SEC", duration("-t", 5 * SECOND_US, 3600 * SECOND_US, zero=False))


def run(seconds: float) -> int:
    """Run the demo; returns the exit status, unless this process becomes the lab."""
    names = ",".join(transports())
    comparison = ["-t", f"{seconds:g}", "--proto", names]
    refusal = _refusal()
    if not refusal:
        _say(f"over an emulated path ({PATH_IN_WORDS})", seconds)
        _become_lab(comparison)
    _say(f"over loopback, as there is no emulated path here ({refusal})", seconds)
    from iperfpy.cli.main import run_command

    with LocalServer() as server:
        return run_command(["compare", server.host, "-p", str(server.port), *comparison])


def _say(where: str, seconds: float) -> None:
    print(f"Every transport {where}: about {seconds:g} s", flush=True)


def _refusal() -> str:
    """The reason why the lab cannot run here; empty if it can."""
    if not LINUX:
        return "it needs Linux"
    words = [*python_module("iperfpy"), "lab", PATH, "--report", os.devnull, "--", "true"]
    try:
        done = subprocess.run(
            words,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TRIAL_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "the lab does not start"
    if not done.returncode:
        return ""
    lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
    return lines[-1].removeprefix("iperfpy: error - ")


def _become_lab(comparison: Sequence[str]) -> None:
    """Replace this process, so that signals and the exit status need no passing on."""
    from iperfpy.lab.world import IPV4

    program = python_module("iperfpy")
    server = shlex.join([*program, "-s"])
    lab = [*program, "lab", PATH, "--report", os.devnull, "--server", server, "--"]
    os.execve(sys.executable, [*lab, *program, "compare", IPV4["far"], *comparison], environment())


@click.command("iperfpy demo", add_help_option=False)
@click.option("-t", "--time", "duration_us", type=SECONDS, default=40 * SECOND_US, help="seconds in all [40]")
@click.option("-h", "--help", "help", is_flag=True, help="print this help and exit")
@click.pass_context
def command(context: click.Context, duration_us: int, help: bool) -> int:
    """Compare every transport in both directions: over an emulated path if the system allows namespaces, else
    over loopback.

    The result is kept in results/, where `iperfpy show last` finds it.
    """
    if help:
        click.echo(context.get_help())
        return 0
    return run(duration_us / SECOND_US)


def stopped(words: Sequence[str], signal: str) -> int:
    """Report a signal that came before the tests could. Returns the exit status."""
    return complain(f"nothing was measured: the client has terminated by signal {signal}", kind="interrupt")


def main(words: Sequence[str]) -> int:
    """Run `iperfpy demo WORDS`; returns the exit status."""
    try:
        with command.make_context("iperfpy demo", list(words)) as context:
            status = command.invoke(context)
    except click.UsageError as error:
        return complain(sentence(error), kind="parameter error")
    except IperfpyError as error:
        return complain(str(error))
    return int(status)
