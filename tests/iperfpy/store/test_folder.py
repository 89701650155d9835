"""The folder of runs: names, the index, several processes, and faults."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from iperfpy.cli.kept_run import keep
from iperfpy.errors import DocumentError
from iperfpy.store import folder as folder_module
from iperfpy.store import run_index
from iperfpy.store.folder import Folder, read_document
from iperfpy.store.run_index import About, IndexEntry, path_signature
from iperfpy.store.stored_run import Run
from tests.iperfpy.report.scenes import forward
from tests.iperfpy.store.test_round_trip import run_of

WHEN = 1_795_966_017.25
NAME = "20261129-152657"


def about(when: float = WHEN, **changes: Any) -> About:
    facts: dict[str, Any] = {
        "kind": "test",
        "unix_time": when,
        "hosts": ("10.0.0.2", "vpn.example"),
        "transports": ("tcp bbr",),
        "directions": ("forward",),
        "path": "10.0.0.2>192.0.2.7 mss1448",
        "summary": "18.9 Mbit/s",
        "headline": {"bits_per_second": 18.9e6, "rtt_us": None},
        "version": "iperfpy 9",
        "title": "a title",
    }
    return About(**{**facts, **changes})


def test_a_saved_run_is_listed_and_its_document_read(tmp_path: Path) -> None:
    store = Folder(tmp_path / "new" / "results")
    entry = store.save({"start": {"a": float("nan")}}, about())
    assert entry.id == NAME
    assert store.entries() == folder_module.Listing((entry,))
    assert read_document(store.document_path(entry)) == {
        "stored": {"id": NAME, "kind": "test"},
        "start": {"a": None},
    }
    assert sorted(os.listdir(store.path)) == [f"{NAME}.json", "index.jsonl"]


def test_the_index_can_be_searched_with_grep(tmp_path: Path) -> None:
    Folder(tmp_path).save({}, about())
    Folder(tmp_path).save({}, about(transports=("kcp",), headline={"bits_per_second": 1.0}))
    found = subprocess.run(
        ["grep", '"kcp"', tmp_path / "index.jsonl"], capture_output=True, text=True, check=True
    )
    assert json.loads(found.stdout)["id"] == f"{NAME}-2"


def test_runs_of_one_second_have_names_in_their_order(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    names = [store.save({}, about()).id for _ in range(11)]
    assert names[:2] == [NAME, f"{NAME}-2"]
    assert [entry.id for entry in store.entries().entries] == names
    assert store.find("last").stem == names[-1]
    assert store.find("last~10").stem == NAME


def test_a_run_is_found_by_its_name_a_beginning_and_a_path(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    first, second, third = (store.save({}, about(WHEN + shift)) for shift in (0, 0, 3600))
    assert store.find(first.id) == store.document_path(first)  # although `second` begins so as well
    assert store.find(second.id).stem == second.id
    assert store.find("20261129-16").stem == third.id
    foreign = tmp_path / "foreign.json"
    foreign.write_text("{}")
    assert store.find(str(foreign)) == foreign
    for name, sentence in (
        ("20261129", "beginning of 3 runs"),
        ("x", "no run 'x'"),
        ("", "no run ''"),
        ("last~3", "3 runs only"),
        (str(tmp_path / "gone.json"), "no file"),
    ):
        with pytest.raises(DocumentError, match=sentence):
            store.find(name)
    with pytest.raises(DocumentError, match="no runs"):
        Folder(tmp_path / "none").find("last")


def test_the_folder_is_the_one_of_the_environment_unless_the_user_names_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPERFPY_RESULTS", str(tmp_path / "a"))
    assert Folder().path == tmp_path / "a"
    assert Folder(tmp_path / "b").path == tmp_path / "b"
    monkeypatch.delenv("IPERFPY_RESULTS")
    assert Folder().path == Path("results")


@pytest.mark.parametrize(
    "line",
    [
        '{"id":"2026',
        "nonsense",
        "[]",
        "{}",
        '{"id":"../x","time":"2026-11-29T15:26:57Z"}',
        "[" * 100_000,
        '{"id":"' + "9" * 100_000 + '"}',
        "\xff",
    ],
)
def test_a_torn_or_foreign_line_is_left_out_with_a_warning(tmp_path: Path, line: str) -> None:
    store = Folder(tmp_path)
    before = store.save({}, about())
    with open(tmp_path / "index.jsonl", "ab") as index:
        index.write(line.encode("latin-1"))
    after = store.save({}, about())
    listing = store.entries()
    assert listing.entries == (before, after)
    assert listing.warnings == (f"{tmp_path}/index.jsonl: line 2 cannot be read as a run, and is left out",)


def test_a_missing_document_is_named_and_its_run_left_out(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    first, second = store.save({}, about()), store.save({}, about())
    store.document_path(first).unlink()
    listing = store.entries()
    assert listing.entries == (second,)
    assert first.id in listing.warnings[0]


def test_a_document_that_the_index_does_not_know_is_found_by_its_name(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    entry = store.save({}, about())
    (tmp_path / "index.jsonl").unlink()
    assert store.entries() == folder_module.Listing(())
    assert store.find(entry.id[:10]) == store.document_path(entry)


def save_some(path: Path, count: int) -> None:
    for number in range(count):
        Folder(path).save({"number": number}, about())


def test_several_processes_save_at_the_same_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=save_some, args=(tmp_path, 15)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    listing = Folder(tmp_path).entries()
    assert not listing.warnings
    assert len({entry.id for entry in listing.entries}) == 60
    numbers = [read_document(tmp_path / f"{entry.id}.json")["number"] for entry in listing.entries]
    assert sorted(numbers) == sorted([*range(15)] * 4)


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", no_links)
    save_some(tmp_path, 3)
    assert len(Folder(tmp_path).entries().entries) == 3
    assert len(os.listdir(tmp_path)) == 4


def test_a_full_disk_leaves_no_part_of_a_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        Folder(tmp_path).save({"a": 1}, about())
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "index.jsonl"
    run_index.append(index, IndexEntry("1", about()))
    before, write = index.read_bytes(), os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[:-50])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        run_index.append(index, IndexEntry("2", about()))
    assert index.read_bytes() == before


def test_a_run_that_cannot_be_saved_gives_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    keep({}, about(), folder=str(tmp_path / "file"))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"iperfpy: warning - the run is not saved in {tmp_path}/file: File exists\n"
    keep({}, about(), folder=str(tmp_path / "ok"))
    assert capsys.readouterr().err == f"iperfpy: saved - {tmp_path}/ok/{NAME}.json\n"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe\x00", b"[" * 100_000, b'"x"'])
def test_a_file_that_is_no_run_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DocumentError, match=r"x\.json is not a run"):
        read_document(path)
    with pytest.raises(DocumentError, match="cannot read the run"):
        read_document(tmp_path)
    with pytest.raises(DocumentError, match="it is not a regular file"):
        read_document(Path("/dev/zero"))


def test_texts_of_the_index_are_bounded(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    store.save({}, about(title="x" * 100_000, error="y" * 100_000))
    listing = store.entries()
    assert not listing.warnings
    assert listing.entries[0].about.title == "x" * run_index.LONGEST_TEXT


def test_the_signature_of_a_path() -> None:
    assert path_signature("10.0.0.2", "192.0.2.7", 1448) == "10.0.0.2>192.0.2.7 mss1448"
    assert path_signature("", "", 1448) == ""


def test_python_keeps_and_finds_runs(tmp_path: Path) -> None:
    run = run_of(forward())
    path = run.keep(tmp_path)
    (entry,) = Folder(tmp_path).entries().entries
    assert path == Folder(tmp_path).document_path(entry)
    assert entry.about.summary.endswith("bit/s")
    assert Run.find("last", tmp_path).document() == run.document()
    assert Run.find(str(path)).document() == run.document()
    with pytest.raises(DocumentError, match="before it started"):
        Run(error="refused").keep(tmp_path)
    with pytest.raises(DocumentError, match="no run 'x'"):
        Run.find("x", tmp_path)
