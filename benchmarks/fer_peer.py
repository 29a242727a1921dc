"""The package `fer` in a process of its own: `python fer_peer.py PICTURE...`, in an environment that need not know us.

For each line on standard input it analyses all pictures once and answers `turn SECONDS FACES`; `fer` may print, too.
"""

import sys
import time

import cv2
from fer.fer import FER


def main() -> None:
    """Load, warm up, and answer until the input ends."""
    frames = [cv2.imread(path) for path in sys.argv[1:]]
    network = FER()  # its defaults: a Haar cascade finds faces, a quantised network of 64 pixels reads them

    def turn() -> tuple[float, int]:
        started = time.perf_counter()
        faces = sum(len(network.detect_emotions(frame)) for frame in frames)
        return time.perf_counter() - started, faces

    turn()
    for _ in sys.stdin:
        print("\nturn", *turn(), flush=True)


if __name__ == "__main__":
    main()
