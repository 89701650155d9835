"""The flags that belong to no transport: iperf3's letters, defaults and units.

A flag that most users never need is `rare`: the short help only names it. A default stands in brackets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import click

from iperfpy.cli import value_types as values
from iperfpy.cli.exit_status import TEXT_VARIABLE
from iperfpy.cli.value_types import (
    Flag,
    Parsed,
    duration,
    integer,
    milliseconds,
    named,
    or_zero,
    size,
    whole_seconds,
)
from iperfpy.control.option_limits import CLIENT_LIMITS, CLOCK_SKEW_S, SERVER_LIMITS, SOCKET_LIMITS
from iperfpy.control.plan_limits import LIMITS
from iperfpy.options import IPERF3_TEXT, OWN_TEXT, RESULTS, RESULTS_VARIABLE
from iperfpy.plan import Role
from iperfpy.protocols.units import RATE_LETTERS, SECOND_US

BOTH, SERVER, CLIENT = "Server or client", "Server", "Client"
NETWORK, PASSWORD, OUTPUT = "Client, network", "Passwords (need the extra 'auth')", "Output"

PORT = Parsed("PORT", integer("a port", *CLIENT_LIMITS["port"].range()))
TEST_SECONDS = Parsed("SEC", duration("-t", *LIMITS["duration_us"].range()))
OMIT_SECONDS = Parsed("SEC", duration("-O", *LIMITS["omit_us"].range()))
INTERVAL_SECONDS = Parsed("SEC", duration("-i", *LIMITS["interval_us"].range()))
CONNECT_MILLISECONDS = Parsed("MS", or_zero(0, milliseconds(CLIENT_LIMITS["connect_timeout_us"])))
SEND_MILLISECONDS = Parsed("MS", or_zero(0, milliseconds(SOCKET_LIMITS["send_timeout_us"])))
RECEIVE_MILLISECONDS = Parsed("MS", milliseconds(SOCKET_LIMITS["receive_timeout_us"]))
LONGEST_SECONDS = Parsed("SEC", or_zero(0, whole_seconds(SERVER_LIMITS["longest_us"])))
IDLE_SECONDS = Parsed("SEC", whole_seconds(SERVER_LIMITS["idle_us"]))
STREAMS = Parsed("N", or_zero(1, integer("the number of streams", *LIMITS["parallel"].range())))
TOTAL_BYTES = Parsed("BYTES", or_zero(0, size("-n", 1, LIMITS["total_bytes"].maximum)))
BLOCK_BYTES = Parsed("LEN", or_zero(0, size("-l", *LIMITS["block_bytes"].range())))
BLOCKS = Parsed("BLOCKS", or_zero(0, size("-k", 1, LIMITS["total_blocks"].maximum, "blocks")))
PACING_MICROSECONDS = Parsed(
    "US", or_zero(1000, size("--pacing-timer", 1, LIMITS["pacing_timer_us"].maximum, "microseconds"))
)
TEXT = Parsed("TEXT", str)
AFFINITY = Parsed("N[,M]", values.affinity)
COUNT = Parsed("N", integer("a number of tests", *SERVER_LIMITS["max_tests"].range()))
FILE = Parsed("FILE", named("a file name"))
TEXT_FORM_NAMES = (OWN_TEXT, IPERF3_TEXT)
TEXT_FORM = Parsed("FORM", values.one_of("a form of text", TEXT_FORM_NAMES), TEXT_FORM_NAMES)
TEXT_FORM_HELP = f"form of the text: {OWN_TEXT} or {IPERF3_TEXT} [{TEXT_VARIABLE}, or {OWN_TEXT}]"
RESULTS_HELP = f"folder of saved runs, and of --csv without a name [{RESULTS_VARIABLE}, or {RESULTS}]"


def base_flags(
    known_transports: Sequence[str],
    chosen_by: Mapping[str, Sequence[str]],
    unusable: Mapping[str, str] = MappingProxyType({}),
) -> list[click.Option]:
    """New options, in the order of the help.

    Parameters
    ----------
    known_transports : the choices of --proto
    chosen_by : transport -> flags that select it
    unusable : transport -> the error for a user's choice of it
    """
    return [
        *_server_flags(),
        *_client_flags(known_transports, chosen_by, unusable),
        *_network_flags(),
        *_shared_flags(),
        *_password_flags(),
        *_output_flags(),
    ]


CONNECTION = (
    *("port", "ipv4", "ipv6", "bind", "device", "connect_timeout", "flow_label", "keepalive"),
    *("tos", "dscp", "username", "public_key", "pkcs1"),
)
"""Parameters of a client's way to its server, whatever it measures there."""
PICTURES = ("html", "png")
"""Parameters of the pictures that every measurement has."""
REPORTS = ("letter", "json", "results", "log_file", "debug", "help")
"""Parameters of a report that is written once, at the end."""


def chosen_flags(names: Sequence[str]) -> list[click.Option]:
    """New options with these parameter names, for a subcommand, in the order of the help."""
    own = [*_network_flags(), *_shared_flags(), *_password_flags(), *_output_flags()]
    found = [option for option in own if option.name in names]
    assert len(found) == len(names), "an option has another name"
    return found


def no_save() -> click.Option:
    """A new option of a subcommand that keeps its result unless the user does not want it."""
    return Flag(
        OUTPUT, ["no_save", "--no-save"], "do not keep the result in the folder of runs", is_flag=True
    )


def results_flags(json_help: str) -> list[click.Option]:
    """New options of a subcommand about stored runs: -J with this help, the folder, and the help."""
    found = chosen_flags(("json", "results", "help"))
    for option in found:
        if option.name == "json":
            option.help = json_help
    return found


def shown_flags(heading: str) -> list[click.Option]:
    """New options for the text of a test, under another heading."""
    return [
        Flag(heading, [one.name or "", *one.opts], one.help or "", type=one.type, is_flag=one.is_flag)
        for one in chosen_flags(("letter", "verbose", "no_verdict"))
    ]


def chooser(transport: str) -> str:
    """click's parameter name of the flags that select this transport (`-u`)."""
    return f"choose_{transport}".replace("-", "_")


def _flag(
    heading: str, role: Role | None, names: Sequence[str], help: str, kind: Any, **more: Any
) -> click.Option:
    if kind is None:
        return Flag(heading, names, help, role=role, is_flag=True, **more)
    return Flag(heading, names, help, role=role, type=kind, **more)


def _server_flags() -> list[click.Option]:
    def flag(names: Sequence[str], help: str, kind: Any = None, **more: Any) -> click.Option:
        return _flag(SERVER, Role.SERVER, names, help, kind, **more)

    return [
        flag(["server", "-s", "--server"], "run as server"),
        flag(["one_off", "-1", "--one-off"], "exit after one test"),
        flag(["daemon", "-D", "--daemon"], "run in the background", rare=True),
        flag(
            ["max_tests", "--max-tests"],
            "maximum number of concurrent tests [64]",
            COUNT,
            default=64,
            rare=True,
        ),
        flag(
            ["rate_limit", "--server-bitrate-limit"],
            "total bit/s of all tests, averaged over SEC [5]",
            Parsed("RATE[/SEC]", values.rate_and_seconds),
            rare=True,
        ),
        flag(
            ["longest", "--server-max-duration"],
            "longest test allowed, -O included",
            LONGEST_SECONDS,
            rare=True,
        ),
        flag(
            ["idle", "--idle-timeout"],
            "with -1: exit if no client connects within SEC",
            IDLE_SECONDS,
            rare=True,
        ),
    ]


def _client_flags(
    known: Sequence[str], chosen_by: Mapping[str, Sequence[str]], unusable: Mapping[str, str]
) -> list[click.Option]:
    def flag(names: Sequence[str], help: str, kind: Any = None, **more: Any) -> click.Option:
        return _flag(CLIENT, Role.CLIENT, names, help, kind, **more)

    transport = Parsed("NAME", values.known_transport(known, unusable), known)
    # Each name with its first flag ("udp or -u"): the help of --proto is the list of transports.
    choices = (" or ".join((name, *chosen_by.get(name, ())[:1])) for name in known)
    return [
        flag(["client", "-c", "--client"], "run as client", Parsed("HOST", named("-c"))),
        flag(["proto", "--proto"], f"{', '.join(choices)} [{known[0]}]", transport, default=known[0]),
        *(
            flag([chooser(name), *flags], f"short for --proto {name}", rare=True)
            for name, flags in chosen_by.items()
            if flags
        ),
        flag(["reverse", "-R", "--reverse"], "the server sends"),
        flag(["bidir", "--bidir"], "both ends send"),
        flag(["duration", "-t", "--time"], "duration of the test, 0: until interrupted [10]", TEST_SECONDS),
        flag(
            ["total_bytes", "-n", "--bytes"],
            "end after this much data (udp: whole datagrams)",
            TOTAL_BYTES,
        ),
        flag(
            ["total_blocks", "-k", "--blockcount"],
            "end the test after this many blocks",
            BLOCKS,
            rare=True,
        ),
        flag(
            ["block_bytes", "-l", "--length"],
            "length of a block in bytes [depends on --proto]",
            BLOCK_BYTES,
            rare=True,
        ),
        flag(["parallel", "-P", "--parallel"], "number of parallel streams [1]", STREAMS, default=1),
        flag(
            ["rate", "-b", "--bitrate", "--bandwidth"],
            "bit/s per stream, 0: no limit [depends on --proto]",
            Parsed("RATE[/BURST]", values.rate_and_burst),
        ),
        flag(
            ["omit", "-O", "--omit"], "omit the first seconds from the results [0]", OMIT_SECONDS, default=0
        ),
        flag(["title", "-T", "--title"], "start every line with TEXT", TEXT, rare=True),
        flag(["extra_data", "--extra-data"], "include TEXT in the JSON of both ends", TEXT, rare=True),
        flag(["get_server_output", "--get-server-output"], "also show the server's own report", rare=True),
    ]


def _network_flags() -> list[click.Option]:
    def flag(names: Sequence[str], help: str, kind: Any = None, **more: Any) -> click.Option:
        return _flag(NETWORK, Role.CLIENT, names, help, kind, **more)

    # All of these are the client's: the server learns TOS and the pacing from the parameters of the test.
    # As with iperf3, a server may have --cport in its command line all the same.
    return [
        _flag(
            NETWORK,
            None,
            ["client_port", "--cport"],
            "local data port; stream i uses PORT + i",
            PORT,
            rare=True,
        ),
        flag(
            ["connect_timeout", "--connect-timeout"],
            "give up connecting after MS [5000]",
            CONNECT_MILLISECONDS,
            rare=True,
        ),
        flag(
            ["tos", "-S", "--tos"],
            "type of service, 0 to 255 (0x34, 064, 52)",
            Parsed("N", values.type_of_service),
            rare=True,
        ),
        flag(
            ["dscp", "--dscp"],
            "type of service by code point (0 to 63, ef, af41)",
            Parsed("CODE", values.dscp, values.CODE_POINTS),
            rare=True,
        ),
        flag(
            ["flow_label", "-L", "--flowlabel"], "IPv6 flow label", Parsed("N", values.flow_label), rare=True
        ),
        flag(
            ["fq_rate", "--fq-rate"],
            "pacing rate of the kernel, bit/s per socket",
            Parsed("RATE", values.rate),
            rare=True,
        ),
        flag(
            ["pacing_timer", "--pacing-timer"],
            "sent to old iperf3 servers, else unused [1000]",
            PACING_MICROSECONDS,
            default=1000,
            rare=True,
        ),
        flag(["no_fq", "--no-fq-socket-pacing"], "no effect, as in iperf3", rare=True),
        flag(
            ["no_probes", "--no-probes"],
            "open no connections beside the test; the responsiveness is not known then",
            rare=True,
        ),
    ]


def _shared_flags() -> list[click.Option]:
    def flag(names: Sequence[str], help: str, kind: Any = None, **more: Any) -> click.Option:
        return _flag(BOTH, None, names, help, kind, **more)

    # -A, -B and --bind-dev concern the end that has them; a client's `-A N,M` also asks the server.
    return [
        flag(["-p", "--port"], "port to listen on or to connect to [5201]", PORT, default=5201),
        flag(
            ["bind", "-B", "--bind"],
            "local address to bind to, and interface",
            Parsed("ADDR[%DEV]", named("-B")),
            rare=True,
        ),
        flag(
            ["device", "--bind-dev"],
            "network interface to bind to",
            Parsed("DEV", named("--bind-dev")),
            rare=True,
        ),
        flag(["ipv4", "-4", "--version4"], "IPv4 only", rare=True),
        flag(["ipv6", "-6", "--version6"], "IPv6 only", rare=True),
        flag(
            ["receive_timeout", "--rcv-timeout"],
            "end a test that receives no data for MS [120000 with -n, -k, -t 0]",
            RECEIVE_MILLISECONDS,
            rare=True,
        ),
        flag(
            ["send_timeout", "--snd-timeout"],
            "end a TCP connection that gets no ACK for MS",
            SEND_MILLISECONDS,
            rare=True,
        ),
        flag(["file", "-F", "--file"], "file to send, or to write the received data to", FILE, rare=True),
        flag(
            ["affinity", "-A", "--affinity"],
            "processor for this end (N), for the server (M)",
            AFFINITY,
            rare=True,
        ),
        flag(["pid_file", "-I", "--pidfile"], "write the process ID to FILE", FILE, rare=True),
        flag(
            ["keepalive", "--cntl-ka"],
            "TCP keepalive on the control connection, times in seconds",
            Parsed("[IDLE/INTERVAL/COUNT]", values.keepalive),
            is_flag=False,
            flag_value=values.UNNAMED,
            rare=True,
        ),
    ]


def _password_flags() -> list[click.Option]:
    def flag(
        role: Role | None, names: Sequence[str], help: str, kind: Any = None, **more: Any
    ) -> click.Option:
        return _flag(PASSWORD, role, names, help, kind, **more)

    return [
        flag(
            Role.CLIENT,
            ["username", "--username"],
            "user name; the password comes from IPERF3_PASSWORD or a prompt",
            Parsed("NAME", named("a user name")),
            rare=True,
        ),
        flag(
            Role.CLIENT, ["public_key", "--rsa-public-key-path"], "the server's public key", FILE, rare=True
        ),
        flag(
            Role.SERVER,
            ["private_key", "--rsa-private-key-path"],
            "the server's private key",
            FILE,
            rare=True,
        ),
        flag(
            Role.SERVER,
            ["users", "--authorized-users-path"],
            "a file of lines NAME,SHA256({NAME}PASSWORD)",
            FILE,
            rare=True,
        ),
        flag(
            Role.SERVER,
            ["skew", "--time-skew-threshold"],
            "allowed clock difference, seconds [10]",
            Parsed("SEC", integer("a time", *CLOCK_SKEW_S.range())),
            default=10,
            rare=True,
        ),
        flag(
            None,
            ["pkcs1", "--use-pkcs1-padding"],
            "PKCS #1 v1.5 padding instead of OAEP, as in iperf3 before 3.17",
            rare=True,
        ),
    ]


def _file_flags() -> list[click.Option]:
    """The reports for programs, and the files."""

    def flag(names: Sequence[str], help: str, kind: Any = None, **more: Any) -> click.Option:
        return _flag(OUTPUT, None, names, help, kind, **more)

    # A value in brackets may be left out: click then takes `flag_value`.
    return [
        flag(["json", "-J", "--json"], "one JSON document at the end, with iperf3's keys"),
        flag(["json_stream", "--json-stream"], "a line of JSON for every event as it happens"),
        flag(
            ["json_full", "--json-stream-full-output"],
            "like --json-stream, then the document of -J",
            rare=True,
        ),
        flag(
            ["csv", "--csv"],
            "add CSV rows to FILE (-: stdout) [results/...]",
            Parsed("[FILE]", values.file_or_none),
            is_flag=False,
            flag_value=values.UNNAMED,
        ),
        flag(["csv_overwrite", "--csv-overwrite"], "replace the rows that the CSV has", rare=True),
        _flag(
            OUTPUT,
            Role.CLIENT,
            ["save", "--save"],
            "keep the run, for `iperfpy runs`, `show` and `diff`",
            None,
        ),
        flag(["results", "--results"], RESULTS_HELP, Parsed("DIR", named("--results")), rare=True),
    ]


def _output_flags() -> list[click.Option]:
    def flag(names: Sequence[str], help: str, kind: Any = None, **more: Any) -> click.Option:
        return _flag(OUTPUT, None, names, help, kind, **more)

    # A value in brackets may be left out: click then takes `flag_value`.
    letter = Parsed("LETTER", values.one_of("a unit", RATE_LETTERS), RATE_LETTERS)
    return [
        flag(
            ["interval", "-i", "--interval"],
            "seconds between reports, 0: none [1]",
            INTERVAL_SECONDS,
            default=SECOND_US,
        ),
        flag(
            ["letter", "-f", "--format"],
            "k m g t: kbit/s .., K M G T: KiB/s .. [m; g from 10 Gbit/s]",
            letter,
            rare=True,
        ),
        *_file_flags(),
        *_picture_flags(),
        flag(["text", "--text"], TEXT_FORM_HELP, TEXT_FORM, rare=True),
        flag(["verbose", "-V", "--verbose"], "also show settings, CPU time and all figures"),
        flag(["no_verdict", "--no-verdict"], "do not say what limited the test, and what to try", rare=True),
        flag(["log_file", "--logfile"], "append the output and the errors to FILE", FILE, rare=True),
        flag(
            ["timestamps", "--timestamps"],
            "start every line with the time [%c ]",
            Parsed("[FORMAT]", str),
            is_flag=False,
            flag_value="%c ",
            rare=True,
        ),
        flag(["force_flush", "--forceflush"], "no effect: every line is flushed", rare=True),
        flag(
            ["debug", "-d", "--debug"],
            "print the control messages on standard error",
            Parsed("[N]", integer("a debug level", 1, 4)),
            is_flag=False,
            flag_value="4",
            rare=True,
        ),
        flag(["explain", "--explain"], "explain the figures of --proto and exit"),
        flag(["json_schema", "--json-schema"], "print the JSON Schema of -J and exit", rare=True),
        flag(["version", "-v", "--version"], "print the version and exit", rare=True),
        flag(["help", "-h", "--help"], "print this help and exit", rare=True),
        flag(["help_all", "--help-all"], "print the help of all options and exit", rare=True),
    ]


def _picture_flags() -> list[click.Option]:
    def flag(names: Sequence[str], help: str, kind: Any = None) -> click.Option:
        return _flag(OUTPUT, Role.CLIENT, names, help, kind, rare=True)

    return [
        flag(["plot", "--plot"], "draw throughput and RTT in the terminal at the end"),
        flag(["html", "--html"], "write a page with pictures to FILE", FILE),
        flag(["png", "--png"], "write the pictures to FILE as an image (needs the extra 'plot')", FILE),
        flag(["flent", "--flent"], "write the intervals to FILE for Flent (.flent.gz)", FILE),
    ]
