"""The manual page, made from the declarations of the flags:

    python -m iperfpy.cli.manual > iperfpy/iperfpy.1

It lists the transports of this distribution; `iperfpy --help` lists those of plug-ins as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import click

from iperfpy import __version__
from iperfpy.cli.command_line import CommandLine
from iperfpy.cli.commands import (
    compare,
    diagnose,
    diff,
    kcp_peer,
    lab_from_csv,
    lab_list,
    lab_run,
    latency,
    runs,
    show,
)
from iperfpy.cli.common_flags import CONNECTION, PICTURES, REPORTS
from iperfpy.cli.credentials import PASSWORD_VARIABLE
from iperfpy.cli.help import EXAMPLES, GroupedCommand, forms, spelled
from iperfpy.cli.secret_flags import variables
from iperfpy.options import RESULTS_VARIABLE
from iperfpy.protocols.registry import built_in_transports

SHARED = {*CONNECTION, *PICTURES, *REPORTS}
DESCRIPTION = (
    "iperfpy measures a network path: bandwidth, round-trip time, retransmissions and their causes, loss and"
    " jitter, for every interval of a test over TCP, UDP, KCP or KCP with BBR. One end runs as a server. The"
    " other end runs as a client, and its options describe the test.",
    "It speaks iperf3's protocol: in tests over TCP and UDP, the other end may be iperf3. Letters, defaults"
    " and units are iperf3's wherever iperf3 has the option.",
    "In sizes (-n, -k, -l, -w) the letters K, M, G and T are powers of 1024, in rates (-b, --fq-rate) powers"
    " of 1000. Durations take ms, s, m and h; a number alone is in seconds.",
)
ENVIRONMENT = {
    PASSWORD_VARIABLE: "the password for --username; if it is not set, the program prompts for it",
    RESULTS_VARIABLE: "the folder of saved runs, and of --csv without a name; if it is not set, results",
    "IPERFPY_NO_OFFLOAD": "if it is 1, datagrams are sent and received one at a time, without GSO and GRO",
    **{name: f"the {secret}" for name, secret in variables(built_in_transports()).items()},
    "NO_COLOR": "if it is set, a terminal shows no colours; everything else stays",
    "TERM": "with dumb, a terminal shows no colours and no status line",
}
EXIT_STATUS = (
    "0 if the test was measured and reported, or was stopped by one signal; 1 after a failure, which is"
    " reported in one sentence on standard error and as error in JSON; 130 if a second signal stopped the"
    " program before it could shut down cleanly. iperfpy diff: 0 no regression, 1 a regression, 3 cannot"
    " tell, 2 nothing compared."
)


def page() -> str:
    """The page in the man macros of troff."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield f'.TH IPERFPY 1 "" "iperfpy {__version__}" "User Commands"'
    yield from (".SH NAME", r"iperfpy \- measure a network path over TCP, UDP, KCP or KCP with BBR")
    yield ".SH SYNOPSIS"
    for form, _ in forms():
        yield from (".B iperfpy", _text(form), ".br")
    yield ".SH DESCRIPTION"
    for paragraph in DESCRIPTION:
        yield from (".PP", _text(paragraph))
    yield ".SH OPTIONS"
    # The page must not depend on the plug-ins of the machine that makes it.
    known = built_in_transports()
    for heading, options in CommandLine(known).command.groups().items():
        yield f'.SS "{_text(heading)}"'
        for option in options:
            yield from (".TP", rf"\fB{_text(spelled(option))}\fR", _text(option.help or ""))
    for experiment in (diagnose, compare, latency):
        yield from _subcommand(experiment.subcommand(known), experiment.SUMMARY, SHARED)
    for module in (runs, show, diff):
        yield from _subcommand(module.subcommand(), module.SUMMARY, SHARED)
    yield from _subcommand(kcp_peer.subcommand(known), kcp_peer.SUMMARY, kcp_peer.SHARED)
    yield from _lab()
    yield from (".SH EXAMPLES", ".nf")
    yield from (_text(line) for line in EXAMPLES.splitlines() if line.startswith("  "))
    yield from (".fi", ".SH ENVIRONMENT")
    for name, meaning in ENVIRONMENT.items():
        yield from (".TP", rf"\fB{name}\fR", _text(meaning))
    yield from (".SH EXIT STATUS", _text(EXIT_STATUS))
    yield from (
        ".SH FILES",
        ".TP",
        "results/",
        _text("the folder of saved runs, of their index, and of --csv without a file name"),
    )
    yield from (".SH SEE ALSO", ".BR iperf3 (1)")


def _subcommand(command: GroupedCommand, summary: str, names: Collection[str]) -> Iterator[str]:
    """The section of a subcommand: its own options in full; by name those of transports, and the shared ones,
    which have these parameter names."""
    every = [option for options in command.groups().values() for option in options]
    own = [option for option in every if option.name not in names and not option.transports]
    name = (command.name or "").removeprefix("iperfpy ")
    yield from (f".SH {name.upper()}", _text(summary))
    for option in own:
        yield from (".TP", rf"\fB{_text(spelled(option))}\fR", _text(option.help or ""))
    yield ".PP"
    shared = ", ".join(min(option.opts, key=len) for option in every if option not in own)
    yield _text(f"These options have the meaning above: {shared}.")


def _lab() -> Iterator[str]:
    """The section of `iperfpy lab`, with the options of each of its forms."""
    yield ".SH LAB"
    for heading, command in (
        (lab_run.USAGE, lab_run.command),
        ("iperfpy lab list", lab_list.command),
        ("iperfpy lab from-csv", lab_from_csv.command),
    ):
        yield f'.SS "{_text(heading)}"'
        # Lines of a docstring are folded anew; an empty one separates paragraphs.
        for paragraph in (command.help or "").split("\n\n"):
            yield from (".PP", _text(" ".join(paragraph.split())))
        for option in command.params:
            if isinstance(option, click.Option):
                yield from (".TP", rf"\fB{_text(spelled(option))}\fR", _text(option.help or ""))


def _text(text: str) -> str:
    """Escape text for troff: backslashes, hyphens (a minus sign can be copied), leading dots and quotes."""
    safe = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{safe}" if safe.startswith((".", "'")) else safe


if __name__ == "__main__":
    print(page(), end="")
