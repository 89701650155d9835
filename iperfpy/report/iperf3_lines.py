"""The lines of iperf3's text, each as a function of its figures: the only place that knows their columns.

The text is that of iperf3 3.21 with its columns and trailing blanks, because scripts cut it by both. A
size is a power of 1024 and a rate of 1000, as there; four characters of a number, then the unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from iperfpy.protocols.addresses import named

VERSION = "iperf 3.21"
"""The program that wrote the text, in the first line of a verbose report."""
PROGRAM = "iperf3"
"""The name before an error."""
RULE = "-" * 59
SEPARATOR = " ".join("-" * 25)
COMPLETE = "Test Complete. Summary Results:"
DONE = "iperf Done."
OMITTED = "(omitted)"
USAGE = (
    "",
    f"Usage: {PROGRAM} [-s|-c host] [options]",
    f"Try `{PROGRAM} --help' for more information.",
)
"""Lines after an error of the command line."""

FIRST_STREAM, STREAM_STEP = 5, 2
"""iperf3 shows the descriptor of a stream's socket: 5, 7, 9 ... at its clients."""

_PREFIXES = ("", "K", "M", "G", "T")

# -- figures


def size(value: float) -> str:
    """`12.0 MBytes`, the unit chosen by the value."""
    return f"{_scaled(value, 1024)}Bytes"


def rate(bits_per_second: float | None, letter: str = "") -> str:
    """`9.95 Mbits/sec`, or `   - bits/sec` if it was not measured.

    `letter`: iperf3's -f, empty: the unit is chosen by the value.
    """
    if bits_per_second is None:
        return f"{'-':>4} bits/sec"
    if not letter:
        return f"{_scaled(bits_per_second, 1000)}bits/sec"
    power = _PREFIXES.index(letter.upper())
    if letter.isupper():
        return f"{_number(bits_per_second / 8 / 1024**power)} {letter}Bytes/sec"
    return f"{_number(bits_per_second / 1000**power)} {letter.upper()}bits/sec"


def _scaled(value: float, base: int) -> str:
    power = 0
    while value >= base and power < len(_PREFIXES) - 1:
        value, power = value / base, power + 1
    return f"{_number(value)} {_PREFIXES[power]}"


def _number(value: float) -> str:
    """Four characters: `9.95`, `99.9`, ` 100`."""
    return f"{value:4.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


# -- the beginning


def listening(port: int, test: int) -> tuple[str, ...]:
    """The lines of a server that waits for its next test; `test` counts from 1."""
    return RULE, f"Server listening on {port} (test #{test})", RULE


def control_mss(mss_bytes: int) -> str:
    """The segment size of the control connection."""
    return f"Control connection MSS {mss_bytes}"


def datagram_size(size_bytes: int) -> str:
    """The size that was chosen for the user."""
    return f"Setting UDP block size to {size_bytes}"


def connecting(host: str, port: int) -> str:
    return f"Connecting to host {host}, port {port}"


def accepted(host: str, port: int) -> str:
    return f"Accepted connection from {host}, port {port}"


def reverse(host: str) -> str:
    return f"Reverse mode, remote host {host} is sending"


def time_line(time: str) -> str:
    return f"Time: {time}"


def cookie(text: str) -> str:
    return f"      Cookie: {text}"


def tcp_mss(asked_bytes: int | None, mss_bytes: int) -> str:
    """The segment size, as the user asked for it or as it is."""
    return f"      TCP MSS: {asked_bytes}" if asked_bytes else f"      TCP MSS: {mss_bytes} (default)"


def target(bits_per_second: int) -> str:
    return f"      Target Bitrate: {bits_per_second}"


def connected(number: int, local: tuple[str, int], remote: tuple[str, int]) -> str:
    """The addresses of one stream."""
    return f"[{number:>3}] local {named(local)} connected to {named(remote)}"


def starting(
    *, protocol: str, streams: int, block_bytes: int, omit_s: float, ends: tuple[float, str], tos: int
) -> str:
    """The parameters of a test. `ends`: its end, and one of "second test", "bytes to send", ..."""
    amount, word = ends
    return (
        f"Starting Test: protocol: {protocol}, {streams} streams, {block_bytes} byte blocks,"
        f" omitting {omit_s:g} seconds, {amount:.15g} {word}, tos {tos}"
    )


# -- the table


def label(number: int, role: str = "") -> str:
    """`[  5]` or `[SUM]` (0), and in a bidirectional test `[TX-C]`."""
    return (f"[{number:>3}]" if number else "[SUM]") + role


def heading(columns: str, *, roles: bool) -> str:
    """The heading of a table. `columns`: those behind the rate, or empty."""
    first = "[ ID][Role]" if roles else "[ ID]"
    return f"{first} Interval           Transfer     Bitrate" + (f"         {columns}" if columns else "")


RETRANSMITS = "Retr"
RETRANSMITS_AND_WINDOW = "Retr  Cwnd"
DATAGRAMS_SENT = "Total Datagrams"
DATAGRAMS = "Jitter    Lost/Total Datagrams"


def row(label: str, start_s: float, end_s: float, size: str, rate: str, tail: str) -> str:
    """A line of the table; `tail` is one of the following."""
    return f"{label} {start_s:6.2f}-{end_s:<6.2f} sec  {size}  {rate}{tail}"


def plain_tail(note: str) -> str:
    """Nothing but a note: a receiver of TCP, or a sender without further figures."""
    return " " * 18 + note


def window_tail(retransmits: int, window: str, note: str) -> str:
    """A sender's interval."""
    return f"  {retransmits:3d}   {window}       {note}"


def retransmits_tail(retransmits: int, note: str, *, is_sum: bool) -> str:
    """A sender's summary, or a sum. iperf3 has one blank less in a stream's summary than in a sum."""
    return f"  {retransmits:3d}" + " " * (13 if is_sum else 12) + note


def sent_tail(datagrams: int, note: str, *, roles: bool) -> str:
    """A sender's interval of datagrams."""
    return ("  " + " " * 10 * roles) + f"{datagrams}  {note}"


def datagrams_tail(jitter_ms: float, lost: int, total: int, note: str) -> str:
    """A receiver's interval of datagrams, and both ends' summaries."""
    percent = 100 * lost / total if total else 0.0
    return f"  {jitter_ms:5.3f} ms  {lost}/{total} ({percent:.2g}%)  {note}"


def out_of_order(role: str, start_s: float, end_s: float, datagrams: int) -> str:
    """The count that iperf3 adds to a receiver's summary if there is any."""
    return f"[SUM]{role} {start_s:4.1f}-{end_s:4.1f} sec  {datagrams} datagrams received out-of-order"


def not_available(number: int, side: str) -> str:
    """The summary of an end without known figures."""
    return f"{label(number)} ({side} statistics not available)"


# -- the end


def processor(local: tuple[str, Iterable[float]], remote: tuple[str, Iterable[float]]) -> str:
    """The processor time of both ends: their side, and total, user and system per cent."""
    texts = []
    for where, (side, figures) in (("local", local), ("remote", remote)):
        whole, user, system = figures
        texts.append(f"{where}/{side} {whole:.1f}% ({user:.1f}%u/{system:.1f}%s)")
    return f"CPU Utilization: {', '.join(texts)}"


def congestion(side: str, name: str) -> str:
    return f"{side}_tcp_congestion {name}"


def server_output(lines: Iterable[str], *, is_json: bool) -> Iterator[str]:
    """The server's own report."""
    yield from ("", "Server JSON output:" if is_json else "Server output:")
    yield from lines
    yield ""


_SENTENCES = (
    (
        r"cannot (connect to|find the host) .*: (?P<reason>.+)",
        "error - unable to connect to server - server may have stopped running or use a different port,"
        " firewall issue, etc.: {reason}",
    ),
    (r"the server is busy running a test.*", "error - the server is busy running a test. try again later"),
    (r"the server closed the control connection .*", "error - control socket has closed unexpectedly"),
    (r"the client has terminated", "the client has terminated"),
    (
        r"the client closed the control connection .*",
        "the client has unexpectedly closed the connection",
    ),
)
"""This program's sentence -> iperf3's line, for those that scripts are known to look for."""


def complaint(message: str, kind: str) -> tuple[str, ...]:
    """The lines of a test that did not start. `kind`: "error", "parameter error" or "interrupt"."""
    if kind != "parameter error":
        return (f"{PROGRAM}: {failure(message, interrupted=kind == 'interrupt')}",)
    return (f"{PROGRAM}: {kind} - {message}", *USAGE)


def failure(sentence: str, *, interrupted: bool = False) -> str:
    """The last line of a test that ended early, without the program's name and in iperf3's words if it has
    any."""
    if interrupted:
        return f"interrupt - {sentence}"
    for pattern, words in _SENTENCES:
        if found := re.fullmatch(pattern, sentence):
            reason = found.groupdict().get("reason", "")
            return words.format(reason=reason[:1].upper() + reason[1:])
    return f"error - {sentence}"
