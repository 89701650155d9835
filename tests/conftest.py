"""What holds for every test."""

import signal

from hypothesis import settings

# No test asserts how fast the machine is.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

# What is ignored is inherited, and nohup and a shell's `&` ignore what programs under test are to hear.
for number, handler in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)
