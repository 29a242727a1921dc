"""What rendered faces tell of a part of the face beside the action units that are answered.

Lids sink where a face looks down, brows where it is turned down, and the corners of the mouth where the chin is raised.
A network that learns these, too, tells the units from them sooner. The head that learns them is dropped when the
network is saved.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from training.datasets.rendered import RenderedPicture


@dataclass(frozen=True)
class Told:
    """A number that a rendered picture tells beside the units."""

    name: str
    """`gaze` (to the side), `gaze_up`, `eyes_closed`, `yaw`, `pitch`, or another action unit."""
    largest: float = 1.0
    """The value that counts as 1; of angles in degrees."""
    turns: bool = False
    """True where a mirror image has the opposite value."""

    def of(self, picture: RenderedPicture) -> float:
        """Return the number, mostly in [-1, 1]."""
        match self.name:
            case "gaze":
                value = picture.gaze[0]
            case "gaze_up":
                value = picture.gaze[1]
            case "eyes_closed" | "yaw" | "pitch":
                value = getattr(picture, self.name)
            case unit:
                value = picture.others.get(unit, 0.0)
        return value / self.largest


_TURN = (Told("yaw", 45, turns=True), Told("pitch", 45))

TOLD: Mapping[str, tuple[Told, ...]] = MappingProxyType(
    {
        "eye-region": (Told("gaze", 30, turns=True), Told("gaze_up", 30), Told("eyes_closed"), *_TURN),
        "mouth-region": (
            *(Told(unit) for unit in ("AU9", "AU14", "AU16", "AU17", "AU18", "AU20", "AU22", "AU28")),
            *_TURN,
        ),
    }
)
"""The numbers that each backbone of a region learns."""


def region_targets(backbone: str, pictures: Sequence[RenderedPicture]) -> NDArray[np.float32]:
    """Return the numbers of TOLD for N pictures, float32 [N, K]."""
    told = TOLD[backbone]
    values = [[each.of(picture) for each in told] for picture in pictures]
    return np.array(values, dtype=np.float32).reshape(-1, len(told))


def mirrored_where(backbone: str, targets: NDArray[np.float32], mirrored: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return targets [B, K] of faces, of which those of `mirrored`, bool [B], are seen as mirror images."""
    signs = np.array([-1 if each.turns else 1 for each in TOLD[backbone]], dtype=np.float32)
    return np.where(mirrored[:, None], targets * signs, targets)
