"""`python -m benchmarks`: forward pass, service and video, one after another, into one markdown file.

What was measured is written after each of them, so that a late failure loses nothing.
"""

import argparse
import time
from pathlib import Path

import torch

from benchmarks import forward, service, video
from benchmarks.reporting import circumstances


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="folder of the file")
    parser.add_argument("--quick", action="store_true", help="tiny loads: does it run at all?")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / time.strftime("benchmarks-%Y%m%d-%H%M%S.md", time.gmtime())
    note = "\n\nA quick run: its figures mean nothing." if args.quick else ""
    path.write_text(f"# Benchmarks\n\n{circumstances(torch.get_num_threads())}{note}\n", encoding="utf-8")
    for measure in (
        lambda: forward.measure(*(forward.QUICK if args.quick else forward.DEFAULT)),
        lambda: service.measure(service.QUICK if args.quick else service.Plan()),
        lambda: video.measure(*(video.QUICK if args.quick else video.DEFAULT)),
    ):
        text = measure()
        with path.open("a", encoding="utf-8") as file:
            file.write(f"\n{text}")
        print(text, flush=True)
    print(path)


if __name__ == "__main__":
    main()
