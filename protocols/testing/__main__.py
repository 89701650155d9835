"""Check a transport against the contract:

    python -m iperfpy.protocols.testing my_package:MyTransport --setting chunk=4096

One line is printed per check. Exit status: 0 if all hold, 1 if one fails, 2 if the arguments are wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from iperfpy.protocols.contract import Transport
from iperfpy.protocols.errors import SettingsError
from iperfpy.protocols.settings import Setting, Settings, setting_fields
from iperfpy.protocols.testing.conformance import CHECKS, Subject, name_of

_SWITCHES = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class ArgumentError(Exception):
    """An argument that cannot be used; the text is one sentence for the user."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every check over the transport that the arguments name; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m iperfpy.protocols.testing",
        description="Check a transport against the contract of iperfpy: one line per check.",
        epilog="Exit status: 0 if all checks hold, 1 if one fails, 2 if the arguments are wrong.",
    )
    parser.add_argument("transport", metavar="MODULE:CLASS", help="the transport's class, my_package:Mine")
    parser.add_argument(
        "--setting",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the transport for these checks; may be repeated",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", choices=("127.0.0.1", "::1"), help="the loopback address [127.0.0.1]"
    )
    chosen = parser.parse_args(arguments)
    try:
        transport = _transport(chosen.transport)
        subject = Subject(transport, _settings(transport, chosen.setting), host=chosen.host)
    except ArgumentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 1 if _failures(subject) else 0


def _failures(subject: Subject) -> int:
    failed = 0
    width = max(len(name_of(check)) for check in CHECKS)
    for check in CHECKS:
        try:
            check(subject)
        except AssertionError as error:
            failed += 1
            # The sentence alone: a text of several lines would hide the next check's line.
            sentence = " ".join(str(error).split()) or "an assertion without a text"
            print(f"FAILS  {name_of(check):{width}}  {sentence}", flush=True)
        else:
            print(f"holds  {name_of(check)}", flush=True)
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} checks hold", flush=True)
    return failed


def _transport(target: str) -> Transport:
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise ArgumentError(f"{target!r} is not of the form MODULE:CLASS, for example my_package:Mine")
    try:
        module = import_module(module_name)
    except Exception as error:  # any code of the plug-in may run, and fail, while it is imported
        raise ArgumentError(f"module {module_name!r} cannot be imported: {error}") from error
    found = getattr(module, name, None)
    if found is None:
        raise ArgumentError(f"module {module_name!r} has no {name!r}")
    if not (isinstance(found, type) and issubclass(found, Transport)):
        raise ArgumentError(f"{target} is not a subclass of iperfpy.protocols.contract.Transport")
    try:
        return found()
    except Exception as error:
        raise ArgumentError(f"{target} cannot be instantiated: {error}") from error


def _settings(transport: Transport, given: Sequence[str]) -> Settings:
    declared = getattr(transport, "settings", None)
    if not (isinstance(declared, type) and issubclass(declared, Settings)):
        raise ArgumentError(f"{type(transport).__name__}.settings is not a subclass of Settings")
    try:
        known = {setting.name: setting for setting in setting_fields(declared)}
    except TypeError as error:  # the type of a field cannot be a flag
        raise ArgumentError(str(error)) from error
    values: dict[str, bool | int | str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise ArgumentError(f"--setting {text} is not of the form NAME=VALUE")
        if name not in known:
            raise ArgumentError(f"no setting is named {name!r} (known: {', '.join(known) or 'none'})")
        values[name] = _value(known[name], value)
    try:
        return declared(**values)
    except SettingsError as error:
        raise ArgumentError(str(error)) from error


def _value(setting: Setting, text: str) -> bool | int | str:
    if setting.kind is bool:
        if text.lower() not in _SWITCHES:
            raise ArgumentError(f"setting {setting.name} takes true or false, not {text!r}")
        return _SWITCHES[text.lower()]
    if setting.kind is int:
        try:
            return int(text, 0)
        except ValueError:
            raise ArgumentError(f"setting {setting.name} takes an integer, not {text!r}") from None
    return text


if __name__ == "__main__":
    sys.exit(main())
