"""Runs in the background: a run's directory, its life and its queue."""
