"""The process of one harness: atheris calls it with inputs that reach new code.

python -m tests.studies.fuzz.one NAME [options of libFuzzer] CORPUS...
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["iperfpy"]):
    from tests.studies.fuzz.harnesses import HARNESSES


def main(arguments: list[str]) -> None:
    """Fuzz until the options say stop, or the harness raises: then the process ends with a status above 0."""
    name, *options = arguments
    atheris.Setup([name, *options], HARNESSES[name].run, enable_python_coverage=True)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
