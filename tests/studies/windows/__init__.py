"""The program under a real Windows interpreter, which Wine runs."""
