"""The check of a test before anything is opened: by this machine's abilities, and by the limits that a server
applies as well."""

from __future__ import annotations

from iperfpy.control.option_limits import check_client_ports
from iperfpy.control.parameters import check_size
from iperfpy.control.plan_limits import check_plan
from iperfpy.errors import from_transport, guarding
from iperfpy.options import ClientOptions
from iperfpy.plan import Direction, Plan
from iperfpy.protocols.contract import Transport
from iperfpy.protocols.errors import TransportError
from iperfpy.protocols.registry import transport as transport_named
from iperfpy.traffic.file_payload import check_file


def check_here(plan: Plan, options: ClientOptions) -> Transport:
    """The plan's transport, if this machine can be the client of the test. Nothing is opened or connected.

    Raises
    ------
    PlanError
        When it cannot, or when an iperfpy server would refuse the plan.
    """
    try:
        transport = transport_named(plan.transport)
    except TransportError as error:
        raise from_transport(error) from error
    with guarding(transport.name):
        transport.check(plan.settings, sends=plan.direction is not Direction.REVERSE)
        transport.check_secret(plan.settings, options.secrets.get(transport.prefix))
    if options.file:
        check_file(options.file, plan, transport, sends=plan.direction is Direction.FORWARD)
    check_plan(plan, transport)
    check_size(plan, transport)
    check_client_ports(plan, options)
    return transport
