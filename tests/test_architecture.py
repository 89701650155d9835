"""The rules of the source tree: allowed imports, engines without I/O, names and sizes.

`KNOWN` lists the places that still break a rule. It only shrinks: a finding that it does not list fails, and
so does an entry that no finding has any more.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from iperfpy import errors
from iperfpy.protocols import errors as transport_errors
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.registry import transports
from tests.architecture import (
    ROOT,
    Module,
    busy_constructors,
    compared_transports,
    crowded_classes,
    findings,
    forbidden_imports,
    import_circles,
    long_files,
    long_functions,
    loop_watchers,
    misplaced_tests,
    named_transports,
    outside_imports,
    product,
    repeated_classes,
    repeated_names,
    spelt_addresses,
    standard_names,
    system_differences,
    system_randomness,
    text_decoders,
    unexpected,
    unguarded_calls,
    unmapped,
    unseeded_random,
    within,
)

pytestmark = pytest.mark.long

MODULES = product()

P = "iperfpy.protocols"
BASE = {
    f"{P}.{name}"
    for name in (
        *("contract", "addresses", "metrics", "path_evidence", "settings", "errors", "units"),
        *("annotations", "arrival_lumps", "declaration", "flight_recorder", "log_histogram"),
        *("system_reasons", "window_size"),
    )
}
SOCKET_WORK = {
    f"{P}.{name}"
    for name in (
        *("clock", "operating_system", "path_events", "socket_buffers", "socket_watch"),
        *("serving_thread", "stream_threads"),
    )
}
THREADS = {f"{P}.{name}" for name in ("serving_thread", "stream_threads")}
_RECORDS = ("plan", "options", "records", "errors", "error_numbers", "payload_file_check")
_FOR_PROGRAM = {f"{P}.{name}" for name in ("registry", "tcp_info", "threads", "whole_file")}
RECORDS = {f"iperfpy.{name}" for name in _RECORDS} | BASE | SOCKET_WORK | _FOR_PROGRAM
"""Modules that every part of the program may import; of the transports, none is among them."""
API = ("iperfpy.api", "iperfpy.argument_types", "iperfpy.measure_keywords", "iperfpy.local_server")

MAY_IMPORT: dict[str, set[str]] = {
    # the transports, from below
    **dict.fromkeys(BASE, BASE),
    P: set(),
    f"{P}.registry": BASE,
    f"{P}.operating_system": set(),
    f"{P}.whole_file": set(),
    f"{P}.tcp_info": {*BASE, f"{P}.operating_system"},
    f"{P}.threads": set(),
    f"{P}.serving_thread": {f"{P}.clock", f"{P}.threads"},
    f"{P}.stream_threads": {*BASE, f"{P}.operating_system", f"{P}.serving_thread"},
    f"{P}.clock": {f"{P}.operating_system"},
    f"{P}.socket_buffers": {f"{P}.operating_system"},
    f"{P}.path_events": {f"{P}.clock"},
    f"{P}.socket_watch": {*BASE, f"{P}.operating_system"},
    f"{P}.congestion": BASE,
    f"{P}.datagrams": {*BASE, *(SOCKET_WORK - THREADS)},
    f"{P}.tcp": {*BASE, *SOCKET_WORK, f"{P}.tcp_info"},
    f"{P}.udp": {*BASE, *SOCKET_WORK, f"{P}.datagrams"},
    f"{P}.memory_budget": set(),
    f"{P}.kcp": {
        *BASE,
        *(
            f"{P}.{name}"
            for name in (
                *("clock", "operating_system", "path_events", "memory_budget"),
                *("congestion", "datagrams"),
            )
        ),
    },
    f"{P}.quic": {*BASE, f"{P}.datagrams"},
    f"{P}.simulator": {*BASE, f"{P}.datagrams"},
    f"{P}.testing": {*BASE, *SOCKET_WORK, f"{P}.datagrams", f"{P}.kcp"},
    # the records that everything above may import
    "iperfpy.error_numbers": set(),
    "iperfpy.errors": {*BASE, "iperfpy.error_numbers"},
    "iperfpy.options": {f"{P}.units"},
    "iperfpy.plan": BASE,
    "iperfpy.payload_file_check": {"iperfpy.plan", "iperfpy.errors", "iperfpy.error_numbers"},
    "iperfpy.records": {
        *BASE,
        *(f"iperfpy.diagnosis.{name}" for name in ("bufferbloat", "evidence", "finding")),
        "iperfpy.plan",
    },
    # the program, from below
    "iperfpy.control": RECORDS,
    "iperfpy.sampling": RECORDS,
    "iperfpy.diagnosis": {*BASE, "iperfpy.plan"},
    "iperfpy.comparison": {*BASE, "iperfpy.plan", "iperfpy.sampling", "iperfpy.diagnosis"},
    "iperfpy.runtime": {*RECORDS, f"{P}.datagrams", "iperfpy.control.framing"},
    "iperfpy.traffic": {*RECORDS, "iperfpy.sampling", "iperfpy.runtime"},
    "iperfpy.endpoint": {
        *RECORDS,
        f"{P}.datagrams",
        *("iperfpy.control", "iperfpy.sampling", "iperfpy.diagnosis", "iperfpy.runtime", "iperfpy.traffic"),
    },
    "iperfpy.store": {*RECORDS, "iperfpy.sampling", "iperfpy.diagnosis"},
    "iperfpy.report": {
        *RECORDS,
        *("iperfpy.sampling", "iperfpy.diagnosis", "iperfpy.comparison", "iperfpy.store"),
    },
    **{
        name: {*RECORDS, *API, *("iperfpy.control", "iperfpy.endpoint", "iperfpy.store", "iperfpy.runtime")}
        for name in API
    },
    "iperfpy.experiments": {
        *RECORDS,
        *API,
        *("iperfpy.control", "iperfpy.store", "iperfpy.sampling", "iperfpy.diagnosis", "iperfpy.comparison"),
    },
    "iperfpy.lab": {*RECORDS, "iperfpy.runtime", f"{P}.datagrams", f"{P}.simulator"},
    "iperfpy": {
        *RECORDS,
        *API,
        *("iperfpy.control", "iperfpy.store", "iperfpy.sampling", "iperfpy.diagnosis", "iperfpy.comparison"),
        "iperfpy.experiments",
    },
    "iperfpy.__main__": {"iperfpy.cli.main"},
    "iperfpy.cli": {
        *RECORDS,
        *API,
        *("iperfpy.control", "iperfpy.sampling", "iperfpy.diagnosis", "iperfpy.comparison"),
        *("iperfpy.endpoint", "iperfpy.runtime", "iperfpy.store", "iperfpy.report"),
        *("iperfpy.experiments", "iperfpy.lab", f"{P}.simulator"),
    },
}
"""Package -> packages of this project that it may import, beside itself. The most exact entry decides.

The entries `iperfpy` and `iperfpy.protocols` are those two modules alone: a module that no other entry names
has no rule, which is a finding. Nothing but `python -m iperfpy` imports the command line.
"""

TO_COME = {f"{P}.quic"}
"""Packages without a file yet. They have a rule because the layout already fixes what they may import."""

CLOCKS_AND_SOCKETS = {
    *("asyncio", "socket", "select", "selectors", "time", "secrets", "threading", "uuid", "uvloop"),
}
"""Modules that a sans-IO engine does not import: `now_us` is an argument."""

SANS_IO = (
    *(f"{P}.kcp", f"{P}.congestion", f"{P}.simulator"),
    *("iperfpy.control", "iperfpy.sampling", "iperfpy.diagnosis", "iperfpy.comparison"),
)
BINDINGS = {
    f"{P}.kcp",
    *(f"{P}.kcp.{name}" for name in ("channel", "smux_channel", "bare_listener")),
    "iperfpy.sampling.host",
}
"""Modules of those packages with the task of joining an engine to sockets, or of asking the machine."""

NAME_TRANSPORTS = {
    "iperfpy.control.parameters",
    "iperfpy.measure_keywords",
    "iperfpy.experiments.check_schedule",
    "iperfpy.experiments.contender",
    "iperfpy.diagnosis.advice",
}
"""Modules that contain "tcp": as a key of iperf3's parameters, as the default of a test, and as one of the
transports that a diagnosis or a comparison takes; and the one that recommends a transport. CONTRIBUTING.md
names them."""
TRANSPORT_CONSTANTS = {"TCP", "KCP", "UDP"}
"""Constants of those modules that hold a name."""

NAMES_TWICE = {"channel", "settings", "errors"}
"""Module names that mean the same in every package that has one."""

CLASSES_TWICE = {"Cause"}
"""Class names with two meanings that never meet: `Cause` of a finding is part of the Python API, and that of
a retransmission stays inside KCP."""

ENTRY_POINTS = {"__main__"}

LONGEST_FILE, LONGEST_FUNCTION, MOST_ATTRIBUTES = 600, 60, 20

KNOWN: dict[str, set[str]] = {}
"""Rule -> beginnings of the findings that are not yet repaired."""


def check(rule: str, found: list[str]) -> None:
    """Fail on a finding that is not listed, and on a listed one that is gone."""
    new, gone = unexpected(found, KNOWN.get(rule, set()))
    assert not new
    assert not gone, f"no longer found, delete them from KNOWN[{rule!r}]"


def test_imports_follow_the_table() -> None:
    check("imports", findings(lambda module: forbidden_imports(module, MAY_IMPORT), MODULES))


def test_the_folder_protocols_is_imported_as_a_part_of_iperfpy() -> None:
    assert not findings(lambda module: outside_imports(module, {"protocols"}), MODULES)


def test_the_product_imports_no_test() -> None:
    assert not findings(lambda module: outside_imports(module, {"tests"}), MODULES)


def test_no_modules_import_each_other() -> None:
    check("circles", import_circles(MODULES))


def test_only_the_event_loop_imports_uvloop() -> None:
    importers = findings(lambda module: outside_imports(module, {"uvloop"}), MODULES)
    assert importers == ["iperfpy.runtime.event_loop imports uvloop"]


def test_one_module_registers_sockets_with_the_event_loop() -> None:
    """uvloop never calls a reader again after an error of its socket, which only `socket_watch` knows."""
    others = [module for module in MODULES if module.name != f"{P}.socket_watch"]
    assert len(others) == len(MODULES) - 1
    assert not findings(loop_watchers, others)


def test_one_module_knows_how_systems_differ() -> None:
    """An option's number elsewhere would be right on one system, and mean something else on another."""
    others = [module for module in MODULES if module.name != f"{P}.operating_system"]
    assert len(others) == len(MODULES) - 1
    assert not findings(system_differences, others)


def test_an_engine_has_no_clock_socket_or_randomness() -> None:
    engines = [
        module
        for module in MODULES
        if any(within(module.name, package) for package in SANS_IO) and module.name not in BINDINGS
    ]
    assert not findings(lambda module: outside_imports(module, CLOCKS_AND_SOCKETS), engines)
    readers = findings(
        lambda module: [name for name in module.imports() if within(name, f"{P}.clock")], engines
    )
    assert not readers
    assert not findings(system_randomness, engines)


def test_random_numbers_come_from_a_seed() -> None:
    assert not findings(unseeded_random, MODULES)


def test_the_program_contains_no_name_of_a_transport() -> None:
    """No branch can depend on a transport that is never named."""
    names = set(transports())
    program = [
        module for module in MODULES if not within(module.name, P) and module.name not in NAME_TRANSPORTS
    ]
    assert not findings(lambda module: named_transports(module, names), program)


def test_no_branch_of_the_program_depends_on_a_transports_name() -> None:
    """Modules that name transports choose them; nothing asks whether a test has one of them."""
    program = [module for module in MODULES if not within(module.name, P)]
    assert not findings(lambda module: compared_transports(module, TRANSPORT_CONSTANTS), program)


def test_contributing_names_the_modules_that_name_transports() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert not [name for name in NAME_TRANSPORTS if f"`{name.removeprefix('iperfpy.')}`" not in text]


def test_no_constructor_starts_anything() -> None:
    """No task, thread or callback exists before `start`, or before a context is entered."""
    check("constructors", findings(busy_constructors, MODULES))


def test_a_sentence_gets_its_address_in_one_place() -> None:
    """A dual-stack socket gives IPv4 addresses a prefix that no user knows. A client names its server by the
    user's own words."""
    own_words = {f"{P}.addresses", "iperfpy.endpoint.opening"}
    assert not findings(spelt_addresses, [module for module in MODULES if module.name not in own_words])


def test_an_error_of_a_transport_has_another_name_than_one_of_a_test() -> None:
    program, transports_own = (
        {name for name, value in vars(module).items() if isinstance(value, type) and name.endswith("Error")}
        for module in (errors, transport_errors)
    )
    assert not program & transports_own


def test_every_error_of_a_test_has_a_public_name_in_the_tree() -> None:
    """User code prints the class of an error, and catches it by the classes above."""
    tree = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.IperfpyError)
    }
    assert {"IperfpyError", *re.findall(r"[├└]── (\w+)", errors.__doc__ or "")} == tree
    private = [
        f"{module.name}.{node.name}"
        for module in MODULES
        for node in module.nodes
        if isinstance(node, ast.ClassDef)
        and node.name.startswith("_")
        and tree & {getattr(base, "id", getattr(base, "attr", "")) for base in node.bases}
    ]
    assert not private


def test_every_module_name_occurs_once() -> None:
    check("names", repeated_names(MODULES, NAMES_TWICE | ENTRY_POINTS))


def test_every_public_class_name_occurs_once() -> None:
    assert not repeated_classes(MODULES, CLASSES_TWICE)


def test_no_module_has_a_name_of_the_standard_library() -> None:
    assert not standard_names(MODULES, ENTRY_POINTS)


def test_files_and_functions_are_short() -> None:
    assert not findings(lambda module: long_files(module, LONGEST_FILE), MODULES)
    assert not findings(lambda module: long_functions(module, LONGEST_FUNCTION), MODULES)


def test_classes_have_few_attributes() -> None:
    check("attributes", crowded_classes(MODULES, MOST_ATTRIBUTES))


def test_every_rule_applies_to_an_existing_package() -> None:
    """A rule for a package that is gone would check nothing."""
    names = {module.name for module in MODULES}
    for package in {*SANS_IO, *MAY_IMPORT, *BINDINGS, *NAME_TRANSPORTS} - TO_COME:
        assert any(within(name, package) for name in names), package


def test_every_module_stands_in_a_map() -> None:
    """In the README of its folder, or of a folder above it: `file | subject`."""
    files = [
        path
        for folder in ("iperfpy", "protocols")
        for path in (ROOT / folder).rglob("*.py")
        if not path.name.startswith("__") and not any(parent.is_symlink() for parent in path.parents)
    ]
    assert len(files) > 300
    assert unmapped(files) == []
    assert unmapped([ROOT / "iperfpy" / "cli" / "no_module.py"]) == ["iperfpy/cli/no_module.py"]


def test_a_test_lies_where_its_module_does() -> None:
    """The folders of tests are those of the product, and one for the Python interface."""
    assert misplaced_tests(ROOT) == []


def test_the_map_of_the_program_names_existing_files() -> None:
    """`iperfpy/README.md` answers questions with paths below its folder."""
    folder = ROOT / "iperfpy"
    named = re.findall(r"`([a-z_/0-9]+\.py)`", (folder / "README.md").read_text())
    assert len(named) > 20
    missing = [path for path in named if not list(folder.glob(path if "/" in path else f"**/{path}"))]
    assert missing == ["tests/test_architecture.py"]


# -- each check rejects a small example


RULES = {"iperfpy": {"iperfpy.low"}, "iperfpy.low": set[str](), "iperfpy.high": {"iperfpy.low", "iperfpy", P}}

BASE_CLASS = Module("x", "class A:\n    a: int | None = None")

BAD: list[tuple[Callable[[Module], list[str]], str, str]] = [
    (lambda m: forbidden_imports(m, RULES), "iperfpy.low.x", "from iperfpy.high import y"),
    (lambda m: forbidden_imports(m, RULES), "iperfpy.low.x", "def f():\n    import iperfpy.high"),
    (lambda m: forbidden_imports(m, RULES), "iperfpy.new", ""),
    (lambda m: forbidden_imports(m, RULES), "iperfpy.protocols.new", ""),
    (lambda m: forbidden_imports(m, RULES), "iperfpy.high.x", "from iperfpy.protocols.kcp import y"),
    (lambda m: forbidden_imports(m, MAY_IMPORT), "iperfpy.new.x", ""),
    (lambda m: forbidden_imports(m, MAY_IMPORT), "iperfpy", "from iperfpy.cli.main import main"),
    (lambda m: forbidden_imports(m, MAY_IMPORT), f"{P}.new", f"import {P}.kcp.engine"),
    *(
        (lambda m: forbidden_imports(m, MAY_IMPORT), "iperfpy.experiments.x", f"from iperfpy.{name} import y")
        for name in ("report", "endpoint", "cli", "protocols.kcp")
    ),
    *(
        (lambda m: forbidden_imports(m, MAY_IMPORT), f"iperfpy.{name}.x", f"from {P}.kcp.engine import y")
        for name in ("diagnosis", "report", "endpoint", "runtime", "cli", "lab", "store")
    ),
    (lambda m: outside_imports(m, {"protocols"}), "x", "from protocols.kcp import Kcp"),
    (lambda m: outside_imports(m, CLOCKS_AND_SOCKETS), "x", "def f():\n    import time"),
    (lambda m: import_circles([m, Module("b", "import a")]), "a", "from b import c"),
    (lambda m: repeated_names([m, Module("a.wire", "")], ()), "b.wire", ""),
    (lambda m: repeated_classes([m, Module("b", "class A: pass")], ()), "a", "class A: pass"),
    (lambda m: standard_names([m], ()), "iperfpy.report.json", ""),
    (lambda m: long_files(m, 2), "x", "a = 1\nb = 2\nc = 3"),
    (lambda m: long_functions(m, 2), "x", "def f():\n    a = 1\n    return a"),
    (lambda m: crowded_classes([m], 1), "x", "class A:\n    def f(self):\n        self.a, self.b = 1, 2"),
    (lambda m: crowded_classes([m], 1), "x", "@dataclass(slots=True)\nclass A:\n    a: int\n    b: int = 0"),
    (lambda m: crowded_classes([m, BASE_CLASS], 1), "x", "class B(A):\n    def f(self):\n        self.b = 2"),
    (
        lambda m: crowded_classes([m, BASE_CLASS], 1),
        "y",
        "from x import A\nclass B(A[int]):\n    def f(self):\n        self.b = 2",
    ),
    (busy_constructors, "x", "class A:\n    def __init__(self):\n        loop.create_task(f())"),
    (busy_constructors, "x", "class A:\n    def __init__(self):\n        self.t = Thread(target=f)"),
    (
        busy_constructors,
        "x",
        "class A:\n def __init__(self):\n  self.go()\n def go(self):\n  loop.add_reader(0, f)",
    ),
    (
        busy_constructors,
        "x",
        "class A:\n def __init__(self):\n  go()\ndef go():\n more()\ndef more():\n loop.create_task(f())",
    ),
    (
        busy_constructors,
        "x",
        "class A:\n def __init__(self):\n  self.b = B(self)\nclass B:\n def __init__(self, a):\n  Thread(a)",
    ),
    (
        busy_constructors,
        "x",
        "class A:\n def __init__(self):\n  def g():\n   self.h()\n  g()\n def h(self):\n  loop.call_soon(f)",
    ),
    (loop_watchers, "x", "loop.add_reader(3, f)"),
    (loop_watchers, "x", "class A:\n    def f(self):\n        watch = self.loop.add_writer"),
    (spelt_addresses, "x", "f'no answer of {a[0]} port {a[1]}'"),
    (system_differences, "x", "if sys.platform.startswith('linux'): pass"),
    (system_differences, "x", "os.kill(number, 0)"),
    (system_differences, "x", "UDP_GRO = 104"),
    (system_differences, "x", "IP_MTU_DISCOVER, PMTUDISC_DO = 10, 2"),
    (system_differences, "x", "sock.setsockopt(socket.IPPROTO_IP, 8, 1)"),
    (system_differences, "x", "sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)"),
    (system_differences, "x", "flag = getattr(socket, 'MSG_DONTWAIT', 0)"),
    (system_differences, "x", "size, ancillary, _, _ = sock.recvmsg_into(into, 128)"),
    (unseeded_random, "x", "import random\nrandom.random()"),
    (unseeded_random, "x", "import random\nrandom.Random()"),
    (unseeded_random, "x", "from random import choice"),
    (unseeded_random, "x", "import numpy as np\nnp.random.random()"),
    (unseeded_random, "x", "import numpy as np\nrng = np.random.default_rng()"),
    (unseeded_random, "x", "import numpy as np\nnp.random.SeedSequence(None)"),
    (unseeded_random, "x", "from numpy.random import default_rng"),
    (system_randomness, "x", "import os\nkey = os.urandom(8)"),
    (system_randomness, "x", "import os as system\nsource = system.urandom"),
    (system_randomness, "x", "from os import urandom"),
    (lambda m: named_transports(m, {"kcp"}), "x", "if name == 'kcp': pass"),
    (lambda m: compared_transports(m, {"KCP"}), "x", "if schedule.KCP not in names: pass"),
    (lambda m: compared_transports(m, {"KCP"}), "x", "if (KCP, way) in blocked: pass"),
    (lambda m: unguarded_calls(m, {"check"}), "x", "ask = self._test.transport.check"),
]

GOOD: list[tuple[Callable[[Module], list[str]], str, str]] = [
    (lambda m: forbidden_imports(m, RULES), "iperfpy.high.x", "from iperfpy.low import y"),
    (lambda m: import_circles([m, Module("b", "import a")]), "a", "def f():\n    import b"),
    (
        lambda m: import_circles([m, Module("b", "import a")]),
        "a",
        "if TYPE_CHECKING:\n    import b",
    ),
    (
        lambda m: repeated_names([m, Module("iperfpy.experiments.mesh", "")], ()),
        "iperfpy.cli.commands.mesh",
        "",
    ),
    (lambda m: repeated_classes([m, Module("b", "class _A: pass")], ()), "a", "class _A: pass"),
    (busy_constructors, "x", "class A:\n    def __init__(self):\n        self.f = lambda: create_task(1)"),
    (spelt_addresses, "x", "f'no answer of {named(a)}, port {number} of the list'"),
    (lambda m: crowded_classes([m], 1), "x", "@dataclass(frozen=True)\nclass A:\n    a: int\n    b: int"),
    (lambda m: crowded_classes([m], 1), "x", "class A(TypedDict):\n    a: int\n    b: int"),
    (lambda m: crowded_classes([m], 1), "x", "class A:\n    a: int\n    b: ClassVar[int] = 0"),
    (unseeded_random, "x", "import random\nrandom.Random(7).random()"),
    (unseeded_random, "x", "import numpy as np\ndef f(rng: np.random.Generator): np.random.default_rng(7)"),
    (
        lambda m: unguarded_calls(m, {"check"}),
        "x",
        "with guarding(name):\n    transport.check()\nlimit.check()",
    ),
    (system_differences, "x", "from y import UDP_GRO\nsock.setsockopt(SOL_UDP, UDP_GRO, 1)"),
    (system_differences, "x", "sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)"),
]


def test_a_misplaced_test_is_found(tmp_path: Path) -> None:
    files = (
        *("iperfpy/a/one.py", "tests/iperfpy/a/test_one.py", "tests/iperfpy/api/test_anything.py"),
        *("tests/iperfpy/test_one.py", "tests/iperfpy/b/test_two.py"),
    )
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert misplaced_tests(tmp_path) == ["tests/iperfpy/b/test_two.py", "tests/iperfpy/test_one.py"]


@pytest.mark.parametrize(("rule", "name", "text"), BAD)
def test_a_check_rejects_its_example(rule: Callable[[Module], list[str]], name: str, text: str) -> None:
    assert rule(Module(name, text))


@pytest.mark.parametrize(("rule", "name", "text"), GOOD)
def test_a_check_accepts_its_example(rule: Callable[[Module], list[str]], name: str, text: str) -> None:
    assert not rule(Module(name, text))


def test_a_listed_finding_that_is_no_longer_found_is_reported() -> None:
    assert unexpected(["a.B: 21 attributes"], {"a.B", "a.C"}) == ([], ["a.C"])
    assert unexpected(["a.B: 21 attributes"], set()) == (["a.B: 21 attributes"], [])


# -- start-up


def loaded_after(arguments: list[str]) -> set[str]:
    """Return the modules in a fresh interpreter after the program ran with these arguments."""
    script = (
        f"import sys; from iperfpy.cli.main import main; main({arguments!r}); "
        "sys.stderr.write(' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout
    return set(done.stderr.split())


@pytest.mark.parametrize("argument", ["--help", "-h", "--version", "-v"])
def test_help_and_version_load_no_slow_module(argument: str) -> None:
    heavy = {
        *("numpy", "rich", "asyncio", "uvloop", "plotext", "youplot", "matplotlib"),
        *(f"{P}.kcp.engine", f"{P}.datagrams.datagram_socket"),
    }
    assert not loaded_after([argument]) & heavy


DRAW = {"plotext", "youplot", "matplotlib"}
"""Libraries that draw. Each is imported by a function that a flag calls."""


def test_a_library_that_draws_is_imported_when_its_flag_is_used() -> None:
    """`import matplotlib` takes longer than a short test."""
    early = [
        f"{module.name} imports {name}"
        for module in MODULES
        for name in module.imports(at_start=True)
        if name.partition(".")[0] in DRAW
    ]
    assert not early
    assert findings(lambda module: outside_imports(module, DRAW), MODULES) == [
        "iperfpy.report.pictures.html_page imports youplot",
        "iperfpy.report.pictures.png_page imports matplotlib",
        "iperfpy.report.pictures.terminal_plot imports plotext",
    ]


@pytest.mark.parametrize("argument", ["--version", "-v"])
def test_the_version_is_printed_without_loading_the_flags(argument: str) -> None:
    assert not loaded_after([argument]) & {
        *("click", "iperfpy.cli.command_line", "iperfpy.plan", f"{P}.registry"),
    }


def test_every_transport_is_registered_under_its_own_name() -> None:
    for name, transport in transports().items():
        assert transport.name == name
        keys = [metric.key for metric in transport.metrics]
        assert len(keys) == len(set(keys))


FACE_THE_PEER = ("iperfpy.control", "iperfpy.endpoint", "iperfpy.traffic", "iperfpy.runtime")


def test_every_call_of_a_transport_in_a_test_is_guarded() -> None:
    """The three exceptions are guarded by their callers, which name the stream."""
    methods = {name for name, member in vars(Transport).items() if callable(member) and name[0] != "_"}
    calling = [each for each in MODULES if any(within(each.name, folder) for folder in FACE_THE_PEER)]
    calling += [each for each in MODULES if each.name == "iperfpy.measure_keywords"]
    assert sorted(findings(lambda module: unguarded_calls(module, methods), calling)) == [
        "iperfpy.endpoint.lone_test calls accept",
        "iperfpy.traffic.payload calls block_bytes",
        "iperfpy.traffic.payload calls payload",
    ]


def test_a_peers_bytes_become_text_in_one_module() -> None:
    """Text that goes round `peer_text` is not cleaned. A password's token is compared, and never shown."""
    facing = [each for each in MODULES if any(within(each.name, folder) for folder in FACE_THE_PEER)]
    assert findings(text_decoders, facing) == [
        "iperfpy.control.authentication calls decode",
        "iperfpy.control.peer_text calls decode",
        "iperfpy.control.peer_text calls loads",
    ]
