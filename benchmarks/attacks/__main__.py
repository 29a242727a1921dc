"""`python -m benchmarks.attacks`: damaged files, broken requests, slow clients and bombs against the service.

It starts the service itself, with its default settings unless told otherwise, or takes one on this machine by `--url`;
it refuses any other host. /healthz is asked twenty times a second meanwhile. Every answer must be one that a service
may give to a bad request, honest large files must pass, and the process must live, log no error, and end as small as it
began. Exit status 1: a bound was broken.
"""

import argparse
import asyncio
import json
import re
import socket
from collections.abc import Sequence
from dataclasses import asdict, replace
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import torch

from benchmarks.attacks.attack import Attack
from benchmarks.attacks.plan import PARTS, QUICK, Plan
from benchmarks.attacks.report import QUICK_BOUNDS, Bounds, check, rendered
from benchmarks.attacks.target import service
from benchmarks.reporting import circumstances


def loopback(url: str) -> str:
    """Return an address if it is one of this machine. Raises ArgumentTypeError for any other."""
    parts = urlsplit(url)
    try:
        found = socket.getaddrinfo(parts.hostname or "", parts.port or 80, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        found = []
    if parts.scheme != "http" or not found or not all(ip_address(each[4][0]).is_loopback for each in found):
        raise argparse.ArgumentTypeError("attacks are for a service on this machine: http://127.0.0.1:PORT")
    return url.rstrip("/")


def size(text: str) -> int:
    """Return the bytes that `4G` or `512M` means. Raises ArgumentTypeError for anything else."""
    found = re.fullmatch(r"(\d+)([GM])", text)
    if found is None:
        raise argparse.ArgumentTypeError("a size is a number and G or M, as in 4G")
    return int(found[1]) * {"G": 2**30, "M": 2**20}[found[2]]


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks", description=__doc__)
    parser.add_argument("--url", type=loopback, help="a service on this machine; by default one is started")
    parser.add_argument("--bodies", type=int, default=Plan.bodies, help="damaged files")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts of the attack")
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--memory", type=size, metavar="4G", help="start the service in a memory cgroup of this size")
    parser.add_argument(
        "--set", action="append", default=[], metavar="AFFECT_NAME=VALUE", help="a variable of the service"
    )
    parser.add_argument("--out", type=Path, help="also write the figures to this file, as JSON")
    parser.add_argument("--keep", type=Path, help="folder for files whose answers are faults")
    parser.add_argument("--quick", action="store_true", help="seconds of each part; times and growth are not judged")
    return parser.parse_args(words)


def main() -> None:
    """Command line."""
    args = arguments()
    plan = replace(QUICK if args.quick else Plan(bodies=args.bodies), seed=args.seed, only=tuple(args.only))
    bounds = QUICK_BOUNDS if args.quick else Bounds()
    print(circumstances(torch.get_num_threads()), end="\n\n")
    variables = dict(pair.split("=", 1) for pair in args.set)
    with service(args.url, args.memory, variables) as target:
        attack = Attack(target.url, target.pid, plan, args.keep)
        asyncio.run(attack.run())
        report = attack.report
        report.kills = target.kills()
        report.errors = target.errors()
    report.broken = check(report, bounds)
    print(rendered(report))
    if args.out is not None:
        figures = {"plan": asdict(plan), "bounds": asdict(bounds), "report": asdict(report)}
        args.out.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if report.broken:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
