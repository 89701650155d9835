"""The language of paths: every key, the directions, the events, the errors, and the way back to text."""

from __future__ import annotations

import re
from pathlib import Path as File
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iperfpy.protocols.simulator import (
    Bursts,
    Change,
    CoDel,
    Lumps,
    Path,
    RateWalk,
    SecondWay,
    Silent,
    Simulation,
)
from iperfpy.protocols.simulator.path_language import (
    KEYS,
    LONGEST_TEXT,
    MOST_EVENTS,
    PathTextError,
    describe,
    parse,
)
from tests.protocols.simulator.dummy import Catcher, Emitter

PAGE = (File(__file__).parents[3] / "docs" / "simulator.md").read_text()


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("20M", {"rate_bits_per_s": 20e6}),
        ("rate=1.5G", {"rate_bits_per_s": 1.5e9}),
        ("rate=500k,queue=425k", {"rate_bits_per_s": 5e5, "buffer_bytes": 425_000, "buffer_datagrams": None}),
        ("1M,queue=3000B", {"rate_bits_per_s": 1e6, "buffer_bytes": 3_000, "buffer_datagrams": None}),
        ("1M,queue=300p", {"rate_bits_per_s": 1e6, "buffer_datagrams": 300}),
        ("1M,queue=off", {"rate_bits_per_s": 1e6, "buffer_datagrams": None}),
        ("1M", {"rate_bits_per_s": 1e6, "buffer_datagrams": 1_000}),
        ("rate=0", {}),
        ("loss=1", {"loss": 0.01}),
        ("loss=0.1%,lossat=pre", {"loss": 0.001, "loss_before": True}),
        ("police=20M/192k", {"police_bits_per_s": 20e6, "bucket_bytes": 192_000}),
        ("agg=30ms", {"lumps": Lumps(30_000, 30_000)}),
        ("agg=5ms/30ms", {"lumps": Lumps(5_000, 30_000)}),
        ("alt=40ms", {"second_way": SecondWay(40_000)}),
        ("alt=0.5s/25", {"second_way": SecondWay(500_000, 0.25)}),
        ("1M,codel=5ms", {"rate_bits_per_s": 1e6, "codel": CoDel(5_000, 100_000)}),
        ("1M,codel=500us/20", {"rate_bits_per_s": 1e6, "codel": CoDel(500, 20_000)}),
        ("1M,walk=100ms/0.5/0.9", {"rate_bits_per_s": 1e6, "rate_walk": RateWalk(100_000, 0.5, 0.9)}),
        ("ge=1/10", {"bursts": Bursts(0.01, 0.1)}),
        ("ge=1/10/50/2", {"bursts": Bursts(0.01, 0.1, 0.5, 0.02)}),
        ("dup=0.5 corrupt=2", {"duplicate": 0.005, "corrupt": 0.02}),
        ("late=8ms/5", {"reorder_us": 8_000, "reorder": 0.05}),
        ("reorder=1", {"jitter_reorders": True}),
        ("outage=1", {"down": True}),
        ("ge=off,police=off,agg=off,alt=off,codel=off,walk=off,maxlen=off", {}),
    ],
)
def test_each_key_sets_its_fields_towards_the_far_end_alone(text: str, fields: dict[str, Any]) -> None:
    there, back = parse(text)
    expected: dict[str, Any] = {"buffer_datagrams": 1_000} if "rate_bits_per_s" in fields else {}
    assert there == Path().with_(**{**expected, **fields})
    assert back == Path()


@pytest.mark.parametrize(
    ("text", "delay_us"), [("85", 85_000), ("85ms", 85_000), ("0.2s", 200_000), ("1500us", 1_500)]
)
def test_delay_holds_both_ways(text: str, delay_us: int) -> None:
    assert parse(f"delay={text}") == (Path(delay_us=delay_us), Path(delay_us=delay_us))


def test_maxlen_is_the_length_of_an_ip_packet_both_ways() -> None:
    assert parse("maxlen=1280") == (Path(maxlen=1_252), Path(maxlen=1_252))
    assert parse("down:maxlen=1280") == (Path(), Path(maxlen=1_252))


def test_jitter_varies_the_delay_to_both_sides() -> None:
    there, back = parse("delay=40ms,jitter=5ms")
    assert (there.delay_us, there.jitter_us) == (35_000, 10_000)
    assert (back.delay_us, back.jitter_us) == (40_000, 0)


def test_directions_hold_for_what_is_behind_them() -> None:
    text = "delay=10ms,loss=1 up:20M,loss=2,dup=1 down:rate=5M,delay=30ms both:corrupt=3"
    there, back = parse(text)
    limit = {"buffer_datagrams": 1_000, "corrupt": 0.03}
    assert there == Path(rate_bits_per_s=20e6, delay_us=10_000, loss=0.02, duplicate=0.01).with_(**limit)
    assert back == Path(rate_bits_per_s=5e6, delay_us=30_000).with_(**limit)
    assert parse("up: 20M, loss=2  down: rate=5M") == parse("up:20M,loss=2 down:rate=5M")


def test_the_queue_in_bdp_counts_both_delays_and_is_worked_out_after_each_event() -> None:
    there, _ = parse("20M,delay=85ms,queue=1bdp @5s:rate=10M @6s:delay=10ms @7s:down:delay=30ms @8s:queue=9k")
    assert there.buffer_bytes == 425_000
    sizes = [change.fields.get("buffer_bytes") for change in there.changes]
    assert sizes == [212_500, 25_000, 50_000, 9_000]


def test_events_become_changes_of_their_direction() -> None:
    there, back = parse("20M @5s:rate=10M @5s:down:loss=100 @200ms:outage=1 @0.4s:outage=0,delay=2ms")
    assert there.changes == (
        Change(200_000, {"down": True}),
        Change(400_000, {"delay_us": 2_000.0, "down": False}),
        Change(5_000_000, {"rate_bits_per_s": 10e6}),
    )
    assert back.changes == (Change(400_000, {"delay_us": 2_000.0}), Change(5_000_000, {"loss": 1.0}))
    assert parse("@5s:up:1M down:loss=1") == parse("@5s:up:rate=1M @5s:down:loss=1")


def test_a_parsed_path_runs() -> None:
    there, back = parse(
        "8M,delay=5ms,jitter=1ms,queue=1bdp,loss=1,agg=1ms/4ms,alt=3ms/20,codel=5ms/50ms,walk=20ms/0.4/0.8,"
        "ge=1/30,dup=1 down:rate=1M,delay=9ms @0.5s:rate=4M,agg=off @1s:both:outage=1 @1.2s:both:outage=0"
    )
    simulation = Simulation(1)
    flow = simulation.flow(
        Emitter(972, 900), Catcher(echo=40), simulation.link(there), simulation.link(back), Silent()
    )
    simulation.run(2_000_000)
    truth = flow.forward.truth
    assert truth.delivered > 700
    assert min(truth.lost, truth.codel, truth.outage, truth.reordered, truth.duplicated) > 0


def test_a_queue_in_datagrams_holds_as_many_of_any_size() -> None:
    for path in (parse("8M,queue=20p")[0], parse("8M,queue=20p,codel=10s/10s")[0]):
        for size in (72, 972):
            simulation = Simulation(1, 0.0)
            catcher, link = Catcher(), simulation.link(path)
            flow = simulation.flow(
                Emitter(size, 2_000_000, burst=50, total=150),
                catcher,
                link,
                simulation.link(Path()),
                Silent(),
            )
            simulation.run(5_000_000)
            assert flow.forward.truth.overflowed == 90
            assert catcher.numbers == [n for n in range(150) if n % 50 < 20]


# -- errors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss=101", r"^loss=101: loss is a share in per cent, from 0 to 100$"),
        ("20M,los=1", r"^los=1: there is no such key; did you mean loss\?$"),
        ("20M,gt=1/2", r"^gt=1/2: there is no such key; "),
        ("xyzzy=1", r"the keys are rate, trace, queue, delay, .*outage, preset$"),
        ("loss=1,20M", r"^20M: expected key=value; only the first value may be a bare rate$"),
        ("20X", r"^20X: rate is bit/s from 1 to 1000G, such as 20M; 0 for no bottleneck$"),
        ("rate=-5M", r"^rate=-5M: rate is bit/s"),
        ("rate=nan", r"rate is bit/s"),
        ("rate=inf", r"rate is bit/s"),
        ("rate=1e400", r"rate is bit/s"),
        ("rate=0.5", r"rate is bit/s"),
        ("rate=2000G", r"rate is bit/s"),
        ("rate=٣M", r"rate is bit/s"),
        ("rate=", r"^rate=: rate is bit/s"),
        ("delay=61s", r"delay is a time"),
        ("delay=1h", r"delay is a time"),
        ("queue=1bpd", r"queue is bytes"),
        ("20M,queue=1001bdp", r"queue is bytes"),
        ("queue=0p", r"queue is bytes"),
        ("police=20M", r"police is RATE/BURST"),
        ("police=20M/0", r"police is RATE/BURST"),
        ("agg=30ms/5ms", r"agg is \[LEAST/\]MOST"),
        ("agg=10us", r"agg is \[LEAST/\]MOST"),
        ("agg=1/2/3", r"agg is \[LEAST/\]MOST"),
        ("alt=40ms/101", r"alt is EXTRA"),
        ("1M,codel=0", r"codel is TARGET"),
        ("1M,walk=100ms/0.5", r"walk is PERIOD"),
        ("1M,walk=100ms/0.5/1", r"walk is PERIOD"),
        ("1M,walk=100us/0.5/0.5", r"walk is PERIOD"),
        ("1M,walk=100ms/3/0.5", r"walk is PERIOD"),
        ("ge=1/0", r"ge is P/R"),
        ("ge=1", r"ge is P/R"),
        ("lossat=before", r"lossat is pre"),
        ("reorder=2", r"reorder is 1"),
        ("outage=yes", r"outage is 1"),
        ("maxlen=20", r"maxlen is bytes from 68 to 65535"),
        ("maxlen=1280.5", r"maxlen is bytes"),
        ("loss=1,loss=2", r"^loss=2: loss is given twice$"),
        ("@5s:loss=1 @5000ms:loss=2", r"loss is given twice$"),
        ("@5x:loss=1", r"^@5x:loss=1: the time of an event is from 0 to 86400s"),
        ("@-1s:loss=1", r"the time of an event"),
        ("@:loss=1", r"the time of an event"),
        ("@5s:down:lss=100", r"^@5s:down:lss=100: there is no such key; did you mean loss\?$"),
        ("up:down:loss=1", r"there is no such key"),
        ("delay=2ms,jitter=5ms", r"^jitter=5ms up: it is more than the delay, 2ms$"),
        ("delay=9ms,jitter=5ms @3s:delay=4", r"^jitter=5ms up: it is more than the delay, 4ms$"),
        ("delay=85ms,queue=1bdp", r"^queue up: it needs a rate in that direction, such as rate=20M$"),
        ("20M down:codel=5ms", r"^codel down: it needs a rate"),
        ("walk=1s/0.1/0", r"^walk up: it needs a rate"),
        ("x" * (LONGEST_TEXT + 1), r"at most 65536 characters"),
        (" ".join(f"@{n}ms:loss=1" for n in range(1, MOST_EVENTS + 2)), r"at most 1000 times of events"),
        ("\x1b[31m=1", r"^'\\x1b\[31m=1': there is no such key"),
    ],
)
def test_an_error_names_the_item_and_what_its_key_accepts(text: str, message: str) -> None:
    with pytest.raises(PathTextError, match=message) as caught:
        parse(text)
    assert len(str(caught.value)) < 400


def test_an_event_may_bring_the_rate_that_a_queue_needs() -> None:
    there, _ = parse("queue=30k @1s:rate=5M @2s:rate=0")
    assert there == Path(
        changes=(
            Change(1_000_000, {"rate_bits_per_s": 5e6, "buffer_bytes": 30_000}),
            Change(2_000_000, {"rate_bits_per_s": None, "buffer_bytes": None}),
        )
    )


# -- properties

_time = st.one_of(
    st.integers(0, 50_000_000).map(lambda n: f"{n}us"),
    st.decimals("0.1", "500", places=3).map(lambda n: f"{n}ms"),
    st.integers(1, 50).map(lambda n: f"{n}s"),
)
_share = st.one_of(st.decimals(0, 100, places=4).map(str), st.floats(0, 100).map(repr))
_size = st.one_of(
    st.integers(1, 10**9).map(str),
    st.decimals("0.001", "900", places=3).map(lambda n: f"{n}M"),
    st.floats(1, 1e9).map(repr),
)
_lumps = st.tuples(st.integers(0, 500), st.integers(1, 500)).map(lambda t: f"{min(t)}/{max(t)}")
_VALUES = {
    "rate": _size,
    "trace": st.one_of(
        st.integers(1, 900).map(lambda n: f"constant:{n}k/{n % 7 + 1}"),
        st.tuples(st.integers(1, 900), st.integers(1, 5)).map(lambda t: f"poisson:{t[0]}k/{t[1]}"),
        st.just("off"),
    ),
    "queue": st.one_of(
        st.integers(0, 10**9).map(str),
        st.integers(1, 5_000).map(lambda n: f"{n}p"),
        st.decimals(0, 100, places=2).map(lambda n: f"{n}bdp"),
        st.just("off"),
    ),
    "delay": st.integers(100, 50_000_000).map(lambda n: f"{n}us"),
    "loss": _share,
    "ge": st.tuples(_share, st.integers(1, 100).map(str), _share, _share).map("/".join),
    "lossat": st.sampled_from(("pre", "post")),
    "police": st.tuples(_size, st.integers(1, 10**9).map(str)).map("/".join),
    "dup": _share,
    "corrupt": _share,
    "late": st.tuples(_time, _share).map("/".join),
    "agg": _lumps,
    "alt": st.one_of(_time, st.tuples(_time, _share).map("/".join)),
    "codel": st.integers(1, 900).map(lambda n: f"{n}ms/{n * 7}ms"),
    "walk": st.tuples(
        st.integers(1, 900).map(str), st.floats(0, 2).map(repr), st.floats(0, 0.99).map(repr)
    ).map("/".join),
    "maxlen": st.integers(68, 65_535).map(str),
    "outage": st.sampled_from("01"),
    "reorder": st.sampled_from("01"),
}
_ITEMS = st.lists(
    st.sampled_from(sorted(_VALUES)), unique_by=lambda key: "rate" if key == "trace" else key
).flatmap(lambda keys: st.tuples(*(_VALUES[key].map(f"{key}={{}}".format) for key in keys)).map(",".join))
_STAGES = st.lists(
    st.tuples(st.integers(0, 100_000_000), st.sampled_from(("", "up:", "down:", "both:")), _ITEMS),
    max_size=5,
    unique_by=lambda stage: stage[0],
)


@settings(max_examples=40, deadline=None)
@given(_ITEMS, _ITEMS, _STAGES, st.integers(0, 100))
def test_a_description_is_read_as_the_same_path(
    up: str, down: str, stages: list[tuple[int, str, str]], jitter_us: int
) -> None:
    events = " ".join(f"@{at_us + 2}us:{way}{items}" for at_us, way, items in stages if items)
    # Both ways have a rate and a delay above the jitter, so that every key may follow.
    text = f"up:20M down:5M both:jitter={jitter_us / 2}us,delay=1s @1us:up:{up} down:{down} {events}"
    paths = parse(text)
    written = describe(*paths)
    again = parse(written)
    assert again == paths, written
    assert describe(*again) == written


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60),
        st.text("@:=/,. 0123456789eEkMGpbdmsu%-+", max_size=60),
        st.tuples(
            st.sampled_from(("", "@5s:", "down:", "@1s:up:")),
            st.sampled_from(sorted(KEYS)),
            st.text("0123456789e./-+kMGpbdmsu%off", max_size=20),
        ).map(lambda t: f"{t[0]}{t[1]}={t[2]}"),
    )
)
def test_garbage_gives_a_path_or_a_path_error(text: str) -> None:
    try:
        paths = parse(text)
    except PathTextError:
        return
    assert parse(describe(*paths)) == paths


# -- the page


@pytest.mark.parametrize("name", KEYS)
def test_the_page_explains_every_key_and_its_examples_are_accepted(
    name: str, tmp_path: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    File("FILE").write_text("1\n")
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}="))
    for example in re.findall(r"`([^`]*)`", row.split("|")[1]):
        assert parse(f"up:20M down:20M both:delay=50ms @1s:{example}")
    assert len(row.split("|")[2].split()) >= 3


def test_the_lines_of_the_page_are_paths() -> None:
    block = re.search(r"```path\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    lines = [line for line in block[1].splitlines() if line]
    assert len(lines) >= 4
    for line in lines:
        assert parse(describe(*parse(line))) == parse(line)
