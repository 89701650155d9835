"""Passwords: our client and server with the real iperf3, and with each other."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from iperfpy.comparison.comparison_report import ComparisonReport
from iperfpy.control.authentication import check_token, private_key
from iperfpy.diagnosis.path_report import PathReport
from iperfpy.errors import PeerError
from iperfpy.experiments.comparison_run import Compare
from iperfpy.experiments.contender import contenders_of
from iperfpy.experiments.latency_run import LatencyRun, messengers, steps_of
from iperfpy.experiments.path_check import PathCheck
from iperfpy.options import Authorization, ClientOptions, Credentials
from tests.interop.conftest import peer
from tests.interop.free_port import free_port
from tests.interop.programs import wait_until
from tests.interop.test_diagnose_stock import SCALE
from tests.iperfpy.support import measure, plan_for, serving
from tests.live.limited_rate import watch_limited
from tests.warm_program import PATIENCE_S, run_warm

pytestmark = pytest.mark.interop


@pytest.fixture(autouse=True)
def no_ramp(monkeypatch: pytest.MonkeyPatch) -> None:
    """A load begins with its messages; the tests of a comparison are short, and at a low rate."""
    monkeypatch.setattr("iperfpy.experiments.serial_tests.watch", watch_limited)
    monkeypatch.setattr("iperfpy.experiments.message_probe.RAMP_S", 0.1)
    for name in ("STARTUP_S", "STEADY_S", "MESSAGE_S"):
        monkeypatch.setattr(f"iperfpy.experiments.compare_schedule.{name}", 0.2)
    monkeypatch.setattr("iperfpy.experiments.compare_schedule.LEAST_REST_S", 0.0)


SHORT: dict[str, Any] = {"duration_us": 500_000}


@dataclass(frozen=True)
class Keys:
    """Key pair and list of one user, mario with the password rossi."""

    private: Path
    public: Path
    users: Path

    def server(self, **changes: Any) -> Authorization:
        return Authorization(self.private.read_bytes(), str(self.users), **changes)

    def client(self, password: str = "rossi", **changes: Any) -> Credentials:
        return Credentials("mario", password, self.public.read_bytes(), **changes)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    key = rsa.generate_private_key(65537, 2048)
    pem = serialization.Encoding.PEM
    made = Keys(folder / "private.pem", folder / "public.pem", folder / "users.csv")
    made.private.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    made.public.write_bytes(key.public_key().public_bytes(pem, public))
    digest = hashlib.sha256(b"{mario}rossi").hexdigest()
    made.users.write_text(f"mario,{digest}\n")
    return made


@pytest.fixture
def guarded_iperf3(iperf3: str, keys: Keys, tmp_path: Path) -> Iterator[int]:
    """Port of an iperf3 server that asks for a password."""
    port, log = free_port(), tmp_path / "server.txt"
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                *(iperf3, "-s", "-B", "127.0.0.1", "-p", str(port), "--forceflush"),
                *("--rsa-private-key-path", str(keys.private), "--authorized-users-path", str(keys.users)),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    wait_until(lambda: "Server listening" in log.read_text(), "iperf3 did not listen")
    yield port
    process.terminate()
    process.wait(5)


async def test_an_iperf3_server_accepts_the_password_of_an_iperfpy_client(
    guarded_iperf3: int, keys: Keys
) -> None:
    """iperf3 before 3.17 supports the old padding only."""
    report = await measure(guarded_iperf3, plan_for(**SHORT), credentials=keys.client(pkcs1=True))
    assert report.end_rows[0].local.bytes > 0


@pytest.mark.parametrize("password", ["wrong", ""])
async def test_an_iperfpy_client_reports_the_refusal_of_an_iperf3_server(
    guarded_iperf3: int, keys: Keys, password: str
) -> None:
    with pytest.raises(PeerError, match="requires a user name and a password, or refused them"):
        await measure(guarded_iperf3, plan_for(), credentials=keys.client(password, pkcs1=True))


async def test_an_iperf3_server_refuses_a_client_without_a_password(guarded_iperf3: int) -> None:
    with pytest.raises(PeerError, match="requires a user name and a password, or refused them"):
        await measure(guarded_iperf3, plan_for())


def _path_check(options: ClientOptions) -> PathCheck:
    return PathCheck(options, SCALE)


def _compare(options: ClientOptions) -> Compare:
    return Compare(options, contenders_of("tcp,udp:20M"), limit_s=60.0, seed=1)


async def _measured_until(run: PathCheck | Compare, tests: int) -> PathReport | ComparisonReport:
    """The report of the first tests of a run."""
    begun: list[object] = []

    def tell(event: Any) -> None:
        if event.begins and event.step is not None:
            begun.append(event.step)
            if len(begun) > tests:
                run.stop("enough")

    await run.run(tell)
    assert run.error is None, run.error
    return run.report()


@pytest.mark.parametrize(("make", "tests"), [(_path_check, 3), (_compare, 7)])
async def test_a_diagnosis_and_a_comparison_give_the_password_with_each_test(
    make: Callable[[ClientOptions], PathCheck | Compare], tests: int, guarded_iperf3: int, keys: Keys
) -> None:
    """A token is valid for seconds, and for one test."""
    options = ClientOptions("127.0.0.1", guarded_iperf3, credentials=keys.client(pkcs1=True))
    stock = await _measured_until(make(options), tests)
    assert stock.measured
    assert stock.peer_is_iperfpy is False
    async with serving(authorization=keys.server()) as server:
        options = ClientOptions("127.0.0.1", server.port, credentials=keys.client())
        own = await _measured_until(make(options), tests)
        refused = make(replace(options, credentials=keys.client("wrong")))
        await refused.run()
        await server.settled()
        assert len(server.tests) >= 3
    assert own.measured
    assert "does not know this user name and password" in str(refused.error)
    assert not refused.report().measured


async def test_messages_need_the_password_too(keys: Keys) -> None:
    steps = steps_of(
        messengers("udp,kcp"), sizes=[100], rates=[100], loads=["none", "own"], directions=["up"]
    )
    async with serving(authorization=keys.server()) as server:
        options = ClientOptions("127.0.0.1", server.port, credentials=keys.client())
        run = LatencyRun(options, steps, seconds=0.1, load_rate=1e6)
        await run.run()
        refused = LatencyRun(replace(options, credentials=None), steps, seconds=0.1)
        await refused.run()
    assert run.error is None
    assert all(row.figures.answered and not row.error for row in run.report().rows)
    assert "this server requires a user name and a password" in str(refused.error)


async def iperf3_client(iperf3: str, port: int, keys: Keys, password: str) -> dict[str, Any]:
    """Run iperf3 with this password; give its JSON."""
    process = await asyncio.create_subprocess_exec(
        *(iperf3, "-c", "127.0.0.1", "-p", str(port), "-J", "-t", "1", "--username", "mario"),
        *("--rsa-public-key-path", str(keys.public)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"IPERF3_PASSWORD": password},
    )
    async with asyncio.timeout(PATIENCE_S):
        output, _ = await process.communicate()
    document: dict[str, Any] = json.loads(output)
    return document


async def test_an_iperfpy_server_checks_the_password_of_an_iperf3_client(iperf3: str, keys: Keys) -> None:
    async with serving(authorization=keys.server(pkcs1=True)) as server:
        refused = await iperf3_client(iperf3, server.port, keys, "wrong")
        measured = await iperf3_client(iperf3, server.port, keys, "rossi")
    assert "authorization failed" in refused["error"]
    assert measured["end"]["sum_received"]["bytes"] > 0
    assert len(server.tests) == 1


@pytest.mark.parametrize("pkcs1", [False, True])
async def test_an_iperfpy_server_checks_the_password_of_an_iperfpy_client(keys: Keys, pkcs1: bool) -> None:
    async with serving(one_off=True, authorization=keys.server(pkcs1=pkcs1)) as server:
        with pytest.raises(PeerError, match="does not know this user name and password"):
            await measure(server.port, plan_for(), credentials=keys.client("wrong", pkcs1=pkcs1))
        with pytest.raises(PeerError, match="this server requires a user name and a password"):
            await measure(server.port, plan_for())
        with pytest.raises(PeerError, match="another key, or another padding"):
            await measure(server.port, plan_for(), credentials=keys.client(pkcs1=not pkcs1))
        await measure(server.port, plan_for(), credentials=keys.client(pkcs1=pkcs1))  # is still the one
    assert len(server.tests) == 1


def test_a_token_that_openssl_encrypts_with_oaep_is_decrypted(keys: Keys) -> None:
    """Encrypt with the padding of iperf3 since 3.17, by the library that it uses."""
    plain = f"user: mario\npwd:  rossi\nts:   {int(time.time())}".encode()
    encrypted = subprocess.run(
        [
            *(peer("openssl"), "pkeyutl", "-encrypt", "-pubin", "-inkey", str(keys.public)),
            *("-pkeyopt", "rsa_padding_mode:oaep"),
        ],
        input=plain,
        capture_output=True,
        check=True,
    ).stdout
    # A token is base64 without line breaks.
    encoded = subprocess.run(["base64", "-w", "0"], input=encrypted, capture_output=True, check=True).stdout
    users = {"mario": hashlib.sha256(b"{mario}rossi").hexdigest()}
    key = private_key(keys.private.read_bytes())
    assert check_token(encoded.decode(), key, users, int(time.time()), 10) == "mario"


def command(*flags: str, password: str | None = "rossi") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "IPERF3_PASSWORD"}
    if password is not None:
        environment["IPERF3_PASSWORD"] = password
    return run_warm(flags, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)


def test_the_command_takes_the_password_from_the_environment(guarded_iperf3: int, keys: Keys) -> None:
    who = ("--username", "mario", "--rsa-public-key-path", str(keys.public), "--use-pkcs1-padding")
    done = command("-c", "127.0.0.1", "-p", str(guarded_iperf3), "-n", "1M", *who)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("-c", "h", "--username", "x"), "a password needs both --username and --rsa-public-key-path"),
        (
            ("-s", "--rsa-private-key-path", "{private}"),
            "passwords need both --rsa-private-key-path and --authorized-users-path",
        ),
        (
            ("-c", "h", "--username", "x", "--rsa-public-key-path", "/no/such"),
            "cannot read /no/such: No such file or directory",
        ),
        (
            ("-c", "h", "--username", "x", "--rsa-public-key-path", "{users}"),
            "{users} is not a public key in PEM format",
        ),
        (
            ("-s", "--rsa-private-key-path", "{private}", "--authorized-users-path", "{public}"),
            "{public} has no NAME,SHA256 in line 1",
        ),
    ],
)
def test_key_files_are_checked_before_connecting(flags: tuple[str, ...], sentence: str, keys: Keys) -> None:
    names = {"private": keys.private, "public": keys.public, "users": keys.users}
    done = command(*(flag.format(**names) for flag in flags))
    assert done.returncode == 1
    assert done.stderr == f"iperfpy: parameter error - {sentence.format(**names)}\n"


def test_without_a_terminal_the_password_must_be_in_the_environment(keys: Keys) -> None:
    who = ("--username", "mario", "--rsa-public-key-path", str(keys.public))
    done = command("-c", "127.0.0.1", "-p", "1", *who, password=None)
    assert done.returncode == 1
    assert "no password: set IPERF3_PASSWORD, or run on a terminal" in done.stderr
