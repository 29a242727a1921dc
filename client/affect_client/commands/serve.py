"""`affect serve`: starts the service on this machine, where it is installed."""

import argparse
import os
import sys
from importlib.util import find_spec

NEEDED = ("service", "model_core", "fastapi", "uvicorn")
"""Modules without which there is no service to start."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no arguments: the service is set by environment variables, which `python -m service --help` lists."""


def run(arguments: argparse.Namespace) -> int:
    """Become the service, or return 1 where it is not installed."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if not missing:
        # In the place of this process, so that signals reach the service itself.
        os.execv(sys.executable, [sys.executable, "-m", "service"])
    print(
        f"affect serve: the service is not installed here ({', '.join(missing)} missing); install it with\n"
        "    pip install 'facial-affect-service[serve]'",
        file=sys.stderr,
    )
    return 1
