"""`iperfpy diff`: words, output and exit status, on stored documents."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from iperfpy.cli.commands.diff import _check_common, _Side
from iperfpy.comparison.comparison_report import (
    MeasuredMessages,
)
from iperfpy.errors import DocumentError
from iperfpy.report import (
    compare_document,
)
from iperfpy.report.diagnosis_document import about, document
from iperfpy.report.difference_text import _signed
from iperfpy.store.difference import Difference
from iperfpy.store.folder import Folder
from iperfpy.store.run_samples import message_figures
from tests.iperfpy.cli.commands.stored_runs import Run, comparison_scene, save, save_set
from tests.iperfpy.report.diagnosis_scenes import whole
from tests.iperfpy.store.test_direction_figures import IPERF3


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
