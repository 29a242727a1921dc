"""Attacks on a running service, as `python -m benchmarks.attacks` sends them; see `__main__`."""
