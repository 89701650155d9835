"""Traces from tables of times and rates: units, headers, silences, and errors with their line."""

from __future__ import annotations

from pathlib import Path as File

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iperfpy.protocols.simulator import csv_trace
from iperfpy.protocols.simulator.csv_trace import stamps_from_csv
from iperfpy.protocols.simulator.rate_trace import RateTrace
from iperfpy.protocols.simulator.trace_file import TraceError


def stamps(
    tmp_path: File, text: str, ms: float = 1_000.0, bits: float = 1e6, columns: tuple[int, int] = (1, 2)
) -> list[int]:
    (tmp_path / "rates.csv").write_bytes(text.encode())
    found = stamps_from_csv(
        str(tmp_path / "rates.csv"), ms_per_unit=ms, bits_per_s_per_unit=bits, columns=columns
    )
    return [int(stamp) for stamp in found]


ONE_PER_100_MS = [100 * n for n in range(1, 21)]


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("0,0.12\n1,0.12\n", {}),
        ("time,Mb/s\n10,0.12\n11,0.12\n", {}),
        ('\ufeff"Time (s)";"Rate"\r\n0;0.12\r\n1;0.12\r\n', {}),
        ("# a comment\n\n0\t.12\n\n1\t1.2e-1", {}),
        ("500,120\n1500,120\n", {"ms": 1.0, "bits": 1e3}),
        ("a,15000,x,0\nb,15000,x,1\n", {"bits": 8.0, "columns": (4, 2)}),
    ],
)
def test_a_table_of_a_constant_rate_becomes_even_opportunities(
    tmp_path: File, text: str, units: dict[str, float]
) -> None:
    assert stamps(tmp_path, text, **units) == ONE_PER_100_MS  # type: ignore[arg-type]


def test_a_rate_holds_until_the_next_row_and_nothing_is_served_in_a_silence(tmp_path: File) -> None:
    assert stamps(tmp_path, "0,0.12\n0.3,0\n1,0.048\n2,0\n") == [100, 200, 300, 1250, 1500, 1750, 2000, 3000]
    # The last opportunity is the end of the trace, so that the silence there is repeated, too.


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3_000), st.integers(0, 40_000)), min_size=2, max_size=30).filter(
        lambda rows: any(rate for _, rate in rows)
    )
)
def test_rate_and_length_are_those_of_the_table(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int]]
) -> None:
    starts = np.cumsum([0, *(length for length, _ in rows)])
    text = "".join(f"{start},{rate}\n" for start, (_, rate) in zip(starts, rows, strict=False))
    found = stamps(tmp_path_factory.mktemp("tables"), text, ms=1.0, bits=1e3)
    lengths = [*(length for length, _ in rows[:-1]), rows[-2][0]]
    bits = sum(length * rate for length, (_, rate) in zip(lengths, rows, strict=True))
    assert found[-1] == sum(lengths)
    assert abs(len(found) - bits / 12_000) <= 1 + 1e-6
    assert len(RateTrace("a table", np.array(found, np.int32)).stamps_ms) == len(found)
    # Served by each edge: never more than the table allows.
    edges = np.cumsum([0, *lengths])
    allowed = np.cumsum([0, *(a * b for a, (_, b) in zip(lengths, rows, strict=True))]) / 12_000
    served = np.searchsorted(found, edges, "right")
    assert (served <= allowed + 1 + 1e-6).all()
    assert (served[:-1] >= allowed[:-1] - 1 - 1e-6).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"rates\.csv: at least two rows with a time and a rate are needed, not 0$"),
        ("time,rate\n", r"at least two rows .*, not 0$"),
        ("0,1\n", r"at least two rows .*, not 1$"),
        ("0,1\n1,x\n", r"rates\.csv, line 2: the rate in column 2 is no number: 'x'$"),
        ("t,r\n0,1\n\nlater,1\n", r"line 4: the time in column 1 is no number: 'later'$"),
        ("0,1\n1\n", r"line 2: there is no column 2 with the rate$"),
        ("0\n1\n", r"line 1: there is no column 2 with the rate$"),
        ("0,1\n1,nan\n", r"line 2: the rate in column 2 is no number: 'nan'$"),
        ("0,1\n1,1_0\n", r"line 2: the rate in column 2 is no number"),
        ("0,1\n1,-2\n", r"line 2: a rate is out of range$"),
        ("0,1\n1,1e999\n", r"line 2: a value is out of range$"),
        ("0,1\n2,1\n2,1\n", r"line 3: the times must rise, and 2 follows 2$"),
        ("5,1\n4,1\n", r"line 2: the times must rise, and 4 follows 5$"),
        ("0,1\n1,2e6\n", r"line 2: a rate is at most 1000 Gbit/s, not 2e\+12 bit/s$"),
        ("0,1\n1e9,1\n", r"the trace would last \d+ ms; at most 1000000000 are allowed$"),
        ("0,900000\n1,9\n", r"the trace would have \d+ lines; at most 20000000 are allowed$"),
    ],
)
def test_an_error_names_the_file_the_line_and_the_reason(tmp_path: File, text: str, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        stamps(tmp_path, text)


def test_the_number_of_rows_is_bounded(tmp_path: File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_trace, "MOST_ROWS", 3)
    with pytest.raises(TraceError, match="a table has at most 3 rows"):
        stamps(tmp_path, "0,1\n1,1\n2,1\n3,1\n")
