"""The end of a test: which event ends it, at which end, for which kind of test. Pure tables.

With a bare peer, one end decides alone (`EndRule.alone`). Otherwise there are two:

Client and server never decide alike: the client watches the clock, or the payload, and says TEST_END; the
server waits for that message. Five things make the tables longer than that:

- Payload may still be on its way when TEST_END arrives. A server that receives a fixed amount (-n, -k)
  waits until nothing more arrives; one that receives for a fixed time (-t) does not count the late part.
- TEST_END itself may be lost and come seconds late. So a server that only receives for a fixed time stops
  counting by its own clock.
- Where the server sends, TEST_END or the acknowledgements that it needs to leave may wait behind the server's
  own data. So its senders stop by their own clock, some time after the planned end; it goes on counting.
- A receiver cannot see that the last datagrams were lost. So both ends of a transport that may lose data
  count again after the senders have stopped, and compare.
- A stock iperf3 that receives reads whole blocks until it has seen EXCHANGE_RESULTS: half a block would
  leave it waiting for ever. So a server goes on sending to it, uncounted, after the end; also one that had
  sent the whole amount, because a client that counts blocks may have counted half ones.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from iperfpy.plan import Direction, EndCondition, Plan, Role


class EndEvent(enum.Enum):
    """An event that one end waits for before it stops counting."""

    TIME_OVER = "the planned time is over"
    ALL_SENT = "all payload was sent and acknowledged"
    ALL_RECEIVED = "all payload was received"
    TEST_END = "the client said that the test is over"
    SETTLED = "no more payload arrives"
    ANSWERED = "every message was answered, or no more answers come"
    ABORT = "the user stops the test"
    SILENT = "the peer has begun, and sends nothing any more"


_CLIENT, _SERVER = Role
_TIME, _AMOUNT, _INTERRUPT = EndCondition
_FORWARD, _REVERSE, _BIDIRECTIONAL = Direction

END: Mapping[tuple[Role, EndCondition, Direction], tuple[EndEvent, ...]] = {
    (_CLIENT, _TIME, _FORWARD): (EndEvent.TIME_OVER,),
    (_CLIENT, _TIME, _REVERSE): (EndEvent.TIME_OVER,),
    (_CLIENT, _TIME, _BIDIRECTIONAL): (EndEvent.TIME_OVER,),
    (_CLIENT, _AMOUNT, _FORWARD): (EndEvent.ALL_SENT,),
    (_CLIENT, _AMOUNT, _REVERSE): (EndEvent.ALL_RECEIVED,),
    (_CLIENT, _AMOUNT, _BIDIRECTIONAL): (EndEvent.ALL_SENT, EndEvent.ALL_RECEIVED),
    (_CLIENT, _INTERRUPT, _FORWARD): (EndEvent.ABORT,),
    (_CLIENT, _INTERRUPT, _REVERSE): (EndEvent.ABORT,),
    (_CLIENT, _INTERRUPT, _BIDIRECTIONAL): (EndEvent.ABORT,),
    (_SERVER, _TIME, _FORWARD): (EndEvent.TEST_END,),
    (_SERVER, _TIME, _REVERSE): (EndEvent.TEST_END,),
    (_SERVER, _TIME, _BIDIRECTIONAL): (EndEvent.TEST_END,),
    (_SERVER, _AMOUNT, _FORWARD): (EndEvent.TEST_END, EndEvent.SETTLED),
    (_SERVER, _AMOUNT, _REVERSE): (EndEvent.TEST_END,),
    (_SERVER, _AMOUNT, _BIDIRECTIONAL): (EndEvent.TEST_END, EndEvent.SETTLED),
    (_SERVER, _INTERRUPT, _FORWARD): (EndEvent.TEST_END,),
    (_SERVER, _INTERRUPT, _REVERSE): (EndEvent.TEST_END,),
    (_SERVER, _INTERRUPT, _BIDIRECTIONAL): (EndEvent.TEST_END,),
}
"""(role of this end, condition of the plan, direction) -> events to wait for, one after the other."""

STOPS_BY_CLOCK = frozenset({(_SERVER, _TIME, _FORWARD)})
"""Keys of `END` in which this end stops counting at the planned time, should TEST_END come later."""


@dataclass(frozen=True, slots=True)
class PeerRule:
    """The part of an end that depends on the program at the other end.

    Parameters
    ----------
    stops_senders : this end's senders stop at the end of the test, not only when streams are closed
    lets_peer_read : before TEST_END, wait for the peer to read what it has acknowledged: a stock server
        closes its data sockets on TEST_END without reading what has arrived
    counts_late : after the end, count again what arrived meanwhile, for figures that compare both ends
    """

    stops_senders: bool
    lets_peer_read: bool
    counts_late: bool


PEER: Mapping[tuple[Role, bool], PeerRule] = {
    (_CLIENT, True): PeerRule(stops_senders=True, lets_peer_read=False, counts_late=True),
    (_CLIENT, False): PeerRule(stops_senders=True, lets_peer_read=True, counts_late=False),
    (_SERVER, True): PeerRule(stops_senders=True, lets_peer_read=False, counts_late=True),
    (_SERVER, False): PeerRule(stops_senders=False, lets_peer_read=False, counts_late=False),
}
"""(role of this end, True if the peer is iperfpy) -> rule."""


@dataclass(frozen=True, slots=True)
class EndRule:
    """How one end of one test ends; made by `EndRule.of`.

    Parameters
    ----------
    events : to wait for, one after the other, before this end stops counting
    knows_end : the planned end is this end's to decide, so intervals are laid out before it
    silence_ends : a wait for the whole amount ends when nothing more arrives: a stock server does not say
        when it has sent everything, and datagrams may be lost
    tells_finished : this end tells the peer, which cannot know it, when it has sent the whole amount, or its
        file
    stops_by_clock : this end stops counting at the planned time by itself
    senders_stop_by_clock : this end's senders stop some time after the planned end, should TEST_END not come
    limits_senders : this end's senders stop by themselves when the amount (-n, -k) is sent
    whole_blocks : the amount is rounded up to whole blocks of each stream: a stock receiver counts no others
    stops_senders, lets_peer_read, counts_late : see `PeerRule`
    silence_fails : nothing but its silence tells that the peer is gone: it ends the test with an error
    ends_with_silence : the same silence is the planned end
    """

    events: tuple[EndEvent, ...]
    knows_end: bool
    silence_ends: bool
    tells_finished: bool
    stops_by_clock: bool
    senders_stop_by_clock: bool
    limits_senders: bool
    whole_blocks: bool
    stops_senders: bool
    lets_peer_read: bool
    counts_late: bool
    silence_fails: bool = False
    ends_with_silence: bool = False

    @classmethod
    def alone(cls, plan: Plan, *, sends: bool, receives: bool, ends_with_silence: bool) -> EndRule:
        """The rule of a test that this end alone measures: the peer has no control connection.

        `ends_with_silence`: a test without a time and an amount ends when the peer sends nothing any more.
        """
        silent_end = ends_with_silence and plan.ends_by is EndCondition.INTERRUPT
        by_amount = tuple(
            event
            for event, applies in ((EndEvent.ALL_SENT, sends), (EndEvent.ALL_RECEIVED, receives))
            if applies
        )
        events = {
            EndCondition.TIME: (EndEvent.TIME_OVER,),
            EndCondition.AMOUNT: by_amount,
            EndCondition.INTERRUPT: (EndEvent.SILENT if silent_end else EndEvent.ABORT,),
        }[plan.ends_by]
        return cls(
            # The answers to the last messages come after the planned time.
            events=(EndEvent.ANSWERED,) if plan.messages_per_s else events,
            knows_end=True,
            silence_ends=False,
            tells_finished=False,
            stops_by_clock=False,
            senders_stop_by_clock=False,
            limits_senders=True,
            whole_blocks=False,
            stops_senders=True,
            lets_peer_read=False,
            counts_late=False,
            silence_fails=not silent_end,
            ends_with_silence=silent_end,
        )

    @classmethod
    def of(
        cls,
        role: Role,
        plan: Plan,
        *,
        peer_is_iperfpy: bool,
        may_lose: bool = False,
        sends_file: bool = False,
    ) -> EndRule:
        """The rule for this end of the test.

        `may_lose`: the transport declares a `Delivery`. `sends_file`: this end sends a file (-F).
        """
        key, peer = (role, plan.ends_by, plan.direction), PEER[role, peer_is_iperfpy]
        is_client = role is Role.CLIENT
        by_amount = plan.ends_by is EndCondition.AMOUNT
        sends = plan.direction is not (Direction.REVERSE if is_client else Direction.FORWARD)
        receives = plan.direction is not (Direction.FORWARD if is_client else Direction.REVERSE)
        # With an omitted period a server does not know when the measured one begins at the client.
        limits_senders = is_client or not plan.omit_us
        # A stock client ends the test when the amount has arrived: if datagrams were lost, that takes more.
        limits_senders = limits_senders and (is_client or peer_is_iperfpy or not may_lose)
        messages = plan.messages_per_s > 0
        sends_a_known_end = sends_file or (by_amount and sends and limits_senders)
        return cls(
            # The answers to the last messages come after the planned time.
            events=(EndEvent.ANSWERED,) if messages and is_client else END[key],
            knows_end=is_client,
            stops_by_clock=key in STOPS_BY_CLOCK and not messages,
            senders_stop_by_clock=not is_client and peer.stops_senders and plan.ends_by is EndCondition.TIME,
            silence_ends=by_amount and is_client and may_lose and not peer_is_iperfpy,
            tells_finished=sends_a_known_end and not is_client and peer_is_iperfpy,
            limits_senders=limits_senders,
            whole_blocks=not peer_is_iperfpy,
            stops_senders=peer.stops_senders,
            lets_peer_read=peer.lets_peer_read and sends and (by_amount or may_lose),
            counts_late=may_lose or (peer.counts_late and receives),
        )
