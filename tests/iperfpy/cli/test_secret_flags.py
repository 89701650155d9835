"""A key reaches the transport, and nothing else."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from iperfpy.cli import secret_flags
from iperfpy.cli.command_line import CommandLine
from iperfpy.cli.main import main
from iperfpy.cli.request import request_of
from iperfpy.cli.value_types import Flag
from iperfpy.errors import FaultError, ParameterError, PlanError
from iperfpy.measure_keywords import server_options
from iperfpy.options import ServerOptions
from iperfpy.protocols.registry import transport, transports

SECRET = "do not show this"


def requested(*words: str) -> Any:
    return request_of(CommandLine(transports()).parse(words))


@pytest.fixture(autouse=True)
def without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IPERFPY_KCP_KEY", raising=False)


def test_a_key_is_typed_or_in_a_file_or_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    file.write_text(SECRET + "\n")
    for words in (("-c", "h", "--proto", "kcp", "--kcp-crypt", "aes"), ("-s",)):
        for key in (("--kcp-key", SECRET), ("--kcp-key-file", str(file))):
            request = requested(*words, *key)
            assert (request.client or request.server).secrets == {"kcp": SECRET.encode()}
    assert requested("-s").server.secrets == {}
    monkeypatch.setenv("IPERFPY_KCP_KEY", SECRET)
    assert requested("-s").server.secrets == {"kcp": SECRET.encode()}
    assert requested("-s", "--kcp-key", "typed before").server.secrets == {"kcp": b"typed before"}


def test_a_prefix_may_have_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dashed(type(transport("kcp"))):  # type: ignore[misc]
        name, prefix = "dashed", "my-kcp"

    line = CommandLine({**transports(), "dashed": Dashed()})
    words = ["-c", "h", "--proto", "dashed", "--my-kcp-crypt", "aes"]
    client = request_of(line.parse([*words, "--my-kcp-key", SECRET])).client
    assert client is not None
    assert client.secrets == {"my-kcp": SECRET.encode()}
    monkeypatch.setenv("IPERFPY_MY_KCP_KEY", SECRET)
    client = request_of(line.parse(["-c", "h"])).client
    assert client is not None
    assert client.secrets == {"my-kcp": SECRET.encode()}


def test_a_key_is_in_no_record_of_the_request() -> None:
    request = requested("-c", "h", "--proto", "kcp", "--kcp-crypt", "aes", "--kcp-key", SECRET)
    assert SECRET not in repr(request)
    assert SECRET not in json.dumps([request.plan.settings.record(), request.plan.settings.to_wire()])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--kcp-key", SECRET, "--kcp-key-file", "x"], "exclude each other"),
        (["--kcp-key-file", "/nonexistent/key"], "cannot read the key file /nonexistent/key"),
        (["--kcp-key-file", "/dev/zero"], "cannot read the key file /dev/zero: it is not a regular file"),
    ],
)
def test_a_key_that_cannot_be_had_is_an_error(words: list[str], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        requested("-s", *words)


def test_a_key_file_is_not_cut(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"k" * 70_000)
    with pytest.raises(ParameterError, match="it is longer than"):
        requested("-s", "--kcp-key-file", str(file))


CLIENT = ("-c", "h", "--proto", "kcp")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            (*CLIENT, "--kcp-key", SECRET),
            "^--kcp-key has no use here: these settings need no key of --kcp-crypt$",
        ),
        ((*CLIENT, "--kcp-crypt", "none", "--kcp-key", SECRET), "--kcp-key has no use here"),
        ((*CLIENT, "--kcp-crypt", "null", "--kcp-key-file", "/dev/stdin"), "--kcp-key-file has no use here"),
        (("-c", "h", "--kcp-key", SECRET), "^--kcp-key does not apply to --proto tcp$"),
        (("-c", "h", "-u", "--kcp-key-file", "/dev/stdin"), "^--kcp-key-file does not apply to --proto udp$"),
    ],
)
def test_a_key_that_the_test_does_not_use_is_an_error(
    words: tuple[str, ...], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_flags, "read_whole", lambda *words, **more: b"of the file")
    with pytest.raises(ParameterError, match=sentence):
        requested(*words)


def test_a_key_in_the_environment_may_be_there_for_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPERFPY_KCP_KEY", SECRET)
    assert requested("-c", "h").client.secrets == {"kcp": SECRET.encode()}
    assert requested(*CLIENT).client.secrets == {"kcp": SECRET.encode()}


def test_an_empty_variable_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPERFPY_KCP_KEY", "")
    assert requested("-s").server.secrets == {}


def test_a_server_with_a_short_key_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.write_text("\n")
    sentence = "^the key of --kcp-crypt is too short: at least 8 bytes are needed$"
    for words in (("--kcp-key", "short"), ("--kcp-key-file", str(file))):
        with pytest.raises(ParameterError, match=sentence):
            requested("-s", *words)
    monkeypatch.setenv("IPERFPY_KCP_KEY", "short")
    with pytest.raises(ParameterError, match=sentence):
        requested("-s")
    short = {"kcp": b"short"}
    for options, keywords in ((None, {"secrets": short}), (ServerOptions(secrets=short), {})):
        with pytest.raises(PlanError, match=sentence):
            server_options(options, keywords)


@pytest.mark.parametrize("command", ["compare", "latency"])
def test_several_tests_take_a_key_if_one_of_them_uses_it(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Any] = []
    module = import_module(f"iperfpy.cli.commands.{command}")
    experiment = import_module(
        "iperfpy.experiments.comparison_run" if command == "compare" else "iperfpy.experiments.latency_run"
    )
    name = "Compare" if command == "compare" else "LatencyRun"

    def made(options: Any, *more: Any, **others: Any) -> Any:
        seen.append(options.secrets)
        raise ParameterError("that was enough")

    monkeypatch.setattr(experiment, name, made)
    monkeypatch.setattr(module, name, made, raising=False)
    file = tmp_path / "key"
    file.write_text(SECRET + "\n")
    words = [command, "h", "--proto", "tcp,kcp:crypt=aes"]
    for key in (("--kcp-key", SECRET), ("--kcp-key-file", str(file))):
        assert main([*words, *key]) == 1
    monkeypatch.setenv("IPERFPY_KCP_KEY", SECRET)
    assert main(words) == 1
    assert seen == [{"kcp": SECRET.encode()}] * 3
    assert capsys.readouterr().err.count("that was enough") == 3
    assert main([command, "h", "--proto", "tcp,kcp", "--kcp-key", SECRET]) == 1
    assert "--kcp-key has no use here" in capsys.readouterr().err
    assert main([command, "h", "--proto", "tcp", "--kcp-key", SECRET]) == 1
    assert "--kcp-key does not apply to --proto tcp" in capsys.readouterr().err
    assert len(seen) == 3


def test_the_help_tells_the_ciphers_that_do_not_protect() -> None:
    option = next(one for one in CommandLine(transports()).command.params if "--kcp-crypt" in one.opts)
    assert isinstance(option, Flag)
    assert "none and null encrypt nothing" in str(option.help)


def test_a_fault_of_a_transport_that_is_asked_for_its_use_of_a_key_names_it() -> None:
    class Faulty(type(transport("kcp"))):  # type: ignore[misc]
        name, prefix = "faulty", "faulty"

        def uses_secret(self, settings: object) -> bool:
            raise TypeError("by mistake")

    line = CommandLine({**transports(), "faulty": Faulty()})
    with pytest.raises(FaultError, match="faulty"):
        request_of(line.parse(["-c", "h", "--proto", "faulty", "--faulty-key", SECRET]))
