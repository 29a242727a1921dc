"""The clip that benchmarks of videos send: 1280 x 720, one face that drifts over a plain ground."""

from pathlib import Path

import cv2
import numpy as np
from skimage import data

WIDTH, HEIGHT = 1280, 720


def write_clip(path: Path, frames: int, fps: int) -> None:
    """An mp4 of the face. Raises OSError where it cannot be written."""
    picture = np.ascontiguousarray(data.astronaut()[..., ::-1])
    side = len(picture)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (WIDTH, HEIGHT))
    if not writer.isOpened():
        raise OSError(f"{path} cannot be written as a video")
    for i in range(frames):
        x, y = position(i / fps)
        frame = np.full((HEIGHT, WIDTH, 3), 96, np.uint8)
        frame[y : y + side, x : x + side] = picture
        writer.write(frame)
    writer.release()


def position(time_s: float) -> tuple[int, int]:
    """Return the picture's upper left corner at a time: it swings around the middle, across once in twelve seconds."""
    return 384 + round(300 * np.sin(time_s / 2)), 104 + round(80 * np.sin(time_s))
