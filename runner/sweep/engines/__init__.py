"""Launchers and a sweeper that hand the jobs of a sweep to other programs.

Each is a file, imports its program when it is first used, and has a preset in ``configs/hydra/``.
They run a `Call` at a time in processes that are theirs; what the jobs did is in their directories.
"""
