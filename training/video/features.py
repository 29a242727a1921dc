"""Features of video data from a frozen encoder, computed once and memory-mapped from then on.

A sequence is one file, `FOLDER/KEY/NAME.npy`: an array that NumPy opens as any other; then, as JSON, the frames it is
from; then the CRC-32 of all before. It takes its name when whole, so a run killed at any point loses the sequence it
was at and no other, and runs that share a folder at worst compute the same twice.
"""

import json
import logging
import os
import re
import zlib
from collections import abc
from io import BytesIO
from pathlib import Path, PurePath
from typing import Protocol, TypeAlias
from uuid import uuid4

import cv2
import numpy as np
from numpy.typing import NDArray

from model_core.faces.geometry import Crop
from training.datasets.raw import DatasetError
from training.datasets.sequences import Sequence

_BATCH = 64
_CHECKSUM_BYTES = 4
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_LOGGER = logging.getLogger(__name__)

_FrameState: TypeAlias = list[str | int] | None
"""[file name, size in bytes, time of change in nanoseconds] of a frame; None where it has no picture."""


class Encoder(Protocol):
    """A frozen network, with the preprocessing that it wants, up to the vector that it describes a face by."""

    @property
    def key(self) -> str:
        """A digest that names weights and preprocessing, fit for a file name: other features need another key."""
        ...

    @property
    def vector_size(self) -> int:
        """D."""
        ...

    @property
    def size(self) -> int:
        """S, the side of its crops in pixels."""
        ...

    def __call__(self, crops: abc.Sequence[Crop]) -> NDArray[np.float32]:
        """B crops, each uint8 [S, S, 3] RGB -> float32 [B, D]. A row must not depend on the others."""
        ...


class FeatureCache:
    """The features of sequences by `encoder`, in `folder`, which other runs and encoders may use at the same time."""

    def __init__(self, folder: Path, encoder: Encoder) -> None:
        """`folder` need not exist. Raises ValueError for a key that cannot name a folder."""
        if not _KEY.fullmatch(encoder.key):
            raise ValueError(f"the key {encoder.key!r} of an encoder must be letters, digits, '.', '_' and '-'")
        self._folder = folder / encoder.key
        self._encoder = encoder

    def features(self, sequence: Sequence) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(float32 [T, D], read-only and memory-mapped; bool [T], which frames have a picture).

        Rows of frames without a picture are 0. The file is checked whole, so ask once a sequence. Where it is missing,
        damaged or from other pictures, it is computed (with a warning in the last two cases); the first T frames of a
        longer sequence of the same pictures are as good. Raises DatasetError for a picture that is missing, cannot be
        decoded or is not square, and ValueError for a name that leaves the folder or an encoder that breaks its word.
        """
        name = PurePath(f"{sequence.name}.npy")
        if name.is_absolute() or ".." in name.parts:
            raise ValueError(f"the sequence {sequence.name!r} cannot name a file")
        path = self._folder / name
        pictured = np.array([frame is not None for frame in sequence.frames], dtype=np.bool_)
        states = [_state(frame) for frame in sequence.frames]
        values = self._stored(path, states)
        if values is None:
            _write(path, self._compute(sequence), states)
            values = _read(path)[0]
        return values[: len(states)], pictured

    def _stored(self, path: Path, states: list[_FrameState]) -> NDArray[np.float32] | None:
        try:
            values, stored = _read(path)
        except FileNotFoundError:
            return None
        except ValueError as error:
            _LOGGER.warning("%s is damaged (%s); it is computed anew", path, error)
            return None
        if stored[: len(states)] != states:
            _LOGGER.warning("%s is from other pictures; it is computed anew", path)
            return None
        return values

    def _compute(self, sequence: Sequence) -> NDArray[np.float32]:
        encoder = self._encoder
        values = np.zeros((len(sequence.frames), encoder.vector_size), dtype=np.float32)
        present = [(index, path) for index, path in enumerate(sequence.frames) if path is not None]
        for start in range(0, len(present), _BATCH):
            part = present[start : start + _BATCH]
            vectors = encoder([read_crop(path, encoder.size) for _, path in part])
            if vectors.shape != (len(part), encoder.vector_size) or not np.isfinite(vectors).all():
                wanted = f"finite [{len(part)}, {encoder.vector_size}]"
                raise ValueError(f"the encoder returned {list(vectors.shape)} for {sequence.name}, expected {wanted}")
            values[[index for index, _ in part]] = vectors
        return values


def read_crop(path: Path, size: int) -> Crop:
    """A square picture as uint8 [size, size, 3] RGB, resized where it differs. Raises DatasetError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror})") from error
    # OpenCV raises for an empty buffer, and returns None for one it does not understand.
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if picture is None:
        raise DatasetError(f"{path} is not a picture")
    height, width = picture.shape[:2]
    if height != width:
        raise DatasetError(f"{path} is {width} x {height} pixels; a crop of a face is square")
    if width != size:
        how = cv2.INTER_AREA if width > size else cv2.INTER_LINEAR
        picture = cv2.resize(picture, (size, size), interpolation=how)
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _state(frame: Path | None) -> _FrameState:
    if frame is None:
        return None
    try:
        status = frame.stat()
    except OSError as error:
        raise DatasetError(f"{frame} cannot be read ({error.strerror})") from error
    return [frame.name, status.st_size, status.st_mtime_ns]


def _write(path: Path, values: NDArray[np.float32], states: list[_FrameState]) -> None:
    content = BytesIO()
    np.lib.format.write_array(content, values, version=(1, 0))
    content.write(json.dumps(states).encode())
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: another run may be writing the same sequence.
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        with partial.open("xb") as file:
            file.write(content.getbuffer())
            file.write(zlib.crc32(content.getbuffer()).to_bytes(_CHECKSUM_BYTES, "little"))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _read(path: Path) -> tuple[NDArray[np.float32], list[_FrameState]]:
    """The values and the frames they are from. Raises FileNotFoundError, and ValueError for a damaged file."""
    with path.open("rb") as file:
        content = np.memmap(file, np.uint8, "r")
        body, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:].tobytes()
        # The checksum covers all that is read below, so that no parser sees damage.
        if not body.size or zlib.crc32(body.data) != int.from_bytes(checksum, "little"):
            raise ValueError("its checksum is wrong")
        file.seek(0)
        np.lib.format.read_magic(file)
        (frames, vector_size), _, _ = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
    end = start + frames * vector_size * np.dtype(np.float32).itemsize
    states: list[_FrameState] = json.loads(body[end:].tobytes())
    return body[start:end].view(np.float32).reshape(frames, vector_size), states
