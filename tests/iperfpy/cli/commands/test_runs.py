"""`iperfpy runs`: words, output and exit status, on stored documents."""

from __future__ import annotations

import json

import pytest

from iperfpy.store.folder import Folder
from iperfpy.store.run_index import About
from tests.iperfpy.cli.commands.stored_runs import Run, save
from tests.iperfpy.report.scenes import forward
from tests.iperfpy.store.test_direction_figures import IPERF3
from tests.iperfpy.store.test_round_trip import run_of


def test_the_list_has_a_line_per_run_and_the_latest_last(store: Folder, iperfpy: Run) -> None:
    save(store, run_of(forward()).document(), 1_795_966_017)
    save(store, IPERF3, 1_795_966_077)
    status, out, err = iperfpy("runs")
    assert (status, err) == (0, "")
    head, first, second = out.splitlines()
    assert head.split() == ["Run", "Time", "Kind", "Host", "Transport", "Way", "Result"]
    assert first.startswith("20261129-152657  29 Nov 15:26  test")
    assert second.startswith("20261129-152757  29 Nov 15:27  test  vpn.example  tcp cubic  up   11.0 Mbit/s")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ((), ["kcp", "kcp-bbr", "tcp bbr", "diagnose"]),
        (("--proto", "kcp"), ["kcp"]),
        (("--proto", "tcp"), ["tcp bbr"]),
        (("--proto", "tcp bbr"), ["tcp bbr"]),
        (("--host", "VPN"), ["kcp", "tcp bbr"]),
        (("--kind", "diagnose"), ["diagnose"]),
        (("--kind=test", "-n", "1"), ["tcp bbr"]),
        (("--direction", "down"), ["kcp-bbr"]),
        (("-T", "fore"), ["kcp"]),
        (("--host", "nowhere"), []),
    ],
)
def test_filters(store: Folder, iperfpy: Run, words: tuple[str, ...], found: list[str]) -> None:
    for when, (host, transport, way, title, kind) in enumerate(
        (
            ("vpn.example", "kcp", "forward", "before", "test"),
            ("other", "kcp-bbr", "reverse", "", "test"),
            ("vpn.example", "tcp bbr", "forward", "", "test"),
            ("third", "diagnose", "forward", "", "diagnose"),
        )
    ):
        store.save({}, About(kind, float(when), ("me", host), (transport,), (way,), title=title))
    status, out, err = iperfpy("runs", "--json", *words)
    assert status == 0
    assert [one["transports"][0] for one in json.loads(out)] == found
    assert ("fits" in err) == (not found)
    names = iperfpy("runs", "--names", *words)[1].split()
    assert names == [one["id"] for one in json.loads(out)]


def test_many_transports_are_counted_in_the_list(store: Folder, iperfpy: Run) -> None:
    for names in (("tcp bbr", "kcp"), ("tcp bbr", "kcp", "udp")):
        store.save({}, About("compare", 1.0, ("h",), names, ("forward",)))
    _, first, second = iperfpy("runs")[1].splitlines()
    assert "  tcp bbr, kcp  up" in first
    assert "  3 transports  up" in second


@pytest.mark.parametrize("flag", ["--kind", "--direction"])
def test_a_filter_with_an_unknown_word_is_an_error(store: Folder, iperfpy: Run, flag: str) -> None:
    status, out, err = iperfpy("runs", flag, "bogus")
    assert (status, out) == (1, "")
    assert "parameter error - 'bogus' is not a" in err
    assert f"({flag})" in err


def test_an_empty_folder_and_faults_of_the_index_are_said(store: Folder, iperfpy: Run) -> None:
    status, out, err = iperfpy("runs")
    assert (status, out) == (0, "")
    assert "there is no run yet" in err
    name = save(store, IPERF3)
    with open(store.path / "index.jsonl", "a") as index:
        index.write('{"torn')
    status, out, err = iperfpy("runs", "--names")
    assert (status, out) == (0, f"{name}\n")
    assert err.startswith("iperfpy: warning - ")
    assert "line 2 cannot be read as a run" in err
    (store.path / "index.jsonl").unlink()
    (store.path / "index.jsonl").mkdir()
    assert iperfpy("runs")[0] == 1


def test_the_last_column_ends_where_the_terminal_does(store: Folder) -> None:
    from iperfpy.cli.commands.runs import table

    save(store, IPERF3, title="a title " * 20)
    printed = ["".join(text for text, _ in line) for line in table(store.entries().entries, 100)]
    assert max(map(len, printed)) == 100
    assert printed[1].endswith("…")


@pytest.mark.parametrize("words", [["-n", "0"], ["--direction", "left"], ["x"], ["--frob"]])
def test_bad_words_of_the_list_are_one_sentence(iperfpy: Run, words: list[str]) -> None:
    status, out, err = iperfpy("runs", *words)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "parameter error" in err
