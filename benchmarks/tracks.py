"""`python -m benchmarks.tracks`: how well tracks follow people, scored by motmetrics on scenes with known truth.

The scenes are those of `benchmarks.choreography`. IDF1 is the share of faces with the right identity when each person
is paired with one track. A switch is a person who goes on in another track. Fragments are tracks beyond one a person.
Faces that the simulated detector misses are left out: the tracker is scored, and not the detector.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import motmetrics
import numpy as np

from benchmarks.choreography import HEIGHT, WIDTH, Scene, centred, face_in, frames, scenes
from benchmarks.reporting import table
from model_core.faces.tracking import FaceTracker

RATES = (5.0, 10.0, 25.0)
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Score:
    """The score of a tracker in a scene, over several simulated detectors."""

    idf1: float
    """Mean of the runs, in [0, 1]."""

    switches: int
    """Sum of the runs."""

    fragments: int
    """Sum of the runs."""


def score(scene: Scene, fps: float, tracker: Callable[[], FaceTracker], seeds: Sequence[int] = SEEDS) -> Score:
    """Return the score of a new tracker for each seed of the simulated detector."""
    runs = [_run(scene, fps, tracker(), seed) for seed in seeds]
    idf1, switches, fragments = zip(*runs, strict=True)
    return Score(float(np.mean(idf1)), sum(switches), sum(fragments))


def _run(scene: Scene, fps: float, tracker: FaceTracker, seed: int) -> tuple[float, int, int]:
    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    people: set[int] = set()
    tracks: set[int] = set()
    for seen in frames(scene, fps, seed):
        if seen.cut:
            tracker.end_all()
        ids = [tracked.track_id for tracked in tracker.update(seen.faces, seen.time_s)]
        real = [index for index, person in enumerate(seen.people) if person is not None]
        distances = np.full((len(real), len(ids)), np.nan)  # each face is itself, and no other
        distances[range(len(real)), real] = 0.0
        accumulator.update([seen.people[index] for index in real], ids, distances)
        people.update(seen.people[index] for index in real)
        tracks.update(ids[index] for index in real)
    measures = motmetrics.metrics.create().compute(accumulator, metrics=["idf1", "num_switches"], name="run")
    return float(measures.idf1.iloc[0]), int(measures.num_switches.iloc[0]), len(tracks) - len(people)


def cost_ms(faces: int, updates: int = 200) -> float:
    """Return the median time of an update with so many faces, in milliseconds."""
    rng = np.random.default_rng(0)
    places = rng.uniform((0, 0), (WIDTH, HEIGHT), (faces, 2))
    tracker = FaceTracker()
    spent = []
    for index in range(updates):
        seen = [face_in(centred(float(x), float(y), 60)) for x, y in places + rng.normal(0, 2, places.shape)]
        started = time.perf_counter()
        tracker.update(seen, index / 10)
        spent.append(time.perf_counter() - started)
    return 1000 * float(np.median(spent))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tracks", description=__doc__)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="simulated detectors for each scene and rate")
    parser.add_argument("--quick", action="store_true", help="one scene at one rate: does it run at all?")
    args = parser.parse_args()
    seeds = range(1 if args.quick else args.seeds)
    rates = RATES[:1] if args.quick else RATES
    rows = []
    for scene in scenes()[: 1 if args.quick else None]:
        told = [score(scene, fps, FaceTracker, seeds) for fps in rates]
        cells = [f"{each.idf1:.3f}, {each.switches}, {each.fragments}" for each in told]
        rows.append([scene.name, "hard" if scene.hard else "easy", *cells])
    print("IDF1, switches and fragments:\n")
    print(table(["scene", "set", *(f"{fps:g} frames/s" for fps in rates)], rows))
    print("\nMedian time of an update:", ", ".join(f"{cost_ms(n):.2f} ms with {n} faces" for n in (1, 16, 64)))


if __name__ == "__main__":
    main()
