"""A training run: its configuration, loop, checkpoints and log. Read `run.py` first."""
