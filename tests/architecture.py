"""Checks of the source tree that no single file can make: functions from parsed modules to findings.

`test_architecture.py` has the rules and applies these to the product; each is also tried there on a small
example that it must reject.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

STARTERS = {
    *("create_task", "ensure_future", "run_in_executor", "start", "Thread"),
    *("call_soon", "call_soon_threadsafe", "call_later", "call_at"),
    *("add_reader", "add_writer", "add_signal_handler", "add_done_callback"),
}
"""Calls that set something going: a constructor makes none of them."""


@dataclass(frozen=True)
class Module:
    """One parsed source file."""

    name: str
    text: str
    is_package: bool = False

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed text."""
        return ast.parse(self.text, filename=self.name)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of the tree: a dozen checks go through them."""
        return tuple(ast.walk(self.tree))

    @property
    def base(self) -> str:
        """The last part of the name."""
        return self.name.rpartition(".")[2]

    def imports(self, *, at_start: bool = False) -> set[str]:
        """Imported names; `from a import b` is `a.b`. `at_start`: only those that run with the module's own
        import, not the ones in functions or for the type checker."""
        nodes = _run_at_import(self.tree) if at_start else self.nodes
        found: set[str] = set()
        for node in nodes:
            if isinstance(node, ast.Import):
                found |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name}: imports are absolute"
                found |= {f"{node.module}.{name.name}" for name in node.names}
        return found

    @cached_property
    def imported(self) -> dict[str, str]:
        """Local name -> full name of what the module imports."""
        names: dict[str, str] = {}
        for node in self.nodes:
            if isinstance(node, ast.ImportFrom):
                names |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
            elif isinstance(node, ast.Import):
                names |= {one.asname: one.name for one in node.names if one.asname}
        return names

    def full_name(self, node: ast.AST) -> str:
        """`numpy.random.default_rng` for `np.random.default_rng`; empty if it is no dotted name."""
        if isinstance(node, ast.Attribute):
            before = self.full_name(node.value)
            return before and f"{before}.{node.attr}"
        return self.imported.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def product() -> list[Module]:
    """Every module of the product. The folder `protocols` is imported as `iperfpy.protocols`."""
    found = []
    for folder, parent in (("iperfpy", ""), ("protocols", "iperfpy.")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if any(each.is_symlink() for each in path.parents):
                continue
            parts = path.relative_to(ROOT).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            name = parent + ".".join(parts[:-1] if is_package else parts)
            found.append(Module(name, path.read_text(), is_package))
    return found


def within(name: str, package: str) -> bool:
    """True if `name` is the package or something inside it."""
    return name == package or name.startswith(package + ".")


def unmapped(files: Iterable[Path]) -> list[str]:
    """Modules that no README names: neither that of their folder nor one of a folder above it."""
    found = []
    for file in files:
        folders = [folder for folder in file.parents if folder != ROOT and folder.is_relative_to(ROOT)]
        pages = [folder / "README.md" for folder in folders]
        name = re.compile(rf"(?<!\w){re.escape(file.name)}\b")
        if not any(page.exists() and name.search(page.read_text()) for page in pages):
            found.append(str(file.relative_to(ROOT)))
    return found


def misplaced_tests(root: Path) -> list[str]:
    """Files of tests in a folder that the product does not have, or with the name of a module of another
    folder."""
    places: dict[str, set[Path]] = {}
    for folder in ("iperfpy", "protocols"):
        for file in (root / folder).rglob("*.py"):
            places.setdefault(file.stem, set()).add(file.parent.relative_to(root))
    folders = {place for each in places.values() for place in each}
    found = []
    for folder in ("iperfpy", "protocols"):
        for file in (root / "tests" / folder).rglob("test_*.py"):
            place = file.parent.relative_to(root / "tests")
            own = places.get(file.stem.removeprefix("test_"), {place})
            if place not in own or place not in folders | {Path("iperfpy/api")}:
                found.append(str(file.relative_to(root)))
    return sorted(found)


ROOTS = ("iperfpy", "iperfpy.protocols")
"""Packages that hold every layer: in a rule about imports each means its own module alone."""


def _covers(entry: str, name: str) -> bool:
    """True if an entry of the table of imports speaks of this module, or of this name in a module."""
    return name == entry if entry in ROOTS else within(name, entry)


def _run_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (*FUNCTIONS, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from _run_at_import(node)


# -- imports


def forbidden_imports(module: Module, rules: Mapping[str, Collection[str]]) -> list[str]:
    """Imports from this project that the rule for the module's package does not allow.

    The most exact package that the table names decides; a package may always import itself. An entry of
    `ROOTS` does not speak of the modules inside.
    """
    packages = [package for package in rules if _covers(package, module.name)]
    if not packages:
        return [f"{module.name}: no rule says what it may import"]
    package = max(packages, key=len)
    allowed = {*rules[package], package, "iperfpy.__version__"}
    names = sorted(name for name in module.imports() if within(name, "iperfpy"))
    return [
        f"{module.name} imports {name}" for name in names if not any(_covers(one, name) for one in allowed)
    ]


def import_circles(modules: Iterable[Module]) -> list[str]:
    """Groups of modules that import each other while they are imported."""
    known = {module.name: module for module in modules}
    graph = {name: _imported_modules(module, known) for name, module in known.items()}
    # A module that imports none of the remaining ones, or that none of them imports, is in no circle.
    left = set(graph)
    while outside := {name for name in left if not graph[name] & left}:
        left -= outside
    while outside := {name for name in left if not any(name in graph[other] for other in left)}:
        left -= outside
    return [" <-> ".join(sorted(left))] if left else []


def _imported_modules(module: Module, known: Collection[str]) -> set[str]:
    found = set()
    for name in module.imports(at_start=True):
        target = name if name in known else name.rpartition(".")[0]
        if target in known and target != module.name:
            found.add(target)
    return found


def outside_imports(module: Module, names: Collection[str]) -> list[str]:
    """Imports of modules that are not of this project, among `names`."""
    found = {name.partition(".")[0] for name in module.imports()} & set(names)
    return [f"{module.name} imports {name}" for name in sorted(found)]


# -- names and sizes


def repeated_names(modules: Iterable[Module], allowed: Collection[str]) -> list[str]:
    """Module names that occur twice, except packages, `allowed`, and a command beside its experiment."""
    places = defaultdict(list)
    for module in modules:
        if not module.is_package:
            places[module.base].append(module.name)
    commands, experiments = "iperfpy.cli.commands.", "iperfpy.experiments."
    return [
        f"{base}: {', '.join(names)}"
        for base, names in sorted(places.items())
        if len(names) > 1
        and base not in allowed
        and {name.removesuffix(base) for name in names} != {commands, experiments}
    ]


def repeated_classes(modules: Iterable[Module], allowed: Collection[str]) -> list[str]:
    """Names of public classes that two modules define, except `allowed`."""
    places = defaultdict(list)
    for module in modules:
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module.name)
    return [
        f"{name}: {', '.join(names)}"
        for name, names in sorted(places.items())
        if len(names) > 1 and name not in allowed
    ]


def standard_names(modules: Iterable[Module], allowed: Collection[str]) -> list[str]:
    """Modules with the name of one of the standard library."""
    standard = set(sys.stdlib_module_names) - set(allowed)
    return [module.name for module in modules if module.base in standard]


def long_files(module: Module, most: int) -> list[str]:
    """The module, if it has more lines."""
    lines = len(module.text.splitlines())
    return [f"{module.name}: {lines} lines"] if lines > most else []


def long_functions(module: Module, most: int) -> list[str]:
    """Functions with more lines."""
    return [
        f"{module.name}.{node.name}: {length} lines"
        for node in module.nodes
        if isinstance(node, FUNCTIONS) and (length := (node.end_lineno or 0) - node.lineno + 1) > most
    ]


def crowded_classes(modules: Iterable[Module], most: int) -> list[str]:
    """Classes whose instances have more attributes, inherited ones included.

    Records are left out: a frozen dataclass, a NamedTuple and a TypedDict have one field per figure or
    setting, and nothing changes them.
    """
    classes = {
        f"{module.name}.{node.name}": (module, node)
        for module in modules
        for node in module.nodes
        if isinstance(node, ast.ClassDef)
    }
    crowded = []
    for name, (module, node) in classes.items():
        family = list(_family(module, node, classes))
        count = len({attribute for one in family for attribute in _attributes(one)})
        if count > most and not _is_frozen(node) and not any(_is_record(one) for one in family):
            crowded.append(f"{name}: {count} attributes")
    return crowded


def _family(
    module: Module, node: ast.ClassDef, classes: Mapping[str, tuple[Module, ast.ClassDef]]
) -> Iterator[ast.ClassDef]:
    """A class and the classes among `classes` that it inherits from."""
    yield node
    for base in _base_names(node):
        first, dot, rest = base.partition(".")
        found = classes.get(module.imported.get(first, f"{module.name}.{first}") + dot + rest)
        if found is not None:
            yield from _family(*found, classes)


def _base_names(node: ast.ClassDef) -> list[str]:
    return [ast.unparse(base.value if isinstance(base, ast.Subscript) else base) for base in node.bases]


def _is_frozen(node: ast.ClassDef) -> bool:
    """True for a dataclass with `frozen=True`: each class of such a family says so itself."""
    return any(
        isinstance(one, ast.Call)
        and ast.unparse(one.func) == "dataclass"
        and "frozen=True" in ast.unparse(one)
        for one in node.decorator_list
    )


def _is_record(node: ast.ClassDef) -> bool:
    return bool({"NamedTuple", "TypedDict"} & set(_base_names(node)))


def _attributes(node: ast.ClassDef) -> set[str]:
    """Attributes of `self` that the class assigns, and those that its body declares: fields of a dataclass,
    and attributes with a default."""
    assigned = {
        each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute)
        and isinstance(each.ctx, ast.Store)
        and isinstance(each.value, ast.Name)
        and each.value.id == "self"
    }
    return assigned | {
        each.target.id
        for each in node.body
        if isinstance(each, ast.AnnAssign)
        and isinstance(each.target, ast.Name)
        and not ast.unparse(each.annotation).startswith("ClassVar")
    }


# -- constructors


def busy_constructors(module: Module) -> list[str]:
    """Constructors that start something, themselves or in what they call: methods of their class, functions
    and classes of the same module."""
    busy = []
    for node in module.nodes:
        if isinstance(node, ast.ClassDef):
            started = sorted(_started_by(module, node))
            busy += [f"{module.name}.{node.name}: {name}" for name in started]
    return busy


CONSTRUCTORS = ("__init__", "__post_init__", "__new__")


def _started_by(module: Module, node: ast.ClassDef) -> set[str]:
    """Starters that run when an object of the class is made. Each function is looked at once."""
    functions = {each.name: each for each in module.tree.body if isinstance(each, FUNCTIONS)}
    classes = {each.name: each for each in module.tree.body if isinstance(each, ast.ClassDef)}
    seen: set[ast.AST] = set()
    started: set[str] = set()
    ahead: list[tuple[ast.AST, Mapping[str, ast.AST]]] = []

    def construct(one: ast.ClassDef) -> None:
        methods = {each.name: each for each in one.body if isinstance(each, FUNCTIONS)}
        ahead.extend((methods[name], methods) for name in CONSTRUCTORS if name in methods)

    construct(node)
    while ahead:
        function, methods = ahead.pop()
        if function in seen:
            continue
        seen.add(function)
        inner = {each.name: each for each in ast.walk(function) if isinstance(each, FUNCTIONS)}
        for call in _calls(function):
            called = call.func
            if isinstance(called, ast.Attribute):
                started |= {called.attr} & STARTERS
                if ast.unparse(called.value) in ("self", "cls", node.name) and called.attr in methods:
                    ahead.append((methods[called.attr], methods))
            elif isinstance(called, ast.Name):
                started |= {called.id} & STARTERS
                if (target := inner.get(called.id) or functions.get(called.id)) is not None:
                    ahead.append((target, methods if called.id in inner else {}))
                elif called.id in classes:
                    construct(classes[called.id])
    return started


def _calls(function: ast.AST) -> Iterator[ast.Call]:
    """Calls that run when the function runs; not those in functions that it defines."""
    for node in ast.iter_child_nodes(function):
        if isinstance(node, (*FUNCTIONS, ast.Lambda)):
            continue
        if isinstance(node, ast.Call):
            yield node
        yield from _calls(node)


# -- sockets on the event loop


def loop_watchers(module: Module) -> list[str]:
    """Uses of the event loop's own callbacks for a descriptor."""
    names = {"add_reader", "add_writer", "remove_reader", "remove_writer"}
    return [
        f"{module.name}:{node.lineno}: {node.attr}"
        for node in module.nodes
        if isinstance(node, ast.Attribute) and node.attr in names
    ]


# -- systems

SYSTEM_QUESTIONS = {("sys", "platform"), ("os", "name"), ("platform", "system"), ("os", "kill")}
SYSTEM_OPTION = re.compile(r"_?(?!.*_(HEADERS|BYTES)$)(IP|IPV6|SO|SOL|TCP|UDP|MSG|PMTUDISC)_[A-Z0-9_]+")
SYSTEM_CALLS = {"recvmsg", "recvmsg_into", "sendmsg"}
EVERYWHERE = {"TCP_NODELAY", "TCP_MAXSEG", "IP_TOS", "MSG_PEEK", "SOL_SOCKET"} | {
    *("SO_SNDBUF", "SO_RCVBUF", "SO_ERROR", "SO_LINGER", "SO_KEEPALIVE"),
    *("IPV6_V6ONLY", "IPV6_TCLASS"),
}
"""Names of socket options that `socket` has, with one meaning, on every system that the program runs on."""


def system_differences(module: Module) -> list[str]:
    """Places that depend on the system: questions for its name, numbers of its headers, names and methods
    that `socket` has on some systems only."""
    found: list[tuple[int, str]] = []
    for node in module.nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            is_option = node.value.id == "socket" and SYSTEM_OPTION.fullmatch(node.attr)
            if (node.value.id, node.attr) in SYSTEM_QUESTIONS or (is_option and node.attr not in EVERYWHERE):
                found.append((node.lineno, f"{node.value.id}.{node.attr}"))
        if isinstance(node, ast.Attribute) and node.attr in SYSTEM_CALLS:
            found.append((node.lineno, node.attr))
        if (
            isinstance(node, ast.Name)
            and isinstance(node.ctx, ast.Store)
            and SYSTEM_OPTION.fullmatch(node.id)
        ):
            found.append((node.lineno, f"{node.id} ="))
        if isinstance(node, ast.Call) and _asks_socket(node):
            found.append((node.lineno, f"{ast.unparse(node)}"))
    return [f"{module.name}:{line}: {text}" for line, text in found]


def _asks_socket(call: ast.Call) -> bool:
    """True for `hasattr(socket, ...)`, `getattr(socket, ...)`, and an option given as a number."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ("hasattr", "getattr"):
        return ast.unparse(call.args[0]) in ("socket", "socket.socket")
    numbers = [arg for arg in call.args[:2] if isinstance(arg, ast.Constant)]
    return name in ("setsockopt", "getsockopt") and bool(numbers)


# -- random numbers, transports


SEEDED = {"random.Random", "numpy.random.SeedSequence", "numpy.random.default_rng"}
"""Sources of random numbers that repeat a run, if they are called with a seed."""
GENERATOR = "numpy.random.Generator"


def unseeded_random(module: Module) -> list[str]:
    """Uses of `random` and `numpy.random` other than `SEEDED` with a seed: a simulated run must be
    repeatable."""
    if any(name.startswith(("random.", "numpy.random.")) for name in module.imports()):
        return [f"{module.name}: imports from random"]
    called: dict[ast.AST, ast.Call] = {node.func: node for node in module.nodes if isinstance(node, ast.Call)}
    found = []
    for node in module.nodes:
        if not isinstance(node, ast.Attribute):
            continue
        source = module.full_name(node)
        if source.startswith(("random.", "numpy.random.")) and source != GENERATOR:
            seeds = called[node].args if node in called else [node]
            if source not in SEEDED or not seeds or ast.unparse(seeds[0]) == "None":
                found.append(f"{module.name}:{node.lineno}: {source}")
    return found


def system_randomness(module: Module) -> list[str]:
    """Uses of the system's random numbers, which an engine takes from its caller."""
    sources = {"os.urandom", "os.getrandom"}
    used = {module.full_name(node) for node in module.nodes if isinstance(node, ast.Attribute)}
    return [f"{module.name} uses {name}" for name in sorted((used | module.imports()) & sources)]


def named_transports(module: Module, names: Collection[str]) -> list[str]:
    """String constants that are the name of a transport."""
    return [
        f"{module.name}:{node.lineno} {node.value!r}"
        for node in module.nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in names
    ]


def compared_transports(module: Module, names: Collection[str]) -> list[str]:
    """Comparisons with a constant that holds the name of a transport.

    Parameters
    ----------
    names : of these constants, which another module may define
    """
    found = []
    for node in module.nodes:
        if isinstance(node, ast.Compare):
            for part in ast.walk(node):
                name = getattr(part, "attr", getattr(part, "id", ""))
                # `StepPart.UDP` is a part of a schedule.
                owner = getattr(getattr(part, "value", None), "id", "")
                if name in names and owner != "StepPart":
                    found.append(f"{module.name}:{node.lineno} {name}")
    return found


def spelt_addresses(module: Module) -> list[str]:
    """f-strings with values on both sides of " port ": host and port, which `addresses.named` should give."""
    found = []
    for node in module.nodes:
        if isinstance(node, ast.JoinedStr):
            for before, text, after in zip(node.values, node.values[1:], node.values[2:], strict=False):
                parts = (before, after)
                if (
                    isinstance(text, ast.Constant)
                    and text.value == " port "
                    and all(isinstance(part, ast.FormattedValue) for part in parts)
                ):
                    found.append(f"{module.name}:{node.lineno}")
    return found


def unguarded_calls(module: Module, methods: Collection[str]) -> list[str]:
    """Uses of a method of something named `transport` outside of `with guarding(...)`."""
    guarded = {
        id(inner)
        for node in module.nodes
        if isinstance(node, ast.With)
        and any(ast.unparse(item.context_expr).startswith("guarding(") for item in node.items)
        for inner in ast.walk(node)
    }
    return [
        f"{module.name} calls {node.attr}"
        for node in module.nodes
        if isinstance(node, ast.Attribute)
        and node.attr in methods
        and ast.unparse(node.value).endswith("transport")
        and id(node) not in guarded
    ]


def findings(check: Callable[[Module], list[str]], modules: Iterable[Module]) -> list[str]:
    """Return all findings of the check in the modules."""
    return [found for module in modules for found in check(module)]


def unexpected(found: Iterable[str], known: Collection[str]) -> tuple[list[str], list[str]]:
    """(findings that no entry of `known` is the beginning of, entries of `known` that no finding has)."""
    found = list(found)
    new = [each for each in found if not any(each.startswith(one) for one in known)]
    gone = [one for one in known if not any(each.startswith(one) for each in found)]
    return new, gone


def text_decoders(module: Module) -> list[str]:
    """Calls that make text of bytes: `.decode()` and `json.loads()`."""
    calls = [node.func for node in module.nodes if isinstance(node, ast.Call)]
    names = {call.attr for call in calls if isinstance(call, ast.Attribute)}
    return [f"{module.name} calls {name}" for name in sorted(names & {"decode", "loads"})]
