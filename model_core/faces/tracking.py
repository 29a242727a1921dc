"""Gives the faces of consecutive frames stable ids, by where they move; what faces look like plays no part."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_core.faces.geometry import Face, TrackedFace
from model_core.faces.motion import FaceMotion, Place

MAX_GAP_S = 2.0
"""Longest time in seconds without a face after which a track still goes on."""

_GATE = 16.0
"""Largest squared Mahalanobis distance between a predicted and a detected place: about 99.9 % of three coordinates."""

_MAX_DISTANCE = 2.0
"""Largest distance of a detected face from its predicted place, in sides, however uncertain that place is."""

_SPARSE_DISTANCE = 0.75
"""The same between frames that are further apart than a gap may be, where motion says nothing."""

_MAX_GROWTH = 0.8
"""Largest difference between the logarithms of a detected and a predicted side: a factor of 2.2."""

_FASTEST = 10.0
"""Speed in sides a second that a face may reach from one frame to the next."""

_JUMP = 0.25
"""Distance in sides that is allowed on top of it."""

_FARTHEST_JUMP = 2.5
"""Bound of both together."""

_JUST_SEEN_S = 0.15
"""Time in seconds after which a face may still jump; the previous frame may be longer ago."""

_JUMP_GROWTH = 0.5
"""Largest difference between the logarithms of the sides of a face that jumps: a factor of 1.6."""

_SHIFT_COST = 0.25
"""Cost of moving the whole picture by one side; 1 is the cost of a face that is not where it was expected."""

Places = NDArray[np.float64]
"""float64 [N, 3]: x and y of centres in pixels, and the logarithm of the side, as in Place."""


@dataclass
class Track:
    """A face over time."""

    track_id: int
    motion: FaceMotion

    last: Place
    """Where the face was seen last."""

    last_s: float
    """When it was seen last, in seconds."""


class FaceTracker:
    """Joins the faces of one video's frames to tracks; ids start at 1 and are never reused.

    Each track predicts where its face is (FaceMotion), and faces are assigned to tracks so that the sum of the squared
    Mahalanobis distances is least (Hungarian method). The logarithm of a prediction's variance is part of the cost, so
    that a person who is hidden leaves a face to the person who was just seen. Before that, a shift that all faces have
    in common is taken out, which is the camera's. After it, a face that is left over is joined to a track that was
    just seen, if a fast face can have come that far: people turn around.

    A track goes on for `max_gap_s` without a face, and a person who comes back later gets a new id. A track that had a
    face in the previous frame goes on however long ago that frame was, if the face is still at its place.

    >>> tracker = FaceTracker()
    >>> for time_s, faces in detections:
    ...     print(time_s, [tracked.track_id for tracked in tracker.update(faces, time_s)])
    """

    def __init__(self, max_gap_s: float = MAX_GAP_S) -> None:
        """Take the longest time in seconds that a track goes on without a face."""
        self._max_gap_s = max_gap_s
        self._tracks: list[Track] = []
        self._now_s = float("-inf")
        self._previous_s = float("-inf")
        self._next_id = 1

    @property
    def live_ids(self) -> frozenset[int]:
        """Ids of the tracks that may still get faces. Ids that are missing here will not be given again."""
        return frozenset(track.track_id for track in self._tracks if track.last_s >= self._now_s - self._max_gap_s)

    def match(self, faces: Sequence[Face], time_s: float) -> list[int | None]:
        """Return the id of the track that each face would continue in an update, or None where it would begin one."""
        self._advance(time_s)
        owners = self._owners([Place.of(face.box) for face in faces])
        return [owners[index].track_id if index in owners else None for index in range(len(faces))]

    def update(self, faces: Sequence[Face], time_s: float) -> list[TrackedFace]:
        """Return the same faces in the same order, each with its track's id. `time_s` never decreases between calls."""
        self._advance(time_s)
        places = [Place.of(face.box) for face in faces]
        owners = self._owners(places)
        tracked = []
        for index, (face, place) in enumerate(zip(faces, places, strict=True)):
            track = owners.get(index)
            if track is None:
                track = self._begin(place)
            else:
                track.motion.correct(place)
            track.last = place
            track.last_s = time_s
            tracked.append(TrackedFace(track.track_id, face))
        return tracked

    def end_all(self) -> None:
        """End all tracks, as at a scene cut."""
        self._tracks = []

    def _begin(self, place: Place) -> Track:
        track = Track(self._next_id, FaceMotion(place), place, self._now_s)
        self._next_id += 1
        self._tracks.append(track)
        return track

    def _advance(self, time_s: float) -> None:
        """Predict all tracks to a time, and end those that were not seen for too long."""
        if time_s <= self._now_s:
            return
        oldest_s = min(self._now_s, time_s - self._max_gap_s)
        self._tracks = [track for track in self._tracks if track.last_s >= oldest_s]
        self._previous_s = self._now_s
        self._now_s = time_s
        for track in self._tracks:
            if self._sparse:
                track.motion.stop()
            track.motion.predict(min(time_s - self._previous_s, self._max_gap_s))

    @property
    def _sparse(self) -> bool:
        """True if more time has passed since the previous frame than a gap may last."""
        return self._now_s - self._previous_s > self._max_gap_s

    def _owners(self, places: Sequence[Place]) -> dict[int, Track]:
        """Return the track of each face that continues one, by the face's position in the list."""
        if not places or not self._tracks:
            return {}
        if self._sparse:
            return self._near_predictions(places, _SPARSE_DISTANCE)
        self._follow_camera(places)
        owners = self._near_predictions(places, _MAX_DISTANCE)
        return owners | self._jumps(places, owners)

    def _follow_camera(self, places: Sequence[Place]) -> None:
        """Move all tracks by what all faces have in common."""
        fresh = [track for track in self._tracks if track.last_s >= self._previous_s]
        dx, dy = camera_shift(np.array([track.motion.place for track in fresh]).reshape(-1, 3), np.array(places))
        for track in self._tracks:
            track.motion.shift(dx, dy)
            track.last = track.last._replace(x=track.last.x + dx, y=track.last.y + dy)

    def _near_predictions(self, places: Sequence[Place], max_distance: float) -> dict[int, Track]:
        """Return the tracks of the faces that are where their tracks predict them."""
        differences, distances = _differences(places, [track.motion.place for track in self._tracks])
        variances = np.array([track.motion.uncertainty for track in self._tracks])
        mahalanobis = (differences**2 / variances).sum(axis=-1)
        allowed = (mahalanobis <= _GATE) & (distances <= max_distance) & (np.abs(differences[..., 2]) <= _MAX_GROWTH)
        pairs = _assignment(mahalanobis + np.log(variances).sum(axis=-1), allowed)
        return {face: self._tracks[track] for face, track in pairs}

    def _jumps(self, places: Sequence[Place], owners: dict[int, Track]) -> dict[int, Track]:
        """Return tracks of faces without owners that are near enough to where tracks without faces were just seen."""
        continued = {track.track_id for track in owners.values()}
        oldest_s = min(self._previous_s, self._now_s - _JUST_SEEN_S)
        lost = [track for track in self._tracks if track.last_s >= oldest_s and track.track_id not in continued]
        found = [index for index in range(len(places)) if index not in owners]
        if not lost or not found:
            return {}
        differences, distances = _differences([places[index] for index in found], [track.last for track in lost])
        unseen_s = np.array([self._now_s - track.last_s for track in lost])
        reach = np.minimum(_JUMP + _FASTEST * unseen_s, _FARTHEST_JUMP)
        allowed = (distances <= reach) & (np.abs(differences[..., 2]) <= _JUMP_GROWTH)
        return {found[face]: lost[track] for face, track in _assignment(distances**2, allowed)}


def _differences(places: Sequence[Place], expected: Sequence[Place]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return places minus expected ones, [N, M, 3], x and y in sides of the expected; and their distances, [N, M]."""
    differences = np.array(places)[:, None] - np.array(expected)
    differences[..., :2] /= np.exp([place.log_side for place in expected])[:, None]
    return differences, np.hypot(differences[..., 0], differences[..., 1])


def _assignment(cost: NDArray[np.float64], allowed: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the row and column of as many allowed pairs as possible, of least total cost."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(np.where(allowed, cost - 1e6, 0.0))
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if allowed[row, column]]


def prepare_tracking() -> None:
    """Import what joining faces needs, which takes half a second; otherwise the first frame with a track does it."""
    import scipy.optimize  # noqa: F401


def camera_shift(expected: Places, seen: Places) -> tuple[float, float]:
    """Return the shift in pixels, (dx, dy), after which most of the expected faces are where some face is seen.

    Candidates are the shifts that bring one of the three largest faces onto a seen one, and none at all. Each costs
    its length, and for every expected face the squared distance to the nearest seen one, which counts up to half a
    side. Without at least three faces, which can agree, there is no shift.
    """
    if len(expected) < 3 or len(seen) < 3:
        return 0.0, 0.0
    expected = expected[np.argsort(-expected[:, 2])][:16]  # the cost is bounded, also in a crowd
    sides = np.exp(expected[:, 2])
    shifts = (seen[:, :2] - expected[:3, None, :2]).reshape(-1, 2)
    lengths = np.hypot(shifts[:, 0], shifts[:, 1]) / sides[0]
    order = np.argsort(lengths)[:48]
    shifts = np.vstack([np.zeros(2), shifts[order]])
    lengths = np.concatenate([[0.0], lengths[order]])
    offsets = seen[:, :2] - (shifts[:, None] + expected[:, :2])[:, :, None]  # [shifts, expected, seen, 2]
    nearest = np.hypot(offsets[..., 0], offsets[..., 1]).min(axis=-1) / sides
    costs = np.minimum((nearest / 0.5) ** 2, 1.0).mean(axis=-1) + _SHIFT_COST * lengths
    best = int(costs.argmin())
    return float(shifts[best, 0]), float(shifts[best, 1])
