"""docs/options.md has every option of iperf3, and the program treats each one as the table says."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from iperfpy.cli.command_line import CommandLine
from iperfpy.cli.main import main
from iperfpy.cli.request import request_of
from iperfpy.errors import ParameterError
from iperfpy.protocols.kcp.settings import MODES, Tuning
from iperfpy.protocols.registry import transports
from iperfpy.protocols.settings import setting_fields

DOCS = Path(__file__).parents[3] / "docs"
TABLE = (DOCS / "options.md").read_text()

LIST_OF_3_21 = """
-p --port -f --format -i --interval -I --pidfile -F --file -A --affinity -B --bind --bind-dev -V --verbose
-J --json --json-stream --json-stream-full-output --logfile --forceflush --timestamps --rcv-timeout
--snd-timeout --cntl-ka -m --mptcp -d --debug -v --version -h --help -s --server -D --daemon -1 --one-off
--idle-timeout --server-bitrate-limit --server-max-duration --rsa-private-key-path --authorized-users-path
--time-skew-threshold --use-pkcs1-padding -c --client -u --udp --sctp --nstreams -X --xbind
--connect-timeout -b --bitrate --bandwidth --pacing-timer --fq-rate -t --time -n --bytes -k --blockcount
-l --length --cport -P --parallel -R --reverse --bidir -w --window -C --congestion --linux-congestion -M
--set-mss -N --no-delay -4 --version4 -6 --version6 -S --tos --dscp -L --flowlabel -Z --zerocopy
--skip-rx-copy -O --omit -T --title --extra-data --get-server-output --udp-counters-64bit --gsro
--repeating-payload --dont-fragment --username --rsa-public-key-path --no-fq-socket-pacing
"""

VALUES = {
    "-p": "5202",
    "-f": "m",
    "-i": "0.5",
    "-I": "x.pid",
    "-A": "0",
    "-F": __file__,
    "-B": "127.0.0.1",
    "--bind-dev": "lo",
    "--logfile": "x.log",
    "--timestamps": "=%T",
    "--rcv-timeout": "500",
    "--snd-timeout": "500",
    "--cntl-ka": "=1/2/3",
    "-d": "2",
    "--idle-timeout": "5",
    "--server-bitrate-limit": "10M/5",
    "--server-max-duration": "60",
    "--time-skew-threshold": "5",
    "-c": "localhost",
    "--connect-timeout": "500",
    "-b": "10M/5",
    "--pacing-timer": "500",
    "--fq-rate": "10M",
    "-t": "5",
    "-n": "10M",
    "-k": "10",
    "-l": "1000",
    "--cport": "6000",
    "-P": "128",
    "-w": "64K",
    "-C": "reno",
    "-M": "1000",
    "-S": "0x20",
    "--dscp": "ef",
    "-L": "5",
    "-O": "1",
    "-T": "text",
    "--extra-data": "text",
}
"""A value for the options that take one, by their first name in the table."""

ENVELOPE = {"--kcp-fec", "--kcp-ds", "--kcp-ps", "--kcp-crypt"}
"""Options of KCP that have a table of their own."""

FILES = {"--rsa-private-key-path", "--authorized-users-path", "--username", "--rsa-public-key-path"}
"""Options that need files; tests/interop/test_iperf3_auth.py tests them."""


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    names: tuple[str, ...]
    here: str
    how: str
    role: str


def lines() -> list[Line]:
    found, role = [], ""
    for text in TABLE.splitlines():
        if text.startswith("## "):
            role = text.removeprefix("## ")
        row = re.fullmatch(r"\| (`-[^|]*`) \| (\w+) \| ?(.*?) ?\|", text)
        if row:
            names = tuple(name.strip("`") for name in row[1].split(", "))
            found.append(Line(names, row[2], row[3], role))
    return found


LINES = lines()
LINE = CommandLine(transports())


def command(line: Line, name: str) -> list[str]:
    """Return a command line with this option, in its role and with a transport that has it."""
    value = VALUES.get(line.names[0], "")
    words = [name + value] if value.startswith("=") else [name, *([value] if value else [])]
    role = ["-s"] if line.role == "Server" else ["-c", "localhost"]
    if name in ("-s", "--server", "-c", "--client"):
        role = []
    udp = ["-u"] if set(line.names) & {"--udp-counters-64bit", "--gsro"} else []
    fragment = ["-u"] if "--dont-fragment" in line.names else []
    return [*role, *udp, *fragment, *words]


def test_the_table_has_every_option_of_3_21() -> None:
    named = [name for line in LINES for name in line.names]
    assert len(named) == len(set(named))
    assert set(named) == set(re.findall(r"\S+", LIST_OF_3_21))


@pytest.mark.interop
def test_the_table_has_every_option_of_the_installed_iperf3() -> None:
    program = shutil.which("iperf3")
    if program is None:
        pytest.skip("iperf3 is not installed")
    output = subprocess.run([program, "--help"], capture_output=True, text=True, check=False).stdout
    options = {
        name
        for text in output.splitlines()
        if (heads := re.match(r" +(-.*?)(  |$| [#<\[])", text))
        for name in re.findall(r"(?<![\w-])--?[A-Za-z0-9][\w-]*", heads[1])
    }
    assert len(options) > 60
    assert options <= {name for line in LINES for name in line.names}


def test_every_row_is_same_better_or_refused() -> None:
    assert {line.here for line in LINES} == {"same", "better", "refused"}
    assert all(line.how for line in LINES if line.here != "same")


@pytest.mark.parametrize(
    ("line", "name"),
    [
        pytest.param(line, name, id=name)
        for line in LINES
        if line.here != "refused" and not set(line.names) & FILES
        for name in line.names
        if name not in ("-v", "--version", "-h", "--help")
    ],
)
def test_an_option_that_is_same_or_better_is_accepted(line: Line, name: str) -> None:
    request_of(LINE.parse(command(line, name)))


@pytest.mark.parametrize("name", sorted(FILES))
def test_password_options_need_each_other(name: str) -> None:
    role = ["-c", "h"] if name in ("--username", "--rsa-public-key-path") else ["-s"]
    with pytest.raises(ParameterError, match=r"passwords? needs? both"):
        request_of(LINE.parse([*role, name, "/no/such/file"]))


@pytest.mark.parametrize(
    ("line", "name"),
    [pytest.param(line, name, id=name) for line in LINES if line.here == "refused" for name in line.names],
)
def test_a_refused_option_gives_the_reason_of_the_table(
    line: Line, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-c", "localhost", name, "5"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == f"iperfpy: parameter error - {name} is not supported: {line.how}\n"


def test_a_document_names_every_option_of_a_test() -> None:
    words = {
        word for page in DOCS.glob("*.md") for word in re.findall(r"(?<![\w-])--?\w[\w-]*", page.read_text())
    }
    options = [option for option in LINE.command.params if not getattr(option, "hidden", False)]
    assert len(options) > 80
    assert [option.opts for option in options if not words & set(option.opts)] == []


KCP = TABLE.partition("\n## KCP's options\n")[2].partition("\n## ")[0]


BY_ITSELF = {
    "--kcp-mtu": "as the path carries",
    "-w": "by the window",
    **dict.fromkeys(("--kcp-nodelay", "--kcp-interval", "--kcp-resend", "--kcp-nc"), "by the mode"),
}
"""Options whose default is no value of their own -> the words of the table about it."""


def test_the_table_of_kcp_has_its_options_and_their_defaults() -> None:
    rows = re.findall(r"^\| `(-[\w-]+)[^|]*\| [^|]* \| ([^|]*) \| ([^|]*) \|$", KCP, re.MULTILINE)
    for column, name in enumerate(("kcp", "kcp-bbr"), start=1):
        kind = transports()[name].settings
        defaults = {one.flags("kcp")[0]: getattr(kind(), one.name) for one in setting_fields(kind)}
        told = {row[0]: row[column] for row in rows if row[column] != "-"}
        assert told.keys() == defaults.keys() - ENVELOPE
        for flag, text in told.items():
            default = defaults[flag]
            assert text == (
                BY_ITSELF[flag] if default is None else "off" if default is False else str(default)
            )


def test_the_table_of_modes_is_that_of_kcp() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", KCP, re.MULTILINE)
    assert {name: Tuning(*map(int, values)) for name, *values in rows} == MODES
