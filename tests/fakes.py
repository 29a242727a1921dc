"""Small stand-ins and generated data for tests."""

import csv
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model_core.affect import ACTION_UNITS, LABEL_SETS
from model_core.faces.geometry import Box, Face, Frame, Landmarks, Point
from training.data.prepared import PreparedInfo, create_crops, write_targets
from training.targets.teacher import BLENDSHAPES, LANDMARKS

KEYS = Path(__file__).parent / "model_core" / "models" / "ddamfn_keys.tsv"


class Hostile:
    """A pickle of this creates the file `trace` where it is loaded."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self._trace}",)


def face_at(x: float, y: float, side: float = 10.0) -> Face:
    """A face with a square box at (x, y), its landmarks where they would be."""
    shares = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))
    points = (Point(x + side * across, y + side * down) for across, down in shares)
    return Face(Box(x, y, side, side), Landmarks(*points), 0.9)


def upstream_keys() -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the published DDAMFN state dict, in its order."""
    lines = KEYS.read_text().splitlines()
    rows = (line.split("\t") for line in lines)
    return [(name, tuple(int(side) for side in shape.split("x") if side)) for name, shape, _ in rows]


@cache
def formula_state() -> dict[str, Tensor]:
    """The published state dict in float64, filled by the formula that ddamfn_golden.json was computed with."""
    return {name: _formula(name, shape, i) for i, (name, shape) in enumerate(upstream_keys())}


def _formula(name: str, shape: tuple[int, ...], i: int) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    n = math.prod(shape)
    k = torch.arange(n, dtype=torch.float64)
    if name.endswith("running_mean"):
        values = 0.05 * torch.sin(2 * k + i)
    elif name.endswith("running_var"):
        values = 1 + 0.2 * torch.sin(3 * k + i)
    elif len(shape) >= 2:
        values = torch.sin(0.37 * k + i) * math.sqrt(2 / (n / shape[0]))
    elif name.endswith("bias"):
        values = 0.1 * torch.cos(k + i)
    elif "prelu" in name:
        values = 0.25 + 0.05 * torch.sin(k + i)
    else:
        values = 1 + 0.1 * torch.sin(k + i)
    return values.reshape(shape)


def settled(backbone: nn.Module, size: int, seed: int) -> nn.Module:
    """A backbone in evaluation mode whose batch norms have seen images, so that its output depends on the image."""
    generator = torch.Generator().manual_seed(seed)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.momentum = None  # the mean of what was seen
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, std=0.1, generator=generator)
    with torch.no_grad():
        backbone.train()(torch.randn(8, 3, size, size, generator=generator))
    return backbone.eval()


def write_prepared(
    folder: Path,
    *,
    train: int = 32,
    validation: int = 8,
    test: int = 8,
    side: int = 32,
    missing: Sequence[int] = (),
    annotated: bool = False,
) -> Path:
    """A prepared set whose expression, `happiness` or `sadness`, shows as a bright upper or lower half.

    The records in `missing` have no face. Everything else has derived targets; if `annotated`, only valence-arousal has
    targets, which people annotated, one in two faces.
    """
    count = train + validation + test
    rng = np.random.default_rng(5)
    folder.mkdir(parents=True)
    happy = np.arange(count) % 2 == 0
    found = np.isin(np.arange(count), missing, invert=True)
    crops = create_crops(folder, count, side)
    for i in range(count):
        crop = rng.integers(0, 120, (side, side, 1)).repeat(3, axis=2)
        crop[: side // 2] += 100 if happy[i] else 0
        crop[side // 2 :] += 0 if happy[i] else 100
        crops[i] = crop if found[i] else 0
    crops.flush()
    labels = LABEL_SETS["ferplus"]
    votes = np.zeros((count, len(labels)), dtype=np.float32)
    votes[np.arange(count), np.where(happy, labels.index("happiness"), labels.index("sadness"))] = 10
    arrays = {
        "names": np.array([f"face{i}.png" for i in range(count)]),
        "splits": np.repeat(["train", "validation", "test"], [train, validation, test]),
        "found": found,
        "votes": votes,
        "derived": found & (not annotated),
        "annotated": happy if annotated else None,
        "action_units": rng.random((count, len(ACTION_UNITS)), dtype=np.float32) * found[:, None],
        "valence_arousal": (np.where(happy, 0.8, -0.6)[:, None] * [1, 0.5]).astype(np.float32),
        "blendshapes": None if annotated else rng.random((count, len(BLENDSHAPES)), dtype=np.float32),
        "landmarks": None if annotated else rng.uniform(10, 50, (count, LANDMARKS, 2)).astype(np.float32),
    }
    info = PreparedInfo("ferplus", "ferplus", "arcface-1", side, "yuface-2023.5.1", 0.6, derived=not annotated)
    write_targets(folder, replace(info, annotated=annotated), arrays)
    return folder


def write_ferplus(root: Path, pictures: Sequence[tuple[str, str, NDArray[np.uint8], Sequence[int]]]) -> Path:
    """A FER+ tree of (folder, file name, picture, ten votes)."""
    for folder in ("FER2013Train", "FER2013Valid", "FER2013Test"):
        (root / folder).mkdir(parents=True)
        with (root / folder / "label.csv").open("w", newline="") as table:
            rows = csv.writer(table)
            for name, picture, votes in (row[1:] for row in pictures if row[0] == folder):
                cv2.imwrite(str(root / folder / name), picture)
                rows.writerow([name, "(0, 0, 48, 48)", *votes])
    return root


def small_grey_face(astronaut: Frame) -> NDArray[np.uint8]:
    """uint8 [48, 48]: the astronaut's face in FER2013's size and colour."""
    grey = cv2.cvtColor(astronaut[55:215, 145:305], cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, (48, 48), interpolation=cv2.INTER_AREA), dtype=np.uint8)
