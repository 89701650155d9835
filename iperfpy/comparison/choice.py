"""The answer of a comparison in a sentence: which contender to take, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from iperfpy.comparison.comparison_report import ComparisonReport, steady_rates
from iperfpy.comparison.message_standing import slowest_means
from iperfpy.comparison.ranking import Pair, Ranking, enough, rank
from iperfpy.comparison.standing import standings
from iperfpy.diagnosis.finding import SURENESS, Confidence
from iperfpy.plan import WAYS, Direction
from iperfpy.protocols.units import counted
from iperfpy.sampling.order_statistics import FEWEST_FOR_MEDIAN

SURE_P = 0.01
"""Corrected p up to which a difference is sure, with enough rounds for an interval of each median."""
DEAR = 1.5
"""Bytes of packets for each byte of payload from which on the sentence tells the price."""
SURE_EQUAL, LIKELY_EQUAL = 0.05, 0.10
"""Relative differences that the intervals must exclude for two contenders to be equal, surely or likely."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The contenders to take for one purpose.

    Parameters
    ----------
    take : direction -> the best contender and those equal to it; empty: the tests do not decide
    confidence : None: the tests do not decide
    sentence : for the user
    rankings : direction -> ranking
    """

    take: Mapping[Direction, tuple[str, ...]] = field(default_factory=dict)
    confidence: Confidence | None = None
    sentence: str = ""
    rankings: Mapping[Direction, Ranking] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Words:
    """The words for one purpose: its name, the comparison with a worse contender, the best one's word, and
    the reason, for one contender and for several, why some are not ranked."""

    purpose: str
    worse: str
    best: str
    unranked: tuple[str, str]


BULK = _Words(
    "bulk",
    "carries {} less",
    "the fastest",
    ("was sent at a rate of its own", "were sent at rates of their own"),
)
MESSAGES = _Words(
    "messages",
    "takes {} longer for its slowest 5 %",
    "the fastest",
    ("has a rate of its own", "have rates of their own"),
)
LEAST_US = 1_000.0
"""Difference between times of messages that decides nothing, whatever share of them it is."""
NO_PAIR = "there is nothing to compare."
BOTH = Direction.BIDIRECTIONAL
"""Direction of the ranking of messages: a message goes there, and its echo comes back."""


def bulk_choice(report: ComparisonReport) -> Choice:
    """The choice for bulk data, by the steady rates."""
    rankings = {}
    for direction in report.directions:
        values = {
            one.name: rates
            for one in report.contenders
            if one.ranked and (rates := steady_rates(report.of(one.name, direction)))
        }
        if values:
            rankings[direction] = rank(values)
    sent = {one.contender for one in report.tests if not one.failed}
    choice = choose(rankings, BULK, _unranked(report, sent))
    return replace(choice, sentence=" ".join((choice.sentence, *_prices(report, choice))))


def _prices(report: ComparisonReport, choice: Choice) -> Iterator[str]:
    """A sentence for each of the best contenders that floods the path to be as fast as it is."""
    best: dict[str, float] = {}
    common = _common(choice.take)
    for way, ranking in choice.rankings.items():
        names = common or choice.take.get(way, ranking.names[:1])
        for one in standings(report, way):
            if one.contender.name in names and (one.wire_per_payload or 0.0) >= DEAR:
                best[one.contender.name] = max(best.get(one.contender.name, 0.0), one.wire_per_payload or 0.0)
    for name, price in best.items():
        yield f"{name} sends {price:.1f} bytes for each byte of payload."


def message_choice(report: ComparisonReport) -> Choice:
    """The choice for messages, by the slowest messages of each round."""
    values = {
        one.name: slowest_means(tests)
        for one in report.contenders
        if one.ranked and (tests := report.messages_of(one.name))
    }
    rankings = {BOTH: rank(values, smaller_is_better=True, least=LEAST_US)} if values else {}
    sent = {one.contender for one in report.messages if not one.failed}
    return choose(rankings, MESSAGES, _unranked(report, sent))


def _unranked(report: ComparisonReport, measured: set[str]) -> list[str]:
    """The names of the measured contenders that no ranking has."""
    return [one.name for one in report.contenders if one.name in measured and not one.ranked]


def choose(rankings: Mapping[Direction, Ranking], words: _Words, unranked: Sequence[str] = ()) -> Choice:
    """The choice that the rankings of the directions allow together. `unranked`: the contenders that were
    measured and have no rank."""
    why = f": {_all(unranked)} {words.unranked[len(unranked) > 1]}." if unranked else ""
    if not rankings:
        nothing = "no contender can be ranked" if unranked else "nothing was measured."
        return Choice(sentence=f"For {words.purpose}, {nothing}{why}")
    compared = {way: one for way, one in rankings.items() if len(one.names) > 1}
    if not compared:
        names = _all({name for one in rankings.values() for name in one.names})
        only = f"only {names} can be ranked{why}" if unranked else f"only {names} was measured: {NO_PAIR}"
        return Choice(sentence=f"For {words.purpose}, {only}", rankings=rankings)
    if not all(one.decides for one in compared.values()):
        return Choice(sentence=_undecided(compared, words), rankings=rankings)
    take = {way: one.best for way, one in compared.items()}
    confidence = max((_confidence(one) for one in compared.values()), key=list(Confidence).index)
    return Choice(take, confidence, _decided(compared, take, confidence, words), rankings)


def _undecided(compared: Mapping[Direction, Ranking], words: _Words) -> str:
    """The sentence for too few tests."""
    tops = {way: one.names[0] for way, one in compared.items()}
    fewest = min(one.fewest for one in compared.values())
    count = max(len(one.names) for one in compared.values())
    needed = max(FEWEST_FOR_MEDIAN, next(n for n in range(1, 100) if enough([n] * count)))
    tests = counted(fewest, "test")
    same = len(set(tops.values())) == 1
    best = f"{next(iter(tops.values()))} was" if same else f"{_by_way(tops)} were"
    why = f"with {tests} each, no ranking is possible ({needed} are needed)"
    return f"For {words.purpose}, {best} {words.best}, but {why}."


def _decided(
    compared: Mapping[Direction, Ranking],
    take: Mapping[Direction, tuple[str, ...]],
    confidence: Confidence,
    words: _Words,
) -> str:
    """The sentence for enough tests."""
    # A round that was cut short may have given each its test of this kind: tests count, not rounds.
    fewest = min(one.fewest for one in compared.values())
    sureness = "not sure" if confidence is Confidence.POSSIBLE else SURENESS[confidence]
    sure = f"{sureness}, {fewest} tests each"
    hidden = [share for way in compared if (share := _hidden(compared[way], take[way])) is not None]
    doubt = f"; a difference of up to {_percent(max(hidden))} may be hidden" if hidden else ""
    common = _common(take)
    every = {name for one in compared.values() for name in one.names}
    if set(common) == every:
        names = _all(_ordered(common, compared))
        equal = "may be equal" if confidence is Confidence.POSSIBLE else "are equal"
        return f"For {words.purpose}, {names} {equal} ({sure}{doubt}): take any."
    if not common:
        choices = {way: _either(best, confidence) for way, best in take.items()}
        return f"For {words.purpose}, take {_by_way(choices)} ({sure}{doubt})."
    # With one direction, its name says nothing.
    details = [
        text if len(compared) == 1 else f"{WAYS[way]}, {text}"
        for way, one in compared.items()
        if (text := _detail(one, common, words, confidence))
    ]
    behind = f": {'; '.join(details)}" if details else ""
    return f"For {words.purpose}, take {_either(common, confidence)} ({sure}{doubt}){behind}."


def _common(take: Mapping[Direction, tuple[str, ...]]) -> list[str]:
    """The contenders that are among the best of every direction."""
    first = next(iter(take.values()), ())
    return [name for name in first if all(name in best for best in take.values())]


def _detail(one: Ranking, common: Sequence[str], words: _Words, confidence: Confidence) -> str:
    """The contenders beside the chosen ones: those that are equal here, and the next one behind."""
    equal = [name for name in one.best if name not in common]
    verb = "may be" if confidence is Confidence.POSSIBLE else "is" if len(equal) == 1 else "are"
    parts = [f"{_all(equal)} {verb} equal"] if equal else []
    behind = [pair for pair in one.behind if pair.shift is not None]
    if behind:
        # The names of a ranking are in order, so the first pair behind the best is the next one.
        pair = behind[0]
        parts.append(f"{pair.second} {words.worse.format(_percent(abs(pair.shift or 0.0)))}")
    return " and ".join(parts)


def _confidence(one: Ranking) -> Confidence:
    """The confidence in the best contenders of a direction: the least one of all pairs with the best."""
    pairs = [pair for pair in one.pairs if one.names[0] in (pair.first, pair.second)]
    steps = list(Confidence)
    found = [_pair_confidence(pair) for pair in pairs]
    least = max(found, key=steps.index)
    # Fewer rounds than an interval needs make nothing sure.
    return least if one.fewest >= FEWEST_FOR_MEDIAN else max(least, Confidence.LIKELY, key=steps.index)


def _pair_confidence(pair: Pair) -> Confidence:
    if pair.different:
        return Confidence.SURE if pair.p <= SURE_P else Confidence.LIKELY
    if pair.is_below_least:
        return Confidence.SURE
    hidden = pair.hidden
    if hidden is None or hidden > LIKELY_EQUAL:
        return Confidence.POSSIBLE
    return Confidence.SURE if hidden <= SURE_EQUAL else Confidence.LIKELY


def _hidden(one: Ranking, best: Sequence[str]) -> float | None:
    """The largest difference that may be hidden between the best contender and its equals."""
    pairs = [one.pair(best[0], name) for name in best[1:]]
    return max((pair.hidden for pair in pairs if pair is not None and pair.hidden is not None), default=None)


def _percent(share: float) -> str:
    """`12 %`, and `0.4 %` below 1 %."""
    return f"{100 * share:.0f} %" if share >= 0.00995 else f"{100 * share:.1f} %"


def _ordered(names: Sequence[str], compared: Mapping[Direction, Ranking]) -> list[str]:
    first = next(iter(compared.values()))
    return [name for name in first.names if name in names]


def _all(names: Sequence[str] | set[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *others, last = sorted(names) if isinstance(names, set) else names
    return f"{', '.join(others)} and {last}" if others else last


def _either(names: Sequence[str], confidence: Confidence) -> str:
    """`a`, or `a or b, which are equal`; without confidence they may be."""
    *others, last = names
    equal = "may be" if confidence is Confidence.POSSIBLE else "are"
    return f"{', '.join(others)} or {last}, which {equal} equal" if others else last


def _by_way(names: Mapping[Direction, str]) -> str:
    """`a up and b down`."""
    return " and ".join(f"{name} {WAYS[way]}" for way, name in names.items())
