"""`iperfpy lab from-csv`, in this process."""

from __future__ import annotations

import gzip
import io
import lzma
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from iperfpy.cli.main import main
from iperfpy.protocols.simulator.path_language import parse


def test_a_table_becomes_a_trace_that_a_path_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, trace = tmp_path / "rates.csv", tmp_path / "rates.up"
    table.write_text("ms,kbyte/s\n0,1500\n1000,0\n2000,3000\n")
    words = ["lab", "from-csv", str(table), "--time", "ms", "--rate", "kbyte"]
    assert main([*words, "-o", str(trace)]) == 0
    found = parse(f"trace={trace}")[0].trace
    assert found is not None
    assert found.mean_bits_per_s == pytest.approx(12e6)
    assert main(words) == 0
    assert capsys.readouterr().out == trace.read_text()


@pytest.mark.parametrize("words", [[], ["-"]])
@pytest.mark.parametrize("packed", [bytes, gzip.compress, lzma.compress])
def test_a_table_comes_from_standard_input(
    words: list[str],
    packed: Callable[[bytes], bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for text, status in (("0,12\n0.002,12\n", 0), ("0,12\n0,12\n", 1)):
        standard_input = io.TextIOWrapper(io.BufferedReader(io.BytesIO(packed(text.encode()))))
        monkeypatch.setattr(sys, "stdin", standard_input)
        assert main(["lab", "from-csv", *words]) == status
    out, err = capsys.readouterr()
    assert out.split() == ["1", "2", "3", "4"]
    assert "standard input, line 2: the times must rise" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["/missing.csv"], "/missing.csv: No such file or directory"),
        (["a", "b"], "unexpected"),
        (["x", "--rate", "MB"], "'MB' is not one of"),
        (["x", "--columns", "0", "1"], "the number of a column must be between 1 and 1000, not 0"),
    ],
)
def test_a_mistake_is_a_sentence_and_status_1(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lab", "from-csv", *words]) == 1
    assert message in capsys.readouterr().err


def test_a_trace_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "rates.csv"
    table.write_text("0,1\n1,1\n")
    assert main(["lab", "from-csv", str(table), "-o", str(tmp_path / "no" / "such")]) == 1
    assert "cannot write the trace to" in capsys.readouterr().err
