"""Run the policer test over records of kcp-bbr on the paths of the grid: it must accuse no other path.

    python -m tests.studies.blind.policer_grid --most 60        # the cheapest paths first

Prints how many of the policed and of the other paths each result was given to.
"""

from __future__ import annotations

import argparse
from collections import Counter

from iperfpy.diagnosis import policer
from iperfpy.diagnosis.policer import Code, PolicerTest
from iperfpy.protocols.kcp.kcp_evidence import path_evidence
from tests.studies.paths.cases import Case, Kind, all_cases, cheapest_first
from tests.studies.paths.watched import SECOND, single
from tests.studies.table import Table

SECONDS = 10.0


def judged(case: Case, seconds: float = SECONDS) -> PolicerTest | None:
    """Run a flow over the path of a case, and test its record."""
    watched = single(case.forward, case.backward, 1, seconds)
    evidence = path_evidence(watched.sender, int(seconds * SECOND))
    if evidence is None or evidence.flight is None:
        return None
    return policer.detect(evidence.flight, evidence.min_rtt_us)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--most", type=int, default=60, help="number of paths without a policer (60)")
    options = parser.parse_args()
    solo = [case for case in cheapest_first(all_cases()) if case.kind is Kind.SOLO]
    policed = [case for case in solo if case.forward.police_bits_per_s]
    others = [case for case in solo if not case.forward.police_bits_per_s][: options.most]
    counts: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for case in (*policed, *others):
        test = judged(case)
        there = case.forward.police_bits_per_s is not None
        code = "no record" if test is None else str(test.code)
        counts[there][code] += 1
        if there or code == Code.POLICED:
            print(f"{case.name}: {test}", flush=True)
    codes = sorted({*counts[True], *counts[False]})
    rows = [(code, str(counts[True][code]), str(counts[False][code])) for code in codes]
    print("\n" + Table(("result", "policed paths", "other paths"), rows).text())


if __name__ == "__main__":
    main()
