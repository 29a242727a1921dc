"""`python -m benchmarks.live`: how soon the frames of live connections are answered, and how many are skipped.

One camera on an idle service, and several at the same time, each sending at an even pace whatever the answers do. The
time of a frame counts from the moment at which it is sent to the arrival of its answer.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from skimage import data
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.clip import position
from benchmarks.process import URL, engine_options, running_service
from benchmarks.reporting import circumstances, percentiles_ms, section, table

WIDTH, HEIGHT = 640, 480
FACE_PX = 256
"""Side of the picture of a face within a frame."""

PATIENCE_S = 30.0
"""Longest time for the answer to the last frame."""


@dataclass
class Told:
    """What the cameras of one measurement were told."""

    sent: int = 0
    seconds: list[float] = field(default_factory=list)
    """From the sending of each frame that was analysed to its answer."""
    skipped: int = 0
    overloaded: int = 0
    """Notices of overload; their frames are among the skipped."""


def frames(fps: float) -> Iterator[bytes]:
    """Pictures of a camera before which a face sways, as JPEG, without end."""
    picture = np.ascontiguousarray(data.astronaut()[..., ::-1])
    face = cv2.resize(picture, (FACE_PX, FACE_PX), interpolation=cv2.INTER_AREA)
    number = 0
    while True:
        x, y = (round(value / 2) for value in position(number / fps))
        frame = np.full((HEIGHT, WIDTH, 3), 96, np.uint8)
        frame[y : y + FACE_PX, x : x + FACE_PX] = face
        yield cv2.imencode(".jpg", frame)[1].tobytes()
        number += 1


class Camera:
    """Sends pictures at an even pace, and reads the answers beside that."""

    def __init__(self, connection: ClientConnection, told: Told) -> None:
        self._connection = connection
        self._told = told
        self._sent_s: list[float] = []
        self._next = 0
        """The lowest index that the next answer may have."""

    async def run(self, pictures: Sequence[bytes], fps: float, begin_s: float) -> None:
        """Send the pictures, the first one at a time of time.perf_counter, and wait for the answer to the last."""
        reading = asyncio.create_task(self._read(len(pictures)))
        for number, picture in enumerate(pictures):
            await asyncio.sleep(begin_s + number / fps - time.perf_counter())
            self._sent_s.append(time.perf_counter())
            await self._connection.send(picture)
        self._told.sent += len(pictures)
        async with asyncio.timeout(PATIENCE_S):
            await reading

    async def _read(self, count: int) -> None:
        while self._next < count:
            answer = json.loads(await self._connection.recv())
            if answer["type"] == "overloaded":
                self._told.overloaded += 1
                if answer["frame"] == count - 1:  # no answer to a later one is to come
                    self._told.skipped += count - self._next
                    return
                continue
            if answer["type"] == "error":
                raise SystemExit(f"a frame failed: {answer}")
            if answer["frame"] != self._next + answer["skipped"]:
                raise SystemExit(f"the frames before {answer['frame']} were neither answered nor counted")
            self._told.seconds.append(time.perf_counter() - self._sent_s[answer["frame"]])
            self._told.skipped += answer["skipped"]
            self._next = answer["frame"] + 1


async def watched(cameras: int, fps: float, seconds: float) -> Told:
    """Return what so many cameras are told, which begin one after another within an interval."""
    told = Told()
    pictures = [picture for picture, _ in zip(frames(fps), range(round(seconds * fps)), strict=False)]
    url = URL.replace("http", "ws", 1) + "/live"
    connections = [await connect(url, compression=None) for _ in range(cameras)]
    for connection in connections:
        await connection.recv()  # it is ready
    begin_s = time.perf_counter() + 0.1
    await asyncio.gather(
        *(
            Camera(connection, told).run(pictures, fps, begin_s + place / cameras / fps)
            for place, connection in enumerate(connections)
        )
    )
    for connection in connections:
        await connection.close()
    return told


def measure(cameras: Sequence[int], fps: float, seconds: float) -> str:
    """The markdown section."""
    rows = []
    with running_service(AFFECT_THREADS=str(torch.get_num_threads())):
        asyncio.run(watched(1, fps, 2))  # warms up
        for count in cameras:
            told = asyncio.run(watched(count, fps, seconds))
            p50, p95, _ = percentiles_ms(told.seconds)
            answered_per_s = len(told.seconds) / seconds
            row = (count, told.sent, len(told.seconds), told.skipped, told.overloaded, answered_per_s, p50, p95)
            rows.append(row)
    header = ("cameras", "sent", "answered", "skipped", "notices of overload", "answered per s", "p50 ms", "p95 ms")
    note = (
        f"Each camera sends {fps:g} frames a second of {WIDTH} x {HEIGHT} pixels with one face, for {seconds:g} s. "
        "Every frame was answered once and in order, or counted as skipped."
    )
    return section(f"Live connections, {engine_options()}", table(header, rows), note)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live", description=__doc__)
    parser.add_argument("--cameras", type=int, nargs="+", default=[1, 8], help="cameras at the same time")
    parser.add_argument("--fps", type=float, default=10, help="frames a second of each camera")
    parser.add_argument("--seconds", type=float, default=30, help="length of each measurement")
    parser.add_argument("--quick", action="store_true", help="a second of each: does it run at all?")
    args = parser.parse_args()
    print(circumstances(torch.get_num_threads()), end="\n\n")
    print(measure(args.cameras, args.fps, 1 if args.quick else args.seconds))


if __name__ == "__main__":
    main()
