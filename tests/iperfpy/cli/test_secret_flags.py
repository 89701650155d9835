"""A key reaches the transport, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from iperfpy.cli.command_line import CommandLine
from iperfpy.cli.request import request_of
from iperfpy.errors import ParameterError
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
    for words in (("-c", "h"), ("-s",)):
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
    client = request_of(line.parse(["-c", "h", "--my-kcp-key", SECRET])).client
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


@pytest.mark.linux
def test_a_typed_key_is_not_among_the_arguments_that_other_users_see() -> None:
    program = (
        "import sys; from iperfpy.cli.secret_flags import hide_argument; hide_argument(sys.argv[1]);"
        "print(open('/proc/self/cmdline').read().split('\\0'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, SECRET, "more"], capture_output=True, text=True, check=True
    )
    assert SECRET not in done.stdout
    assert "'more'" in done.stdout
