"""The manual page, from the declarations of the flags: `python -m iperfpy.cli.manual > iperfpy/iperfpy.1`.

It lists the transports of this distribution; what plug-ins add is in `iperfpy --help`.
"""

from __future__ import annotations

from collections.abc import Iterator

from iperfpy import __version__
from iperfpy.cli.command_line import CommandLine
from iperfpy.cli.credentials import PASSWORD_VARIABLE
from iperfpy.cli.help import EXAMPLES, forms, spelled
from iperfpy.protocols.registry import transports

DESCRIPTION = (
    "iperfpy measures what a network path carries, and what it does to the packets: bandwidth, round-trip"
    " time, retransmissions and their causes, loss and jitter, per interval, over TCP, UDP, KCP and KCP with"
    " BBR. One end runs as a server, the other as a client, which says what is measured.",
    "It speaks iperf3's protocol: for tests over TCP and UDP, the other end may be iperf3. Letters, defaults"
    " and units are iperf3's wherever iperf3 has the option.",
    "Sizes (-n, -k, -l, -w) take K, M, G and T as powers of 1024; rates (-b, --fq-rate) as powers of 1000."
    " Durations take ms, s, m and h; without one they are seconds.",
)
ENVIRONMENT = {
    PASSWORD_VARIABLE: "the password for --username; without it, the terminal is asked",
    "IPERFPY_NO_OFFLOAD": "when 1: datagrams are sent and received one at a time, without GSO and GRO",
    "NO_COLOR": "when set: no colours on a terminal",
}
EXIT_STATUS = (
    "0 when the test was measured and reported, or was stopped by a signal; 1 after any failure, which is one"
    " sentence on standard error, and error in JSON; 130 after a second signal."
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
    ours = {name: one for name, one in transports().items() if type(one).__module__.startswith("iperfpy.")}
    for heading, options in CommandLine(ours).command.groups().items():
        yield f'.SS "{_text(heading)}"'
        for option in options:
            yield from (".TP", rf"\fB{_text(spelled(option))}\fR", _text(option.help or ""))
    yield from (".SH EXAMPLES", ".nf")
    yield from (_text(line) for line in EXAMPLES.splitlines() if line.startswith("  "))
    yield from (".fi", ".SH ENVIRONMENT")
    for name, meaning in ENVIRONMENT.items():
        yield from (".TP", rf"\fB{name}\fR", _text(meaning))
    yield from (".SH EXIT STATUS", _text(EXIT_STATUS))
    yield from (".SH FILES", ".TP", "results/", _text("where --csv without a name writes"))
    yield from (".SH SEE ALSO", ".BR iperf3 (1)")


def _text(text: str) -> str:
    """Fit for troff: no escapes, hyphens that can be copied, no line that is a request."""
    safe = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{safe}" if safe.startswith((".", "'")) else safe


if __name__ == "__main__":
    print(page(), end="")
