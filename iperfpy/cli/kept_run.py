"""Keeps the result of a command in the folder of runs, and says where. Every subcommand saves through `keep`.

A result that cannot be saved gives a sentence. That is a failure if the user asked with --save, and none
of a command that saves without being asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from iperfpy.cli.exit_status import on_stderr, warn
from iperfpy.errors import DocumentError, StartError
from iperfpy.store.direction_figures import about_test
from iperfpy.store.folder import Folder
from iperfpy.store.iperf3_document import Iperf3Document
from iperfpy.store.run_index import About


class KeptTest(Iperf3Document):
    """A sink that builds the document of a test and writes nothing; `keep_test` saves it."""

    def close(self) -> None:
        """The document is complete."""


def keep_test(document: Mapping[str, Any], *, folder: str = "", json: str = "") -> bool:
    """Save a test, unless it failed before its data flowed; arguments as in `keep`.

    True if nothing was lost."""
    if "test_start" not in document["start"]:
        return True
    try:
        about = about_test(document)
    except DocumentError as error:  # a value of a plug-in, or of a peer, that no reader understands
        warn(f"the run is not saved: {error}", json)
        return False
    return keep(document, about, folder=folder, json=json)


def keep(document: Mapping[str, Any], about: About, *, folder: str = "", json: str = "") -> bool:
    """Save a result, and name its file on standard error, or the reason why it is not saved. True if it is
    saved.

    Parameters
    ----------
    document : of the command's -J; JSON values
    about : facts for the index
    folder : the user's choice, or empty
    json : the JSON form of the command's output, or empty
    """
    target = Folder(folder)
    try:
        entry = target.save(document, about)
    except OSError as error:
        # Not `system_reason`: it would name the temporary file.
        warn(f"the run is not saved in {target.path}: {error.strerror or error}", json)
    except ValueError as error:  # a value that JSON cannot hold is a fault of this program
        warn(f"the run is not saved: {error}", json)
    else:
        on_stderr("saved", str(target.document_path(entry)), json)
        return True
    return False


def check_place(folder: str) -> None:
    """Raise `StartError` if no run can be saved in the user's folder."""
    target = Folder(folder)
    try:
        target.check()
    except OSError as error:
        raise StartError(
            f"no run can be saved in {target.path}: {error.strerror or error} (--save)"
        ) from error
