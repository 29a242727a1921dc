"""A rendered prepared set of flat crops, and a network that reads their grey level."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from model_core.affect import ACTION_UNITS, LABEL_SETS
from model_core.models.heads import AffectNetwork
from model_core.preprocessing import InputSpec
from training.data.prepared import PreparedInfo, create_crops, write_targets
from training.datasets.rendered import MANIFEST, RenderedPicture, as_json

INPUT = InputSpec(16, "rgb", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "arcface-1")
SIDE = 16
AU12 = list(ACTION_UNITS).index("AU12")

PICTURES = (("neutral", 0.0, 100), ("single", 0.8, 180), ("single", 0.3, 120), ("neutral", 0.0, 104))
"""Kind, intensity of what is moved, and grey level of the pictures of a sitting."""

LINE = RenderedPicture(
    file="", sitting=0, person="", original="", split="train", model="ict", sex="female", age=30.0, age_group="young",
    tone="dark", kind="neutral", expression=None, strength=0.0, votes=(0.0,) * 8, left=(0.0,) * 12, right=(0.0,) * 12,
    others={}, yaw=0.0, pitch=0.0, roll=0.0, gaze=(0.0, 0.0), eyes_closed=0.0,
)  # fmt: skip


class GreyLevel(nn.Module):
    """The mean of a crop in [0, 1], float32 [B, 1]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(1, 2, 3))[:, None]


def grey_network() -> AffectNetwork:
    """Every unit's logit is the grey level / 10."""
    head = nn.Linear(1, 12, bias=False)
    nn.init.constant_(head.weight, 25.5)
    return AffectNetwork(GreyLevel(), {"action_units": head})


def write_sittings(
    folder: Path, splits: list[str], missing: tuple[int, ...] = (), moved: Collection[str] = ("AU12",)
) -> Path:
    """A sitting of PICTURES in each of these splits, of another person each; no face is found in records `missing`.

    The units `moved` have the pictures' intensities together.
    """
    folder.mkdir(parents=True)
    pictures = []
    for number, split in enumerate(splits):
        for place, (kind, intensity, _) in enumerate(PICTURES):
            units = [intensity if unit in moved else 0.0 for unit in ACTION_UNITS]
            person = f"ict-{number:04d}"
            file = f"pictures/{number:06d}-{place}.jpg"
            known = {"person": person, "original": person, "split": split, "kind": kind, "left": tuple(units)}
            pictures.append(replace(LINE, file=file, sitting=number, **known))
    crops = create_crops(folder, len(pictures), SIDE)
    crops[:] = np.tile([level for *_, level in PICTURES], len(splits))[:, None, None, None]
    crops.flush()
    (folder / MANIFEST).write_text("".join(map(as_json, pictures)))
    count = len(pictures)
    arrays = {
        "names": np.array([f"{picture.person}/{picture.file}" for picture in pictures]),
        "splits": np.array([picture.split for picture in pictures]),
        "found": ~np.isin(np.arange(count), missing),
        "votes": np.zeros((count, len(LABEL_SETS["ferplus"])), np.float32),
        "derived": np.zeros(count, bool),
        "action_units": np.array([picture.units for picture in pictures], np.float32),
        "valence_arousal": np.zeros((count, 2), np.float32),
    }
    info = PreparedInfo(
        "rendered", "ferplus", "arcface-1", SIDE, "yuface-2023.5.1", 0.6, derived=False, annotators=1, rendered=True
    )
    write_targets(folder, info, arrays)
    return folder
