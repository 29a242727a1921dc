"""`python -m benchmarks.concurrency`: concurrent clients share forward passes, and each answer is its own.

Starts the service as a process, asks for each picture alone, then for all of them at once, and compares.
"""

import argparse
import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import httpx2
import numpy as np
from skimage import data

URL = "http://127.0.0.1:8099"


@contextmanager
def running_service() -> Iterator[None]:
    """`python -m service` on a port of its own, until ready."""
    environment = {"PATH": "/usr/bin:/bin", "AFFECT_PORT": URL.rsplit(":", 1)[1], "AFFECT_LOG_LEVEL": "warning"}
    with subprocess.Popen([sys.executable, "-m", "service"], env=environment) as process:
        try:
            with httpx2.Client() as client:
                _wait_until_ready(client, process)
            yield
        finally:
            process.terminate()


def _wait_until_ready(client: httpx2.Client, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(240):
        if process.poll() is not None:
            raise SystemExit(f"the service ended with {process.returncode}")
        try:
            if client.get(f"{URL}/readyz").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.25)
    raise SystemExit("the service did not become ready within 60 s")


def pictures(count: int) -> list[bytes]:
    """Different views of one face as JPEG."""
    face = data.astronaut()[:256, 96:352]
    shifted = (np.roll(face, (i, -i), axis=(0, 1)) for i in range(count))
    return [cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes() for frame in shifted]


def numbers(response: httpx2.Response) -> np.ndarray:
    """All estimates of an answer's first face."""
    [face] = response.raise_for_status().json()["faces"]
    units = [unit["probability"] for unit in face["action_units"].values()]
    return np.array([face["valence"], face["arousal"], *face["expression"]["probabilities"].values(), *units])


async def ask(client: httpx2.AsyncClient, picture: bytes) -> np.ndarray:
    """The service's numbers for a picture."""
    return numbers(await client.post(f"{URL}/analyze/frame", files={"file": picture}))


async def compare(count: int, rounds: int) -> None:
    """Print the largest difference between answers given alone and together, and the batch sizes."""
    async with httpx2.AsyncClient(timeout=60) as client:
        alone = [await ask(client, picture) for picture in pictures(count)]
        worst = 0.0
        for _ in range(rounds):
            together = await asyncio.gather(*(ask(client, picture) for picture in pictures(count)))
            worst = max(worst, *(float(np.abs(a - b).max()) for a, b in zip(alone, together, strict=True)))
        metrics = (await client.get(f"{URL}/metrics")).text
    print(f"{count} clients, {rounds} rounds: largest difference to the answer alone {worst:.2e}")
    print("\n".join(re.findall(r"^affect_batch_size_(?:bucket|count|sum)\S* .*$", metrics, re.M)))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.concurrency", description=__doc__)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with running_service():
        asyncio.run(compare(args.clients, args.rounds))


if __name__ == "__main__":
    main()
