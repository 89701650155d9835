"""The form of log lines on standard error.

client         iperfpy: MESSAGE, iperfpy: warning - MESSAGE    by the level, as every other sentence
server         2026-11-29T05:54:41Z iperfpy: MESSAGE         its lines are read later, and by programs
--json-stream  {"event":"log","data":{"time":..., ...}}      so that standard error may join the stream
"""

from __future__ import annotations

import logging
import time

from iperfpy.report.json_report import event_line

SERVER = "%(asctime)s iperfpy: %(message)s"
TIME = "%Y-%m-%dT%H:%M:%SZ"


def formatter(*, server: bool, json_stream: bool) -> logging.Formatter:
    """The formatter of a command's log lines; times are UTC."""
    made: logging.Formatter = _JsonLine(datefmt=TIME)
    if not json_stream:
        made = logging.Formatter(SERVER, TIME) if server else _ClientLine("%(message)s", TIME)
    made.converter = time.gmtime
    return made


class _ClientLine(logging.Formatter):
    """A line for the user of a client; the level of a warning or an error is a word before the message."""

    def format(self, record: logging.LogRecord) -> str:
        word = "error - " if record.levelno >= logging.ERROR else "warning - "
        return f"iperfpy: {word if record.levelno >= logging.WARNING else ''}{super().format(record)}"


class _JsonLine(logging.Formatter):
    """An event of a JSON stream."""

    def format(self, record: logging.LogRecord) -> str:
        facts = {
            "time": self.formatTime(record, self.datefmt),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            facts["traceback"] = self.formatException(record.exc_info)
        return event_line("log", facts)
