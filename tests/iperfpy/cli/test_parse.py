"""Parsing of a command line: the result is a request, or an error of one sentence."""

from __future__ import annotations

import contextlib
import io
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iperfpy.cli.command_line import CommandLine
from iperfpy.cli.exit_status import complain
from iperfpy.cli.request import Request, request_of
from iperfpy.cli.transport_flags import rewritten
from iperfpy.errors import ParameterError
from iperfpy.options import ProcessOptions, SocketOptions
from iperfpy.plan import DEFAULT_DURATION_US, UNSIZED_BYTES, Direction, Plan
from iperfpy.protocols.contract import Channel, ClientPort, ServerPort, Stream, Transport
from iperfpy.protocols.registry import transports
from iperfpy.protocols.settings import Settings, option


@dataclass(frozen=True, slots=True)
class PlainSettings(Settings):
    window: int | None = option(
        None, help="buffer", flags=("-w", "--window"), unit="bytes", minimum=1024, maximum=512 << 20
    )
    algorithm: str | None = option(None, help="algorithm", flags=("-C", "--congestion"))
    nodelay: bool = option(False, help="no delay", flags=("-N", "--no-delay"))


@dataclass(frozen=True, slots=True)
class FancySettings(Settings):
    mtu: int = option(1400, help="payload", minimum=64, maximum=9000)
    window: int | None = option(None, help="buffer", flags=("-w", "--window"), unit="bytes")
    tick: int = option(10, help="tick", unit="milliseconds")
    cap: int = option(0, help="cap", unit="bits_per_second")
    send_window: int = option(512, help="window", aliases=("-sw", "--sndwnd"), unit="segments")
    mode: str = option("fast", help="preset", choices=("normal", "fast"))
    checksum: bool = option(True, help="verify")


class Plain(Transport):
    name, summary, prefix = "plain", "for tests", "plain"
    settings: ClassVar[type[Settings]] = PlainSettings
    metrics = ()

    def block_bytes(self, settings: Settings) -> int:
        return 4096

    async def connect(self, stream: Stream, settings: Settings, port: ClientPort) -> Channel:
        raise AssertionError("parsing opens no stream")

    async def accept(self, stream: Stream, settings: Settings, port: ServerPort) -> Channel:
        raise AssertionError("parsing opens no stream")


class Fancy(Plain):
    name, prefix = "fancy", "fancy"
    settings = FancySettings


LINE = CommandLine({"plain": Plain(), "fancy": Fancy()})


def parsed(words: str) -> Request:
    return request_of(LINE.parse(words.split()))


def plan(words: str) -> Plan:
    request = parsed(f"-c host {words}")
    assert request.plan is not None
    return request.plan


def refusal(words: str) -> str:
    with pytest.raises(ParameterError) as caught:
        parsed(words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_are_iperf3s() -> None:
    request = parsed("-c 192.0.2.7")
    assert request.plan == Plan("plain", PlainSettings(), block_bytes=4096, fits_path=True)
    assert request.client is not None
    assert (request.client.host, request.client.port, request.client.family) == ("192.0.2.7", 5201, 0)
    assert request.plan is not None
    assert (request.plan.duration_us, request.plan.interval_us) == (10_000_000, 1_000_000)
    assert request.output.csv is None


def test_every_client_flag_reaches_the_request() -> None:
    request = parsed(
        "-c h -p 5999 --proto fancy -R -t 30s -i 0.5 -l 8K -P 4 -b 10M/8 -O 2 -B 127.0.0.1 --cport 6000 -6"
        " -f K -T lab -J --csv out.csv --connect-timeout 250 -V"
    )
    parsed_plan, client, output = request.plan, request.client, request.output
    # No value is a default, so that a flag that has no effect is noticed.
    assert parsed_plan == Plan(
        "fancy",
        FancySettings(),
        Direction.REVERSE,
        duration_us=30_000_000,
        omit_us=2_000_000,
        parallel=4,
        block_bytes=8192,
        rate_bps=10_000_000,
        burst_blocks=8,
        interval_us=500_000,
        title="lab",
    )
    assert client is not None
    assert (client.port, client.bind, client.client_port) == (5999, "127.0.0.1", 6000)
    assert (client.family, client.connect_timeout_us) == (socket.AF_INET6, 250_000)
    assert (output.json, output.csv, output.rate_format, output.verbose) == (True, "out.csv", "K", True)


@pytest.mark.parametrize(
    ("words", "ends"),
    [
        ("-t 5", (5_000_000, 0, 0)),
        ("-t 500ms", (500_000, 0, 0)),
        ("-t 2m", (120_000_000, 0, 0)),
        ("-t 0", (0, 0, 0)),
        ("-n 1M", (0, 1 << 20, 0)),
        ("-k 100", (0, 0, 100)),
        ("-t10", (10_000_000, 0, 0)),
        ("-n 100MiB", (0, 100 << 20, 0)),
        ("-n 1.5gib", (0, 3 << 29, 0)),
    ],
)
def test_a_test_has_one_end_condition(words: str, ends: tuple[int, int, int]) -> None:
    parsed_plan = plan(words)
    assert (parsed_plan.duration_us, parsed_plan.total_bytes, parsed_plan.total_blocks) == ends


@pytest.mark.parametrize("words", ["-b 1.5G", "-b 1500M", "-b 1.5Gbit", "-b 1500Mbps", "-b 1500000000"])
def test_a_rate_has_several_spellings(words: str) -> None:
    assert plan(words).rate_bps == 1_500_000_000


def test_server_flags_reach_the_request() -> None:
    request = parsed("-s -p 5300 -B ::1 -1 -i 2 -J")
    assert request.server is not None
    assert (request.server.port, request.server.bind, request.server.one_off) == (5300, "::1", True)
    assert request.server.interval_us == 2_000_000
    assert request.plan is None


def test_a_csv_may_have_a_name() -> None:
    assert parsed("-c h --csv").output.csv == ""
    assert parsed("-c h --csv -R").output.csv == ""
    assert parsed("-c h --csv x.csv").output.csv == "x.csv"
    assert parsed("-c h --csv=x.csv").output.csv == "x.csv"
    assert parsed("-s --csv -").output.csv == "-"
    assert parsed("-s --csv x.csv --csv-overwrite").output.csv_overwrite


@pytest.mark.parametrize(
    ("words", "tos"),
    [
        ("-S 52", 52),
        ("-S 064", 52),
        ("-S 0x34", 52),
        ("--tos 255", 255),
        ("-S 0", 0),
        ("--dscp 46", 184),
        ("--dscp 0x2e", 184),
        ("--dscp 056", 184),
        ("--dscp ef", 184),
        ("--dscp AF41", 0x88),
        ("--dscp af13", 0x38),
        ("--dscp cs1", 0x20),
        ("--dscp cs7", 0xE0),
        ("--dscp va", 0xB0),
        ("--dscp lowdelay", 0x10),
    ],
)
def test_the_type_of_service_is_read_as_in_iperf3(words: str, tos: int) -> None:
    assert plan(words).tos == tos


def test_socket_options_reach_the_request() -> None:
    words = "--rcv-timeout 500 --snd-timeout 2000 --cntl-ka=10/2/3 -B 192.0.2.1%eth1 -L 0x1f"
    client = parsed(f"-c h {words} --fq-rate 1.5M --pacing-timer 5000 --extra-data x").client
    assert client is not None
    assert (client.bind, client.flow_label) == ("192.0.2.1", 31)
    assert client.sockets == SocketOptions("eth1", 2_000_000, 500_000, (10, 2, 3))
    parsed_plan = plan("--fq-rate 1.5M --pacing-timer 5000 --extra-data x")
    assert (parsed_plan.fq_rate_bps, parsed_plan.pacing_timer_us, parsed_plan.extra_data) == (
        1_500_000,
        5000,
        "x",
    )
    server = parsed("-s --bind-dev lo --rcv-timeout 700 --cntl-ka").server
    assert server is not None
    assert server.sockets == SocketOptions("lo", 0, 700_000, (0, 0, 0))


def test_server_limits_reach_the_request() -> None:
    words = "--server-bitrate-limit 10M/3 --server-max-duration 60 --idle-timeout 7 --max-tests 2"
    server = parsed(f"-s {words} -1").server
    assert server is not None
    assert (server.rate_limit_bps, server.rate_window_us) == (10_000_000, 3_000_000)
    assert (server.longest_us, server.idle_us, server.max_tests) == (60_000_000, 7_000_000, 2)
    usual = parsed("-s --server-bitrate-limit 1G").server
    assert usual is not None
    assert (usual.rate_limit_bps, usual.rate_window_us) == (1_000_000_000, 5_000_000)
    assert (usual.longest_us, usual.idle_us, usual.max_tests) == (0, 0, 64)


def test_process_options_reach_the_request() -> None:
    request = parsed("-s -D -I x.pid --logfile x.log -A 1 --timestamps --forceflush")
    assert request.process == ProcessOptions(True, "x.pid", "x.log", 1)
    assert request.output.timestamps == "%c "
    request = parsed("-c h -A 0,3 -d --timestamps=%T")
    assert request.process == ProcessOptions(cpu=0, debug=True)
    assert request.output.timestamps == "%T"
    assert request.plan is not None
    assert request.plan.server_cpu == 3


def test_the_size_of_a_file_ends_the_test(tmp_path: Path) -> None:
    path = tmp_path / "some"
    path.write_bytes(b"x" * 5000)
    assert (plan(f"-F {path}").total_bytes, plan(f"-F {path}").duration_us) == (5000, 0)
    assert (plan(f"-F {path} -k 3").total_bytes, plan(f"-F {path} -n 10").total_bytes) == (0, 10)
    assert plan(f"-F {tmp_path}/filled -R").total_bytes == 0
    assert refusal(f"-c h -F {tmp_path}/gone").endswith("gone: No such file or directory")
    path.write_bytes(b"")
    assert refusal(f"-c h -F {path}") == f"the file {path} is empty"
    server = parsed(f"-s -F {path}").server
    assert server is not None
    assert server.file == str(path)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices here")
@pytest.mark.parametrize(
    ("flags", "longest_us", "total_bytes"),
    [
        ("", DEFAULT_DURATION_US, UNSIZED_BYTES),
        ("-t 3", 3_000_000, UNSIZED_BYTES),
        ("-t 0", 0, UNSIZED_BYTES),
        ("-n 5000", 0, 5000),
    ],
)
@pytest.mark.parametrize("path", ["/dev/zero", "/proc/self/status", "pipe"])
def test_a_file_without_a_size_is_sent_until_its_end_or_for_the_time(
    path: str, flags: str, longest_us: int, total_bytes: int, tmp_path: Path
) -> None:
    if path == "pipe":
        path = str(tmp_path / path)
        os.mkfifo(path)
    request = parsed(f"-c h -F {path} {flags}")
    assert request.plan is not None
    assert request.client is not None
    assert (request.plan.total_bytes, request.client.longest_us) == (total_bytes, longest_us)


@pytest.mark.parametrize(
    ("words", "total_bytes", "duration_us", "longest_us"),
    [("", 5000, 0, 0), ("-t 3", 5000, 0, 3_000_000), ("-t 3 -R", 0, 3_000_000, 0)],
)
def test_a_file_may_end_a_test_before_its_duration(
    words: str, total_bytes: int, duration_us: int, longest_us: int, tmp_path: Path
) -> None:
    path = tmp_path / "some"
    path.write_bytes(b"x" * 5000)
    request = parsed(f"-c h -F {path} {words}")
    assert request.plan is not None
    assert request.client is not None
    assert (request.plan.total_bytes, request.plan.duration_us) == (total_bytes, duration_us)
    assert request.client.longest_us == longest_us


def test_percent_names_an_interface_or_the_scope_of_an_address() -> None:
    client = parsed("-c server.example%eth1").client
    assert client is not None
    assert (client.host, client.sockets.device) == ("server.example", "eth1")
    client = parsed("-c fe80::1%eth1").client
    assert client is not None
    assert (client.host, client.sockets.device) == ("fe80::1%eth1", "")


@pytest.mark.parametrize(
    ("short", "whole"),
    [
        ("-c h --rev --tit=x --par 3", "-c h -R -T x -P 3"),
        ("-c h --bitr 5M --bid", "-c h -b 5M --bidir"),
        ("-c h --band 5M", "-c h -b 5M"),
        ("-s --one", "-s -1"),
    ],
)
def test_long_options_may_be_abbreviated(short: str, whole: str) -> None:
    assert parsed(short) == parsed(whole)


def test_an_ambiguous_abbreviation_is_unknown() -> None:
    assert refusal("-c h --bi").startswith("unknown option --bi (did you mean ")
    assert refusal("-c h --sct").startswith("unknown option --sct")


def test_one_letter_flags_can_be_joined() -> None:
    request = parsed("-Rc host -VJ")
    assert request.plan is not None
    assert request.plan.direction is Direction.REVERSE
    assert request.output.verbose
    assert request.output.json


def test_generated_flags_reach_the_settings_of_the_transport() -> None:
    parsed_plan = plan(
        "--proto fancy --fancy-mtu 1200 --fancy-mode normal --fancy-tick 20 --fancy-cap 2M -w 1M"
    )
    assert parsed_plan.settings == FancySettings(
        mtu=1200, mode="normal", tick=20, cap=2_000_000, window=1 << 20
    )
    assert plan("--proto fancy --no-fancy-checksum").settings == FancySettings(checksum=False)
    assert plan("--proto fancy --fancy-tick 1s").settings == FancySettings(tick=1000)
    assert plan("-N -C bbr").settings == PlainSettings(nodelay=True, algorithm="bbr")


@pytest.mark.parametrize("words", ["-proto fancy -sw 64", "-proto=fancy -sw=64", "--proto fancy --sndwnd 64"])
def test_alternative_spellings_are_accepted(words: str) -> None:
    assert plan(words).settings == FancySettings(send_window=64)


def test_alternative_spellings_leave_other_words_alone() -> None:
    assert rewritten(["-s", "-w", "5", "x-sw"], {"-sw": "--x"}) == ["-s", "-w", "5", "x-sw"]


@pytest.mark.parametrize(
    "words",
    [
        *("-w 0", "-l 0", "-P 0", "-n 0", "-k 0", "-n 0 -k 0", "-P 00", "--proto plain -w 0K"),
        *("--connect-timeout 0", "--snd-timeout 0", "--pacing-timer 0", "--fq-rate 0", "-O 0", "-S 0"),
    ],
)
def test_0_means_the_default(words: str) -> None:
    """Programs that call iperf3 pass 0 for "not set"."""
    assert parsed(f"-c h {words}") == parsed("-c h")


@pytest.mark.parametrize(
    ("words", "variable", "form"),
    [
        *(("", "", "iperfpy"), ("", "iperf3", "iperf3"), ("--text iperf3", "", "iperf3")),
        *(("--text iperfpy", "iperf3", "iperfpy"), ("--text iperf3", "nonsense", "iperf3")),
    ],
)
def test_the_form_of_the_text_comes_from_a_flag_or_the_environment(
    words: str, variable: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPERFPY_TEXT", variable)
    assert parsed(f"-c h {words}").output.text == parsed(f"-s {words}").output.text == form


def test_an_unknown_form_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPERFPY_TEXT", "iperf2")
    expected = "the environment variable IPERFPY_TEXT must be iperfpy or iperf3, not 'iperf2'"
    assert refusal("-c h") == expected


def test_0_bytes_or_blocks_are_no_end_condition() -> None:
    assert plan("-n 0 -t 5") == plan("-t 5")
    assert plan("-k 0 -n 1M") == plan("-n 1M")


@pytest.mark.parametrize("words", ["--server-max-duration 0", "--server-bitrate-limit 0", "--snd-timeout 0"])
def test_0_means_no_limit_at_a_server(words: str) -> None:
    assert parsed(f"-s {words}") == parsed("-s")


REAL = CommandLine(transports())


@pytest.mark.parametrize(
    ("words", "warnings"),
    [
        ("-c h --gsro", ("--gsro has no effect with --proto tcp",)),
        ("-c h --udp-counters-64bit", ("--udp-counters-64bit has no effect with --proto tcp",)),
        ("-c h --dont-fragment -R", ("--dont-fragment has no effect with --proto tcp",)),
        ("-c h -u -M 1000", ("--set-mss has no effect with --proto udp",)),
        ("-c h -u --skip-rx-copy", ("--skip-rx-copy has no effect with --proto udp",)),
        ("-c h -u --gsro -w 100K", ()),
        ("-s -m", ()),
        ("-s --cport 5000", ("--cport has no effect at a server (-s)",)),
    ],
)
def test_a_flag_without_effect_in_iperf3_is_a_warning(words: str, warnings: tuple[str, ...]) -> None:
    """A service file or a script that works with iperf3 works here."""
    assert request_of(REAL.parse(words.split())).warnings == warnings


@pytest.mark.parametrize(
    ("proto", "words"), [("kcp", "--gsro"), ("kcp", "--udp-counters-64bit"), ("kcp-bbr", "-M 500")]
)
def test_a_flag_of_iperf3_is_an_error_with_another_transport(proto: str, words: str) -> None:
    """As docs/options.md says."""
    with pytest.raises(ParameterError, match=f"^{words.split()[0]} does not apply to --proto {proto}$"):
        request_of(REAL.parse(["-c", "h", "--proto", proto, *words.split()]))


ONE_END = "only one test end condition (-t, -n, -k) may be specified"
REFUSALS = {
    "-t 5": "must either be a client (-c) or a server (-s)",
    "-s -c h": "cannot be both a server (-s) and a client (-c)",
    "-s -R": "-R is a client option: with -s, each client chooses its test",
    "-s -t 5": "-t is a client option: with -s, each client chooses its test",
    "-s --fancy-mtu 1200": "--fancy-mtu is a client option: with -s, each client chooses its test",
    "-c h -1": "-1 is a server option: a client (-c) does not have it",
    "-c h -t 5 -n 1M": ONE_END,
    "-c h -n 1 -k 1": ONE_END,
    "-c h -R --bidir": "a test cannot be both reverse (-R) and bidirectional (--bidir)",
    "-c h -4 -6": "only one address family (-4, -6) may be specified",
    "-c h --proto foo": "unknown transport 'foo' (known: plain, fancy) (--proto)",
    "-c h -C bbr --proto fancy": "-C does not apply to --proto fancy",
    "-c h --fancy-mtu 1200": "--fancy-mtu does not apply to --proto plain",
    "-c h --proto fancy --fancy-mtu 10": "mtu must be between 64 and 9000, not 10 (--fancy-mtu)",
    "-c h --proto fancy --fancy-mtu x": "'x' is not a whole number (--fancy-mtu)",
    "-c h --proto fancy --fancy-mode slow": "mode must be one of normal, fast, not 'slow' (--fancy-mode)",
    "-c h -w 1": "window must be between 1 KiB and 512 MiB, not 1 byte (-w)",
    "-c h -w 5X": "'5X' is not a size: expected a number, optionally followed by K, M, G or T (powers of 1024"
    " bytes) (-w)",
    "-c h -b 5X": "'5X' is not a rate: expected a number, optionally followed by k, M, G or T (powers of 1000"
    " bit/s) (-b)",
    "-c h -n 5MB": "'5MB' is not a size: expected a number, optionally followed by K, M, G or T (powers of"
    " 1024 bytes) (-n)",
    "-c h -n 5ib": "'5ib' is not a size: expected a number, optionally followed by K, M, G or T (powers of"
    " 1024 bytes) (-n)",
    "-c h -b -5": "'-5' is negative (-b)",
    "-c h -b 1M/2000": "a burst must be between 1 and 1000 blocks, not 2000 (-b)",
    "-c h -t -5": "'-5' is negative (-t)",
    "-c h -t 0.0000001": "'0.0000001' is too small: the least value above 0 is 1 microsecond (-t)",
    "-c h -i 0.0000001": "'0.0000001' is too small: the least value above 0 is 1 microsecond (-i)",
    "-c h -b 0.4": "'0.4' is too small: the least value above 0 is 1 bit/s (-b)",
    "-c h --fq-rate 0.4": "'0.4' is too small: the least value above 0 is 1 bit/s (--fq-rate)",
    "-s --server-bitrate-limit 0.4": "'0.4' is too small: the least value above 0 is 1 bit/s"
    " (--server-bitrate-limit)",
    "-c h -n 0.4": "'0.4' is too small: the least value above 0 is 1 byte (-n)",
    "-c h -k 0.4": "'0.4' is not a number of blocks (-k)",
    "-c h --proto fancy --fancy-tick 0.4ms": "'0.4ms' is too small: the least value above 0 is 1 millisecond"
    " (--fancy-tick)",
    "-c h -t 86401": "-t must be between 0 and 86400 seconds, not 86401",
    "-c h -t x": "'x' is not a duration: expected a number, optionally followed by ms, s, m or h (-t)",
    "-c h -O 601": "-O must be between 0 and 600 seconds, not 601",
    "-c h -i 0.01": "-i must be between 0.1 and 60 seconds, not 0.01",
    "-c h -P 129": "the number of streams must be between 1 and 128, not 129 (-P)",
    "-c h -P -1": "the number of streams must be between 1 and 128, not -1 (-P)",
    "-c h -P 1.5": "'1.5' is not the number of streams: expected a whole number from 1 to 128 (-P)",
    "-c h -l 2M": "-l must be between 1 byte and 1 MiB, not 2M",
    "-c h -n -1": "'-1' is negative (-n)",
    "-c h -p 70000": "a port must be between 1 and 65535, not 70000 (-p)",
    "-c h -f x": "'x' is not a unit: expected one of k, m, g, t, K, M, G, T (-f)",
    "-c h --connect-timeout -1": "a timeout in milliseconds must be between 1 and 86400000, not -1"
    " (--connect-timeout)",
    "-c h --pacing-timer 3G": "--pacing-timer must be between 1 and 2147483648 microseconds, not 3G",
    "-c h --pacing-timer 1s": "'1s' is not a number of microseconds (--pacing-timer)",
    "-c h -k -1": "'-1' is not a number of blocks (-k)",
    "-c h -n 0 -t 1 -k 5": ONE_END,
    "-c h -S 256": "a type of service must be between 0 and 255, not 256 (-S)",
    "-c h -S ef": "'ef' is not a type of service: expected a number from 0 to 255 (-S)",
    "-c h -S 09": "'09' is not a type of service: expected a number from 0 to 255 (-S)",
    "-c h -S ٨": "'٨' is not a type of service: expected a number from 0 to 255 (-S)",
    "-c h -S 1_0": "'1_0' is not a type of service: expected a number from 0 to 255 (-S)",
    "-c h -S +5": "'+5' is not a type of service: expected a number from 0 to 255 (-S)",
    "-c h -S 0b1": "'0b1' is not a type of service: expected a number from 0 to 255 (-S)",
    "-c h -L 0x_1": "'0x_1' is not a flow label: expected a number from 0 to 1048575 (-L)",
    "-c h --dscp ٨": "'٨' is not a code point (such as ef, af41, cs1): expected a number from 0 to 63"
    " (--dscp)",
    "-c h -f km": "'km' is not a unit: expected one of k, m, g, t, K, M, G, T (-f)",
    "-c h --format=": "'' is not a unit: expected one of k, m, g, t, K, M, G, T (-f)",
    "-c h --csv=": "a file name must not be empty (--csv)",
    "-s --csv=": "a file name must not be empty (--csv)",
    "-c h --username=": "a user name must not be empty (--username)",
    "-c h --dscp 64": "a code point (such as ef, af41, cs1) must be between 0 and 63, not 64 (--dscp)",
    "-c h --dscp af44": "'af44' is not a code point (such as ef, af41, cs1): expected a number from 0 to 63"
    " (--dscp)",
    "-c h -S 8 --dscp ef": "only one of -S and --dscp may be specified: they are the same byte",
    "-c h -L 0x100000": "a flow label must be between 0 and 1048575, not 0x100000 (-L)",
    "-c h -L 0": "a flow label must be between 1 and 1048575, not 0 (-L)",
    "-c h --rcv-timeout 99": "a timeout in milliseconds must be between 100 and 86400000, not 99"
    " (--rcv-timeout)",
    "-c h --cntl-ka=1/2/3/4": "'1/2/3/4' is not idle/interval/count (--cntl-ka)",
    "-c h -B 192.0.2.1%a --bind-dev b": "-B names the interface a, and --bind-dev b",
    "-s -S 8": "-S is a client option: with -s, each client chooses its test",
    "-s -A 1,2": "-A N,M is for a client; a server (-s) takes one processor: -A N",
    "-s -A x": "'x' is not a processor: expected a whole number from 0 to 1024 (-A)",
    "-c h -A ,": "',' is not an affinity: expected N, or N,M with M for the server (-A)",
    "-c h -D": "-D is a server option: a client (-c) does not have it",
    "-s --server-bitrate-limit 1M/0": "the seconds of an average must be between 1 and 1000, not 0"
    " (--server-bitrate-limit)",
    "-c h stray": "got unexpected extra argument (stray)",
    "-c h -t": "option '-t' requires an argument",
    "-c h --frobnicate-it": "unknown option --frobnicate-it",
}


@pytest.mark.parametrize("words", REFUSALS)
def test_bad_input_is_one_sentence(words: str) -> None:
    """Quotes and case are ignored: some versions of click quote an option in their errors, others do not."""
    assert refusal(words).lower().replace("'", "") == REFUSALS[words].lower().replace("'", "")


WORDS = st.one_of(
    st.sampled_from(sorted(flag for option in LINE.command.params for flag in option.opts)),
    st.sampled_from(
        ["-c", "h", "-s", "0", "1", "-1", "1M", "1K/2", "30s", "0x10", "1,2", "a%b", "x", "", "="]
    ),
    st.text(max_size=6).filter(lambda text: "\0" not in text),
)


@given(st.lists(WORDS, max_size=8))
@settings(max_examples=100, deadline=None)
def test_any_words_make_a_request_or_one_sentence(words: list[str]) -> None:
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        try:
            request_of(LINE.parse(words))
        except ParameterError as error:
            complain(str(error))
    assert len(errors.getvalue().splitlines()) <= 1


@pytest.mark.parametrize("flag", ["-J", "--json-stream", "--json-stream-full-output", "--logfile x", "-D"])
def test_a_csv_on_standard_output_excludes_other_uses_of_it(flag: str) -> None:
    role = "-s" if flag == "-D" else "-c h"
    name = flag.split()[0]
    assert refusal(f"{role} --csv - {flag}") == (
        f"--csv - and {name} exclude each other: both use standard output"
    )


@pytest.mark.parametrize("csv", ["", "--csv", "--csv -"])
def test_a_file_to_replace_has_a_name(csv: str) -> None:
    assert refusal(f"-c h --csv-overwrite {csv}") == (
        "--csv-overwrite needs the file that it replaces: --csv FILE"
    )


def test_a_mistyped_flag_gets_a_suggestion() -> None:
    assert "did you mean --reverse" in refusal("-c h --revrse")
    assert "did you mean --time" in refusal("-c h --tiem 5")


@pytest.mark.parametrize("word", ["--nonsense", "--interface"])
def test_a_flag_that_is_like_no_other_gets_none(word: str) -> None:
    assert refusal(f"-c h {word}") == f"unknown option {word}"


def test_a_transport_that_declares_a_flag_of_the_program_is_left_out() -> None:
    @dataclass(frozen=True, slots=True)
    class Greedy(Settings):
        time: int = option(1, help="", flags=("-t", "--ticks"))

    class Taker(Plain):
        settings = Greedy

    line = CommandLine({"plain": Plain(), "taker": Taker()})
    sentence = "transport 'taker' declares the flag -t, which is in use already"
    assert (list(line.transports), line.unusable) == (["plain"], {"taker": sentence})
    assert request_of(line.parse(["-c", "h", "-t", "5"])).plan is not None
    with pytest.raises(ParameterError, match=sentence):
        request_of(line.parse(["-c", "h", "--proto", "taker"]))


def test_a_flag_that_selects_a_transport_cannot_be_declared_twice() -> None:
    class First(Plain):
        name, flags = "first", ("-x",)

    class Second(Plain):
        name, flags = "second", ("-x",)

    line = CommandLine({"first": First(), "second": Second()})
    assert line.unusable == {"second": "transport 'second' declares the flag -x, which is in use already"}
    plan = request_of(line.parse(["-c", "h", "-x"])).plan
    assert plan is not None
    assert plan.transport == "first"


def _claims(settings: type[Settings], **attributes: Any) -> dict[str, str]:
    """The plug-ins that cannot be used beside `fancy`, with the reasons, if one has these settings."""
    own = {"name": "plug-in", "prefix": "own", "settings": settings}
    plug_in = type("PlugIn", (Plain,), {**own, **attributes})
    line = CommandLine({"plain": Plain(), "fancy": Fancy(), "keyed": Keyed(), "plug-in": plug_in()})
    assert list(line.transports)[:3] == ["plain", "fancy", "keyed"]
    plan = request_of(line.parse(["-c", "h", "--proto", "fancy", "--fancy-mtu", "900"])).plan
    assert plan is not None
    return line.unusable


class Keyed(Plain):
    name, prefix, secret = "keyed", "lock", "key of the lock"


@dataclass(frozen=True, slots=True)
class Key(Settings):
    key: str = option("", help="")


@dataclass(frozen=True, slots=True)
class OtherKey(Settings):
    key: str = option("", help="", flags=("--lock-key-file",))


@dataclass(frozen=True, slots=True)
class Off(Settings):
    delay: bool = option(True, help="", flags=("--verdict",))


@pytest.mark.parametrize(
    ("settings", "attributes", "flag"),
    [
        (Key, {"secret": "key of the plug-in"}, "--own-key"),
        (OtherKey, {}, "--lock-key-file"),
        (Off, {}, "--no-verdict"),
        (Settings, {"flags": ("--lock-key",)}, "--lock-key"),
        (Settings, {"flags": ("-w",)}, "-w"),
        (Settings, {"secret": "key", "prefix": "lock"}, ""),
    ],
)
def test_a_plugin_that_claims_a_flag_of_another_is_left_out_and_named(
    settings: type[Settings], attributes: dict[str, Any], flag: str
) -> None:
    """Two plug-ins with one prefix share its key."""
    sentence = f"transport 'plug-in' declares the flag {flag}, which is in use already"
    assert _claims(settings, **attributes) == ({"plug-in": sentence} if flag else {})


def test_an_alias_takes_no_word_from_another_flag() -> None:
    @dataclass(frozen=True, slots=True)
    class Aliased(Settings):
        ticks: int = option(1, help="", aliases=("-t", "-sw", "--frames"))

    class Taker(Plain):
        name, settings = "taker", Aliased

    words = ["-c", "h", "-t", "5", "-sw", "300", "--proto", "kcp"]
    line = CommandLine({**transports(), "taker": Taker()})
    assert line.unusable == {}
    assert request_of(line.parse(words)).plan == request_of(CommandLine(transports()).parse(words)).plan
    taken = request_of(line.parse(["-c", "h", "--frames", "7", "--proto", "taker"])).plan
    assert taken is not None
    assert taken.settings.record()["ticks"] == 7


def test_a_flag_takes_a_value_in_all_transports_or_in_none() -> None:
    @dataclass(frozen=True, slots=True)
    class Other(Settings):
        window: bool = option(False, help="", flags=("-w",))

    class Clash(Plain):
        settings = Other

    line = CommandLine({"plain": Plain(), "clash": Clash()})
    assert list(line.transports) == ["plain"]
    assert "'clash' declares -w with a value" in line.unusable["clash"]


def test_the_registered_transports_have_no_conflicting_flags() -> None:
    line = CommandLine(transports())
    for name in transports():
        request = request_of(line.parse(["-c", "h", "--proto", name]))
        assert request.plan is not None
        assert request.plan.settings == transports()[name].settings()
