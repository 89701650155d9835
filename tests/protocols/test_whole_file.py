"""Files that a user names are read whole, or refused: nothing without an end, nothing that waits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from iperfpy.protocols.whole_file import read_whole


def test_a_regular_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"12345")
    assert read_whole(path, 5) == b"12345"
    with pytest.raises(OSError, match="it is longer than 4 bytes"):
        read_whole(path, 4)


@pytest.mark.linux
def test_a_device_or_a_named_pipe_is_refused(tmp_path: Path) -> None:
    """A read of the pipe would wait for a writer."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, "/dev/zero", "/dev/full", tmp_path):
        for descriptors in (False, True):
            with pytest.raises(OSError, match="it is not a regular file"):
                read_whole(path, 100, descriptors=descriptors)


@pytest.mark.parametrize("folder", ["/dev/fd", "/proc/self/fd"])
def test_a_descriptor_of_this_process_may_be_a_pipe(folder: str) -> None:
    """A shell's process substitution is one."""
    if not os.path.exists(folder):
        pytest.skip(f"no {folder}")
    reading, writing = os.pipe()
    try:
        os.write(writing, b"12345")
        os.close(writing)
        with pytest.raises(OSError, match="it is not a regular file"):
            read_whole(f"{folder}/{reading}", 5)
        assert read_whole(f"{folder}/{reading}", 5, descriptors=True) == b"12345"
    finally:
        os.close(reading)


def test_a_descriptor_without_an_end_is_read_up_to_the_limit() -> None:
    zero = os.open("/dev/zero", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="it is longer than 100 bytes"):
            read_whole(f"/dev/fd/{zero}", 100, descriptors=True)
    finally:
        os.close(zero)
