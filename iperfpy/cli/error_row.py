"""The row of a CSV about a client's test that failed before its reports were open.

    words --lenient parse--> values --check--> one row of the type `error`

Words that cannot be parsed, or that leave the CSV no file of its own, make no row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from iperfpy.cli.exit_status import warn
from iperfpy.cli.parsed_options import ParsedOptions
from iperfpy.cli.request import check_outputs, host_and_device
from iperfpy.errors import ParameterError, system_reason
from iperfpy.protocols.errors import TransportError
from iperfpy.report.csv_file import CsvError, opened_csv

LenientParse = Callable[[], ParsedOptions]


class ErrorRow:
    """Writes the row.

    Parameters
    ----------
    words : of the command line
    parse : parses them, without an error for a value that cannot be used. Raises
        `ParameterError` or `click.UsageError`
    json : the JSON form in which warnings are written, or empty
    """

    def __init__(self, words: Sequence[str], parse: LenientParse, json: str) -> None:
        self._has_csv = any(word.startswith("--csv") for word in words)  # else a second parse is not needed
        self._parse, self._json = parse, json

    def write(self, error: Exception) -> None:
        """Write the sentence of an error, which has been told, if the words ask for a CSV."""
        if not self._has_csv or isinstance(error, CsvError):
            return
        try:
            parsed = self._parse()
            _check_client(parsed)
            _write(parsed, str(error))
        except (ParameterError, click.UsageError):
            pass
        except CsvError as fault:
            warn(str(fault), self._json)
        except OSError as fault:
            warn(f"the CSV has no row about this error: {system_reason(fault)}", self._json)


def _check_client(parsed: ParsedOptions) -> None:
    """Raise `ParameterError` unless the words are those of a client with a place for its CSV."""
    values = parsed.values
    if values.get("server") or values.get("listen") or not (values.get("client") or values.get("address")):
        raise ParameterError("only a client has such a row")
    check_outputs(parsed)


def _write(parsed: ParsedOptions, message: str) -> None:
    """Write the row. Raises `CsvError` or OSError."""
    from iperfpy.report.csv_columns import header
    from iperfpy.report.csv_report import CsvSink
    from iperfpy.store.folder import Folder

    about = _about(parsed)
    with opened_csv(
        parsed["csv"],
        header(),
        name="-".join(str(about[name]) for name in ("transport", "direction") if about[name]),
        folder=Folder(parsed["results"] or "").path,
        replace=parsed["csv_overwrite"],
    ) as rows:
        if rows is not None:
            CsvSink(rows, about).error(message)


def _about(parsed: ParsedOptions) -> Mapping[str, Any]:
    """The columns about the test, as far as the words tell."""
    values = parsed.values
    reverse, both = values.get("reverse"), values.get("bidir")
    host, port = host_and_device(values.get("client") or "")[0], values.get("port")
    if address := values.get("address"):
        host, _, port = address.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
    try:
        transport = parsed.transport.name
    except (ParameterError, TransportError, KeyError):
        transport = None
    return {
        "role": "client",
        "host": host,
        "port": port,
        "title": values.get("title"),
        "transport": transport,
        "direction": "bidirectional" if both else "reverse" if reverse else "forward",
        "streams": values.get("parallel"),
    }
