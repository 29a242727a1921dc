"""`python -m benchmarks.following CLIP...`: what following faces between scans costs in recall, frame by frame.

The reference is a scan of every frame. A face counts as found where a followed box overlaps it by half.
"""

import argparse
from pathlib import Path

import numpy as np

from model_core.faces.detection import build_detector
from model_core.faces.following import SCAN_EVERY_S, FollowingDetector
from model_core.faces.geometry import Face
from service.media.limits import DecodeLimits
from service.media.videos import Window, open_video


def matched(faces: list[Face], others: list[Face]) -> list[tuple[Face, Face]]:
    """Pairs of a face and the other that overlaps it most, by at least half."""
    pairs = [(face, max(others, key=lambda other: other.box.iou(face.box), default=None)) for face in faces]
    return [(face, other) for face, other in pairs if other and other.box.iou(face.box) >= 0.5]


def measure(path: Path, fps: float, scan_every_s: float) -> str:
    """One line of figures for a clip."""
    detector = build_detector("yuface")
    following = FollowingDetector(detector, scan_every_s)
    reference, found, false, distances = 0, 0, 0, []
    video = open_video(path, DecodeLimits(50_000_000, 3600, 100_000), Window(fps))
    frames = 0
    for timed in video:
        frames += 1
        scanned = detector.detect(timed.frame, max_faces=16)
        followed = following.detect(timed.frame, timed.time_s)
        pairs = matched(scanned, followed)
        reference, found = reference + len(scanned), found + len(pairs)
        false += len(followed) - len(matched(followed, scanned))
        for face, other in pairs:
            shift = np.abs(face.landmarks.as_array() - other.landmarks.as_array()).mean()
            distances.append(shift / min(face.box.width, face.box.height))
    video.close()
    recall = found / reference if reference else float("nan")
    moved = 100 * float(np.mean(distances)) if distances else float("nan")
    return (
        f"{path.name} at {fps:g} fps: {frames} frames, {reference} faces by scanning each; following finds "
        f"{found} ({recall:.4f}), {false} others; landmarks differ by {moved:.1f} % of the face"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.following", description=__doc__)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--fps", type=float, default=10)
    parser.add_argument("--scan-every-s", type=float, default=SCAN_EVERY_S)
    args = parser.parse_args()
    for clip in args.clips:
        print(measure(clip, args.fps, args.scan_every_s))


if __name__ == "__main__":
    main()
