"""Log lines on standard error."""

from __future__ import annotations

import logging

import pytest

from iperfpy.cli.log_format import formatter


@pytest.mark.parametrize(
    ("level", "line"),
    [
        (logging.DEBUG, "iperfpy: 5 blocks"),
        (logging.WARNING, "iperfpy: warning - 5 blocks"),
        (logging.ERROR, "iperfpy: error - 5 blocks"),
    ],
)
def test_a_line_of_a_client_has_the_word_of_its_level(level: int, line: str) -> None:
    record = logging.LogRecord("iperfpy", level, "", 0, "%d blocks", (5,), None)
    assert formatter(server=False, json_stream=False).format(record) == line
    served = formatter(server=True, json_stream=False).format(record)
    assert served.endswith("Z iperfpy: 5 blocks")
