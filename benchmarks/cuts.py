"""`python -m benchmarks.cuts`: in which films scene cuts are found, and how many frames are taken for one falsely.

The films are those of `benchmarks.films`; faces are found, followed and tracked as in the service.
"""

import argparse
from itertools import islice

from benchmarks.films import CUT_S, LENGTH_S, Film, films, frames
from benchmarks.reporting import table
from model_core.faces.cuts import SceneCuts
from model_core.faces.detection import FaceDetector, build_detector
from model_core.faces.following import FollowingDetector
from model_core.faces.tracking import FaceTracker

RATES = (5.0, 10.0, 25.0)

BESIDE_S = 0.3
"""Time in seconds around a cut in which it may be found, and which fades leave dark."""


def found(film: Film, fps: float, detector: FaceDetector) -> tuple[bool, int]:
    """Return whether no track goes on across the film's cut, and the number of frames taken for cuts elsewhere."""
    cuts = SceneCuts()
    follower = FollowingDetector(detector)
    tracker = FaceTracker()
    before: set[int] = set()
    behind: set[int] = set()
    false = 0
    for time_s, frame in frames(film, fps):
        if cuts.look(frame):
            follower.reset()
        faces = follower.detect(frame, time_s)
        owners = tracker.match(faces, time_s)
        known = {owner: face.box for owner, face in zip(owners, faces, strict=True) if owner is not None}
        if cuts.is_cut(frame, known, time_s):
            tracker.end_all()
            follower.reset()
            false += not film.cut or abs(time_s - CUT_S) > BESIDE_S
        tracked = tracker.update(faces, time_s)
        cuts.remember(frame, {each.track_id: each.face.box for each in tracked}, time_s)
        (before if time_s < CUT_S else behind).update(each.track_id for each in tracked)
    return bool(before and behind) and not before & behind, false


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuts", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one film at one rate: does it run at all?")
    quick = parser.parse_args().quick
    rates = RATES[:1] if quick else RATES
    detector = build_detector("yuface")
    rows = []
    for name, film in islice(films().items(), 1 if quick else None):
        cells = []
        for fps in rates:
            hit, false = found(film, fps, detector)
            told = ("found" if hit else "missed") if film.cut else "-"
            cells.append(f"{told}, {false} of {round(LENGTH_S * fps)}")
        rows.append([name, *cells])
    print(table(["film", *(f"{fps:g} frames/s" for fps in rates)], rows))


if __name__ == "__main__":
    main()
