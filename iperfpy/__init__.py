"""iperfpy: measure the throughput, delay and loss of a network path, from Python.

    import iperfpy
    run = iperfpy.measure("192.0.2.7", transport="kcp-bbr", reverse=True, seconds=10)
    print(run.bits_per_second, run.column("rtt_us"))

docs/python-api.md describes the names below. A module is imported when one of its names is first used, so
that `import iperfpy` costs next to nothing and needs neither numpy nor rich.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # type checkers take it for True; importing `typing` takes longer than the rest

if TYPE_CHECKING:
    from iperfpy.api import LiveTest, measure, measure_async, serve, serve_async, watch
    from iperfpy.comparison.choice import Choice, bulk_choice, message_choice
    from iperfpy.comparison.comparison_report import ComparisonReport
    from iperfpy.diagnosis.evidence import RunEvidence
    from iperfpy.diagnosis.finding import Cause, Confidence, Finding
    from iperfpy.diagnosis.path_report import PathReport
    from iperfpy.errors import (
        ConnectError,
        DocumentError,
        FaultError,
        InterruptError,
        IperfpyError,
        LateError,
        ListenError,
        PathError,
        PeerError,
        PeerTerminatedError,
        PlanError,
        ProtocolError,
        RefusedError,
    )
    from iperfpy.experiments.compare import compare, compare_async
    from iperfpy.experiments.latency_run import latency, latency_async
    from iperfpy.experiments.path_check import diagnose, diagnose_async
    from iperfpy.experiments.serial_tests import Progress
    from iperfpy.local_server import LocalServer
    from iperfpy.options import Authorization, ClientOptions, Credentials, ServerOptions, SocketOptions
    from iperfpy.plan import Direction, Plan, Role
    from iperfpy.protocols.metrics import Side
    from iperfpy.protocols.registry import transports
    from iperfpy.records import Latency, Row, RunEnded, RunStarted, Sample, Sink
    from iperfpy.sampling.latency_report import LatencyReport
    from iperfpy.store.stored_run import End, Interval, Run

__version__ = "0.2.0.dev0"

__all__ = [
    "Authorization",
    "Cause",
    "Choice",
    "ClientOptions",
    "ComparisonReport",
    "Confidence",
    "ConnectError",
    "Credentials",
    "Direction",
    "DocumentError",
    "End",
    "FaultError",
    "Finding",
    "InterruptError",
    "Interval",
    "IperfpyError",
    "LateError",
    "Latency",
    "LatencyReport",
    "ListenError",
    "LiveTest",
    "LocalServer",
    "PathError",
    "PathReport",
    "PeerError",
    "PeerTerminatedError",
    "Plan",
    "PlanError",
    "Progress",
    "ProtocolError",
    "RefusedError",
    "Role",
    "Row",
    "Run",
    "RunEnded",
    "RunEvidence",
    "RunStarted",
    "Sample",
    "ServerOptions",
    "Side",
    "Sink",
    "SocketOptions",
    "__version__",
    "bulk_choice",
    "compare",
    "compare_async",
    "diagnose",
    "diagnose_async",
    "latency",
    "latency_async",
    "measure",
    "measure_async",
    "message_choice",
    "serve",
    "serve_async",
    "transports",
    "watch",
]

_MODULES = {
    "api": ("LiveTest", "measure", "measure_async", "serve", "serve_async", "watch"),
    "comparison.choice": ("Choice", "bulk_choice", "message_choice"),
    "comparison.comparison_report": ("ComparisonReport",),
    "diagnosis.evidence": ("RunEvidence",),
    "diagnosis.finding": ("Cause", "Confidence", "Finding"),
    "diagnosis.path_report": ("PathReport",),
    "errors": (
        *("ConnectError", "DocumentError", "FaultError", "InterruptError", "IperfpyError", "LateError"),
        "ListenError",
        *("PathError", "PeerError", "PeerTerminatedError", "PlanError", "ProtocolError"),
        "RefusedError",
    ),
    "experiments.compare": ("compare", "compare_async"),
    "experiments.latency_run": ("latency", "latency_async"),
    "experiments.path_check": ("diagnose", "diagnose_async"),
    "experiments.serial_tests": ("Progress",),
    "local_server": ("LocalServer",),
    "options": ("Authorization", "ClientOptions", "Credentials", "ServerOptions", "SocketOptions"),
    "plan": ("Direction", "Plan", "Role"),
    "protocols.metrics": ("Side",),
    "protocols.registry": ("transports",),
    "records": ("Latency", "Row", "RunEnded", "RunStarted", "Sample", "Sink"),
    "sampling.latency_report": ("LatencyReport",),
    "store.stored_run": ("End", "Interval", "Run"),
}
"""Module -> the public names that it defines."""

if not TYPE_CHECKING:  # with it, a type checker would accept any name

    def __getattr__(name: str) -> object:
        for module, names in _MODULES.items():
            if name in names:
                found = getattr(import_module(f"iperfpy.{module}"), name)
                globals()[name] = found
                return found
        raise AttributeError(f"module 'iperfpy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
