"""The form of log lines on standard error.

client         iperfpy: MESSAGE
server         2026-11-29T05:54:41Z iperfpy: MESSAGE         its lines are read later, and by programs
--json-stream  {"event":"log","data":{"time":..., ...}}      so that standard error may join the stream
"""

from __future__ import annotations

import logging
import time

from iperfpy.report.json_report import event_line

CLIENT = "iperfpy: %(message)s"
SERVER = f"%(asctime)s {CLIENT}"
TIME = "%Y-%m-%dT%H:%M:%SZ"


def formatter(*, server: bool, json_stream: bool) -> logging.Formatter:
    """The formatter of a command's log lines; times are UTC."""
    made = _JsonLine(datefmt=TIME) if json_stream else logging.Formatter(SERVER if server else CLIENT, TIME)
    made.converter = time.gmtime
    return made


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
