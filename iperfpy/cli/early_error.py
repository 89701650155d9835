"""The report about a client or a server that failed before its reports were open.

    ParsedOptions --> sentence on standard error, `error` of the JSON form, row of the type `error` in the CSV

Options that leave the CSV no file of its own make no row, and neither do those of a server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from iperfpy.cli.exit_status import JSON_DOCUMENT, complain, json_form, text_form, warn
from iperfpy.cli.named_files import check_options
from iperfpy.cli.parsed_options import ParsedOptions
from iperfpy.cli.value_types import host_and_device
from iperfpy.errors import ParameterError, system_reason
from iperfpy.plan import Texts
from iperfpy.protocols.errors import TransportError
from iperfpy.report.csv_file import CsvError, opened_csv


def report_early(error: Exception, words: Sequence[str], parsed: ParsedOptions, kind: str = "error") -> int:
    """Report the error in every form that the words ask for. `parsed`: the options that they set, with an
    error among them or not. Returns the exit status."""
    values = parsed.values
    json = json_form(words) or (JSON_DOCUMENT if values["json"] else "")
    texts = Texts(values["title"] or "", values["extra_data"] or "")
    status = complain(str(error), json, kind, texts, text_form(words))
    if values["csv"] is not None and not isinstance(error, CsvError) and _has_row(parsed):
        try:
            _write_row(parsed, str(error))
        except CsvError as fault:
            warn(str(fault), json)
        except OSError as fault:
            warn(f"the CSV has no row about this error: {system_reason(fault)}", json)
    return status


def _has_row(parsed: ParsedOptions) -> bool:
    """True if the options are those of a client with a place for its CSV."""
    values = parsed.values
    address = values.get("address") or ""
    if address.startswith("-"):
        address = ""  # an unknown option in its place
    if values.get("server") or values.get("listen") or not (values.get("client") or address):
        return False
    try:
        check_options(parsed.command.params, values)
    except ParameterError:
        return False
    return True


def _write_row(parsed: ParsedOptions, message: str) -> None:
    """Write the row. Raises `CsvError` or OSError."""
    from iperfpy.report.csv_columns import header
    from iperfpy.report.csv_report import CsvSink
    from iperfpy.store.folder import Folder

    about, values = _about(parsed), parsed.values
    with opened_csv(
        values["csv"],
        header(),
        name="-".join(str(about[name]) for name in ("transport", "direction") if about[name]),
        folder=Folder(values["results"] or "").path,
        replace=values["csv_overwrite"],
    ) as rows:
        if rows is not None:
            CsvSink(rows, about).error(message)


def _about(parsed: ParsedOptions) -> Mapping[str, Any]:
    """The columns about the test, as far as the words tell."""
    values = parsed.values
    reverse, both = values.get("reverse"), values.get("bidir")
    host, port = host_and_device(values.get("client") or "")[0], values.get("port")
    if address := values.get("address"):
        # An address without a port may be the error: a colon in brackets, or one of several, begins none.
        host, colon, port = address.rpartition(":")
        if not colon or (":" in host and not host.endswith("]")):
            host, port = address, None
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
