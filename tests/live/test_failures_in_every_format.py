"""A running test that fails: every format has the measured intervals and the error, and the status is 1."""

from __future__ import annotations

import csv
import json
import os
import signal
from importlib import resources
from pathlib import Path
from subprocess import PIPE

import pytest
from jsonschema import Draft202012Validator

from tests.interop.programs import wait_until
from tests.warm_program import WarmProgram, local_server

pytestmark = pytest.mark.live

SCHEMA = json.loads((resources.files("iperfpy") / "report" / "schema.json").read_text())


def run_until_killed(folder: Path, *flags: str) -> tuple[str, str, list[dict[str, str]]]:
    """Kill the server of a running client; return standard output, standard error and the rows of the CSV."""
    path = folder / "rows.csv"
    with local_server() as server:
        words = ["-c", server.host, "-p", str(server.port), "-b", "5M", "-t", "60", "-i", "0.1"]
        with WarmProgram([*words, "--csv", str(path), *flags], stdout=PIPE, stderr=PIPE) as client:
            # Three rows below the header, so that there are intervals to report.
            wait_until(lambda: path.exists() and path.read_text().count("\n") > 3, "no rows", 20)
            os.kill(server.pid, signal.SIGKILL)
            out, errors = client.communicate(timeout=20)
    assert client.returncode == 1
    with path.open(newline="") as stream:
        return out, errors, list(csv.DictReader(stream))


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("output_format", ["text", "-J", "--json-stream"])
def test_a_killed_server_leaves_a_report_with_the_error(
    output_format: str, direction: str, tmp_path: Path
) -> None:
    flags = [
        *([] if output_format == "text" else [output_format]),
        *(["-R"] if direction == "reverse" else []),
    ]
    out, errors, rows = run_until_killed(tmp_path, *flags)
    sentence = rows[-1]["error"]
    # A JSON stream has the error on standard output alone, so that 2>&1 gives JSON, too.
    assert errors == ("" if output_format == "--json-stream" else f"iperfpy: error - {sentence}\n")
    intervals = [row for row in rows if row["type"] == "interval"]
    assert rows[-1]["type"] == "error"
    assert sentence
    assert {row["direction"] for row in rows} == {direction}
    assert {row["role"] for row in rows} == {"client"}
    # The CSV has the intervals that were measured; the other formats must have as many.
    if output_format == "text":
        assert sum(line.startswith("[  1]   0.") for line in out.splitlines()) > 2
        assert "iperfpy Done." not in out
    elif output_format == "-J":
        document = json.loads(out)
        Draft202012Validator(SCHEMA).validate(document)
        assert document["error"] == sentence
        assert len(document["intervals"]) == len(intervals)
        assert document["end"]["sum_sent" if direction == "forward" else "sum_received"]["bytes"] > 0
    else:
        events = [json.loads(line) for line in out.splitlines()]
        assert [event["event"] for event in events] == [
            "start",
            *["interval"] * len(intervals),
            "error",
            "end",
        ]
        assert events[-2]["data"] == sentence
