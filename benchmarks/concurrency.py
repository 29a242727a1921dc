"""`python -m benchmarks.concurrency`: concurrent clients share forward passes, and each answer is its own.

Starts the service as a process, asks for each picture alone, then for all of them at once, and compares.
"""

import argparse
import asyncio
import re

import cv2
import httpx2
import numpy as np
from skimage import data

from benchmarks.process import URL, running_service


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
