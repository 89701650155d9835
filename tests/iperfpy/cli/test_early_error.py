"""A client's test that fails before its reports are open: its CSV has a row with the sentence."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from iperfpy.cli.main import main
from iperfpy.report.csv_columns import text_cell


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IPERFPY_KCP_KEY", raising=False)
    (tmp_path / "src").write_text("content")
    (tmp_path / "empty").touch()
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        "-F src -u",
        "-F src -P 2",
        "-F empty",
        "-C nosuch",
        "-A 9999",
        "--proto kcp --kcp-crypt aes-128-gcm",
        "-M 50",
        "-O 700",
        "--cport 70000",
        "-t x",
        "--proto nosuch",
        "-R --bidir",
        "--html no/folder/page.html",
        "--logfile no/folder/log",
        "-B 192.0.2.1",
        "--no-such-flag",
        "stray",
    ],
)
def test_a_failure_before_the_start_is_a_row(
    words: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["-c", "127.0.0.1", "-p", "1", "-T", "a title", *words.split()]
    assert main([*line, "--csv", "e.csv", "-J"]) == 1
    sentence = json.loads(capsys.readouterr().out)["error"]
    (row,) = rows_of(here / "e.csv")
    assert (row["type"], row["role"], row["error"]) == ("error", "client", text_cell(sentence))
    assert (row["host"], row["title"]) == ("127.0.0.1", "a title")
    # A second run adds its row, in another spelling of the flag.
    assert main([*line, "--csv=e.csv"]) == 1
    assert len(rows_of(here / "e.csv")) == 2


def test_the_row_tells_the_test_as_far_as_it_is_known(here: Path) -> None:
    assert main(["-c", "host.example", "-u", "-R", "-P", "3", "-p", "77", "-O", "700", "--csv", "e.csv"]) == 1
    (row,) = rows_of(here / "e.csv")
    known = {name: row[name] for name in ("host", "port", "transport", "direction", "streams")}
    assert known == {
        "host": "host.example",
        "port": "77",
        "transport": "udp",
        "direction": "reverse",
        "streams": "3",
    }


@pytest.mark.parametrize("words", ["--nosuch --csv e.csv", "--csv e.csv --nosuch"])
def test_an_unknown_option_may_stand_before_the_csv(words: str, here: Path) -> None:
    assert main(["-c", "127.0.0.1", *words.split()]) == 1
    (row,) = rows_of(here / "e.csv")
    assert row["error"] == "unknown option --nosuch"


def test_the_peer_of_another_author_has_the_row_as_well(here: Path) -> None:
    assert main(["kcp-peer", "127.0.0.1:5400", "--kcp-crypt", "aes-128-gcm", "--csv", "e.csv"]) == 1
    (row,) = rows_of(here / "e.csv")
    assert (row["type"], row["host"], row["port"]) == ("error", "127.0.0.1", "5400")
    assert "key" in row["error"]
    assert main(["kcp-peer", "127.0.0.1:5400", "--nosuch", "--csv", "e.csv"]) == 1
    assert rows_of(here / "e.csv")[1]["port"] == "5400"


def test_the_host_of_an_ipv6_peer_has_no_brackets(here: Path) -> None:
    assert main(["kcp-peer", "[::1]:5400", "-l", "99999999", "--csv", "e.csv"]) == 1
    (row,) = rows_of(here / "e.csv")
    assert (row["host"], row["port"]) == ("::1", "5400")


@pytest.mark.parametrize(
    ("words", "host", "port"),
    [("somehost", "somehost", ""), ("[::1]", "::1", ""), ("fe80::1", "fe80::1", ""), (":5400", "", "5400")],
)
def test_a_peer_without_a_port_is_a_host(words: str, host: str, port: str, here: Path) -> None:
    assert main(["kcp-peer", words, "--csv", "e.csv"]) == 1
    (row,) = rows_of(here / "e.csv")
    assert (row["host"], row["port"]) == (host, port)


def test_rows_on_standard_output_have_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-c", "127.0.0.1", "-O", "700", "--csv", "-"]) == 1
    head, row = capsys.readouterr().out.splitlines()
    assert head.startswith("type,")
    assert row.startswith("error,")


@pytest.mark.parametrize(
    ("words", "warnings"),
    [
        ("--no-such-flag --csv e.csv", 0),
        ("kcp-peer --no-such-flag --csv e.csv", 0),
        ("-s -O 700 --csv e.csv", 0),
        ("-c 127.0.0.1 -O 700 --csv src --csv-overwrite --html src", 0),
        ("-c 127.0.0.1 -O 700 --csv-overwrite", 0),
        ("-c 127.0.0.1 --csv no/folder/e.csv", 0),
        ("-c 127.0.0.1 -O 700 --csv no/folder/e.csv", 1),
    ],
)
def test_wrong_words_and_a_csv_without_a_place_make_no_row(
    words: str, warnings: int, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name for path in here.iterdir()}
    assert main(words.split()) == 1
    assert {path.name for path in here.iterdir()} == before
    assert (here / "src").read_text() == "content"
    assert capsys.readouterr().err.count("iperfpy: warning - cannot write the CSV") == warnings
