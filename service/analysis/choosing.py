"""Chooses the people that a video's frames report where there are more than were asked for."""

from collections.abc import Collection, Sequence

from model_core.faces.geometry import TrackedFace

MUCH_LARGER = 2.0
"""Ratio of box areas from which a newcomer takes a reported person's place."""

HELD_S = 1.0
"""Time in seconds that a person who is not seen keeps a place."""


class ChosenPeople:
    """The people who are reported: at most so many, and the same ones for as long as they are there.

    The first are the largest. A newcomer takes a free place, or the place of the smallest if that one's face is much
    smaller, so that people of nearly equal size do not take turns.
    """

    def __init__(self, max_faces: int) -> None:
        """Take the largest number of people at a time."""
        self._max_faces = max_faces
        self._areas: dict[int, float] = {}
        self._seen_s: dict[int, float] = {}

    def choose(self, faces: Sequence[TrackedFace], live_ids: Collection[int], time_s: float) -> list[TrackedFace]:
        """Return the reported people's faces in a frame, by decreasing box area.

        `live_ids` are the ids of the tracks that have not ended.
        """
        self._areas = {
            track_id: area
            for track_id, area in self._areas.items()
            if track_id in live_ids and time_s - self._seen_s[track_id] <= HELD_S
        }
        by_area = sorted(faces, key=lambda tracked: tracked.face.box.area, reverse=True)
        for tracked in by_area:
            if tracked.track_id in self._areas:
                self._areas[tracked.track_id] = tracked.face.box.area
        for tracked in by_area:
            if tracked.track_id not in self._areas and self._has_place_for(tracked.face.box.area):
                self._areas[tracked.track_id] = tracked.face.box.area
        self._seen_s = {track_id: self._seen_s.get(track_id, time_s) for track_id in self._areas}
        chosen = [tracked for tracked in by_area if tracked.track_id in self._areas]
        self._seen_s.update((tracked.track_id, time_s) for tracked in chosen)
        return chosen

    def _has_place_for(self, area: float) -> bool:
        """Return True if there is a free place for a newcomer, after a much smaller person has given it up."""
        if len(self._areas) < self._max_faces:
            return True
        smallest = min(self._areas, key=self._areas.__getitem__)
        if area < MUCH_LARGER * self._areas[smallest]:
            return False
        del self._areas[smallest]
        return True
