"""`iperfpy show`: words, output and exit status, on stored documents."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iperfpy.report import (
    compare_document,
    compare_text,
    diagnosis_document,
    latency_csv,
    latency_document,
    latency_text,
)
from iperfpy.report.diagnosis_document import about, document
from iperfpy.store.folder import Folder
from tests.iperfpy.cli.commands.stored_runs import Run, comparison_scene, save
from tests.iperfpy.report.diagnosis_scenes import nothing, whole
from tests.iperfpy.report.diagnosis_scenes import text as diagnosis_text
from tests.iperfpy.report.latency_scenes import latency_report
from tests.iperfpy.report.scenes import SCENES, forward
from tests.iperfpy.store.test_round_trip import run_of


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
