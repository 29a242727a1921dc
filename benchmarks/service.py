"""`python -m benchmarks.service`: one-face pictures sent to the service as a process, by few and by many clients.

In rounds, so that a busy moment of the machine meets all: the same work offline on the same cores, the service with
batching, the service without. Then at three times what it can do, and while it analyses a video.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from io import BytesIO
from itertools import islice
from pathlib import Path
from statistics import median

import httpx2
import torch

from benchmarks.clip import write_clip
from benchmarks.concurrency import pictures
from benchmarks.load import Answers, batches_so_far, client, closed_loop, mean_batch, open_loop
from benchmarks.process import URL, engine_options, running_service
from benchmarks.reporting import circumstances, percentiles_ms, section, table
from model_core.bundles.bundle import load_bundle, locate_bundle
from model_core.faces.detection import build_detector
from model_core.faces.geometry import Crop
from model_core.inference.predictor import Predictor
from service.analysis.locating import FrameReader, Locator
from service.analysis.results import AnalysisOptions
from service.analysis.session import Session
from service.media.limits import DecodeLimits
from service.media.sources import PictureSource
from service.telemetry import StageClock, Telemetry

OVERLOAD = 3
PERCENTILE_HEADER = ("p50 ms", "p95 ms", "p99 ms")

WAYS: Mapping[str, Mapping[str, str]] = {"on": {}, "off": {"AFFECT_MAX_BATCH": "1"}}
"""Batching and what the service is told for it."""


@dataclass(frozen=True)
class Plan:
    """Extent of a measurement: clients of each load, rounds, seconds of a load in a round, offline pictures in a round,
    clients at capacity, seconds of the overload, and further AFFECT_ variables of the service."""

    clients: tuple[int, ...] = (1, 4, 16, 64)
    rounds: int = 3
    load_s: float = 5
    offline: int = 160
    at_capacity: int = 16
    overload_s: float = 40
    clip_frames: int = 600
    variables: Mapping[str, str] = field(default_factory=dict)


QUICK = Plan((1, 2), 2, 0.1, 4, 2, 0.1, 8)


@dataclass(frozen=True)
class Load:
    """A load's answers, and the forward passes and the faces in them that the service counted meanwhile."""

    answers: Answers
    before: tuple[float, float]
    after: tuple[float, float]


def offline(sent: Sequence[bytes]) -> Callable[[int], float]:
    """Return a function that sends a number of pictures through the same parts without a service and gives faces/s.

    Two threads locate, batches of up to 32 are predicted.
    """
    bundle = load_bundle(locate_bundle("default"))
    predictor = Predictor([bundle], "cpu", engine_options())
    locator, limits = (
        Locator(build_detector("yuface"), [bundle.manifest.input], 0.5),
        DecodeLimits(50_000_000, 600, 6000),
    )
    clock = StageClock(Telemetry(), "offline")

    def crops_of(number: int) -> list[tuple[Crop, ...]]:
        session = Session(locator, predictor.everything, AnalysisOptions(), clock)
        source = PictureSource(BytesIO(sent[number % len(sent)]), limits)
        [frame] = FrameReader(source, session.locate, clock).next_chunk().frames
        return [face.crops for face in frame.faces]

    def faces_per_s(count: int) -> float:
        started, faces = time.perf_counter(), 0
        with ThreadPoolExecutor(2) as pool:
            crops = (crop for located in pool.map(crops_of, range(count)) for crop in located)
            while batch := list(islice(crops, 32)):
                faces += len(predictor.predict(batch))
        return faces / (time.perf_counter() - started)

    return faces_per_s


async def load(sent: Sequence[bytes], clients: int, seconds: float) -> Load:
    """So many clients, one picture after another."""
    before = await batches_so_far()
    answers = await closed_loop(sent, clients, seconds)
    return Load(answers, before, await batches_so_far())


Rounds = dict[tuple[str, int], list[Load]]
"""The loads of each round, by batching and clients."""


def measure_rounds(sent: Sequence[bytes], plan: Plan, variables: Mapping[str, str]) -> tuple[Rounds, list[float]]:
    """The loads, and offline faces/s of each round."""
    faces_per_s = offline(sent)
    faces_per_s(min(32, plan.offline))  # warms up
    loads: Rounds = {(way, clients): [] for way in WAYS for clients in plan.clients}
    alone = []
    for number in range(plan.rounds):
        alone.append(faces_per_s(plan.offline))
        for way in list(WAYS)[:: -1 if number % 2 else 1]:  # neither is always the first
            with running_service(**{**variables, **WAYS[way]}):
                for clients in plan.clients:
                    loads[way, clients].append(asyncio.run(load(sent, clients, plan.load_s)))
    return loads, alone


def loads_table(loads: Rounds) -> str:
    """A row for each way and number of clients, over all rounds."""
    rows = []
    for (way, clients), each in loads.items():
        answers = sum((load.answers for load in each), Answers())
        sizes = [mean_batch(load.before, load.after) for load in each]
        refused = sum(answers.statuses.values()) - answers.statuses[200]
        times = percentiles_ms(answers.seconds)
        rows.append((way, clients, answers.faces_per_s(), *times, sum(sizes) / len(sizes), refused))
    return table(("batching", "clients", "faces/s", *PERCENTILE_HEADER, "faces in a pass", "not 200"), rows)


def ratios_table(loads: Rounds, alone: Sequence[float]) -> str:
    """Return the gain of batching and the cost of the service, as medians of the rounds' own ratios."""
    rows = []
    for clients in dict.fromkeys(clients for _, clients in loads):
        on, off = ([load.answers.faces_per_s() for load in loads[way, clients]] for way in WAYS)
        pairs = list(zip(on, off, alone, strict=True))
        rows.append((clients, median(a / b for a, b, _ in pairs if b), median(a / c for a, _, c in pairs)))
    return table(("clients", "batching on / off", "service / offline"), rows)


async def overload(sent: Sequence[bytes], plan: Plan, idle: Answers) -> str:
    """Measure the answers to requests that arrive faster than the service can answer."""
    limit_s = await wait_limit_s()
    capacity = await closed_loop(sent, plan.at_capacity, plan.load_s * plan.rounds)
    rate = OVERLOAD * capacity.faces_per_s()
    crowd = await open_loop(sent, rate, plan.overload_s)
    answers = capacity + crowd
    lost = ", ".join(f"{name} {count}" for name, count in answers.failures.items())
    rows = [
        (f"{plan.at_capacity} clients", capacity.faces_per_s(), capacity),
        (f"at {OVERLOAD} times their rate", rate, crowd),
    ]
    return overload_table(rows, idle, limit_s) + (f"\n\nWithout an answer: {lost}." if lost else "")


def overload_table(loads: Sequence[tuple[str, float, Answers]], idle: Answers, limit_s: float) -> str:
    """A row for each load's name, frames/s and answers; the last column says how true the limit is."""
    header = ("load", "frames/s sent", "200", "429", "5xx", "no answer", "accepted p95 ms", "(p95 - limit) / idle p95")
    limit_ms, idle_ms = 1000 * limit_s, percentiles_ms(idle.seconds)[1]
    rows: list[tuple[object, ...]] = []
    for name, rate, answers in loads:
        statuses, p95_ms = answers.statuses, percentiles_ms(answers.seconds)[1]
        counts = (statuses[200], statuses[429], answers.of_class(5), statuses[0])
        rows.append((name, rate, *counts, p95_ms, (p95_ms - limit_ms) / idle_ms))
    return table(header, rows)


async def wait_limit_s() -> float:
    """The longest wait of a frame that the running service allows, in seconds."""
    async with client() as http:
        limits = (await http.get(f"{URL}/models")).raise_for_status().json()["limits"]
    return float(limits["AFFECT_MAX_WAIT_S"])


async def beside_a_video(sent: Sequence[bytes], plan: Plan, clip: Path, idle: Answers) -> str:
    """One client's frames in an idle service, and while it analyses a clip over and over."""
    video = asyncio.create_task(_analyze_again_and_again(clip))
    busy = await closed_loop(sent, 1, plan.load_s * plan.rounds)
    if video.done():
        video.result()  # it ends on an error only
    video.cancel()
    return beside_table(idle, busy)


def beside_table(idle: Answers, busy: Answers) -> str:
    """Frames in an idle service and beside a video, and the second as a multiple of the first."""
    alone, beside = percentiles_ms(idle.seconds), percentiles_ms(busy.seconds)
    rows = [
        ("idle", *alone),
        ("beside a video", *beside),
        ("beside / idle", *(b / a for a, b in zip(alone, beside, strict=True))),
    ]
    return table(("service", *PERCENTILE_HEADER), rows)


async def _analyze_again_and_again(clip: Path) -> None:
    content = clip.read_bytes()
    async with client(900) as http:
        while True:
            response: httpx2.Response = await http.post(f"{URL}/analyze/video?fps=30", files={"file": content})
            response.raise_for_status()


def measure(plan: Plan) -> str:
    """The markdown section."""
    sent, variables = pictures(16), {"AFFECT_THREADS": str(torch.get_num_threads()), **plan.variables}
    loads, alone = measure_rounds(sent, plan, variables)
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        write_clip(clip, plan.clip_frames, 30)
        with running_service(**variables):
            idle = asyncio.run(closed_loop(sent, 1, plan.load_s * plan.rounds))
            crowd = asyncio.run(overload(sent, plan, idle))
            # Last, for the clip that it leaves may go on for a while.
            video = asyncio.run(beside_a_video(sent, plan, clip, idle))
    told = ", ".join(f"{name}={value}" for name, value in variables.items())
    rounds = ", ".join(f"{value:.3g}" for value in alone)
    note = f"{told}. Offline, the same parts without a service: {rounds} faces/s. Clients share the service's cores."
    tables = (loads_table(loads), ratios_table(loads, alone), crowd, video)
    return section(f"Service, {engine_options()}", note, *tables)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service", description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=list(Plan.clients))
    parser.add_argument("--rounds", type=int, default=Plan.rounds)
    parser.add_argument("--load-s", type=float, default=Plan.load_s, help="seconds of each load in a round")
    parser.add_argument("--overload-s", type=float, default=Plan.overload_s, help="seconds of the overload")
    parser.add_argument(
        "--set", action="append", default=[], metavar="AFFECT_NAME=VALUE", help="a variable of the service"
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of a second of each: does it run at all?")
    args = parser.parse_args()
    variables = dict(pair.split("=", 1) for pair in args.set)
    plan = Plan(tuple(args.clients), args.rounds, args.load_s, overload_s=args.overload_s, variables=variables)
    print(circumstances(torch.get_num_threads()), end="\n\n")
    print(measure(replace(QUICK, variables=variables) if args.quick else plan))


if __name__ == "__main__":
    main()
