"""The same paths in the simulator, in the lab and in an emulator of another make: `make lab-check`."""
