"""The file of -F is checked before anything listens or connects."""

from __future__ import annotations

from pathlib import Path

import pytest

import iperfpy
from iperfpy.cli.main import main
from iperfpy.error_numbers import ErrorNumber
from iperfpy.errors import PlanError
from iperfpy.measure_keywords import server_options
from iperfpy.payload_file_check import check_place


@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize(
    ("name", "reason"),
    [("none/file", "No such file or directory"), ("plain/file", "Not a directory"), (".", "Is a directory")],
)
def test_a_file_without_a_place_is_named(name: str, reason: str, reads: bool, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("content")
    path = str(tmp_path / name)
    with pytest.raises(PlanError, match=f"^cannot (read or )?write the file {path}: {reason}$") as caught:
        check_place(path, reads=reads)
    assert caught.value.i_errno == ErrorNumber.FILE


@pytest.mark.parametrize("name", ["/dev/null", "plain", "new"])
def test_a_file_is_made_by_its_first_payload(name: str, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("content")
    check_place(str(tmp_path / name))
    assert {path.name for path in tmp_path.iterdir()} == {"plain"}


def test_a_file_that_can_only_be_read_suits_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plain"
    path.write_text("content")
    # The user root, as whom tests may run, has every right.
    monkeypatch.setattr("os.access", lambda path, mode: mode == 4)
    check_place(str(path), reads=True)
    for other, reads in ((path, False), (tmp_path / "new", True)):
        with pytest.raises(PlanError, match="Permission denied"):
            check_place(str(other), reads=reads)


def test_a_file_of_a_current_folder_needs_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_place("new")


def test_neither_end_starts_with_a_file_that_it_cannot_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "none" / "file")
    sentence = f"cannot read or write the file {missing}"
    with pytest.raises(iperfpy.PlanError, match=f"^{sentence}"):
        iperfpy.serve(file=missing, port=0)
    with pytest.raises(PlanError, match=f"^{sentence}"):
        server_options(iperfpy.ServerOptions(file=missing), {})
    # Nothing listens on this port: the client fails before it connects.
    with pytest.raises(iperfpy.PlanError, match=f"^cannot write the file {missing}"):
        iperfpy.measure("127.0.0.1", port=1, file=missing, reverse=True)
    assert main(["-s", "-F", missing]) == 1
    assert sentence in capsys.readouterr().err
