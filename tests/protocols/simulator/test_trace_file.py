"""Reading and writing traces: plain and compressed, every error with its line, and bounded sizes."""

from __future__ import annotations

import gzip
import io
import lzma
import os
from pathlib import Path as File

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iperfpy.protocols.simulator import trace_file, trace_models
from iperfpy.protocols.simulator.path_language import MOST_TRACES, PathTextError, describe, parse
from iperfpy.protocols.simulator.trace_file import TraceError, read_trace, write_trace
from iperfpy.protocols.simulator.trace_models import MODELS, generate

LINES = b"0\n3\n3\n10\n"


def _zipped(data: bytes) -> bytes:
    # Without the time of day: parameters name their tests, and every worker must find the same names.
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("plain.up", LINES),
        ("no-end-of-line", LINES[:-1]),
        ("dos", LINES.replace(b"\n", b"\r\n")),
        ("up.gz", _zipped(LINES)),
        ("up.xz", lzma.compress(LINES)),
        ("misnamed.xz", _zipped(LINES)),
    ],
)
def test_a_trace_may_be_compressed(tmp_path: File, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    trace = read_trace(str(tmp_path / name))
    assert trace.stamps_ms.tolist() == [0, 3, 3, 10]
    assert trace.mean_bits_per_s == 4 * 1_500 * 8 / 0.01


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"up: the trace is empty; it needs one time in milliseconds per line$"),
        (b"1\n\n2\n", r"up, line 2: a line is a time in whole milliseconds, and this one is empty$"),
        (b"1\n2\n-3\n", r"up, line 3: a line is a time in whole milliseconds, and this one is '-3'$"),
        (b"1\n2.5\n", r"up, line 2: .* this one is '2\.5'$"),
        (b"# a comment\n2\n", r"up, line 1: .* this one is '# a comment'$"),
        (b"1\n 2\n", r"up, line 2: "),
        (b"1\n2 3\n", r"up, line 2: "),
        (b"\x00\xff\x1b[31m\n" * 9, r"up, line 1: .* this one is '\\x00\\xff\\x1b\[31m'$"),
        (b"9" * 500 + b"\n", r"up, line 1: .* this one is '9{20}'\.\.\.$"),
        (b"5\n7\n6\n", r"up, line 3: the times must not fall, and 6 follows 7$"),
        (b"0\n0\n", r"up, line 2: the last time must be above 0, because the trace repeats$"),
        (b"1\n1000000001\n", r"up, line 2: a time is at most 1000000000 ms, not 1000000001$"),
        (_zipped(LINES * 999)[:30], r"up: the compressed file is damaged: "),
        (_zipped(LINES)[:-6] + b"123456", r"up: (?:the compressed file is damaged: )?CRC"),
        (lzma.compress(LINES * 999)[:40], r"up: the compressed file is damaged: "),
        (lzma.compress(LINES)[:12] + b"nonsense" * 9, r"up: the compressed file is damaged: "),
    ],
)
def test_an_error_names_the_file_the_line_and_the_reason(tmp_path: File, data: bytes, message: str) -> None:
    (tmp_path / "up").write_bytes(data)
    with pytest.raises(TraceError, match=message):
        read_trace(str(tmp_path / "up"))


def test_line_numbers_count_on_over_the_pieces_in_which_a_file_is_read(
    tmp_path: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace_file, "_CHUNK", 16)
    file = tmp_path / "up"
    file.write_bytes(b"".join(b"%d\n" % n for n in range(995, 1_040)))
    assert read_trace(str(file)).stamps_ms.tolist() == list(range(995, 1_040))
    for bad, line in ((b"x\n", 46), (b"1038\n", 46)):
        file.write_bytes(b"".join(b"%d\n" % n for n in range(995, 1_040)) + bad)
        with pytest.raises(TraceError, match=rf"line {line}: "):
            read_trace(str(file))
    file.write_bytes(b"1\n" + b"a" * 99)
    with pytest.raises(TraceError, match=r"line 2: .* this one is 'a+'"):
        read_trace(str(file))


def test_sizes_are_bounded(tmp_path: File, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "up"
    monkeypatch.setattr(trace_file, "MOST_STAMPS", 9)
    file.write_bytes(b"1\n" * 10)
    with pytest.raises(TraceError, match=r"at most 9 lines$"):
        read_trace(str(file))
    monkeypatch.setattr(trace_file, "MOST_STAMPS", 10**9)
    monkeypatch.setattr(trace_file, "MOST_BYTES", 2**20)
    # Compressed, the file is small: the text is what counts.
    file.write_bytes(_zipped(b"1\n" * 2**20))
    with pytest.raises(TraceError, match=r"at most 1 MiB of text$"):
        read_trace(str(file))


def test_only_regular_files_are_opened(tmp_path: File) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in (tmp_path / "fifo", tmp_path, File("/dev/zero")):
        with pytest.raises(TraceError, match=r"it is not a regular file$"):
            read_trace(str(name))
    with pytest.raises(TraceError, match=r"missing: No such file or directory$"):
        read_trace(str(tmp_path / "missing"))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=50).map(sorted).filter(lambda one: one[-1] > 0))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, stamps: list[int]) -> None:
    file, text = tmp_path_factory.mktemp("traces") / "up", io.StringIO()
    write_trace(text, np.array(stamps, np.int32))
    file.write_text(text.getvalue())
    assert read_trace(str(file)).stamps_ms.tolist() == stamps


# -- in the language of paths


def test_both_ways_and_all_events_share_a_file_until_it_changes(tmp_path: File) -> None:
    (tmp_path / "up").write_bytes(LINES)
    text = f"both:trace={tmp_path}/up @1s:both:trace=constant:1M @2s:both:trace={tmp_path}/up"
    there, back = parse(text)
    assert there.trace is not None
    assert back.trace is not None
    assert there.trace.stamps_ms is back.trace.stamps_ms is there.changes[1].fields["trace"].stamps_ms
    (tmp_path / "up").write_bytes(LINES + b"20\n")
    assert parse(text)[0].trace != there.trace


def test_the_number_of_traces_is_bounded() -> None:
    events = [f"@{n}s:trace=constant:{n}M" for n in range(1, MOST_TRACES + 1)]
    assert len(parse(" ".join(events))[0].changes) == MOST_TRACES
    with pytest.raises(
        PathTextError, match=rf"^@99s:trace=poisson:1M: a path has at most {MOST_TRACES} different traces$"
    ):
        parse(" ".join([*events, "down:trace=constant:1M", "@99s:trace=poisson:1M"]))


@pytest.mark.parametrize("name", ["up", "a b,c", "50%20off", "@5s:up:x", "poisson.up", "loss=1"])
def test_a_file_of_any_name_is_described_and_read_again(
    tmp_path: File, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    File(name).write_bytes(LINES)
    escaped = name.replace("%", "%25").replace(" ", "%20").replace(",", "%2C")
    paths = parse(f"trace={escaped},delay=10ms,queue=1bdp down:trace={escaped},codel=5ms")
    assert paths[0].trace is not None
    assert (paths[0].trace.name, paths[0].buffer_bytes) == (name, 4 * 1_500 * 20 // 10)
    assert paths[1].codel is not None
    assert parse(describe(*paths)) == paths


def test_a_rate_and_a_trace_take_the_place_of_each_other() -> None:
    assert parse("20M,queue=1bdp,delay=5ms,trace=constant:6M") == parse(
        "trace=constant:6M,delay=5ms,queue=1bdp"
    )
    assert parse("trace=constant:6M,rate=20M") == parse("20M")
    there, _ = parse("trace=constant:12M,queue=9p @1s:rate=5M @2s:trace=constant:1M,queue=1k @3s:trace=off")
    assert there.trace is not None
    assert there.rate_bits_per_s is None
    changes = [dict(change.fields) for change in there.changes]
    assert changes[0]["rate_bits_per_s"] == 5e6
    assert changes[0]["trace"] is None
    assert changes[1]["rate_bits_per_s"] is None
    assert changes[1]["trace"].name == "constant:1M/1"
    assert changes[2] == {"trace": None, "buffer_bytes": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trace=missing.up", r"^trace=missing\.up: No such file or directory$"),
        ("trace=", r"^trace=: trace is a file in mahimahi's format, .* or off$"),
        ("trace=a%00b", r"^trace=a%00b: trace is a file"),
        ("trace=poisson:0", r"trace is a file .* or constant, poisson.*:RATE\[/NUMBER\]"),
        ("trace=poisson:2G", r"trace is a file"),
        ("trace=poisson:5M/0", r"trace is a file"),
        ("trace=poisson:5M/1/1", r"trace is a file"),
        ("trace=constant:5M,walk=1s/0.1/0", r"^walk up: it needs a rate"),
    ],
)
def test_a_bad_trace_is_named(text: str, message: str) -> None:
    with pytest.raises(PathTextError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("rate", "stamps"), [("12M", [1]), ("60M", [1] * 5), ("120k", [100]), ("8M", [2, 3])]
)
def test_a_constant_trace_is_as_short_as_its_rate_allows(rate: str, stamps: list[int]) -> None:
    trace = parse(f"trace=constant:{rate}")[0].trace
    assert trace is not None
    assert trace.stamps_ms.tolist() == stamps


@pytest.mark.parametrize("rate", [1e3, 0.57e6, 100.42e6, 77.77777e6, 1e9])
@pytest.mark.parametrize("model", MODELS)
def test_generated_traces_have_their_rate(
    model: str, rate: float, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if model != "starlink":
        # Ten million opportunities at 1 Gb/s take half a second, and the bound is the same for every model.
        monkeypatch.setattr(trace_models, "_MOST", 300_000)
        generate.cache_clear()
        request.addfinalizer(generate.cache_clear)
    trace = parse(f"trace={model}:{rate}")[0].trace
    assert trace is not None
    assert trace.mean_bits_per_s == pytest.approx(rate, rel=1e-4)


def test_the_gaps_of_a_poisson_trace_vary_as_much_as_they_last() -> None:
    trace = parse("trace=poisson:1.2M/7")[0].trace
    assert trace is not None
    gaps = np.diff(trace.stamps_ms)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.05)


def _statistics(model: str, rate: float, window_ms: int, lag: int) -> list[float]:
    """Means over 20 seeds: variation, 5th and 95th percentile, autocorrelation; rates of mean 1."""
    found = []
    for seed in range(1, 21):
        stamps = generate(model, rate, seed)
        edges = np.arange(0, stamps[-1] // window_ms * window_ms + 1, window_ms)
        counts = np.histogram(stamps, edges + 0.5)[0]
        rates = counts / counts.mean()
        correlation = np.corrcoef(rates[:-lag], rates[lag:])[0, 1]
        found.append([rates.std(), *np.percentile(rates, (5, 95)), correlation])
    means: list[float] = np.mean(found, axis=0).tolist()
    return means


def test_a_synthetic_trace_has_the_statistics_that_were_published() -> None:
    variation, low, high, after_1_s = _statistics("lte", 5e6, 100, 10)
    assert variation == pytest.approx(0.71, abs=0.1)
    assert low == pytest.approx(0.14, abs=0.1)
    assert high == pytest.approx(2.41, abs=0.3)
    assert after_1_s == pytest.approx(0.69, abs=0.08)
    variation, low, high, after_1_s = _statistics("wifi", 20e6, 1_000, 1)
    assert variation == pytest.approx(0.28, abs=0.06)
    assert low == pytest.approx(0.38, abs=0.16)
    assert high == pytest.approx(1.33, abs=0.12)
    assert after_1_s == pytest.approx(0.87, abs=0.06)


def test_starlinks_rate_changes_every_15_s_behind_a_silence() -> None:
    stamps = generate("starlink", 20e6, 3)
    gaps = np.flatnonzero(np.diff(stamps) >= 50)
    assert stamps[-1] == 300_000
    assert (stamps[gaps] // 1_000 * 1_000).tolist() == [n * 15_000 for n in range(1, 20)]


def test_opportunities_come_in_groups() -> None:
    trace = parse("trace=constant:600k/10")[0].trace
    assert trace is not None
    assert trace.stamps_ms.tolist() == [200] * 10
