"""What holds for every test."""

from hypothesis import settings

# No test asserts how fast the machine is.
settings.register_profile("house", deadline=None)
settings.load_profile("house")
