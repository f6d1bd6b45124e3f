"""Sweeps: many jobs from one command, each in its own directory, summarised together."""
