"""The two ways an engine is put together: as stock KCP, and as KCP+BBR."""

from __future__ import annotations

from iperfpy.protocols.congestion.bbr import Bbr
from iperfpy.protocols.congestion.bbr.bbr import INITIAL_WINDOW
from iperfpy.protocols.congestion.stock_kcp import StockCongestionControl
from iperfpy.protocols.kcp.engine import Engine
from iperfpy.protocols.kcp.engine_options import EngineOptions
from iperfpy.protocols.kcp.loss_recovery.rack import Rack
from iperfpy.protocols.kcp.loss_recovery.stock import StockRecovery
from iperfpy.protocols.kcp.receive_window import Deliver
from iperfpy.protocols.kcp.settings import KcpBbrSettings, KcpSettings
from iperfpy.protocols.kcp.size_range import SizeRange
from iperfpy.protocols.kcp.wire import HEADER_BYTES
from iperfpy.protocols.memory_budget import MemoryBudget

RANGES_SHARE, ACKS_SHARE = 0.018, 0.034
"""Most bytes of acknowledgements per byte of data, headers included: in ranges, and as stock ACK segments, of
which each segment behind a hole has its own. With the first ones, which are free, it is 2 and 3.5 %."""


def stock(
    conv: int,
    settings: KcpSettings,
    deliver: Deliver | None = None,
    first_sn: int = 0,
    longest_batch: int | None = None,
    memory: MemoryBudget | None = None,
    sizes: SizeRange | None = None,
    *,
    boundaries: bool = False,
    early: bool = True,
) -> Engine:
    """KCP as it is deployed: counted ACKs, a timer per segment, and its own congestion control if nc is off.
    Parameters as `Engine`'s, `EngineOptions`' and `StockRecovery`'s."""
    tuning = settings.tuning
    options = EngineOptions(
        mtu=settings.datagram_bytes,
        send_window=settings.sndwnd,
        receive_window=settings.rcvwnd,
        tick_us=tuning.interval * 1000,
        ack_nodelay=not settings.ack_delay,
        write_delay=settings.write_delay,
        nagle=not settings.push,
        packs=True,
        boundaries=boundaries,
        first_sn=first_sn,
        longest_batch=longest_batch,
        memory=memory,
        sizes=sizes,
    )

    def renew() -> StockCongestionControl:
        return StockCongestionControl(tuning.resend)

    return Engine(
        conv,
        options,
        lambda window, _: StockRecovery(
            window,
            nodelay=bool(tuning.nodelay),
            interval_us=options.tick_us,
            resend=tuning.resend,
            early=early,
        ),
        # nc=1 is "no congestion control": the windows alone limit.
        None if tuning.nc else renew(),
        deliver,
        None if tuning.nc else renew,
    )


def with_bbr(
    conv: int,
    settings: KcpBbrSettings,
    deliver: Deliver | None = None,
    first_sn: int = 0,
    longest_batch: int | None = None,
    memory: MemoryBudget | None = None,
    sizes: SizeRange | None = None,
    *,
    ack_ranges: bool = True,
    boundaries: bool = False,
    message_bytes: int = 0,
) -> Engine:
    """KCP with time-ordered recovery, BBR and pacing. The conversation number seeds BBR's random waits.
    Parameters as `Engine`'s and `EngineOptions`'; `ack_ranges` is what two iperfpy agree on, and
    `message_bytes` is the length of the messages between `boundaries`, 0 if it is not known."""
    options = EngineOptions(
        mtu=settings.datagram_bytes,
        send_window=settings.sndwnd,
        receive_window=settings.rcvwnd,
        nagle=not settings.push,
        # For an older iperfpy, which understands; a stock sender would count repeats as duplicate ACKs.
        ack_repeats=3,
        ack_share=RANGES_SHARE if ack_ranges else ACKS_SHARE,
        ack_ranges=ack_ranges,
        packs=boundaries,  # of a stream of bytes, all segments but the last are full
        boundaries=boundaries,
        first_sn=first_sn,
        longest_batch=longest_batch,
        memory=memory,
        sizes=sizes,
    )
    # The initial window is a volume in bytes (RFC 6928): short messages count as what fits into a datagram.
    segments = options.mtu // (HEADER_BYTES + message_bytes) if boundaries and message_bytes else 1

    def control() -> Bbr:
        return Bbr(conv, INITIAL_WINDOW * max(1, segments))

    return Engine(conv, options, Rack, control(), deliver, control)
