"""`python -m benchmarks.service`: one-face pictures sent to the service as a process, by few and by many clients.

With batching and without; beside the same work done offline on the same cores; at three times what it can do; and
while it analyses a video.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path

import httpx2
import torch

from benchmarks.clip import write_clip
from benchmarks.concurrency import pictures
from benchmarks.load import Answers, batches_so_far, client, closed_loop, mean_batch, open_loop
from benchmarks.process import URL, engine_options, running_service
from benchmarks.reporting import circumstances, percentiles_ms, section, table
from model_core.bundle import load_bundle, locate_bundle
from model_core.detection import build_detector
from model_core.faces import Crop
from model_core.predictor import Predictor
from service.analysis import FaceOptions
from service.decode_limits import DecodeLimits
from service.locating import Locator
from service.telemetry import StageClock, Telemetry

OVERLOAD = 3
PERCENTILE_HEADER = ("p50 ms", "p95 ms", "p99 ms")


@dataclass(frozen=True)
class Plan:
    """How much is measured: clients of each load, seconds of a load and of the overload, and offline pictures."""

    clients: tuple[int, ...] = (1, 4, 16, 64)
    load_s: float = 15
    overload_s: float = 40
    offline: int = 512
    clip_frames: int = 600


QUICK = Plan((1, 2), 0.5, 0.5, 4, 8)


def offline_faces_per_s(sent: Sequence[bytes], count: int) -> float:
    """The same pictures through the same parts without a service: two threads locate, batches of 32 are predicted."""
    bundle = load_bundle(locate_bundle("default"))
    predictor = Predictor([bundle], torch.device("cpu"), engine_options())
    locator = Locator(build_detector("yuface"), [bundle.manifest.input], DecodeLimits(50_000_000, 600, 6000), 0.5)
    clock = StageClock(Telemetry())

    def crops_of(number: int) -> tuple[tuple[Crop, ...], ...]:
        return locator.picture(BytesIO(sent[number % len(sent)]), FaceOptions(), clock).located.crops

    predictor.predict(list(crops_of(0)))
    started, faces = time.perf_counter(), 0
    with ThreadPoolExecutor(2) as pool:
        crops = (crop for located in pool.map(crops_of, range(count)) for crop in located)
        while batch := list(islice(crops, 32)):
            faces += len(predictor.predict(batch))
    return faces / (time.perf_counter() - started)


async def loads(sent: Sequence[bytes], plan: Plan, batching: str) -> tuple[list[list[object]], Answers]:
    """A row for each number of clients, and the answers of the load with the most faces a second."""
    rows, best = [], Answers(span_s=1)
    for clients in plan.clients:
        before = await batches_so_far()
        answers = await closed_loop(sent, clients, plan.load_s)
        size = mean_batch(before, await batches_so_far())
        rows.append([batching, clients, answers.faces_per_s(), *percentiles_ms(answers.seconds), size])
        rows[-1].append(sum(answers.statuses.values()) - answers.statuses[200])
        best = max(best, answers, key=Answers.faces_per_s)
    return rows, best


async def overload(sent: Sequence[bytes], plan: Plan, capacity: Answers) -> str:
    """What becomes of requests that arrive faster than the service can answer."""
    rate = OVERLOAD * capacity.faces_per_s()
    answers = await open_loop(sent, rate, plan.overload_s)
    rows = [
        _outcome("at capacity", capacity.faces_per_s(), capacity),
        _outcome(f"at {OVERLOAD} times capacity", rate, answers),
    ]
    return table(("load", "frames/s sent", "200", "429", "5xx", "no answer", "accepted p95 ms"), rows)


def _outcome(name: str, rate: float, answers: Answers) -> tuple[object, ...]:
    statuses = answers.statuses
    return (
        name,
        rate,
        statuses[200],
        statuses[429],
        answers.of_class(5),
        statuses[0],
        percentiles_ms(answers.seconds)[1],
    )


async def beside_a_video(sent: Sequence[bytes], plan: Plan, clip: Path) -> str:
    """One client's frames in an idle service, and while it analyses a clip over and over."""
    idle = await closed_loop(sent, 1, plan.load_s)
    video = asyncio.create_task(_analyze_again_and_again(clip))
    busy = await closed_loop(sent, 1, plan.load_s)
    if video.done():
        video.result()  # it ends on an error only
    video.cancel()
    rows = [(name, *percentiles_ms(each.seconds)) for name, each in (("idle", idle), ("beside a video", busy))]
    return table(("service", *PERCENTILE_HEADER), rows)


async def _analyze_again_and_again(clip: Path) -> None:
    content = clip.read_bytes()
    async with client(900) as http:
        while True:
            response: httpx2.Response = await http.post(f"{URL}/analyze/video?fps=30", files={"file": content})
            response.raise_for_status()


def measure(plan: Plan) -> str:
    """The markdown section."""
    sent, threads = pictures(16), str(torch.get_num_threads())
    offline = offline_faces_per_s(sent, plan.offline)
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        write_clip(clip, plan.clip_frames, 30)
        with running_service(AFFECT_THREADS=threads):
            rows, best = asyncio.run(loads(sent, plan, "on"))
            crowd = asyncio.run(overload(sent, plan, best))
            video = asyncio.run(beside_a_video(sent, plan, clip))  # last: the clip that it leaves may go on for a while
    with running_service(AFFECT_THREADS=threads, AFFECT_MAX_BATCH="1", AFFECT_MAX_VIDEO_BATCH="1"):
        rows += asyncio.run(loads(sent, plan, "off"))[0]
    header = ("batching", "clients", "faces/s", *PERCENTILE_HEADER, "faces in a pass", "not 200")
    note = f"Offline, the same parts without a service: {offline:.3g} faces/s. Clients share the service's cores."
    return section(f"Service, {engine_options()}", table(header, rows), note, crowd, video)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service", description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=list(Plan.clients))
    parser.add_argument("--load-s", type=float, default=Plan.load_s, help="seconds of each load")
    parser.add_argument("--overload-s", type=float, default=Plan.overload_s, help="seconds of the overload")
    parser.add_argument("--quick", action="store_true", help="half a second of each: does it run at all?")
    args = parser.parse_args()
    plan = Plan(tuple(args.clients), args.load_s, args.overload_s)
    print(circumstances(torch.get_num_threads()), end="\n\n")
    print(measure(QUICK if args.quick else plan))


if __name__ == "__main__":
    main()
