"""Finds scene cuts in the frames of one video: by the faces where they can be compared, else by whole pictures.

Both are compared block by block, each block with its best place nearby in the frame before. Motion moves blocks, and a
hand or a subtitle replaces some of them; a cut replaces most. Whole pictures do not tell a cut between two people
before one ground, nor a fast pan from a cut, and faces tell both. `python -m benchmarks.cuts` shows the films by which
the limits were chosen.
"""

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from model_core.faces.geometry import Box, Frame

PICTURE_LIMIT = 0.4
"""Median error of a picture's blocks, in variances of the picture, from which it seems to show another scene."""

HEAD_LIMIT = 0.13
"""Error that two thirds of a head's blocks exceed, as a share of its mean brightness, from which it is another head."""

_PICTURE_SIZE = (64, 36)
_PICTURE_BLOCK = 8
_PICTURE_REACH = 3

_HEAD_PX = 48
_HEAD_BLOCK = 12
_HEAD_REACH = 5

_HEAD_SCALE = (1.3, 1.1)
"""Width and height of the region that is compared, as multiples of those of the face's box: it includes some hair."""

_MOST_HEADS = 4
"""Heads that are compared in a frame; a cut replaces all of them."""

_BLANK = 4.0
"""Standard deviation in grey levels below which a picture is blank and belongs to no scene."""

_NOISE = 2.0
"""Standard deviation in grey levels that is added to a picture's own before both are compared."""

_STEADY_LIGHT = 0.08
"""Change of the logarithm of brightness up to which heads are compared."""

_HEADS_S = 0.5
"""Longest time in seconds between frames whose heads are compared: later, somebody may have turned around."""

Thumbnail = NDArray[np.float32]
"""float32 [H, W, 3], RGB in [0, 255]."""


class SceneCuts:
    """Compares each frame with the one before; one object serves one video.

    For each frame `look` comes first, which needs no faces, then `is_cut`, and `remember` last.
    """

    def __init__(self) -> None:
        self._picture: Thumbnail | None = None
        self._blank = False
        self._same_light = False
        self._other_scene = False
        self._heads: Mapping[int, Thumbnail] = {}
        self._heads_s = float("-inf")

    def look(self, frame: Frame) -> bool:
        """Take in the next frame, uint8 [H, W, 3] RGB. Return True if it seems to show another scene.

        Changes of light and blank pictures, as in flashes and fades, are not cuts; behind a blank picture the last one
        that was not blank is compared.
        """
        picture = _thumbnail(frame, _PICTURE_SIZE)
        previous = self._picture
        self._blank = bool(picture.std() < _BLANK)
        if self._blank or previous is None:
            self._same_light = self._other_scene = False
        else:
            self._same_light = _light_change(previous, picture) < _STEADY_LIGHT
            self._other_scene = _is_other_scene(previous, picture)
        if not self._blank:
            self._picture = picture
        return self._other_scene

    def is_cut(self, frame: Frame, faces: Mapping[int, Box], time_s: float) -> bool:
        """Return True if there is a cut before a frame.

        `faces` are the boxes of its faces by the ids of the tracks that they would continue. If some were there in the
        previous frame, it is a cut where more than half of them are other people; else the whole picture decides.
        """
        if not self._same_light or time_s - self._heads_s > _HEADS_S:
            return self._other_scene
        others = [
            _is_other_head(self._heads[track_id], head)
            for track_id, head in _heads(frame, faces).items()
            if track_id in self._heads
        ]
        return 2 * sum(others) > len(others) if others else self._other_scene

    def remember(self, frame: Frame, faces: Mapping[int, Box], time_s: float) -> None:
        """Keep how the faces of a frame look, for the next frame."""
        if self._blank:
            return
        self._heads = _heads(frame, faces)
        self._heads_s = time_s


def _thumbnail(picture: Frame, size: tuple[int, int]) -> Thumbnail:
    """Return a picture in another size, averaged over 16 of the pixels that one of the thumbnail covers."""
    some = cv2.resize(picture, (4 * size[0], 4 * size[1]), interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.resize(some, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def _heads(frame: Frame, faces: Mapping[int, Box]) -> dict[int, Thumbnail]:
    """Return how the largest faces look, by their ids; those of which much is outside the frame are left out."""
    heads = {}
    for track_id, box in sorted(faces.items(), key=lambda item: -item[1].area)[:_MOST_HEADS]:
        region = _region(frame, box)
        if region is not None:
            heads[track_id] = _thumbnail(region, (_HEAD_PX, _HEAD_PX))
    return heads


def _region(frame: Frame, box: Box) -> Frame | None:
    """Return the region around a face, where the frame's edge is repeated; None if a quarter of it is outside."""
    width, height = round(_HEAD_SCALE[0] * box.width), round(_HEAD_SCALE[1] * box.height)
    left, top = round(box.x + (box.width - width) / 2), round(box.y + (box.height - height) / 2)
    right, bottom = left + width, top + height
    inside = frame[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    if inside.shape[0] * inside.shape[1] <= 0.75 * width * height:
        return None
    outside = (max(0, -top), max(0, bottom - frame.shape[0]), max(0, -left), max(0, right - frame.shape[1]))
    return np.asarray(cv2.copyMakeBorder(inside, *outside, cv2.BORDER_REPLICATE), dtype=np.uint8)


def _light_change(old: Thumbnail, new: Thumbnail) -> float:
    """Return the absolute change of the logarithm of brightness in the middle of a picture's pixels."""
    ratios = (new[::2, ::2].sum(axis=2) + 24) / (old[::2, ::2].sum(axis=2) + 24)  # dark pixels would be all noise
    return abs(float(np.log(np.median(ratios))))


def _is_other_head(old: Thumbnail, new: Thumbnail) -> bool:
    limit = HEAD_LIMIT * max(float(old.mean()), float(new.mean()), 1.0)
    return _blocks_differ(old, new, _HEAD_BLOCK, _HEAD_REACH, share=2 / 3, limit=limit**2)


def _is_other_scene(old: Thumbnail, new: Thumbnail) -> bool:
    old, new = _standardised(old), _standardised(new)
    return _blocks_differ(old, new, _PICTURE_BLOCK, _PICTURE_REACH, share=1 / 2, limit=PICTURE_LIMIT)


def _standardised(picture: Thumbnail) -> Thumbnail:
    """Return a picture with the mean 0 and about the variance 1, whatever the light is."""
    centred = picture - picture.mean(axis=(0, 1))
    return np.asarray(centred / (np.sqrt((centred**2).mean()) + _NOISE), dtype=np.float32)


def _blocks_differ(old: Thumbnail, new: Thumbnail, block: int, reach: int, *, share: float, limit: float) -> bool:
    """Return True if this share of a picture's blocks differ from an older picture by more than a limit.

    The difference is the mean square, at the best place up to `reach` pixels around the block's own.
    """
    rows, columns = new.shape[0] // block, new.shape[1] // block
    used = np.s_[: rows * block, : columns * block]
    still = ((old[used] - new[used]) ** 2).reshape(rows, block, columns, block, -1).mean(axis=(1, 3, 4))
    # Most frames end here: a search finds smaller differences only.
    if np.count_nonzero(still > limit) < share * still.size:
        return False
    bordered = cv2.copyMakeBorder(old, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    least = []
    for y in range(0, rows * block, block):
        for x in range(0, columns * block, block):
            around = bordered[y : y + block + 2 * reach, x : x + block + 2 * reach]
            squares = cv2.matchTemplate(around, new[y : y + block, x : x + block], cv2.TM_SQDIFF)
            least.append(squares.min() / (3 * block**2))
    return bool(np.count_nonzero(np.array(least) > limit) >= share * still.size)
