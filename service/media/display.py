"""Turns decoded frames into what a player shows: whole frames, RGB in standard colours, square pixels, upright."""

import struct
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Self

import av
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc, VideoReformatter

from model_core.faces.geometry import Frame
from service.errors import UndecodableMedia
from service.media.colours import over_white
from service.media.demuxing import DecodedFrame
from service.media.limits import DecodeLimits

_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
"""Matrices from YCbCr to RGB, by their code in ITU-T H.273."""

_WIDE_PRIMARIES = {ColorPrimaries.BT2020, ColorPrimaries.SMPTE431, ColorPrimaries.SMPTE432}
_HDR_TRANSFERS = {ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67}


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways to turn and mirror a picture by quarters. Applied in the order of the fields."""

    is_transposed: bool = False
    is_mirrored: bool = False
    """Left and right are exchanged."""
    is_flipped: bool = False
    """Top and bottom are exchanged."""

    @classmethod
    def of(cls, picture: VideoFrame) -> Self:
        """Return the orientation that is nearest to the display matrix of a frame.

        The matrix takes the point (x, y) of the coded picture to (a x + c y, b x + d y).
        """
        # `picture.side_data` would make a cycle of references, which keeps frames until they are collected.
        side_data = SideDataContainer(picture)  # type: ignore[call-arg]  # the stub lacks its constructor
        if "DISPLAYMATRIX" not in side_data:
            return cls()
        matrix = side_data["DISPLAYMATRIX"]
        a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(is_transposed=True, is_mirrored=c < 0, is_flipped=b < 0)
        return cls(is_mirrored=a < 0, is_flipped=d < 0)

    def applied(self, frame: Frame) -> Frame:
        """Return a frame upright, its rows contiguous in memory."""
        if self.is_transposed:
            frame = frame.transpose(1, 0, 2)
        if self.is_mirrored:
            frame = frame[:, ::-1]
        if self.is_flipped:
            frame = frame[::-1]
        return np.ascontiguousarray(frame)


class Screen:
    """Shows the frames of one video."""

    def __init__(self, pixel_aspect: Fraction, limits: DecodeLimits) -> None:
        self._pixel_aspect = pixel_aspect
        self._limits = limits
        self._reformatter = VideoReformatter()

    def size(self, picture: VideoFrame) -> tuple[int, int]:
        """Return width and height of a frame as shown, in pixels. Raises TooManyPixels beyond the limit."""
        width, height = self._square_size(picture)
        return (height, width) if Orientation.of(picture).is_transposed else (width, height)

    def shown(self, picture: VideoFrame) -> Frame:
        """Return a frame as RGB, uint8 [H, W, 3]; transparent parts show white.

        Wide gamuts and HDR (PQ and HLG) are brought to BT.709: the reference white of 203 cd/m2 (ITU-R BT.2408) becomes
        white, and highlights above it are clipped. Raises TooManyPixels, and UndecodableMedia for a pixel format that
        libav cannot convert.
        """
        width, height = self._square_size(picture)
        has_alpha = picture.format.has_palette or any(part.is_alpha for part in picture.format.components)
        to_standard: dict[str, Any] = {}
        if picture.color_primaries in _WIDE_PRIMARIES or picture.color_trc in _HDR_TRANSFERS:
            to_standard = {"dst_color_primaries": ColorPrimaries.BT709, "dst_color_trc": ColorTrc.BT709}
        try:
            converted = self._reformatter.reformat(
                picture,
                width,
                height,
                "rgba" if has_alpha else "rgb24",
                src_colorspace=_matrix(picture),
                dst_colorspace=Colorspace.ITU709,
                src_color_range=picture.color_range,
                threads=1,
                **to_standard,
            )
        except MemoryError:  # which one of libav is, too
            raise
        except av.FFmpegError as error:
            raise UndecodableMedia(f"frames in the pixel format {picture.format.name} cannot be shown") from error
        [plane] = converted.planes
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)
        pixels = rows[:, : width * (4 if has_alpha else 3)].reshape(height, width, -1)
        return Orientation.of(picture).applied(over_white(pixels) if has_alpha else pixels)

    def _square_size(self, picture: VideoFrame) -> tuple[int, int]:
        """Width and height with square pixels, before turning: the side that is too short is made longer."""
        aspect = self._pixel_aspect
        width = round(picture.width * max(aspect, Fraction(1)))
        height = round(picture.height / min(aspect, Fraction(1)))
        self._limits.check_pixels(width, height)
        return width, height


def deinterlaced(frames: Iterator[DecodedFrame]) -> Iterator[DecodedFrame]:
    """Yield frames, those of two interlaced fields made whole pictures; others pass unchanged.

    From the first interlaced frame on each is held back until the next one, which the filter looks at. Raises
    UndecodableMedia for a pixel format that libav cannot filter.
    """
    try:
        yield from _deinterlaced(frames)
    except MemoryError:  # which one of libav is, too
        raise
    except av.FFmpegError as error:
        raise UndecodableMedia("the video's interlaced frames cannot be shown") from error


def _deinterlaced(frames: Iterator[DecodedFrame]) -> Iterator[DecodedFrame]:
    filtering: _Deinterlacer | None = None
    for frame in frames:
        if filtering and not filtering.accepts(frame.picture):
            yield from filtering.rest()
            filtering = None
        if filtering is None and frame.picture.interlaced_frame:
            filtering = _Deinterlacer(frame.picture)
        if filtering:
            yield from filtering.pushed(frame)
        else:
            yield frame
    if filtering:
        yield from filtering.rest()


class _Deinterlacer:
    """libav's filter bwdif, which gives a picture for each frame. Frames of one size and pixel format go through it."""

    def __init__(self, picture: VideoFrame) -> None:
        self._layout = _layout(picture)
        self._waiting: deque[DecodedFrame] = deque()
        self._graph = Graph()
        self._graph.threads = 1
        source = self._graph.add_buffer(
            width=picture.width, height=picture.height, format=picture.format, time_base=picture.time_base
        )
        bwdif = self._graph.add("bwdif", "mode=send_frame:deint=interlaced")
        self._graph.link_nodes(source, bwdif, self._graph.add("buffersink")).configure()

    def accepts(self, picture: VideoFrame) -> bool:
        """Return whether a frame can follow those before."""
        return _layout(picture) == self._layout

    def pushed(self, frame: DecodedFrame) -> Iterator[DecodedFrame]:
        """Take a frame; yield those that are ready."""
        self._waiting.append(frame)
        self._graph.vpush(frame.picture)
        return self._ready()

    def rest(self) -> Iterator[DecodedFrame]:
        """Yield the last frame, which nothing follows."""
        self._graph.vpush(None)
        return self._ready()

    def _ready(self) -> Iterator[DecodedFrame]:
        with suppress(BlockingIOError, EOFError):
            while True:
                picture = self._graph.vpull()
                yield replace(self._waiting.popleft(), picture=picture)


def _layout(picture: VideoFrame) -> tuple[int, int, str]:
    return picture.width, picture.height, picture.format.name


def _matrix(picture: VideoFrame) -> Colorspace:
    """Return the matrix from YCbCr to RGB; where a file does not tell it, players go by the size."""
    is_hd = picture.width >= 1280 or picture.height > 576
    return _MATRICES.get(picture.colorspace, Colorspace.ITU709 if is_hd else Colorspace.ITU601)
