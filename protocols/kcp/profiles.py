"""The two ways an engine is put together: as stock KCP, and as KCP+BBR."""

from __future__ import annotations

from protocols.congestion.bbr import Bbr
from protocols.congestion.classic import ClassicControl
from protocols.kcp.classic import Classic
from protocols.kcp.engine import Engine
from protocols.kcp.options import EngineOptions
from protocols.kcp.rack import Rack
from protocols.kcp.receive_window import Deliver
from protocols.kcp.settings import KcpBbrSettings, KcpSettings


def stock(conv: int, settings: KcpSettings, deliver: Deliver | None = None, first_sn: int = 0) -> Engine:
    """KCP as it is deployed: counted acknowledgements, a timer per segment, and its own congestion control
    when nc is off."""
    tuning = settings.tuning
    options = EngineOptions(
        mtu=settings.mtu,
        send_window=settings.sndwnd,
        receive_window=settings.rcvwnd,
        tick_us=tuning.interval * 1000,
        ack_nodelay=not settings.ack_delay,
        write_delay=settings.write_delay,
        nagle=not settings.push,
        first_sn=first_sn,
    )
    return Engine(
        conv,
        options,
        lambda window, _: Classic(
            window, nodelay=bool(tuning.nodelay), interval_us=options.tick_us, resend=tuning.resend
        ),
        None if tuning.nc else ClassicControl(tuning.resend),
        deliver,
    )


def with_bbr(
    conv: int, settings: KcpBbrSettings, deliver: Deliver | None = None, first_sn: int = 0
) -> Engine:
    """KCP with time-ordered recovery, BBR and pacing. The seed of BBR's dithering is the conversation."""
    options = EngineOptions(
        mtu=settings.mtu,
        send_window=settings.sndwnd,
        receive_window=settings.rcvwnd,
        nagle=not settings.push,
        ack_repeats=3,
        first_sn=first_sn,
    )
    return Engine(conv, options, Rack, Bbr(seed=conv), deliver)
