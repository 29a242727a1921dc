"""`python -m training.generate`: a generated Aff-Wild2, a small drawn set in the official layout.

The data of the ABAW challenge needs a signed agreement. With this set its systems train from end to end without it and
have something to learn, since one state of the face determines both the drawing and the labels. Results on it say
nothing about people.

A temporal model has an honest advantage: labels change smoothly, while a single frame shows them only in part. Each
drawn movement has noise that is new in every frame, some frames are blurred, noisy or covered, and people differ in how
their brows and mouths rest, so that a mood shows in the changes.

Every third video has a second face, in a folder of its own whose name ends in `_left` or `_right`. People are never
shared between videos. A video is in the same split for all three tasks, unlike in the original.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model_core.faces.geometry import Crop
from training.generated.camera import film, shots
from training.generated.drawing import draw
from training.generated.layout import SplitFolder, write_annotations, write_frames
from training.generated.people import person
from training.generated.spans import spans
from training.generated.trajectories import Trajectory, trajectory
from training.runs.command_line import CommandParser, fail

TREMBLE = 0.2
"""Standard deviation of the noise on each drawn action unit's level, which lies in [0, 1]."""

GAPS = 0.06
"""About this share of the frames has no picture."""

UNLABELLED = 0.05
"""About this share of the frames has an ignore mark, for each task separately."""


@dataclass(frozen=True)
class Plan:
    """The size of a generated set. Raises ValueError where a split would be empty or a number is out of range."""

    videos: int
    """Videos in both splits together."""
    frames: int
    """Frames of each video, 1 to 99999."""
    validation: int
    """The last so many videos are for validation."""
    seed: int = 0
    """The same seed gives the same bytes."""

    def __post_init__(self) -> None:
        if not 1 <= self.validation < self.videos:
            raise ValueError(f"{self.validation} of {self.videos} videos for validation leave a split without videos")
        if not 1 <= self.frames <= 99_999:
            raise ValueError(f"a video has 1 to 99999 frames, not {self.frames}")
        if self.seed < 0:
            raise ValueError(f"a seed is at least 0, not {self.seed}")

    def faces(self) -> list[tuple[SplitFolder, str]]:
        """Return split and name of every face; the second face of a video follows the first."""
        found: list[tuple[SplitFolder, str]] = []
        for index in range(self.videos):
            split: SplitFolder = "Validation_Set" if index >= self.videos - self.validation else "Train_Set"
            name = f"generated{index + 1:03}"
            found.append((split, name))
            if index % 3 == 2:
                found.append((split, name + ("_right" if index % 2 else "_left")))
        return found


def generate(plan: Plan, out: Path) -> None:
    """Write the set into the new folder `out`; the same plan gives the same bytes. Raises FileExistsError."""
    if out.exists():
        raise FileExistsError(f"{out} exists; choose another folder or remove it")
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        faces = plan.faces()
        # Each face has a generator of its own, so that it does not depend on the faces drawn before.
        seeds = np.random.SeedSequence(plan.seed).spawn(len(faces))
        for (split, name), seed in zip(tqdm(faces, unit="track"), seeds, strict=True):
            rng = np.random.default_rng(seed)
            truth = trajectory(plan.frames, rng)
            ignored = np.stack([spans(plan.frames, UNLABELLED, 8, rng) for _ in range(3)])
            write_annotations(partial, split, name, truth, ignored)
            write_frames(partial, name, take(truth, rng))
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def take(truth: Trajectory, rng: np.random.Generator) -> Iterator[tuple[int, Crop]]:
    """Return one face's pictures, uint8 [112, 112, 3] RGB, with frame numbers from 1; frames in gaps have none."""
    frames = len(truth.levels)
    who, missing = person(rng), spans(frames, GAPS, 8, rng)
    missing[-1] = False
    moved = trembling(truth.levels, rng)
    for t, shot in enumerate(shots(frames, rng)):
        if not missing[t]:
            yield t + 1, film(draw(who, moved[t], truth.closed[t], shot.pose), shot, rng)


def trembling(levels: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return levels of action units as they are drawn, with noise, float64 [T, 12] in [0, 1]."""
    return (levels + rng.normal(0, TREMBLE, levels.shape)).clip(0, 1)


def main() -> None:
    """Command line."""
    parser = CommandParser(prog="python -m training.generate", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", required=True, type=Path, help="new folder for the set")
    parser.add_argument("--videos", default=12, type=int, help="how many videos, in both splits together")
    parser.add_argument("--frames", default=120, type=int, help="frames of a video")
    parser.add_argument("--validation", type=int, help="how many of the videos are for validation; default: a third")
    parser.add_argument("--seed", default=0, type=int, help="the same seed gives the same bytes")
    args = parser.parse_args()
    cv2.setNumThreads(1)  # pictures are too small to share among threads
    validation = max(1, args.videos // 3) if args.validation is None else args.validation
    try:
        generate(Plan(args.videos, args.frames, validation, args.seed), args.out)
    except (FileExistsError, ValueError) as error:
        fail(error)


if __name__ == "__main__":
    main()
