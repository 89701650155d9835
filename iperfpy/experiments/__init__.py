"""Several tests, one conclusion. Everything here returns records and prints nothing."""
