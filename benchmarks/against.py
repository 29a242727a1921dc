"""`python -m benchmarks.against FOLDER`: the speed of this checkout, as a multiple of the speed of the one in FOLDER.

Both services run at the same time and are asked in turns, one request after another: pictures of three sizes and a
video at two rates. FOLDER is another clone, such as one of an earlier commit; both use this Python environment.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import httpx2
import numpy as np
import torch
from skimage import data

from benchmarks.clip import HEIGHT, WIDTH, write_clip
from benchmarks.process import PORT, running_service
from benchmarks.reporting import circumstances, section, table

VIDEO_FPS = (10, 30)

DEFAULT = (5, 20, 150)
QUICK = (1, 1, 6)
"""Rounds, pictures of each size in a round, and frames of the clip."""

Ask = Callable[[httpx2.Client], float]
"""Sends one request and returns its seconds, of a video those of a frame."""


def pictures() -> Mapping[str, bytes]:
    """JPEG files with one face each, by their size."""
    photo = data.astronaut()[..., ::-1]
    wide = np.full((HEIGHT, WIDTH, 3), 96, np.uint8)
    wide[104:616, 384:896] = photo
    large = cv2.resize(photo, (4000, 3000), interpolation=cv2.INTER_CUBIC)
    sizes = {"512 x 512": photo, "1280 x 720": wide, "4000 x 3000": large}
    return {size: cv2.imencode(".jpg", picture)[1].tobytes() for size, picture in sizes.items()}


def requests(clip: bytes, count: int) -> Mapping[str, tuple[Ask, int]]:
    """All requests by their name, and how often each is sent in a round: a picture `count` times, a video once."""

    def answered(client: httpx2.Client, path: str, content: bytes) -> tuple[float, Any]:
        started = time.perf_counter()
        answer = client.post(path, files={"file": content})
        seconds = time.perf_counter() - started
        answer.raise_for_status()
        return seconds, answer.json()

    def picture(content: bytes) -> Ask:
        return lambda client: answered(client, "/analyze/frame", content)[0]

    def video(fps: int) -> Ask:
        def ask(client: httpx2.Client) -> float:
            seconds, document = answered(client, f"/analyze/video?fps={fps}", clip)
            return seconds / int(document["video"]["frames_analyzed"])

        return ask

    sent = {f"picture, {size}": (picture(content), count) for size, content in pictures().items()}
    return sent | {f"a frame of a 720p video at {fps} frames/s": (video(fps), 1) for fps in VIDEO_FPS}


def measure(folder: Path, rounds: int, count: int, frames: int) -> str:
    """A table of the median times of both, and of how much faster this checkout is."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "clip.mp4"
        write_clip(path, frames, 30)
        asked = requests(path.read_bytes(), count)
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in asked}
    with (
        running_service(folder, PORT + 1) as other,
        running_service() as this,
        httpx2.Client(base_url=other.url, timeout=120) as other_client,
        httpx2.Client(base_url=this.url, timeout=120) as this_client,
    ):
        for number in range(rounds + 1):
            for name, (ask, times) in asked.items():
                for _ in range(times if number else 2):
                    pair = ask(other_client), ask(this_client)
                    if number:  # the first round warms up
                        for each, value in zip(seconds[name], pair, strict=True):
                            each.append(value)
    rows = []
    for name, (others, ours) in seconds.items():
        before, after = 1000 * median(others), 1000 * median(ours)
        rows.append((name, len(ours), before, after, before / after))
    return table(("request", "times", "ms there", "ms here", "speed here / there"), rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against", description=__doc__)
    parser.add_argument("folder", type=Path, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=DEFAULT[0])
    parser.add_argument("--quick", action="store_true", help="one round of single requests: does it run at all?")
    args = parser.parse_args()
    if not (args.folder / "service").is_dir():
        raise SystemExit(f"{args.folder} holds no checkout of this project")
    plan = QUICK if args.quick else (args.rounds, *DEFAULT[1:])
    print(section("This checkout against another", measure(args.folder, *plan)))
    print(circumstances(torch.get_num_threads()))


if __name__ == "__main__":
    main()
