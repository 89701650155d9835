"""Set-up of every test."""

import signal

from hypothesis import settings

# No test asserts how fast the machine is.
settings.register_profile("iperfpy", deadline=None)
settings.load_profile("iperfpy")

# Ignored signals are inherited; nohup and a shell ignore some that the programs under test must receive.
for number, handler in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)
