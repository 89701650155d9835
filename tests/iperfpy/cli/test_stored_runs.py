"""`iperfpy runs`, `show` and `diff`: words, output and exit status, on stored documents."""

from __future__ import annotations

import copy
import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iperfpy.cli.commands.diff import _check_common, _Side
from iperfpy.cli.main import main
from iperfpy.comparison.comparison_report import (
    ComparisonReport,
    ContenderFacts,
    MeasuredMessages,
    MeasuredTest,
)
from iperfpy.errors import DocumentError
from iperfpy.plan import Direction
from iperfpy.report import (
    compare_document,
    compare_text,
    diagnosis_document,
    latency_csv,
    latency_document,
    latency_text,
)
from iperfpy.report.diagnosis_document import about, document
from iperfpy.report.difference_text import _signed
from iperfpy.store.difference import Difference
from iperfpy.store.direction_figures import about_test
from iperfpy.store.folder import Folder
from iperfpy.store.run_index import About
from iperfpy.store.run_samples import message_figures
from tests.iperfpy.report.diagnosis_scenes import nothing, whole
from tests.iperfpy.report.diagnosis_scenes import text as diagnosis_text
from tests.iperfpy.report.latency_scenes import latency_report
from tests.iperfpy.report.scenes import SCENES, forward
from tests.iperfpy.store.test_direction_figures import IPERF3
from tests.iperfpy.store.test_round_trip import run_of
from tests.studies.diff_check.simulated_runs import Model, documents

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """The folder that the commands use."""
    monkeypatch.setenv("IPERFPY_RESULTS", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")
    return Folder(tmp_path)


@pytest.fixture
def iperfpy(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the program in this process: (status, stdout, stderr)."""

    def run(*words: str) -> tuple[int, str, str]:
        status = main(list(words))
        output = capsys.readouterr()
        return status, output.out, output.err

    return run


def save(store: Folder, made: dict[str, Any], when: float = 1_795_966_017, **changes: Any) -> str:
    facts = replace(about_test(made), unix_time=when, **changes)
    return store.save(made, facts).id


def save_set(store: Folder, title: str, level: float, runs: int = 5, **model: Any) -> list[str]:
    rng = np.random.default_rng(int(level * 1000))
    made = documents(Model(runs, **model), 1 - level, rng)
    # Equal figures without any noise are those of different runs by their times.
    for number, one in enumerate(made):
        one["start"].setdefault("timestamp", {})["timesecs"] = 1_795_966_017 + number
    return [save(store, one, title=title, hosts=("me", "vpn.example")) for one in made]


def comparison_scene(level: float) -> ComparisonReport:
    """Six rounds of two contenders, up."""
    tests = [
        MeasuredTest(
            name,
            Direction.FORWARD,
            number,
            10.0 * number,
            seconds=5.0,
            steady_bits_per_second=rate * level * wobble,
        )
        for number, wobble in enumerate((1.0, 1.01, 0.99, 1.005, 0.995, 1.002), 1)
        for name, rate in (("tcp bbr", 20e6), ("kcp-bbr", 19e6))
    ]
    contenders = tuple(ContenderFacts(name, name.split()[0], ranked=True) for name in ("tcp bbr", "kcp-bbr"))
    return ComparisonReport(
        host="vpn.example",
        port=5201,
        unix_time=1_795_966_017.0,
        seconds=70.0,
        limit_s=480.0,
        sent_bytes=1,
        budget_bytes=0,
        seed=1,
        contenders=contenders,
        directions=(Direction.FORWARD,),
        tests=tuple(tests),
        rounds=6,
        test_s=5.0,
        startup_s=1.0,
        rest_s=1.0,
        converged=True,
        version="iperfpy 9",
        peer_is_iperfpy=True,
    )


# -- runs


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


# -- show


@pytest.mark.parametrize("name", SCENES)
def test_a_test_is_printed_as_it_was(store: Folder, iperfpy: Run, name: str) -> None:
    scene = SCENES[name]()
    run = save(store, run_of(scene).document())
    words = ["-V"] if scene.wording.verbose else []
    words += ["-f", scene.wording.rate_letter] if scene.wording.rate_letter else []
    status, out, _ = iperfpy("show", run, *words)
    assert status == 0
    # Neither the segment size of the control connection nor the flags of a plug-in are stored.
    untitled = replace(scene, wording=replace(scene.wording, title=""))
    expected = [
        line.replace("--scene-window", "window")
        for line in untitled.text().split("--- stderr")[0].splitlines()
        if "TCP MSS" not in line
    ]
    for line in expected:
        assert line in out
    assert iperfpy("show", run, "-J")[1] == json.dumps(run_of(scene).document(), indent="\t") + "\n"


def test_the_forms_of_a_test(store: Folder, iperfpy: Run, tmp_path: Path) -> None:
    scene = forward()
    save(store, run_of(scene).document())
    assert "Bitrate" in iperfpy("show", "last", "--text", "iperf3")[1]
    assert (
        "Kbit/s" in iperfpy("show", "last", "-f", "k")[1] or "kbit/s" in iperfpy("show", "last", "-f", "k")[1]
    )
    path = tmp_path / "x.csv"
    assert iperfpy("show", "last", "--csv", str(path)) == (0, "", "")
    assert iperfpy("show", "last", "--csv", "-") == (0, path.read_text(), "")
    assert not Path("-").exists()
    assert iperfpy("show", "last", "--csv", "-", "-J")[0] == 1
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [row["type"] for row in rows][-1] == "sum"
    assert rows[0]["time"].startswith("2026-")
    assert [float(row["monotonic_s"]) for row in rows if row["type"] == "interval"] == [
        interval[0].local.end_us / 1e6 for interval in scene.intervals for _ in interval
    ]
    status, _, err = iperfpy("show", "last", "--csv", str(path))
    assert (status, err) == (1, f"iperfpy: error - {path} exists: name a new file\n")
    status, _, err = iperfpy("show", "last", "--csv", str(tmp_path / "no" / "x.csv"))
    assert status == 1
    assert "cannot write the CSV" in err


def test_every_form_that_is_asked_for_is_written(store: Folder, iperfpy: Run, tmp_path: Path) -> None:
    save(store, run_of(forward()).document())
    rows, page, flent = tmp_path / "x.csv", tmp_path / "x.html", tmp_path / "x.flent.gz"
    files = ("--csv", str(rows), "--html", str(page), "--flent", str(flent))
    assert iperfpy("show", "last", "-J", *files) == iperfpy("show", "last", "-J")
    again = tmp_path / "again.html"
    assert iperfpy("show", "last", "--html", str(again)) == (0, "", "")
    assert rows.read_text().startswith("type,time,")
    assert page.read_text().startswith("<!doctype html>")
    assert flent.stat().st_size
    status, out, err = iperfpy("show", "last", "-J", "--plot")
    assert (status, out) == (1, "")
    assert "--plot and -J exclude each other" in err


EXPERIMENTS: dict[str, tuple[Any, Any, list[str]]] = {
    "diagnose": (diagnosis_document, whole(), diagnosis_text(whole()).splitlines()),
    "latency": (
        latency_document,
        latency_report(),
        ["".join(text for text, _ in line).rstrip() for line in latency_text.lines(latency_report())],
    ),
}
"""Kind -> functions of its document, a report, and the text of the report."""


@pytest.mark.parametrize("kind", EXPERIMENTS)
def test_a_result_of_several_tests_is_printed_from_its_document(
    store: Folder, iperfpy: Run, tmp_path: Path, kind: str
) -> None:
    """Kept, or printed by -J."""
    forms, report, text = EXPERIMENTS[kind]
    store.save(forms.document(report), forms.about(report))
    printed = tmp_path / "printed.json"
    printed.write_text(json.dumps(forms.document(report)))
    for run in ("last", str(printed)):
        status, out, err = iperfpy("show", run)
        assert (status, out.splitlines(), err) == (0, text, "")
        assert json.loads(iperfpy("show", run, "--json")[1]) == json.loads(printed.read_text())


def test_a_diagnosis_has_units_and_no_csv(store: Folder, iperfpy: Run) -> None:
    forms, report, _ = EXPERIMENTS["diagnose"]
    store.save(forms.document(report), forms.about(report))
    assert "20500 of 24000 kbit/s" in iperfpy("show", "last", "-f", "k")[1]
    status, _, err = iperfpy("show", "last", "--csv", "x.csv")
    assert (status, "has no CSV" in err) == (1, True)


def test_the_rows_of_message_latencies_are_written_again(store: Folder, iperfpy: Run, tmp_path: Path) -> None:
    forms, report, _ = EXPERIMENTS["latency"]
    store.save(forms.document(report), forms.about(report))
    path = tmp_path / "x.csv"
    assert iperfpy("show", "last", "--csv", str(path))[0] == 0
    written = list(csv.reader(io.StringIO(path.read_text())))
    assert written == [latency_csv.header(), *latency_csv.rows(report)]


def test_the_end_of_a_result_that_ended_early_is_on_stderr(store: Folder, iperfpy: Run) -> None:
    forms, report, text = EXPERIMENTS["diagnose"]
    early = replace(report, error="the server went away", warnings=("a small buffer",))
    store.save(forms.document(early), forms.about(early))
    status, out, err = iperfpy("show", "last")
    assert (status, out.splitlines()) == (0, text)
    assert err == "iperfpy: warning - a small buffer\niperfpy: error - the server went away\n"
    store.save(forms.document(nothing()), forms.about(nothing()))
    status, out, err = iperfpy("show", "last")
    assert (status, out, "connection refused" in err) == (0, "", True)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "it is the document of no command"),
        (
            '{"start": {"version": "iperf 3.12", "test_start": {}}, "intervals": []}',
            "of iperf3 cannot be read",
        ),
        ('{"stored": {"kind": "weather"}}', "it is the document of no command"),
        ('{"stored": {"kind": "diagnose"}}', "x.json: it is not the document of a diagnosis"),
        ('{"stored": {"kind": "latency"}}', "x.json: it is not the document of message latencies"),
        ('{"stored": {"kind": "compare"}}', "x.json: it is not the document of a comparison"),
    ],
)
def test_a_file_that_cannot_be_shown_is_one_sentence(
    iperfpy: Run, tmp_path: Path, content: str, sentence: str
) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    status, out, err = iperfpy("show", str(path))
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert sentence in err


def test_bad_words_of_show_are_one_sentence(store: Folder, iperfpy: Run) -> None:
    for words, sentence in (([], "show needs a run"), (["x"], "no run 'x'"), (["last"], "there are no runs")):
        status, out, err = iperfpy("show", *words)
        assert (status, out) == (1, "")
        assert sentence in err


def test_a_control_character_of_a_peer_does_not_reach_the_terminal(store: Folder, iperfpy: Run) -> None:
    report = replace(whole(), host="\x1b[31mhost", warnings=("\x1b[2J",))
    store.save(document(report), replace(about(report), summary="\x1b]0;x"))
    assert "\x1b" not in iperfpy("runs")[1]
    status, out, err = iperfpy("show", "last")
    assert (status, "host" in out, "\x1b" in out + err) == (0, True, False)


# -- diff


def test_a_regression_has_the_status_1_and_its_line(store: Folder, iperfpy: Run) -> None:
    before, after = save_set(store, "before", 1.0), save_set(store, "after", 0.93)
    status, out, err = iperfpy("diff", *before, "--", *after)
    assert (status, err) == (1, "")
    line, legend = out.splitlines()
    assert line.startswith("kcp-bbr down  ")
    assert "p 0.008  n 5+5  REGRESSION" in line
    assert "Mbit/s  -" in line
    assert "range of fewer than 6 runs" in legend
    assert iperfpy("diff", "--fail-below", "20%", *before, "--", *after)[0] == 0
    assert iperfpy("diff", *before, "--", *after, "--fail-below", "20")[0] == 0


@pytest.mark.parametrize("how", ["name", "file", "link", "copy"])
def test_a_run_counts_once_on_a_side(store: Folder, iperfpy: Run, tmp_path: Path, how: str) -> None:
    before, after = save_set(store, "before", 1.0, 4), save_set(store, "after", 0.93, 4)
    file, again = store.path / f"{before[0]}.json", tmp_path / "again.json"
    if how == "link":
        again.symlink_to(file)
    else:
        again.write_bytes(file.read_bytes())
    word = {"name": before[0], "file": str(file)}.get(how, str(again))
    for sides in ([*before, word, "--", *after], [*after, "--", *before, word]):
        status, out, err = iperfpy("diff", *sides)
        assert (status, out) == (2, "")
        assert "a run counts once on a side" in err
        assert ("is there twice" in err) is (how in ("name", "file"))


def test_sides_without_anything_in_common_name_three_groups_at_most(store: Folder, iperfpy: Run) -> None:
    side = _Side(["runs"])
    groups = tuple(f"group {number}" for number in range(50))
    with pytest.raises(DocumentError, match=r"has group 0, group 1, group 10, \.\.\., the second"):
        _check_common(side, side, Difference((), (groups, ("udp up",))))


def test_equal_sides_are_within_noise(store: Folder, iperfpy: Run) -> None:
    names = save_set(store, "one", 1.0, 10, run_sd=0.0)
    status, out, _ = iperfpy("diff", *names[:5], "--", *names[5:])
    assert status == 0
    assert "~ (within noise of " in out
    whole = iperfpy("diff", *names[:5], "--", *names[5:], "-V")[1]
    assert len(whole.splitlines()) == 4
    assert "  RTT" in whole
    assert "  resent" in whole


def test_too_few_runs_say_how_many_are_lacking(store: Folder, iperfpy: Run) -> None:
    names = save_set(store, "one", 1.0, 6)
    status, out, _ = iperfpy("diff", *names[:3], "--", *names[3:])
    assert status == 3
    assert "? cannot tell: 2 more runs of each would show 5 %" in out


def test_two_runs_need_no_separator(store: Folder, iperfpy: Run) -> None:
    save_set(store, "one", 1.0, 1, seconds=30)
    save_set(store, "two", 0.8, 1, seconds=30)
    status, out, _ = iperfpy("diff", "last~1", "last")
    assert status == 1
    assert "within one run  REGRESSION" in out


def test_a_single_run_is_compared_with_the_latest_one_like_it(store: Folder, iperfpy: Run) -> None:
    (first,) = save_set(store, "one", 1.0, 1, seconds=30)
    save(store, IPERF3, hosts=("me", "elsewhere"))
    (last,) = save_set(store, "two", 0.8, 1, seconds=30)
    status, out, _ = iperfpy("diff", "last", "-J")
    assert (status, json.loads(out)["sides"]) == (
        1,
        [[str(store.path / f"{name}.json")] for name in (first, last)],
    )
    status, _, err = iperfpy("diff", first)
    assert (status, f"no earlier run like {first}" in err) == (2, True)
    (store.path / "index.jsonl").unlink()
    status, _, err = iperfpy("diff", last)
    assert (status, "is not in the index of runs" in err) == (2, True)


def test_the_json_document_has_every_figure(store: Folder, iperfpy: Run) -> None:
    before, after = save_set(store, "before", 1.0), save_set(store, "after", 0.9)
    status, out, _ = iperfpy("diff", "-J", *before, "--", *after)
    made = json.loads(out)
    assert (status, made["status"], made["kind"]) == (1, 1, "diff")
    (group,) = made["groups"]
    assert (group["transport"], group["direction"], group["within_one_run"]) == ("kcp-bbr", "reverse", False)
    rate = group["figures"][0]
    assert (rate["name"], rate["verdict"], rate["fails"], rate["first"]["n"]) == (
        "bits_per_second",
        "worse",
        True,
        5,
    )
    assert rate["relative_shift"]["value"] == pytest.approx(-0.1, abs=0.02)
    assert made["sides"][0] == [str(store.path / f"{name}.json") for name in before]


def test_documents_of_iperf3_are_compared(iperfpy: Run, tmp_path: Path) -> None:
    sides: list[list[str]] = [[], []]
    for side, level in zip(sides, (1.0, 0.8), strict=True):
        for number in range(4):
            made = copy.deepcopy(IPERF3)
            made["end"]["sum_received"]["bits_per_second"] *= level + number / 1000
            path = tmp_path / f"{level}-{number}.json"
            path.write_text(json.dumps(made))
            side.append(str(path))
    status, out, _ = iperfpy("diff", *sides[0], "--", *sides[1])
    assert status == 1
    assert out.startswith("tcp cubic up  11.0 ")


def test_the_rounds_of_comparisons_are_the_runs(store: Folder, iperfpy: Run, tmp_path: Path) -> None:
    sides = []
    for level in (1.0, 0.8):
        report = comparison_scene(level)
        path = tmp_path / f"{level}.json"
        path.write_text(json.dumps(compare_document.document(report)))
        sides.append(str(path))
    status, out, _ = iperfpy("diff", *sides)
    assert status == 1
    assert "tcp bbr up (steady)" in out
    assert "n 6+6  REGRESSION" in out


def test_messages_of_comparisons_are_compared_by_their_slowest(iperfpy: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    sides = []
    for slow_us in (50_000, 80_000):
        report = comparison_scene(1.0)
        rounds = [
            MeasuredMessages("kcp-bbr", number, 1.0, round_trip_us=tuple(map(int, times)))
            for number, times in enumerate(rng.normal(slow_us, 500, (5, 200)))
        ]
        made = compare_document.document(replace(report, tests=(), messages=tuple(rounds)))
        path = tmp_path / f"{slow_us}.json"
        path.write_text(json.dumps(made))
        sides.append(str(path))
    status, out, _ = iperfpy("diff", *sides)
    assert status == 1
    assert out.startswith("kcp-bbr messages P95  50.8 (")
    assert " ms  +30." in out
    assert iperfpy("diff", *reversed(sides))[0] == 0


def test_rows_of_message_tests_are_compared_by_their_rounds(iperfpy: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    sides = []
    for slow_us, lost in ((50_000, 0), (70_000, 2)):
        rounds = [
            {"round_trip_us": [None] * lost + [int(one) for one in times]}
            for times in rng.normal(slow_us, 500, (6, 1_000))
        ]
        shared = {"name": "kcp", "size_bytes": 100, "messages_per_s": 100.0, "error": ""}
        rows = [
            {**shared, "load": {"name": "idle", "direction": None}, "rounds": rounds},
            {**shared, "load": {"name": "own", "direction": "up"}, "rounds": rounds[:4], "error": "late"},
        ]
        path = tmp_path / f"{slow_us}.json"
        path.write_text(json.dumps({"start": {}, "rows": rows, "end": {}}))
        sides.append(str(path))
    status, out, _ = iperfpy("diff", *sides)
    assert status == 1
    first, *others = out.splitlines()
    assert first.startswith("kcp messages (100 bytes, 100/s, idle) P99  51.")
    assert "n 6+6  REGRESSION" in first
    assert [line.split()[:2] for line in others[:2]] == [["message", "P95"], ["loss", "0"]]


@pytest.mark.parametrize(
    ("count", "known"), [(199, set()), (200, {"message_p95_us"}), (999, {"message_p95_us"})]
)
def test_a_percentile_needs_ten_messages_beyond_it(count: int, known: set[str]) -> None:
    figures = message_figures([1.0] * count)
    assert {name for name, value in figures.items() if value is not None} == known
    assert message_figures([1.0] * 1_000)["message_p99_us"] == 1


@pytest.mark.parametrize(("value", "text"), [(-0.04, "0.0"), (0.04, "0.0"), (-0.06, "-0.1"), (3.0, "+3.0")])
def test_a_difference_that_rounds_to_zero_has_no_sign(value: float, text: str) -> None:
    assert _signed(value) == text


def test_a_comparison_is_shown_and_written_as_csv(store: Folder, iperfpy: Run, tmp_path: Path) -> None:
    report = comparison_scene(1.0)
    store.save(compare_document.document(report), compare_document.about(report))
    printed = tmp_path / "printed.json"
    printed.write_text(json.dumps(compare_document.document(report)))
    for run in ("last", str(printed)):
        for words, letter in (([], ""), (["-f", "k"], "k")):
            status, out, _ = iperfpy("show", run, *words)
            assert status == 0
            expected = compare_text.lines(report, letter=letter)
            assert out.splitlines() == ["".join(text for text, _ in one).rstrip() for one in expected]
    path = tmp_path / "x.csv"
    assert iperfpy("show", str(printed), "--csv", str(path)) == (0, "", "")
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [row["contender"] for row in rows] == [one.contender for one in report.tests]


def test_diagnoses_are_compared_by_their_causes(store: Folder, iperfpy: Run) -> None:
    report = whole()
    first = document(report)
    second = copy.deepcopy(first)
    for finding in second["diagnosis"]:
        if finding["cause"] == "policer":
            finding["evidence"]["rate_bits_per_s"] *= 0.9
    second["directions"][0]["capacity_bits_per_s"] *= 0.8
    for made in (first, second):
        store.save(made, about(report))
    status, out, _ = iperfpy("diff", "last~1", "last")
    assert status == 1
    assert "up    capacity 24.0 -> 19.2 Mbit/s" in out
    assert iperfpy("diff", "last", "last~1")[0] == 0
    assert iperfpy("diff", "last~1", "last", "--fail-below", "30%")[0] == 0
    assert any(one["worse"] for one in json.loads(iperfpy("diff", "last~1", "last", "-J")[1])["diagnosis"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "diff needs two sides"),
        (["a"], "no run 'a'"),
        (["a", "b", "c"], "diff needs two sides"),
        (["--", "a"], "no run before the --"),
        (["a", "--"], "no run after the --"),
        (["a", "--", "b", "--", "c"], "only one -- may stand"),
        (["a", "--", "b"], "no run 'a'"),
        (["--fail-below", "0", "a", "b"], "'0' is not a share"),
        (["--fail-below", "x", "a", "b"], "'x' is not a share"),
        (["--frob", "a", "b"], "unknown option --frob"),
    ],
)
@pytest.mark.parametrize("json_words", [[], ["-J"]])
def test_bad_words_have_the_status_2(
    store: Folder, iperfpy: Run, words: list[str], sentence: str, json_words: list[str]
) -> None:
    status, out, err = iperfpy("diff", *json_words, *words)
    assert (status, err.count("\n")) == (2, 1)
    assert sentence in err
    if json_words:
        assert json.loads(out)["status"] == 2
        assert sentence in json.loads(out)["error"]
    else:
        assert out == ""


def test_files_that_cannot_be_compared_have_the_status_2(store: Folder, iperfpy: Run, tmp_path: Path) -> None:
    test = save(store, IPERF3)
    udp = copy.deepcopy(IPERF3)
    udp["start"]["test_start"] |= {"protocol": "UDP", "reverse": 1}
    failed = {"start": {"version": "iperfpy 1", "connected": []}, "intervals": [], "end": {}, "error": "x"}
    damaged = copy.deepcopy(IPERF3)
    damaged["end"]["sum_received"]["bits_per_second"] = "fast"
    odd = {"stored": {"kind": "odd"}}
    for made, sentence in (
        ({"a": 1}, "is not a run"),
        (udp, "nothing to compare: the first side has tcp cubic up, the second side udp cubic down"),
        (failed, "runs without a result"),
        (damaged, "cannot be read: bits_per_second is 'fast'"),
        (odd, "a run of the kind 'odd' has no figures"),
        (document(whole()), "the second side diagnoses"),
    ):
        path = tmp_path / "other.json"
        path.write_text(json.dumps(made))
        status, out, err = iperfpy("diff", test, "--", str(path))
        assert (status, out) == (2, ""), sentence
        assert sentence in err
    status, _, err = iperfpy("diff", test, "--", test)
    assert status == 2
    assert "is on both sides" in err


def test_sides_of_other_versions_and_paths_are_compared_with_a_remark(
    store: Folder, iperfpy: Run, tmp_path: Path
) -> None:
    test = save(store, IPERF3)
    made = copy.deepcopy(IPERF3)
    made["start"]["version"] = "iperf 3.21"
    made["start"]["connected"][0]["remote_host"] = "10.0.0.9"
    path = tmp_path / "other.json"
    path.write_text(json.dumps(made))
    status, out, err = iperfpy("diff", test, "--", str(path))
    assert status == 3
    assert out.startswith("tcp cubic up")
    assert "different versions: iperf 3.12 and iperf 3.21" in err
    assert "different paths: 10.0.0.2>10.0.0.1 mss1448 and 10.0.0.2>10.0.0.9 mss1448" in err


def test_comparisons_with_different_servers_are_compared_with_a_remark(iperfpy: Run, tmp_path: Path) -> None:
    report = comparison_scene(1.0)
    names = []
    for host in ("192.0.2.7", "192.0.2.8"):
        path = tmp_path / f"{host}.json"
        path.write_text(json.dumps(compare_document.document(replace(report, host=host))))
        names.append(str(path))
    _, out, err = iperfpy("diff", names[0], "--", names[1])
    assert "tcp bbr up" in out
    assert "the sides are of different paths: 192.0.2.7 and 192.0.2.8" in err


def test_help_of_each_command(iperfpy: Run) -> None:
    for name in ("runs", "show", "diff"):
        status, out, _ = iperfpy(name, "--help")
        assert (status, out.startswith(f"Usage: iperfpy {name}")) == (0, True)
        assert max(map(len, out.splitlines())) <= 80
