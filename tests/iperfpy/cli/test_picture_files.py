"""The flags of pictures: errors before the test begins, files that are written or left alone, terminals."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
from pathlib import Path

import pytest

from iperfpy.cli.command_line import CommandLine
from iperfpy.cli.main import main
from iperfpy.cli.picture_files import PictureFile, PictureFiles
from iperfpy.cli.request import request_of
from iperfpy.errors import ParameterError, StartError
from iperfpy.options import PictureOptions
from iperfpy.protocols.registry import transports
from iperfpy.report.compare_document import document as compare_document
from iperfpy.report.diagnosis_document import document as diagnosis_document
from iperfpy.report.pictures import html_page
from tests.iperfpy.report import diagnosis_scenes
from tests.iperfpy.report.pictures.picture_scenes import kcp_run
from tests.iperfpy.report.pictures.test_experiment_pages import comparison
from tests.warm_program import local_server


def refuse_to_warn(sentence: str) -> None:
    raise AssertionError(sentence)


def written(options: PictureOptions, stream: io.StringIO | None = None) -> None:
    pictures = PictureFiles(options, refuse_to_warn)
    with pictures.opened():
        pictures.write_run(kcp_run(), stream)


def test_a_page_and_a_file_for_flent_are_written(tmp_path: Path) -> None:
    page, flent = tmp_path / "page.html", tmp_path / "run.flent.gz"
    page.write_text("an older and longer page" * 20_000)
    written(PictureOptions(html=str(page), flent=str(flent)))
    assert page.read_text().startswith("<!doctype html>")
    assert page.read_text().endswith("</html>\n")
    assert json.loads(gzip.decompress(flent.read_bytes()))["version"] == 4


@pytest.mark.parametrize("flag", ["--html", "--png", "--flent"])
def test_a_path_that_cannot_be_written_is_said_before_the_test(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "missing" / "a.flent.gz"
    # No server listens there: a test that began would say so.
    assert main(["-c", "127.0.0.1", "-p", "1", flag, str(path)]) == 1
    out, err = capsys.readouterr()
    assert str(path) in err
    assert "No such file or directory" in err
    assert flag in err
    assert not out
    assert "connect" not in err


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="s a directory"):
        PictureFile(str(tmp_path), "the page").open()


def test_a_failed_test_leaves_no_file_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new, old = tmp_path / "new.html", tmp_path / "old.flent.gz"
    old.write_bytes(b"kept")
    assert main(["-c", "127.0.0.1", "-p", "1", "--html", str(new), "--flent", str(old)]) == 1
    assert "refused" in capsys.readouterr().err
    assert not new.exists()
    assert old.read_bytes() == b"kept"


def test_a_command_that_is_killed_leaves_no_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    pictures = PictureFiles(PictureOptions(html=str(path)), refuse_to_warn)
    with pictures.opened():
        assert not path.exists()
        pictures.write_run(kcp_run())
        assert path.stat().st_size > 1_000


@pytest.mark.linux
def test_a_disk_that_is_full_at_the_end_is_a_warning() -> None:
    said: list[str] = []
    pictures = PictureFiles(PictureOptions(html="/dev/full"), said.append)
    with pictures.opened():
        pictures.write_run(kcp_run())
    assert len(said) == 1
    assert "the page (--html) /dev/full: No space left on device" in said[0]


def test_a_page_that_is_removed_in_mid_test_is_written_anew_or_named(tmp_path: Path) -> None:
    folder, said = tmp_path / "folder", list[str]()
    folder.mkdir()
    path = folder / "page.html"
    for is_folder_there in (True, False):
        path.write_text("earlier")
        pictures = PictureFiles(PictureOptions(html=str(path)), said.append)
        with pictures.opened():
            path.unlink()
            if not is_folder_there:
                folder.rmdir()
            pictures.write_run(kcp_run())
        assert pictures.failed is not is_folder_there
        assert path.exists() is is_folder_there
    assert said == [f"cannot write the page (--html): {path}: No such file or directory"]


@pytest.mark.linux
def test_a_pipe_takes_a_page(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, True)
    made = tmp_path / "page"
    with open(reader, "rb") as pipe:
        # More than a pipe holds would wait for its reader: a small page, then.
        file = PictureFile(f"/dev/fd/{writer}", "the page")
        file.open()
        file.write(b"<p>")
        file.close()
        os.close(writer)
        made.write_bytes(pipe.read())
    assert made.read_bytes() == b"<p>"


def test_a_missing_library_is_said_before_the_test(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing() -> None:
        raise StartError(html_page.MISSING)

    monkeypatch.setattr(html_page, "check_library", missing)
    path = tmp_path / "page.html"
    with (
        pytest.raises(StartError, match="youplot"),
        PictureFiles(PictureOptions(html=str(path)), refuse_to_warn).opened(),
    ):
        raise AssertionError("nothing is measured")
    assert not path.exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--plot -J", "--plot and -J exclude each other"),
        ("--plot --json-stream", "--plot and --json-stream exclude each other"),
        ("--plot --csv -", "--plot and --csv - exclude each other"),
        ("--flent run.gz", "must end with .flent.gz"),
        ("--html ''", "must not be empty"),
    ],
)
def test_flags_that_exclude_each_other(words: str, sentence: str) -> None:
    line = ["-c", "127.0.0.1", *(word.strip("'") for word in words.split())]
    with pytest.raises(ParameterError, match=sentence):
        request_of(CommandLine(transports()).parse(line))


def test_a_server_makes_no_picture() -> None:
    with pytest.raises(ParameterError, match="--html is a client option"):
        request_of(CommandLine(transports()).parse(["-s", "--html", "a"]))


class Terminal(io.StringIO):
    """A terminal of the test's own."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def plotted(stream: io.StringIO) -> str:
    written(PictureOptions(plot=True), stream)
    return stream.getvalue()


def test_a_terminal_has_colours_and_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = plotted(Terminal())
    assert "\x1b[" in text
    assert "Throughput, Mbit/s" in text
    assert "Round-trip time, ms" in text


@pytest.mark.parametrize("width", [60, 80, 132])
def test_no_color_takes_only_the_colour_away(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    text = plotted(Terminal())
    assert "\x1b" not in text
    assert "┤" in text
    assert max(map(len, text.splitlines())) == width


def test_a_dumb_terminal_has_ascii_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    text = plotted(Terminal())
    assert text.isascii()
    assert "\x1b" not in text
    assert "Throughput" in text


def test_a_pipe_has_no_colour_and_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    piped = io.TextIOWrapper(io.BytesIO(), "utf-8")
    pictures = PictureFiles(PictureOptions(plot=True), refuse_to_warn)
    with pictures.opened():
        pictures.write_run(kcp_run(), piped)
    text = piped.buffer.getvalue().decode()
    assert "\x1b" not in text
    assert "┤" in text
    assert max(map(len, text.splitlines())) == 80


def test_another_encoding_has_ascii_only() -> None:
    piped = io.TextIOWrapper(io.BytesIO(), "latin-1")
    pictures = PictureFiles(PictureOptions(plot=True), refuse_to_warn)
    with pictures.opened():
        pictures.write_run(kcp_run(), piped)
    assert piped.buffer.getvalue().isascii()


@pytest.mark.live
def test_the_command_makes_every_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, flent = tmp_path / "a.html", tmp_path / "a.flent.gz"
    with local_server() as server:
        words = ["-c", "127.0.0.1", "-p", str(server.port), "-t", "0.5", "-i", "0.1", "--plot"]
        assert main([*words, "--html", str(page), "--flent", str(flent)]) == 0
    out = capsys.readouterr().out
    assert out.index("iperfpy Done.") < out.index("Throughput, ")
    assert "Round-trip time under load" in page.read_text()
    assert json.loads(gzip.decompress(flent.read_bytes()))["metadata"]["NAME"] == "tcp_1up"


def test_nothing_is_made_or_imported_without_a_flag() -> None:
    before = {name for name in sys.modules if name.startswith("iperfpy.report.pictures")}
    pictures = PictureFiles(PictureOptions(), refuse_to_warn)
    with pictures.opened():
        pictures.write_run(kcp_run(2))
    assert not pictures.wanted
    assert {name for name in sys.modules if name.startswith("iperfpy.report.pictures")} == before


# -- iperfpy show


@pytest.fixture
def stored(tmp_path: Path) -> dict[str, Path]:
    """A document of each kind, as -J writes it."""
    documents = {
        "test": kcp_run().document(),
        "compare": compare_document(comparison()),
        "diagnose": diagnosis_document(diagnosis_scenes.whole()),
    }
    for name, document in documents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    return {name: tmp_path / f"{name}.json" for name in documents}


@pytest.mark.parametrize("kind", ["test", "compare", "diagnose"])
def test_a_stored_run_is_shown_as_a_page(kind: str, stored: dict[str, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["show", str(stored[kind]), "--html", str(page)]) == 0
    assert page.read_text().startswith("<!doctype html>")


def test_a_stored_test_is_plotted_and_exported(
    stored: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flent = tmp_path / "a.flent.gz"
    assert main(["show", str(stored["test"]), "--plot", "--flent", str(flent)]) == 0
    assert "Throughput, Mbit/s" in capsys.readouterr().out
    assert json.loads(gzip.decompress(flent.read_bytes()))["metadata"]["NAME"] == "tcp_1up"


@pytest.mark.parametrize("words", [["--plot"], ["--flent", "a.flent.gz"]])
def test_only_a_test_has_a_plot(
    words: list[str],
    stored: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["show", str(stored["compare"]), *words]) == 1
    assert "is no test" in capsys.readouterr().err
    assert not (tmp_path / "a.flent.gz").exists()


@pytest.mark.linux
def test_a_page_of_a_stored_run_that_cannot_be_written_is_an_error(
    stored: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(stored["test"]), "--html", "/dev/full"]) == 1
    assert "No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["diagnose", "compare", "latency"])
def test_an_experiment_says_before_it_begins_that_its_page_cannot_be_written(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "missing" / "page.html"
    assert main([command, "127.0.0.1", "-p", "1", "--no-save", "--html", str(path)]) == 1
    err = capsys.readouterr().err
    assert f"cannot write the page (--html): {path}: No such file or directory" in err
    assert "refused" not in err
