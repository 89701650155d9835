"""The forms of the text report: this program's table, and iperf3's text (`--text`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol, TextIO

from iperfpy.options import IPERF3_TEXT, OWN_TEXT, ClientOptions
from iperfpy.records import Sink
from iperfpy.report import iperf3_lines
from iperfpy.report.iperf3_text import Iperf3TextSink
from iperfpy.report.screen import PlainScreen, Screen, StampedScreen, screen_for
from iperfpy.report.terminal import TextSink, Wording, program_lines
from iperfpy.sampling.host import system_info


class TextReport(Sink, Protocol):
    """A sink that prints a test for people."""

    def connecting(self, options: ClientOptions) -> None:
        """Print the lines before the client connects."""

    def left_out(self, count: int) -> None:
        """Print that `count` intervals are missing, because the output was not read in time."""


class TextForm(ABC):
    """Makes the text reports of a command in one form.

    Attributes
    ----------
    tells_of_each_wait : True if a server says before every test that it listens
    has_status : True if a client on a terminal shows a status line below its table
    """

    tells_of_each_wait = False
    has_status = False

    @abstractmethod
    def screen(self, stream: TextIO, timestamps: str) -> Screen:
        """The screen for the report. `timestamps`: format of the time before every line, or empty."""

    @abstractmethod
    def report(self, screen: Screen, errors: TextIO, wording: Wording, timestamps: str = "") -> TextReport:
        """The report of one test. `errors` receives warnings and the line about an early end."""

    @abstractmethod
    def program(self) -> tuple[str, ...]:
        """The first lines of a verbose server."""

    @abstractmethod
    def listening(self, port: int, test: int) -> tuple[str, ...]:
        """The lines of a server that listens; `test` counts from 1."""


class _OwnForm(TextForm):
    has_status = True

    def screen(self, stream: TextIO, timestamps: str) -> Screen:
        return screen_for(stream, timestamps)

    def report(self, screen: Screen, errors: TextIO, wording: Wording, timestamps: str = "") -> TextReport:
        return TextSink(screen, errors, wording)

    def program(self) -> tuple[str, ...]:
        return program_lines()

    def listening(self, port: int, test: int) -> tuple[str, ...]:
        return iperf3_lines.RULE, f"Server listening on {port}", iperf3_lines.RULE


class _Iperf3Form(TextForm):
    tells_of_each_wait = True

    def screen(self, stream: TextIO, timestamps: str) -> Screen:
        # Without colours, also on a terminal, and with the blanks at the end of a line.
        exact = PlainScreen(stream, exact=True)
        return StampedScreen(exact, timestamps) if timestamps else exact

    def report(self, screen: Screen, errors: TextIO, wording: Wording, timestamps: str = "") -> TextReport:
        return Iperf3TextSink(screen, self.screen(errors, timestamps), wording)

    def program(self) -> tuple[str, ...]:
        return iperf3_lines.VERSION, system_info()

    def listening(self, port: int, test: int) -> tuple[str, ...]:
        return iperf3_lines.listening(port, test)


TEXT_FORMS: dict[str, TextForm] = {OWN_TEXT: _OwnForm(), IPERF3_TEXT: _Iperf3Form()}
"""Value of --text -> the form."""
