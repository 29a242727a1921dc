"""Short films with known cuts: people before pictures of scikit-image, seen by a camera that moves or is disturbed."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from skimage import data

from model_core.affect import ACTION_UNITS
from model_core.faces.geometry import Frame
from training.generated.drawing import Pose, draw
from training.generated.people import person

WIDTH, HEIGHT, SIDE = 640, 360, 128
LENGTH_S = 4.0
CUT_S = 2.02
"""Time of the cut in films that have one: between two frames at any rate."""

Portrait = np.ndarray


@dataclass(frozen=True)
class Shot:
    """Somebody before a ground."""

    who: int
    """0 is the astronaut, all others are drawn."""
    ground: str = "coffee"
    x: float = 320.0
    y: float = 170.0
    side: float = SIDE
    left: float = 0.0
    """How far the camera has panned, in pixels."""
    zoom: float = 1.0
    yaw: float = 0.0
    closed: float = 0.0
    smile: float = 0.0


@dataclass(frozen=True)
class Film:
    """A shot for each time in seconds, and what is done to its pictures."""

    shot: Callable[[float], Shot]
    cut: bool = False
    """True if there is a cut at CUT_S."""
    disturb: Callable[[Frame, float], Frame] = lambda frame, _: frame


def frames(film: Film, fps: float) -> Iterator[tuple[float, Frame]]:
    """Yield the time in seconds and the picture of each frame of a film."""
    rng = np.random.default_rng(0)
    for index in range(round(LENGTH_S * fps)):
        time_s = index / fps
        noise = np.roll(_noise(), int(rng.integers(WIDTH)), axis=1)
        yield time_s, film.disturb(np.clip(picture(film.shot(time_s)) + noise, 0, 255).astype(np.uint8), time_s)


def picture(shot: Shot) -> Frame:
    """Return a shot's picture, uint8 [HEIGHT, WIDTH, 3] RGB."""
    ground = _ground(shot.ground)
    wide = np.roll(ground, -round(shot.left), axis=1)[:, :WIDTH].copy()
    portrait = _portrait(shot.who, round(shot.yaw, 2), round(shot.closed, 2), round(shot.smile, 2))
    side = round(shot.side)
    seen = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA)
    mask = cv2.resize(_mask(), (side, side))[..., None]
    x = round(shot.x - shot.left) % len(ground[0]) - side // 2
    y = round(shot.y) - side // 2
    left, right = max(0, x), min(WIDTH, x + side)
    top, bottom = max(0, y), min(HEIGHT, y + side)
    if right > left and bottom > top:
        inside = np.s_[top - y : bottom - y, left - x : right - x]
        part = wide[top:bottom, left:right]
        wide[top:bottom, left:right] = mask[inside] * seen[inside] + (1 - mask[inside]) * part
    if shot.zoom != 1:
        matrix = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), 0, shot.zoom)
        wide = cv2.warpAffine(wide, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
    return np.asarray(wide, dtype=np.uint8)


@cache
def _ground(name: str) -> Frame:
    image = np.asarray(getattr(data, name)())
    image = image if image.ndim == 3 else np.stack([image] * 3, axis=-1)
    scaled = cv2.resize(image[..., :3], (2 * WIDTH, max(HEIGHT, round(2 * WIDTH * image.shape[0] / image.shape[1]))))
    top = (len(scaled) - HEIGHT) // 2
    return np.asarray(scaled[top : top + HEIGHT], dtype=np.uint8)


@cache
def _noise() -> np.ndarray:
    return np.rint(np.random.default_rng(0).normal(0, 2, (HEIGHT, WIDTH, 3))).astype(np.int16)


@cache
def _mask() -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.float32)
    cv2.ellipse(mask, (SIDE // 2, SIDE // 2 + 4), (SIDE * 4 // 10, SIDE // 2 - 4), 0, 0, 360, 1.0, -1)
    return cv2.GaussianBlur(mask, (0, 0), 3)


@cache
def _portrait(who: int, yaw: float, closed: float, smile: float) -> Portrait:
    if who == 0:
        return np.asarray(cv2.resize(data.astronaut()[10:290, 90:370], (SIDE, SIDE), interpolation=cv2.INTER_AREA))
    levels = np.zeros(len(ACTION_UNITS))
    levels[list(ACTION_UNITS).index("AU12")] = smile
    levels[list(ACTION_UNITS).index("AU25")] = smile
    drawn = draw(person(np.random.default_rng(who)), levels, closed, Pose(yaw))
    return np.asarray(cv2.resize(drawn, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR))


def _cut(first: Shot, second: Shot) -> Film:
    return Film(lambda t: first if t < CUT_S else second, cut=True)


def _white(frame: Frame, t: float) -> Frame:
    return np.full_like(frame, 255) if 2 <= t < 2.05 else frame


def _flash(frame: Frame, t: float) -> Frame:
    return np.clip(1.6 * frame + 70.0, 0, 255).astype(np.uint8) if 2 <= t < 2.05 else frame


def _dark(frame: Frame, t: float) -> Frame:
    return (0.35 * frame).astype(np.uint8) if t >= 2 else frame


def _faded(frame: Frame, t: float) -> Frame:
    return (min(1.0, abs(t - 2)) * frame).astype(np.uint8)


def _subtitles(frame: Frame, t: float) -> Frame:
    if int(t) % 2:
        cv2.rectangle(frame, (60, 270), (580, 350), (0, 0, 0), -1)
        cv2.putText(frame, "A LINE OF SUBTITLES", (80, 325), cv2.FONT_HERSHEY_SIMPLEX, 1.3, (255, 255, 255), 3)
    return frame


def _passer_by(frame: Frame, t: float) -> Frame:
    x = round((t - 1.5) * 900) - 150
    cv2.rectangle(frame, (x, 40), (x + 260, HEIGHT), (60, 50, 70), -1)
    return frame


def _hand(frame: Frame, t: float) -> Frame:
    if 1.5 <= t < 2.5:
        cv2.ellipse(frame, (330, 195), (34, 26), 20, 0, 360, (200, 160, 140), -1)
    return frame


def films() -> Mapping[str, Film]:
    """Return all films by their names."""
    still = Shot(0)
    tables: dict[str, Film] = {
        "cut to another place": _cut(Shot(0), Shot(11, "chelsea")),
        "cut between two drawn people, other ground": _cut(Shot(11), Shot(12, "rocket")),
        "cut to a close-up": _cut(Shot(0), Shot(0, zoom=2.2)),
        "cut between two at one place, same ground": _cut(Shot(0), Shot(11)),
    }
    for other in range(13, 23):
        tables[f"cut between look-alikes {other}, same ground"] = _cut(Shot(other), Shot(other + 20))
    tables |= {
        "still": Film(lambda _: still),
        "astronaut walks 1.5 widths/s": Film(lambda t: Shot(0, x=200 + 115 * t)),
        "pan of 320 px/s": Film(lambda t: Shot(0, left=320 * t, x=320 + 320 * t)),
        "pan of 640 px/s": Film(lambda t: Shot(0, left=640 * t, x=320 + 640 * t)),
        "whip pan of 1280 px/s": Film(lambda t: Shot(0, left=1280 * max(0.0, min(t - 1.5, 1.0)))),
        "shake": Film(
            lambda t: Shot(0, left=40 + 15 * math.sin(19 * t) + 10 * math.sin(43 * t), y=170 + 12 * math.sin(31 * t))
        ),
        "zoom": Film(lambda t: Shot(0, zoom=1.6 ** math.sin(2.5 * t))),
        "white frame": Film(lambda _: still, disturb=_white),
        "flash": Film(lambda _: still, disturb=_flash),
        "light switched off": Film(lambda _: still, disturb=_dark),
        "fade out and in": Film(lambda _: still, disturb=_faded),
        "subtitles": Film(lambda _: still, disturb=_subtitles),
        "passer-by": Film(lambda _: still, disturb=_passer_by),
        "hand": Film(lambda _: still, disturb=_hand),
        "blinks": Film(lambda t: Shot(11, closed=max(0.0, math.cos(4 * t)) ** 8)),
        "smiles": Film(lambda t: Shot(11, smile=0.5 + 0.5 * math.sin(6 * t))),
        "head turns in 0.4 s": Film(lambda t: Shot(12, yaw=0.5 * math.sin(8 * t))),
        "fade to another": Film(
            lambda t: Shot(0) if t < 2 else Shot(11, "chelsea"),
            cut=True,
            disturb=_faded,
        ),
    }
    return tables
