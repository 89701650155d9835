"""The process of one harness: atheris calls it with inputs that reach new code.

python -m tests.studies.fuzz.one NAME COUNTER MOST [options of libFuzzer] CORPUS...

COUNTER is a file that gets the number of datagrams taken so far, u64 little endian: libFuzzer ends the
process without a word to Python. After MOST datagrams it is asked to end; 0 is no limit.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["iperfpy"]):
    from tests.studies.fuzz.harnesses import HARNESSES, Taken

COUNT = struct.Struct("<Q")


def counting(run: Callable[[bytes], None], counter: Path, most: int) -> Callable[[bytes], None]:
    """`run`, with the datagrams taken so far in a file after each input, and the end after `most` of them."""
    counter.write_bytes(bytes(COUNT.size))
    with counter.open("r+b") as file:
        count = mmap.mmap(file.fileno(), COUNT.size)

    def counted(data: bytes) -> None:
        run(data)
        COUNT.pack_into(count, 0, Taken.datagrams)
        if 0 < most <= Taken.datagrams:
            os.kill(os.getpid(), signal.SIGUSR1)  # libFuzzer then ends as after its last input

    return counted


def main(arguments: list[str]) -> None:
    """Fuzz until the options say stop, or the harness raises: then the process ends with a status above 0."""
    name, counter, most, *options = arguments
    harness = HARNESSES[name]
    run = counting(harness.run, Path(counter), int(most)) if harness.takes_datagrams else harness.run
    atheris.Setup([name, *options], run, enable_python_coverage=True)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
