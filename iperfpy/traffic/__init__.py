"""Payload: its source, its rate, and the events that begin and end it."""
