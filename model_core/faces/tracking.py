"""Trackers, which give the faces of consecutive frames stable ids."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from model_core.faces.geometry import Box, Face, TrackedFace, pairwise_iou


class FaceTracker(Protocol):
    """Gives the faces of consecutive frames stable ids; one tracker serves one video."""

    def update(self, faces: list[Face], time_s: float) -> list[TrackedFace]:
        """Return the same faces in the same order, each with its track's id. `time_s` never decreases between calls."""
        ...

    @property
    def live_ids(self) -> Collection[int]:
        """Ids of the tracks that may still get faces. Ids that are missing here will not be given again."""
        ...


@dataclass
class _Track:
    """A track with its last face."""

    track_id: int

    box: Box
    """Box of the last face."""

    last_s: float
    """Time of the last face in seconds."""


class IouTracker:
    """Assigns each face to the track whose last box it overlaps most; the pairs of largest overlap go first.

    A track is kept for `max_gap_s` without a face, so that a single missed detection does not end it. A track that had
    a face in the previous frame is always kept, however long ago that frame was. Ids start at 1 and are never reused.
    """

    def __init__(self, min_iou: float = 0.2, max_gap_s: float = 1.0) -> None:
        """Take the least overlap that joins a face to a track, in [0, 1], and the longest gap in seconds."""
        self._min_iou = min_iou
        self._max_gap_s = max_gap_s
        self._tracks: list[_Track] = []
        self._previous_s = float("-inf")
        self._next_id = 1

    def update(self, faces: list[Face], time_s: float) -> list[TrackedFace]:
        """See FaceTracker."""
        oldest_s = min(self._previous_s, time_s - self._max_gap_s)
        self._tracks = [track for track in self._tracks if track.last_s >= oldest_s]
        self._previous_s = time_s
        owners = self._match(faces)
        tracked = []
        for index, face in enumerate(faces):
            track = owners.get(index)
            if track is None:
                track = _Track(self._next_id, face.box, time_s)
                self._tracks.append(track)
                self._next_id += 1
            track.box, track.last_s = face.box, time_s
            tracked.append(TrackedFace(track.track_id, face))
        return tracked

    @property
    def live_ids(self) -> frozenset[int]:
        """See FaceTracker."""
        oldest_s = self._previous_s - self._max_gap_s
        return frozenset(track.track_id for track in self._tracks if track.last_s >= oldest_s)

    def _match(self, faces: list[Face]) -> dict[int, _Track]:
        """Return the track of each face that belongs to one, by the face's position in the list."""
        overlaps = pairwise_iou([face.box for face in faces], [track.box for track in self._tracks])
        rows, columns = np.nonzero(overlaps >= self._min_iou)
        owners: dict[int, _Track] = {}
        taken: set[int] = set()
        for place in np.argsort(-overlaps[rows, columns], kind="stable"):
            index, track = int(rows[place]), self._tracks[columns[place]]
            if index not in owners and track.track_id not in taken:
                owners[index] = track
                taken.add(track.track_id)
        return owners
