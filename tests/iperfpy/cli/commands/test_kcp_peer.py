"""`iperfpy kcp-peer`: its words, reports and exit status. tests/live/test_lone.py measures."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from iperfpy.cli.commands import kcp_peer
from iperfpy.cli.main import main
from iperfpy.endpoint import lone_test
from iperfpy.errors import LateError
from iperfpy.options import LoneOptions
from iperfpy.plan import Direction, Plan
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.registry import transport, transports
from iperfpy.protocols.settings import Settings, option
from iperfpy.records import Sink, tell_all
from iperfpy.runtime.deadlines import Deadlines


class Asked:
    """The tests that were asked for; none of them is run."""

    def __init__(self) -> None:
        self.plan: Plan | None = None
        self.options: LoneOptions | None = None
        self.deadlines: Deadlines | None = None
        self.error: LateError | None = None

    async def run_lone(
        self,
        plan: Plan,
        options: LoneOptions,
        sinks: Sequence[Sink],
        *,
        transport: Transport,
        scope: object,
        deadlines: Deadlines,
        on_listening: Any,
    ) -> None:
        assert transport.name == plan.transport
        self.plan, self.options, self.deadlines = plan, options, deadlines
        if options.listens:
            on_listening(("127.0.0.1", 5400))
        if self.error is not None:
            sentence = str(self.error)
            tell_all(sinks, lambda sink: sink.error(sentence))
            raise self.error


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    found = Asked()
    monkeypatch.setattr(lone_test, "run_lone", found.run_lone)
    return found


def run(words: str, asked: Asked) -> tuple[Plan, LoneOptions]:
    assert main(["kcp-peer", *words.split()]) == 0
    assert asked.plan is not None
    assert asked.options is not None
    return asked.plan, asked.options


def test_the_default_sends_to_a_sink_for_ten_seconds(asked: Asked) -> None:
    plan, options = run("192.0.2.7:5400", asked)
    assert (plan.transport, plan.direction, plan.duration_us) == ("kcp", Direction.FORWARD, 10_000_000)
    assert (options.end.host, options.end.port, options.listens) == ("192.0.2.7", 5400, False)
    assert options.conv == 0
    assert asked.deadlines is not None
    assert asked.deadlines.quiet_s == 5.0


def test_an_end_that_listens_and_receives_ends_when_the_peer_is_silent(asked: Asked) -> None:
    plan, options = run("--listen :5400 --silence 2 --idle-timeout 30", asked)
    assert (plan.duration_us, plan.total_bytes) == (0, 0)
    assert (options.end.host, options.listens) == ("", True)
    assert (options.silence_us, options.wait_us) == (2_000_000, 30_000_000)
    assert run("--listen :5400 -R", asked)[0].duration_us == 10_000_000
    assert run("--listen :5400 -t 3", asked)[0].duration_us == 3_000_000
    assert run("--listen [::1]:0", asked)[1].end.host == "::1"


def test_flags_of_a_test_have_their_meaning(asked: Asked) -> None:
    words = "h:1 -R -n 10M -b 5M -l 4K -i 0.5 --proto kcp-bbr --kcp-fec 10:3 --kcp-mtu 1300 --conv 7"
    plan, options = run(words, asked)
    assert (plan.transport, plan.direction, plan.total_bytes) == ("kcp-bbr", Direction.REVERSE, 10 << 20)
    assert (plan.rate_bps, plan.block_bytes, plan.interval_us) == (5_000_000, 4096, 500_000)
    assert plan.settings.record()["fec"] == "10:3"
    assert plan.settings.record()["mtu"] == 1300
    assert options.conv == 7
    assert options.smux == 0
    assert run("h:1 --smux 2", asked)[1].smux == run("--listen :1 --smuxver 2", asked)[1].smux == 2
    assert not options.compressed
    assert run("h:1 --smux 1 --compress", asked)[1].compressed
    assert run("h:1 -ds 4 -ps 2 -sw 512", asked)[0].settings.record()["fec"] == "4:2"


def test_a_key_reaches_the_end_and_no_record(asked: Asked, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("a secret of this test\n")
    plan, options = run(f"h:1 --kcp-crypt aes-128-gcm --kcp-key-file {file}", asked)
    assert options.end.secrets == {"kcp": b"a secret of this test"}
    assert "secret" not in repr((plan, options)).replace("secrets", "")


def test_compression_without_its_package_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cramjam", None)
    assert main(["kcp-peer", "h:1", "--smux", "1", "--compress"]) == 1
    assert "--compress needs the extra 'snappy' (cramjam): pip install" in capsys.readouterr().err


def test_the_kinds_of_an_echo(asked: Asked) -> None:
    bulk = run("h:1 --echo", asked)
    assert bulk[0].direction is Direction.BIDIRECTIONAL
    assert bulk[1].echo
    messages = run("h:1 --echo --rate 50 -t 4", asked)[0]
    assert (messages.messages_per_s, messages.message_count, messages.block_bytes) == (50, 200, 100)
    assert messages.settings.record()["push"]
    plan, options = run("--listen :1 --echo", asked)
    assert plan.direction is Direction.FORWARD
    assert options.echo
    assert plan.settings.record()["push"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("", "needs either the peer's address, HOST:PORT, or --listen"),
        ("h:1 --listen :1", "needs either"),
        ("h", "'h' is no HOST:PORT"),
        ("::1:5", "an IPv6 address stands in brackets"),
        (":5400", "names no host"),
        ("h:0", "a port must be between 1 and 65535, not 0"),
        ("h:70000", "a port must be between"),
        ("h:x", "'x' is not a port"),
        (f"h:{'1' * 5000}", "is not a port"),
        ("h:1 --echo -R", "--echo goes both ways"),
        ("h:1 --rate 5", "--rate is for the end that measures an echo"),
        ("--listen :1 --echo --rate 5", "--rate is for the end that measures an echo"),
        ("--listen :1 --echo -n 1M", "leave -n out there"),
        ("h:1 --echo --rate 5 -n 1M", "leave -b and -n out"),
        ("h:1 --echo --rate 5 -l 8", "the size of a message must be between 16"),
        ("h:1 -t 1 -n 1M", "only one test end condition"),
        ("h:1 --conv 0", "a conversation number must be between 1"),
        ("h:1 --smux 3", "--smux must be between 1 and 2, not 3"),
        ("h:1 --compress", "--compress is for kcptun: give --smux 1, or 2, as well"),
        ("h:1 --kcp-fec 0:3", "--kcp-fec needs at least 1 data and 1 parity datagram"),
        ("h:1 --kcp-mtu 70 --kcp-crypt none --kcp-fec 10:3", "mtu must be at least 78"),
        ("h:1 --kcp-crypt aes-128-gcm", "needs the key that both ends share"),
        ("h:1 --kcp-crypt aes --kcp-key short", "at least 8 bytes are needed"),
        ("h:1 --kcp-key long-enough", "--kcp-key has no use here"),
        ("h:1 --proto tcp", "tcp"),
        ("--listen :1 -B 127.0.0.1", "--listen names the local address"),
        ("--listen :1 --cport 5", "--listen names the local port"),
        ("h:1 -4 -6", "only one address family"),
        ("h:1 --csv - -J", "exclude each other"),
    ],
)
def test_bad_words_are_a_sentence(
    words: str,
    sentence: str,
    asked: Asked,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("IPERFPY_KCP_KEY", raising=False)
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["kcp-peer", *words.split()]) == 1
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert asked.plan is None


def test_a_transport_without_smux_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asked: Asked
) -> None:
    class Plain(type(transport("kcp"))):  # type: ignore[misc]
        name, smux_versions = "plain", ()

    monkeypatch.setattr(kcp_peer, "transports", lambda: {**transports(), "plain": Plain()})
    assert main(["kcp-peer", "h:1", "--proto", "plain", "--smux", "1"]) == 1
    assert "plain has no streams in smux: leave --smux out" in capsys.readouterr().err


def test_a_failure_has_its_sentence_in_every_form(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    asked.error = LateError("no KCP peer answered")
    assert main(["kcp-peer", "h:1", "-J"]) == 1
    output = capsys.readouterr()
    assert json.loads(output.out)["error"] == "no KCP peer answered"
    assert "no KCP peer answered" in output.err
    assert main(["kcp-peer", "h:1"]) == 1
    assert capsys.readouterr().err == "iperfpy: error - no KCP peer answered\n"
    assert main(["kcp-peer", "h:1", "-J", "--conv", "x"]) == 1
    assert "conversation number" in json.loads(capsys.readouterr().out)["error"]


def test_the_first_line_names_the_peer_or_the_port(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    run("h:1", asked)
    assert capsys.readouterr().out == "Connecting to host h, port 1\n"
    run("--listen 127.0.0.1:5400", asked)
    assert "listening on 5400" in capsys.readouterr().out


def test_the_help_lists_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kcp-peer", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Usage: iperfpy kcp-peer HOST:PORT | --listen [HOST]:PORT [options]")
    for flag in (
        "--listen",
        "--echo",
        "--rate",
        "--conv",
        "--silence",
        "-R",
        "-J",
        "--kcp-fec",
        "--kcp-key-file",
    ):
        assert flag in text
    assert main(["--help"]) == 0
    assert "iperfpy kcp-peer HOST:PORT" in capsys.readouterr().out


def test_a_plugin_whose_flags_contradict_is_left_out_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asked: Asked
) -> None:
    @dataclass(frozen=True, slots=True)
    class Greedy(Settings):
        listen: bool = option(False, help="", flags=("--listen",))

    class Taker(type(transport("kcp"))):  # type: ignore[misc]
        name, prefix, settings = "taker", "taker", Greedy

    monkeypatch.setattr(kcp_peer, "transports", lambda: {**transports(), "taker": Taker()})
    sentence = "transport 'taker' declares the flag --listen, which is in use already"
    run("127.0.0.1:5400", asked)
    assert capsys.readouterr().err == f"iperfpy: warning - {sentence}\n"
    assert main(["kcp-peer", "127.0.0.1:5400", "--proto", "taker"]) == 1
    assert capsys.readouterr().err == f"iperfpy: parameter error - {sentence} (--proto)\n"
