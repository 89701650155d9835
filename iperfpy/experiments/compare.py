"""The comparison of transports over one path, from a Python program.

compare(host, ...)         blocks, gives a ComparisonReport
compare_async(host, ...)   awaitable, gives a ComparisonReport

keywords --> contenders, ClientOptions --Compare--> ComparisonReport
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

from iperfpy.api import blocking
from iperfpy.argument_types import checked
from iperfpy.comparison.comparison_report import ComparisonReport
from iperfpy.errors import PlanError
from iperfpy.experiments import compare_schedule as schedule
from iperfpy.experiments.check_schedule import DIRECTIONS
from iperfpy.experiments.comparison_run import Compare, OnProgress
from iperfpy.experiments.contender import DEFAULT_CONTENDERS, contenders_of
from iperfpy.experiments.keyword_limits import BUDGET_BYTES, COMPARISON_US, SEED
from iperfpy.measure_keywords import DiagnoseKeywords, diagnose_options, microseconds
from iperfpy.options import ClientOptions
from iperfpy.plan import Direction


class _OwnKeywords(TypedDict, total=False):
    settings: Sequence[str]  # --set, "kcp:sndwnd=512": of every contender of that transport
    directions: Sequence[Direction]  # FORWARD (to the server), REVERSE, or both, which is the default
    seconds: float  # -t, most time of the whole comparison [480]
    budget_bytes: int  # --budget, most bytes of IP packets to send, both directions together, 0: no limit
    seed: int | None  # --seed, of the random order of the tests; None: another one each time


class _Arguments(TypedDict, total=False):
    contenders: str | Sequence[str]
    on_progress: OnProgress | None


class CompareKeywords(_OwnKeywords, DiagnoseKeywords, total=False):
    """The keywords of `compare` and `compare_async`."""


def compare(
    host: str | ClientOptions,
    contenders: Sequence[str] = DEFAULT_CONTENDERS,
    *,
    on_progress: OnProgress | None = None,
    **keywords: Unpack[CompareKeywords],
) -> ComparisonReport:
    """Compare transports over the path to a server.

    Parameters
    ----------
    host : str or ClientOptions
        The server, or ready options that name it.
    contenders : sequence of str
        Transports with their settings: "tcp:bbr", "kcp", "kcp:fast", "udp:20M", "kcp:sndwnd=512".
    on_progress : callable, optional
        Called with a `Progress` at the start of each test, and as it goes on.
    **keywords
        See `CompareKeywords`: seconds, directions, settings, budget_bytes, seed, port, family, ...

    Returns
    -------
    ComparisonReport
        Every test with its figures. `iperfpy.bulk_choice(report)` concludes from them.

    Raises
    ------
    PlanError
        A contender or a setting is not understood.
    IperfpyError
        The server could not be reached, or went away. Its attribute `comparison` has the report of everything
        that was measured until then.
    RuntimeError
        An event loop is running in this thread: use `compare_async`.
    """
    return blocking("compare", compare_async(host, contenders, on_progress=on_progress, **keywords))


async def compare_async(
    host: str | ClientOptions,
    contenders: Sequence[str] = DEFAULT_CONTENDERS,
    *,
    on_progress: OnProgress | None = None,
    **keywords: Unpack[CompareKeywords],
) -> ComparisonReport:
    """Compare transports; arguments, result and errors are those of `compare`.

    Cancelling it ends the running test at both ends.
    """
    checked({"contenders": contenders, "on_progress": on_progress}, _Arguments)
    run = _comparison(host, contenders, keywords)
    await run.run(on_progress)
    report = run.report()
    if run.error is not None:
        run.error.comparison = report
        raise run.error
    return report


def _comparison(host: str | ClientOptions, contenders: Sequence[str], keywords: Mapping[str, Any]) -> Compare:
    """The comparison that the arguments mean. Raises `PlanError` and TypeError."""
    own = {key: value for key, value in keywords.items() if key in _OwnKeywords.__annotations__}
    options, tos = diagnose_options(host, {key: keywords[key] for key in keywords if key not in own})
    own = checked(own, _OwnKeywords)
    directions, seconds = own.get("directions", DIRECTIONS), own.get("seconds", schedule.DEFAULT_S)
    if not directions or not set(directions) <= set(DIRECTIONS):
        raise PlanError("directions must be FORWARD, REVERSE, or both")
    budget_bytes, seed = own.get("budget_bytes", 0), own.get("seed")
    COMPARISON_US.check(microseconds("seconds", seconds))
    BUDGET_BYTES.check(budget_bytes)
    if seed is not None:
        SEED.check(seed)
    return Compare(
        options,
        contenders_of(contenders, own.get("settings", ())),
        directions=tuple(directions),
        limit_s=seconds,
        budget_bytes=budget_bytes,
        seed=seed,
        tos=tos,
    )
