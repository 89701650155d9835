"""Files of rows: appended below an equal header, whole or not at all, also by several writers."""

from __future__ import annotations

import contextlib
import io
import os
import re
import threading
from pathlib import Path

import pytest

from iperfpy.errors import StartError
from iperfpy.report.csv_file import CsvFile, CsvStream, open_generated

FULL = Path("/dev/full")
HEADER = ("a", "b")


def write(path: Path, *rows: tuple[str, ...], replace: bool = False) -> None:
    file = CsvFile(path, HEADER, replace=replace)
    for row in rows:
        file.row(row)
    file.close()


def test_rows_are_added_below_an_equal_header(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write(path, ("1", "2"))
    write(path, ("3", "x,y"), ("5", ""))
    assert path.read_text() == 'a,b\n1,2\n3,"x,y"\n5,\n'


@pytest.mark.parametrize("old", ["yesterday\n", "a,b,c\n1,2,3\n", "a,bc\n", "a,b", "\n"])
def test_a_file_with_another_header_is_refused_and_kept(old: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(old)
    with pytest.raises(StartError, match=r"^cannot add rows to \S+x\.csv, .*--csv-overwrite$"):
        CsvFile(path, HEADER)
    assert path.read_text() == old


def test_an_old_file_is_replaced_by_the_first_row_if_the_user_wants_that(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("yesterday\n")
    write(path, replace=True)
    assert path.read_text() == "yesterday\n"
    write(path, ("1", "2"), ("3", "4"), replace=True)
    assert path.read_text() == "a,b\n1,2\n3,4\n"


@pytest.mark.parametrize(("torn", "mended"), [("1", "1\n"), ('1,"x', '1,"x"\n')])
def test_an_unfinished_last_line_joins_no_row(torn: str, mended: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"a,b\n{torn}")
    write(path, ("3", "4"))
    assert path.read_text() == f"a,b\n{mended}3,4\n"


def test_a_row_that_another_writer_removes_again_leaves_no_line(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write(path, ("1", "2"))
    whole = path.read_bytes()
    path.write_bytes(whole + b"3,a row that does not f")
    second = CsvFile(path, HEADER)
    path.write_bytes(whole)
    second.row(("5", "6"))
    second.close()
    assert path.read_text() == "a,b\n1,2\n5,6\n"


def test_a_folder_that_vanishes_ends_the_rows_until_it_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "x.csv"
    path.parent.mkdir()
    with contextlib.closing(CsvFile(path, ["a"])) as file:
        file.row(["1"])
        path.unlink()
        path.parent.rmdir()
        for _ in range(2):
            # The sentence about a row names the file once.
            with pytest.raises(FileNotFoundError, match=r"No such file or directory$"):
                file.row(["2"])
        path.parent.mkdir()
        file.row(["3"])
    assert path.read_text() == "a\n3\n"


def test_a_new_file_without_rows_is_removed(tmp_path: Path) -> None:
    file = CsvFile(tmp_path / "new.csv", HEADER)
    assert file.path.exists()
    file.close()
    file.close()
    assert not file.path.exists()
    # An empty file that was there before stays.
    file.path.touch()
    write(file.path)
    assert file.path.exists()


def test_a_closed_file_takes_no_row(tmp_path: Path) -> None:
    file = CsvFile(tmp_path / "x.csv", HEADER)
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.row(("1", "2"))


def test_a_folder_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Is a directory"):
        CsvFile(tmp_path, HEADER)


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_a_full_device_loses_a_row_with_its_reason() -> None:
    file = CsvFile(FULL, HEADER)
    for _ in range(2):
        with pytest.raises(OSError, match="No space left on device"):
            file.row(("1", "2"))
    file.close()


def test_a_row_that_does_not_fit_is_removed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full after ten bytes of the second row, and has room again for the third."""
    file, write_some = CsvFile(tmp_path / "x.csv", HEADER), os.write
    file.row(("first", ""))

    def write_until_full(descriptor: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(28, "No space left on device")
        return write_some(descriptor, data[:10])

    monkeypatch.setattr(os, "write", write_until_full)
    with pytest.raises(OSError, match="No space left"):
        file.row(("second row", "longer than that"))
    monkeypatch.undo()
    file.row(("third", ""))
    file.close()
    assert (tmp_path / "x.csv").read_text() == "a,b\nfirst,\nthird,\n"


def test_a_file_that_is_emptied_while_a_row_fails_is_not_filled_with_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.csv"
    file = CsvFile(path, HEADER)
    file.row(["1", "2"])

    def emptied_and_full(descriptor: int, data: bytes) -> int:
        os.truncate(path, 0)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", emptied_and_full)
    with pytest.raises(OSError, match="No space left"):
        file.row(["3", "4"])
    monkeypatch.undo()
    assert path.read_bytes() == b""
    file.row(["5", "6"])
    assert path.read_text().splitlines()[-1] == "5,6"


def test_several_writers_write_one_header_and_whole_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    files = [CsvFile(path, HEADER) for _ in range(8)]
    together = threading.Barrier(len(files))

    def write_rows(number: int) -> None:
        together.wait()
        for _ in range(50):
            files[number].row((str(number), "x" * 3000))

    threads = [threading.Thread(target=write_rows, args=(number,)) for number in range(len(files))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for file in files:
        file.close()
    first, *rows = path.read_text().splitlines()
    assert first == "a,b"
    assert sorted(rows) == sorted(f"{number},{'x' * 3000}" for number in range(8) for _ in range(50))


def test_a_rotated_file_is_followed_by_a_new_one_with_a_header(tmp_path: Path) -> None:
    path, old = tmp_path / "x.csv", tmp_path / "x.csv.1"
    file = CsvFile(path, HEADER)
    file.row(("1", "2"))
    path.rename(old)
    file.row(("3", "4"))
    file.reopen()
    file.row(("5", "6"))
    file.close()
    assert old.read_text() == "a,b\n1,2\n3,4\n"
    assert path.read_text() == "a,b\n5,6\n"


def test_a_file_that_was_emptied_or_removed_gets_a_header_again(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    file = CsvFile(path, HEADER)
    file.row(("1", "2"))
    path.write_text("")
    file.row(("3", "4"))
    assert path.read_text() == "a,b\n3,4\n"
    path.unlink()
    file.row(("5", "6"))
    file.close()
    assert path.read_text() == "a,b\n5,6\n"


def test_a_rotation_to_a_foreign_file_keeps_the_old_one(tmp_path: Path) -> None:
    path, old = tmp_path / "x.csv", tmp_path / "x.csv.1"
    file = CsvFile(path, HEADER)
    path.rename(old)
    path.write_text("other\n")
    with pytest.raises(StartError):
        file.reopen()
    file.row(("1", "2"))
    file.close()
    assert (path.read_text(), old.read_text()) == ("other\n", "a,b\n1,2\n")


def test_a_generated_name_has_time_and_subject_and_is_new(tmp_path: Path) -> None:
    files = [open_generated("kcp-reverse", HEADER, 1_795_367_700, tmp_path / "results") for _ in range(3)]
    names = [file.path.name for file in files]
    assert re.fullmatch(r"\d{8}-\d{6}-kcp-reverse\.csv", names[0])
    assert names[1:] == [names[0].replace(".csv", f"-{number}.csv") for number in (2, 3)]
    for file in files:
        file.close()


def test_a_stream_begins_with_a_header_and_keeps_other_letters() -> None:
    text = io.StringIO()
    rows = CsvStream(text, HEADER)
    rows.row(("1", "é"))
    rows.row(("3", 'say "x"'))
    assert text.getvalue() == 'a,b\n1,é\n3,"say ""x"""\n'
