"""Hides the faces of every frame of a video, also where none was found for a moment: a missed frame is a leak.

The faces of all frames are searched for first, whole frames and parts of them, at a low confidence and without a bound
on their number, and joined to tracks. Then a track hides, in each frame, the rectangle around its last face until then
and its first one from then on, grown on each side: where it was found in the frame that is its face, and where it was
not, its way. It also does so for a while before its first face and after its last one. What is hidden becomes one plain
colour, of which no picture can be computed back.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from model_core.faces.geometry import Box, Face, Frame
from model_core.faces.tracking import MAX_GAP_S, FaceTracker
from service.media.videos import TimedFrame
from service.output.annotation.samples import Mark, Sample

MIN_CONFIDENCE = 0.3
"""Lowest detection confidence of a face that is hidden: half of what is otherwise asked for."""

THOROUGH_EVERY_S = 0.1
"""Seconds between two frames that are searched in parts, which finds the small faces beside a large one."""

PART_PX = 640
"""Longer side in pixels up to which a frame is searched as a whole only."""

HOLD_S = 0.5
"""Seconds before its first face and after its last one for which a track hides its place."""

HOLD_FRAMES = 2
"""Frames for which it does so at least: a slow source may have less than one in HOLD_S."""

GROWTH = 0.3
"""Share of a box's size by which it is grown on each side: hair, ears and chin, and what a face moves in a frame."""

DRIFT = 0.6
"""The same for each second in which a held place has no face: who is not found may have moved."""

Search = Callable[[Frame, bool], list[Face]]
"""Returns the faces of a frame, uint8 [H, W, 3] RGB; the second argument tells whether to search thoroughly."""


class FaceSearch:
    """Searches the frames of a video for everything that may be a face. Each call is one frame, in their order."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._tracker = FaceTracker()
        self._thorough_s = float("-inf")

    def __call__(self, timed: TimedFrame) -> Sample:
        """Return the faces of the next frame."""
        faces = self._search(timed.frame, False)
        if timed.time_s - self._thorough_s > THOROUGH_EVERY_S - 1e-6:
            self._thorough_s = timed.time_s
            faces = [*faces, *self._search(timed.frame, True), *self._in_parts(timed.frame)]
        tracked = self._tracker.update(_distinct(faces), timed.time_s)
        return Sample(timed.time_s, timed.index, tuple(Mark(each.track_id, each.face.box) for each in tracked))

    def _in_parts(self, frame: Frame) -> Iterator[Face]:
        for part in parts_of(frame.shape[1], frame.shape[0]):
            left, top, right, bottom = part
            for face in self._search(np.ascontiguousarray(frame[top:bottom, left:right]), True):
                box = face.box
                yield Face(Box(box.x + left, box.y + top, box.width, box.height), face.landmarks, face.confidence)


def parts_of(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Return the parts of a large frame, as left, top, right and bottom in pixels; none of a small one.

    They are half as long as its longer side, and each overlaps the next by at least a quarter.
    """
    side = -(-max(width, height) // 2)
    if max(width, height) <= PART_PX:
        return []
    return [
        (left, top, min(width, left + side), min(height, top + side))
        for top in _starts(height, side)
        for left in _starts(width, side)
    ]


def _starts(length: int, side: int) -> list[int]:
    if length <= side:
        return [0]
    count = 1 + -(-4 * (length - side) // (3 * side))
    return [round(number * (length - side) / (count - 1)) for number in range(count)]


def _distinct(faces: Iterable[Face]) -> list[Face]:
    """Return the faces without those that lie in about the same place as one that is kept."""
    kept: list[Face] = []
    for face in faces:
        if all(face.box.iou(other.box) < 0.7 for other in kept):
            kept.append(face)
    return kept


@dataclass
class _Track:
    """The faces of a track that still matter: the last one until now, and those that come."""

    faces: deque[tuple[Sample, Box]] = field(default_factory=deque)

    def pass_to(self, time_s: float) -> None:
        """Forget all but the last face until a time."""
        while len(self.faces) > 1 and self.faces[1][0].time_s <= time_s:
            self.faces.popleft()

    def hidden(self, now: Sample) -> Box | None:
        """Return what the track hides in a frame; None where it is far from its faces."""
        before, *_ = self.faces
        after = before if before[0].time_s >= now.time_s else next(iter(list(self.faces)[1:2]), None)
        if after is not None and before[0].time_s <= now.time_s:
            return grown(_around(before[1], after[1]), GROWTH)
        if not _is_near(before[0], now):
            return None
        away_s = min(HOLD_S, abs(before[0].time_s - now.time_s))
        return grown(before[1], GROWTH + DRIFT * away_s)


class HiddenPlaces:
    """The rectangles to hide in each frame, from the samples of a FaceSearch over all frames.

    A few seconds of them are in memory, since a track hides its place before it begins.
    """

    def __init__(self, samples: Iterator[Sample]) -> None:
        self._samples = samples
        self._next = next(samples, None)
        self._ahead: deque[Sample] = deque()
        self._tracks: dict[int, _Track] = {}

    def at(self, time_s: float) -> list[Box] | None:
        """Return the rectangles in pixels of a frame that is shown at a time; None where the frame was not searched.

        Times never decrease between calls.
        """
        while self._ahead and self._ahead[0].time_s < time_s:
            self._ahead.popleft()
        self._read_ahead(time_s)
        if not self._ahead or self._ahead[0].time_s != time_s:
            return None
        now = self._ahead[0]
        for track in self._tracks.values():
            track.pass_to(time_s)
        over = [i for i, track in self._tracks.items() if _is_over(track.faces[-1][0], now)]
        for track_id in over:
            del self._tracks[track_id]
        return [box for track in self._tracks.values() if (box := track.hidden(now)) is not None]

    def _read_ahead(self, time_s: float) -> None:
        """Have the samples that a track may refer to from now: as far as one may go on unseen, and HOLD_FRAMES."""
        while self._next is not None and (
            self._next.time_s <= time_s + max(HOLD_S, MAX_GAP_S) or len(self._ahead) <= HOLD_FRAMES + 1
        ):
            self._ahead.append(self._next)
            for mark in self._next.faces:
                self._tracks.setdefault(mark.track_id, _Track()).faces.append((self._next, mark.box))
            self._next = next(self._samples, None)


def _is_near(sample: Sample, now: Sample) -> bool:
    return abs(sample.time_s - now.time_s) <= HOLD_S or abs(sample.frame - now.frame) <= HOLD_FRAMES


def _is_over(last: Sample, now: Sample) -> bool:
    return last.time_s < now.time_s and not _is_near(last, now)


def _around(one: Box, other: Box) -> Box:
    """Return the rectangle around two boxes."""
    x, y = min(one.x, other.x), min(one.y, other.y)
    right = max(one.x + one.width, other.x + other.width)
    bottom = max(one.y + one.height, other.y + other.height)
    return Box(x, y, right - x, bottom - y)


def grown(box: Box, share: float) -> Box:
    """Return a box that is larger on each side, by a share of its width or height."""
    by_x, by_y = share * box.width, share * box.height
    return Box(box.x - by_x, box.y - by_y, box.width + 2 * by_x, box.height + 2 * by_y)


def hide(frame: Frame, box: Box) -> None:
    """Give a part of a frame, uint8 [H, W, 3], its mean colour, in place."""
    height, width = frame.shape[:2]
    left, top = max(0, int(box.x)), max(0, int(box.y))
    right, bottom = min(width, int(np.ceil(box.x + box.width))), min(height, int(np.ceil(box.y + box.height)))
    if left < right and top < bottom:
        part = frame[top:bottom, left:right]
        part[:] = np.round(cv2.mean(part)[:3])


def hide_all(frame: Frame) -> None:
    """Give all of a frame its mean colour, in place."""
    hide(frame, Box(0, 0, frame.shape[1], frame.shape[0]))
