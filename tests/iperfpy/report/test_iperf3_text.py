"""The text in iperf3's form: its columns, the figures that it lacks, and the idioms by which scripts read it.

The golden files iperf3-*.txt have whole texts; tests/interop/test_iperf3_text.py compares with iperf3.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace

import pytest

from iperfpy.cli.exit_status import complain, text_form
from iperfpy.cli.outputs import Outputs
from iperfpy.errors import InterruptError
from iperfpy.options import IPERF3_TEXT, ClientOptions, OutputOptions
from iperfpy.plan import Direction, Plan, Role
from iperfpy.protocols.metrics import Side, Value
from iperfpy.protocols.udp import Udp, UdpSettings
from iperfpy.records import Row, RunEnded, Sample
from iperfpy.report import iperf3_lines
from tests.iperfpy.report.scenes import CPU, SCENES, Scene, bidirectional, forward, server, start_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.00 Bytes"),
        (1023, "1023 Bytes"),
        (1024, "1.00 KBytes"),
        (10_234, "9.99 KBytes"),
        (10_240, "10.0 KBytes"),
        (102_348, "99.9 KBytes"),
        (102_400, " 100 KBytes"),
        (25_060_966, "23.9 MBytes"),
        (1 << 50, "1024 TBytes"),
    ],
)
def test_a_size_has_four_characters_and_a_unit(value: float, text: str) -> None:
    assert iperf3_lines.size(value) == text


@pytest.mark.parametrize(
    ("letter", "text"),
    [
        ("", "10.5 Mbits/sec"),
        ("k", "10479 Kbits/sec"),
        ("m", "10.5 Mbits/sec"),
        ("g", "0.01 Gbits/sec"),
        ("t", "0.00 Tbits/sec"),
        ("K", "1279 KBytes/sec"),
        ("M", "1.25 MBytes/sec"),
        ("G", "0.00 GBytes/sec"),
    ],
)
def test_a_rate_has_the_unit_of_f(letter: str, text: str) -> None:
    assert iperf3_lines.rate(10_479_000, letter) == text


def test_a_rate_that_was_not_measured_is_no_number() -> None:
    start, sample = start_of(), Sample(1, Side.SENDER, 0, 1, 1000)
    row = Row(1, sample)
    text = Scene(start, ((row,),), RunEnded((row,), CPU)).iperf3_text()
    assert "[  5]   0.00-0.00   sec  1000 Bytes     - bits/sec                  " in text.splitlines()
    assert iperf3_lines.rate(None, "M") == "   - bits/sec"


def idiom(command: str, text: str) -> list[str]:
    """The output of a shell command that reads the text."""
    if shutil.which("awk") is None or shutil.which("grep") is None:
        pytest.skip("awk or grep is not installed")
    done = subprocess.run(["sh", "-c", command], input=text, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_scripts_find_the_rate() -> None:
    text = forward().iperf3_text()
    assert idiom("awk '/receiver/ {print $7,$8}'", text) == ["14.6 Mbits/sec"]
    assert idiom("grep -oP '[\\d.]+ [KMG]?bits/sec'", text) == [
        *("31.3 Mbits/sec", "0.00 bits/sec"),
        *("15.6 Mbits/sec", "14.6 Mbits/sec"),
    ]
    assert idiom("grep sender | awk '{print $9}'", text) == ["11"]


@pytest.mark.parametrize("name", SCENES)
def test_every_interval_has_its_columns_where_iperf3_has_them(name: str) -> None:
    for line in SCENES[name]().iperf3_text().splitlines():
        if found := re.search(r"(?<=\])   0\.00-\d\.\d\d   sec  ", line):
            assert re.match(
                r"[ \d.]{4} [KMGT]?Bytes  [ \d.]{4,} [KMGT]?(bits|Bytes)/sec", line[found.end() :]
            )


def datagrams(
    direction: Direction = Direction.FORWARD,
    role: Role = Role.CLIENT,
    *,
    late: int = 0,
    received: Mapping[str, Value] | None = None,
) -> list[str]:
    """The table of a UDP test of two streams: 100 datagrams each, of which 5 are lost."""
    transport = Udp()
    plan = Plan("udp", UdpSettings(), direction, parallel=2, block_bytes=1000)
    start = replace(start_of(direction, role, streams=2), plan=plan, transport=transport)
    values: dict[str, Value] = {
        "jitter_us": 12.3,
        "lost_datagrams": 5,
        "datagrams_numbered": 100,
        "late_datagrams": late,
    }
    rows = []
    for each in start.connected:
        got = Sample(each.stream.id, Side.RECEIVER, 0, 1_000_000, 95_000, received or values)
        sent = Sample(each.stream.id, Side.SENDER, 0, 1_000_000, 100_000, {"datagrams_sent": 100})
        way = Direction.FORWARD if each.stream.sends else Direction.REVERSE
        way = direction if direction is not Direction.BIDIRECTIONAL else way
        own = (way is Direction.FORWARD) == (role is Role.CLIENT)
        local, peer = (sent, got) if own else (got, sent)
        rows.append(Row(each.stream.id, local, peer, way))
    scene = Scene(start, (tuple(rows),), RunEnded(tuple(rows), CPU))
    lines = scene.iperf3_text().splitlines()
    return lines[next(index for index, line in enumerate(lines) if line.startswith("[ ID")) :]


HEAD = "[ ID] Interval           Transfer     Bitrate         "
SENT, GOT = "97.7 KBytes   800 Kbits/sec", "92.8 KBytes   760 Kbits/sec"


def test_datagrams_of_a_client_that_sends() -> None:
    assert datagrams() == [
        HEAD + "Total Datagrams",
        f"[  5]   0.00-1.00   sec  {SENT}  100  ",
        f"[  7]   0.00-1.00   sec  {SENT}  100  ",
        "[SUM]   0.00-1.00   sec   195 KBytes  1.60 Mbits/sec  200  ",
        iperf3_lines.SEPARATOR,
        HEAD + "Jitter    Lost/Total Datagrams",
        f"[  5]   0.00-1.00   sec  {SENT}  0.000 ms  0/100 (0%)  sender",
        f"[  5]   0.00-1.00   sec  {GOT}  0.012 ms  5/100 (5%)  receiver",
        f"[  7]   0.00-1.00   sec  {SENT}  0.000 ms  0/100 (0%)  sender",
        f"[  7]   0.00-1.00   sec  {GOT}  0.012 ms  5/100 (5%)  receiver",
        "[SUM]   0.00-1.00   sec   195 KBytes  1.60 Mbits/sec  0.000 ms  0/200 (0%)  sender",
        "[SUM]   0.00-1.00   sec   186 KBytes  1.52 Mbits/sec  0.012 ms  10/200 (5%)  receiver",
        "",
        "iperf Done.",
    ]


def test_datagrams_of_a_server_that_receives() -> None:
    lines = datagrams(role=Role.SERVER)
    assert lines[1] == f"[  5]   0.00-1.00   sec  {GOT}  0.012 ms  5/100 (5%)  "
    assert [line.split()[-1] for line in lines[6:]] == ["receiver"] * 3


def test_late_datagrams_have_a_line() -> None:
    lines = datagrams(Direction.REVERSE, late=3)
    assert lines.count("[SUM]  0.0- 1.0 sec  3 datagrams received out-of-order") == 2


def test_a_bidirectional_line_names_its_role() -> None:
    lines = datagrams(Direction.BIDIRECTIONAL)
    assert (
        lines[0]
        == "[ ID][Role] Interval           Transfer     Bitrate         Jitter    Lost/Total Datagrams"
    )
    assert lines[1] == f"[  5][TX-C]   0.00-1.00   sec  {SENT}            100  "
    assert lines[4] == f"[  9][RX-C]   0.00-1.00   sec  {GOT}  0.012 ms  5/100 (5%)  "
    assert lines[6].startswith("[SUM][RX-C]   0.00-1.00 ")


def test_a_direction_that_ended_before_an_interval_has_no_line_in_it() -> None:
    scene = bidirectional()
    first, second = scene.intervals[-1]
    ended = replace(first, local=replace(first.local, start_us=first.local.end_us, bytes=0))
    whole = scene.iperf3_text().splitlines()
    without = replace(scene, intervals=(*scene.intervals[:-1], (ended, second))).iperf3_text().splitlines()
    assert len(without) == len(whole) - 1
    assert set(without) < set(whole)


def test_an_interval_after_the_end_of_all_streams_has_no_line() -> None:
    """Streams end at different times; the sum of their empty intervals has a length."""
    scene = bidirectional()
    start = replace(scene.start, plan=replace(scene.start.plan, parallel=2))
    late = [
        replace(
            row, local=replace(row.local, start_us=row.local.end_us + after, end_us=row.local.end_us + after)
        )
        for row in scene.intervals[-1]
        for after in (0, 200)
    ]
    ended = tuple(replace(row, local=replace(row.local, bytes=0)) for row in late)
    whole = replace(scene, start=start)
    more = replace(whole, intervals=(*whole.intervals, ended))
    assert more.iperf3_text() == whole.iperf3_text()


def test_a_receiver_without_a_datagram_has_zeros_like_iperf3() -> None:
    lines = datagrams(Direction.REVERSE, received={"jitter_us": None, "datagrams_numbered": 0})
    assert lines[1].endswith("0.000 ms  0/0 (0%)  ")


# ---------------------------------------------------------------------- errors, and the lines of a server


@pytest.mark.parametrize(
    ("sentence", "line"),
    [
        (
            "cannot connect to 192.0.2.1 port 5201: connection refused",
            "iperf3: error - unable to connect to server - server may have stopped running or use a different"
            " port, firewall issue, etc.: Connection refused",
        ),
        (
            "the server is busy running a test, or refuses this one",
            "iperf3: error - the server is busy running a test. try again later",
        ),
        (
            "the server closed the control connection unexpectedly",
            "iperf3: error - control socket has closed unexpectedly",
        ),
        ("the client has terminated", "iperf3: the client has terminated"),
        (
            "the client closed the control connection unexpectedly",
            "iperf3: the client has unexpectedly closed the connection",
        ),
        ("the server has terminated", "iperf3: error - the server has terminated"),
        ("stream 1: no route", "iperf3: error - stream 1: no route"),
    ],
)
def test_an_error_has_iperf3s_words(sentence: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Outputs(OutputOptions(text=IPERF3_TEXT)).client_sinks(
        forward().start.plan, ClientOptions("h")
    ) as sinks:
        for sink in sinks:
            sink.error(sentence)
    assert capsys.readouterr() == ("", line + "\n")


def test_an_error_of_the_command_line_is_followed_by_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert complain("unknown option --x", kind="parameter error", text=IPERF3_TEXT) == 1
    assert capsys.readouterr().err.splitlines() == [
        "iperf3: parameter error - unknown option --x",
        "",
        "Usage: iperf3 [-s|-c host] [options]",
        "Try `iperf3 --help' for more information.",
    ]


@pytest.mark.parametrize(
    ("words", "variable", "form"),
    [
        ("-c h", "", ""),
        ("-c h", "iperf3", "iperf3"),
        ("-c h --text iperf3 -R", "", "iperf3"),
        ("-c h --text=iperf3", "iperfpy", "iperf3"),
        ("-c h --text iperfpy", "iperf3", "iperfpy"),
    ],
)
def test_words_or_the_environment_choose_the_form(
    words: str, variable: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPERFPY_TEXT", variable)
    assert text_form(words.split()) == form


@pytest.mark.parametrize("one_off", [False, True])
def test_a_server_says_before_every_test_that_it_listens(
    one_off: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = Outputs(OutputOptions(text=IPERF3_TEXT))
    outputs.listening(5201, again=not one_off)
    for sink in outputs.server_sinks():
        server().play(sink)
    outputs.finish()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "Server listening on 5201 (test #1)"
    assert lines[-2:] == (
        ["Server listening on 5201 (test #2)", iperf3_lines.RULE]
        if not one_off
        else [*lines[-2:-1], "[  5]   0.00-1.00   sec  3.50 MBytes  29.4 Mbits/sec                  receiver"]
    )


def test_a_server_that_is_stopped_says_so_once(capsys: pytest.CaptureFixture[str]) -> None:
    error = InterruptError("the server has terminated by signal Terminated(15)")
    Outputs(OutputOptions(text=IPERF3_TEXT)).interrupted(error)
    assert capsys.readouterr().err == f"iperf3: interrupt - {error}\n"
    outputs = Outputs(OutputOptions(text=IPERF3_TEXT))
    outputs.listening(5201, again=True)
    for sink in outputs.server_sinks():
        scene = server()
        Scene(scene.start, scene.intervals, replace(scene.end, interrupted=str(error))).play(sink)
    outputs.finish()
    outputs.interrupted(error)
    out, errors = capsys.readouterr()
    assert errors == f"iperf3: interrupt - {error}\n"
    assert out.count("Server listening") == 1


def test_every_line_has_the_time_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with Outputs(OutputOptions(text=IPERF3_TEXT, timestamps="T> ")).client_sinks(
        forward().start.plan, ClientOptions("h")
    ) as sinks:
        for sink in sinks:
            scene = forward()
            Scene(scene.start, scene.intervals, replace(scene.end, interrupted="it broke", failed=True)).play(
                sink
            )
    out, errors = capsys.readouterr()
    assert all(line.startswith("T> ") for line in (out + errors).splitlines())
    assert errors == "T> iperf3: error - it broke\n"
