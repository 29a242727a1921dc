"""Media files that tests make."""

import io
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image


def png(level: int, width: int = 64, height: int = 48) -> bytes:
    """A picture of one grey level."""
    return encoded(np.full((height, width, 3), level, np.uint8), ".png")


def encoded(frame: np.ndarray, suffix: str) -> bytes:
    """An RGB frame as a file of the suffix's format."""
    return cv2.imencode(suffix, frame[..., ::-1])[1].tobytes()


def pillow(image: Image.Image, form: str, **options: object) -> bytes:
    """A Pillow image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def mp4(path: Path, levels: list[int], fps: int = 10, size: tuple[int, int] = (96, 64)) -> bytes:
    """A video with one grey level a frame."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
    for level in levels:
        writer.write(np.full((size[1], size[0], 3), level, np.uint8))
    writer.release()
    return path.read_bytes()


def audio_only_mp4(path: Path) -> bytes:
    """Half a second of silence in an mp4 container."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        for _ in range(24):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 48000
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()
