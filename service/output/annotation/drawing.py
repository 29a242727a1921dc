"""Draws an analysis on frames: boxes with ids, expressions, valence and arousal, active units, and a time line."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model_core.faces.geometry import Box, Frame
from service.output.annotation.samples import Mark, Sample

Colour = tuple[int, int, int]

COLOURS: Final[Sequence[Colour]] = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 200, 140),
    (240, 228, 66),
    (204, 121, 167),
    (213, 94, 0),
    (120, 140, 255),
)
"""Colours of tracks in turn: those of Okabe and Ito, which people with colour-vision deficiencies tell apart."""

_WHITE: Final = (255, 255, 255)
_DARK: Final = (20, 20, 20)
_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
_SHADE = 0.55
"""Opacity of what lies under a text or a dot."""

MOST_BINS = 512
"""Most points of the time line's curve, within each of which a long video is averaged."""

_CURVE_FROM = 16
"""Height of the time line in pixels from which it has a curve, and not only the time that has passed."""


class TimeLine:
    """The mean valence of all faces over the length of a video."""

    def __init__(self, samples: Iterable[Sample], begin_s: float, end_s: float, count: int) -> None:
        """Read all samples, of which there are `count`, from `begin_s` to `end_s` in seconds."""
        self._begin_s = begin_s
        self._length_s = max(end_s - begin_s, 1e-6)
        bins = min(MOST_BINS, max(1, count // 2))  # half as many as samples, so that hardly any is empty
        sums = np.zeros(bins)
        counts = np.zeros(bins)
        for sample in samples:
            place = min(bins - 1, int(self.share(sample.time_s) * bins))
            for mark in sample.faces:
                if mark.valence is not None:
                    sums[place] += mark.valence
                    counts[place] += 1
        self.valence: NDArray[np.float64] = np.divide(sums, counts, out=np.full(bins, np.nan), where=counts > 0)
        """float64 [N], in [-1, 1]; NaN where there is no face."""

    def share(self, time_s: float) -> float:
        """Return the share of the video that lies before a time, in [0, 1]."""
        return min(1.0, max(0.0, (time_s - self._begin_s) / self._length_s))


@dataclass(frozen=True)
class _Sizes:
    """Sizes in pixels that suit a frame."""

    line: int
    """Width of lines, at least two: colours have half the resolution in a video."""
    stroke: int
    """Width of the lines of letters."""
    text: float
    """Scale of the font."""
    plane: int
    """Side of the square in which valence and arousal are a dot."""
    strip: int
    """Height of the time line."""

    @classmethod
    def of(cls, frame: Frame) -> "_Sizes":
        side = min(frame.shape[:2])
        return cls(
            max(2, side // 270), max(1, side // 450), max(0.35, side / 1100), max(18, side // 9), max(3, side // 18)
        )


class Painter:
    """Draws on frames, in place; what does not fit in a frame is left out or moved."""

    def __init__(self, line: TimeLine) -> None:
        self._line = line

    def draw(self, frame: Frame, marks: Sequence[Mark], time_s: float) -> None:
        """Draw the faces of a frame, uint8 [H, W, 3] RGB, whose boxes are in its pixels, and the time line."""
        sizes = _Sizes.of(frame)
        for mark in sorted(marks, key=lambda each: each.box.area):
            colour = COLOURS[(mark.track_id - 1) % len(COLOURS)]
            _draw_box(frame, mark.box, colour, sizes)
            _draw_words(frame, mark, colour, sizes)
            if mark.valence is not None and mark.arousal is not None:
                _draw_plane(frame, mark.box, (mark.valence, mark.arousal), colour, sizes)
        self._draw_strip(frame, time_s, sizes)

    def _draw_strip(self, frame: Frame, time_s: float, sizes: _Sizes) -> None:
        """Draw the time that has passed, and the curve of valence about a middle line, at the lower border."""
        height, width = frame.shape[:2]
        top = height - sizes.strip
        _shade(frame, 0, top, width, height)
        passed = round(self._line.share(time_s) * (width - 1))
        if sizes.strip >= _CURVE_FROM:
            middle = top + sizes.strip // 2
            cv2.line(frame, (0, middle), (width - 1, middle), (110, 110, 110), 1)
            bins = len(self._line.valence)
            x = np.round((np.arange(bins) + 0.5) / bins * (width - 1)).astype(np.int32)
            y = np.round(middle - self._line.valence * (sizes.strip / 2 - 2))
            for piece in _unbroken(y):
                points = np.stack([x[piece], y[piece].astype(np.int32)], axis=1)
                cv2.polylines(frame, [points], False, (140, 220, 160), sizes.stroke, cv2.LINE_AA)
        else:
            cv2.rectangle(frame, (0, top + 1), (passed, height - 1), (150, 150, 150), cv2.FILLED)
        cv2.line(frame, (passed, top), (passed, height - 1), _WHITE, sizes.line + 1)


def _draw_box(frame: Frame, box: Box, colour: Colour, sizes: _Sizes) -> None:
    left, top = round(box.x), round(box.y)
    right, bottom = round(box.x + box.width), round(box.y + box.height)
    cv2.rectangle(frame, (left, top), (right, bottom), _DARK, sizes.line + 2, cv2.LINE_AA)
    cv2.rectangle(frame, (left, top), (right, bottom), colour, sizes.line, cv2.LINE_AA)


def _draw_words(frame: Frame, mark: Mark, colour: Colour, sizes: _Sizes) -> None:
    """Write id and expression above a box, or at its upper border where there is no room, and the units below it."""
    title = f"{mark.track_id}" if mark.label is None else f"{mark.track_id} {mark.label}"
    row = _row_height(sizes)
    left = round(mark.box.x)
    _write(frame, title, (left, max(0, round(mark.box.y) - row)), colour, sizes)
    top = min(round(mark.box.y + mark.box.height), frame.shape[0] - sizes.strip - row)
    words = _wrapped(mark.units, frame, sizes, max(mark.box.width, 6 * row))
    for number, text in enumerate(words):
        _write(frame, text, (left, top + number * row), _WHITE, sizes)


def _wrapped(units: Sequence[str], frame: Frame, sizes: _Sizes, width: float) -> list[str]:
    """Return the names of units in lines of at most a width in pixels, if one name fits."""
    lines: list[str] = []
    for unit in units:
        longer = f"{lines[-1]} {unit}" if lines else unit
        if lines and _text_width(longer, sizes) <= min(width, frame.shape[1]):
            lines[-1] = longer
        else:
            lines.append(unit)
    return lines


def _draw_plane(frame: Frame, box: Box, valence_arousal: tuple[float, float], colour: Colour, sizes: _Sizes) -> None:
    """Draw a small square beside a box, in which valence grows to the right and arousal upwards, with a dot."""
    side = sizes.plane
    height, width = frame.shape[:2]
    left = round(box.x + box.width) + 2 * sizes.line
    if left + side > width:
        left = round(box.x) - side - 2 * sizes.line
    left = min(max(0, left), max(0, width - side))
    top = min(max(0, round(box.y)), max(0, height - sizes.strip - side))
    _shade(frame, left, top, left + side, top + side)
    middle = (left + side // 2, top + side // 2)
    cv2.line(frame, (left, middle[1]), (left + side, middle[1]), (150, 150, 150), 1)
    cv2.line(frame, (middle[0], top), (middle[0], top + side), (150, 150, 150), 1)
    radius = max(2, side // 12)
    valence, arousal = (min(1.0, max(-1.0, value)) for value in valence_arousal)
    reach = side / 2 - radius
    dot = (round(middle[0] + valence * reach), round(middle[1] - arousal * reach))
    cv2.circle(frame, dot, radius, colour, cv2.FILLED, cv2.LINE_AA)
    cv2.circle(frame, dot, radius, _WHITE, 1, cv2.LINE_AA)


def _write(frame: Frame, text: str, corner: tuple[int, int], colour: Colour, sizes: _Sizes) -> None:
    """Write a text on a shade of its own, whose upper left corner is at a place, moved so that it is in the frame."""
    row = _row_height(sizes)
    width = _text_width(text, sizes)
    left = min(max(0, corner[0]), max(0, frame.shape[1] - width))
    top = min(max(0, corner[1]), max(0, frame.shape[0] - row))
    _shade(frame, left, top, left + width, top + row)
    base = (left + row // 5, top + round(0.75 * row))
    cv2.putText(frame, text, base, _FONT, sizes.text, colour, sizes.stroke, cv2.LINE_AA)


def _row_height(sizes: _Sizes) -> int:
    return round(32 * sizes.text) + 2


def _text_width(text: str, sizes: _Sizes) -> int:
    (width, _), _ = cv2.getTextSize(text, _FONT, sizes.text, sizes.stroke)
    return int(width) + 2 * (_row_height(sizes) // 5)


def _shade(frame: Frame, left: int, top: int, right: int, bottom: int) -> None:
    part = frame[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    part[:] = (part * (1 - _SHADE)).astype(np.uint8)


def _unbroken(values: NDArray[np.float64]) -> Iterator[slice]:
    """Yield the longest runs of values without a NaN."""
    known = np.flatnonzero(~np.isnan(values))
    for run in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):
        if len(run):
            yield slice(int(run[0]), int(run[-1]) + 1)
