"""People who move through a picture along known paths, as a face detector would see them: truth for trackers.

A face is seen while less than half of it is covered by nearer faces and its centre is within the picture. The detector
is simulated: it jitters boxes, misses faces at random, and may be blind for a moment.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from model_core.faces.geometry import Box, Face, Landmarks, Point

WIDTH, HEIGHT = 1280, 720

FORGOTTEN_S = 2.0
"""Absence in seconds after which a person who comes back counts as somebody new: a tracker knows no faces."""

_SHARES = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))

Path = Callable[[float], Box | None]
"""The box of a face at a time in seconds; None while the person is not there."""


@dataclass(frozen=True)
class Scene:
    """Who moves where, for how long, and what disturbs the view."""

    name: str
    duration_s: float
    people: Sequence[Path]
    """From the nearest to the farthest: a nearer face covers those behind it."""
    hard: bool = False
    cuts_s: Sequence[float] = ()
    """Times of scene cuts."""
    blind_s: Sequence[tuple[float, float]] = ()
    """Spans in which the detector finds nobody."""
    false_rate: float = 0.0
    """Probability of a face in a frame where there is none."""


@dataclass(frozen=True)
class Seen:
    """A frame of a scene: the faces that the detector gives, and who they are."""

    time_s: float
    faces: Sequence[Face]
    people: Sequence[int | None]
    """Identity of each face; None where there is nobody."""
    cut: bool
    """True for the first frame behind a cut."""


def frames(scene: Scene, fps: float, seed: int = 0, jitter: float = 0.02, missed: float = 0.02) -> Iterator[Seen]:
    """Yield a scene's frames at a rate.

    `jitter` is the standard deviation of a box's place and size, as a share of its side; `missed` is the probability
    that a face is not found.
    """
    rng = np.random.default_rng(seed)
    identities = _Identities()
    previous_s = -1.0
    for index in range(round(scene.duration_s * fps)):
        time_s = index / fps
        cut = any(previous_s < at_s <= time_s for at_s in scene.cuts_s)
        if cut:
            identities = identities.after_a_cut()
        faces: list[Face] = []
        people: list[int | None] = []
        for person, box in visible(scene, time_s):
            identity = identities.of(person, time_s)
            if rng.random() < missed or any(start <= time_s < end for start, end in scene.blind_s):
                continue
            faces.append(face_in(_jittered(box, jitter, rng)))
            people.append(identity)
        if rng.random() < scene.false_rate:
            faces.append(face_in(Box(rng.uniform(0, WIDTH - 80), rng.uniform(0, HEIGHT - 80), 80, 80)))
            people.append(None)
        order = sorted(range(len(faces)), key=lambda i: -faces[i].box.area)
        yield Seen(time_s, [faces[i] for i in order], [people[i] for i in order], cut)
        previous_s = time_s


def visible(scene: Scene, time_s: float) -> list[tuple[int, Box]]:
    """Return the people whose faces can be seen at a time, by index, and their boxes."""
    seen: list[tuple[int, Box]] = []
    nearer: list[Box] = []
    for person, path in enumerate(scene.people):
        box = path(time_s)
        if box is None:
            continue
        centre = (box.x + box.width / 2, box.y + box.height / 2)
        inside = 0 <= centre[0] < WIDTH and 0 <= centre[1] < HEIGHT
        if inside and max((_covered(box, other) for other in nearer), default=0.0) < 0.5:
            seen.append((person, box))
        nearer.append(box)
    return seen


@dataclass
class _Identities:
    """Numbers for people, which change with a long absence and with a cut."""

    known: dict[int, tuple[int, float]] = field(default_factory=dict)
    count: int = 0

    def of(self, person: int, time_s: float) -> int:
        identity, last_s = self.known.get(person, (-1, -math.inf))
        if time_s - last_s > FORGOTTEN_S:
            identity, self.count = self.count, self.count + 1
        self.known[person] = (identity, time_s)
        return identity

    def after_a_cut(self) -> "_Identities":
        return _Identities({}, self.count)


def _covered(box: Box, nearer: Box) -> float:
    """Share of a box that another one covers."""
    width = min(box.x + box.width, nearer.x + nearer.width) - max(box.x, nearer.x)
    height = min(box.y + box.height, nearer.y + nearer.height) - max(box.y, nearer.y)
    return max(width, 0.0) * max(height, 0.0) / box.area


def _jittered(box: Box, jitter: float, rng: np.random.Generator) -> Box:
    dx, dy, growth = (jitter * rng.standard_normal(3)).tolist()
    side = box.width * math.exp(growth)
    x = box.x + box.width / 2 + dx * box.width
    y = box.y + box.height / 2 + dy * box.width
    return Box(x - side / 2, y - side / 2, side, side)


def face_in(box: Box) -> Face:
    """Return a face in a box, its landmarks where they would be."""
    points = (Point(box.x + u * box.width, box.y + v * box.height) for u, v in _SHARES)
    return Face(box, Landmarks(*points), 0.9)


def centred(x: float, y: float, side: float) -> Box:
    """Return the square box around a centre."""
    return Box(x - side / 2, y - side / 2, side, side)


def still(x: float, y: float, side: float = 100.0) -> Path:
    """Return the path of somebody who sits, and sways a little."""
    return lambda t: centred(x + 0.06 * side * math.sin(2 * t + x), y + 0.04 * side * math.sin(3 * t + y), side)


def walk(x: float, y: float, speed: float, side: float = 100.0, start_s: float = 0.0) -> Path:
    """Return the path of somebody who walks at `speed` px/s from a place, and whose head bobs twice a second."""
    return lambda t: centred(x + speed * (t - start_s), y + 0.05 * side * math.sin(4 * math.pi * t + x), side)


def bounce(y: float, speed: float, side: float, phase: float = 0.0) -> Path:
    """Return the path of somebody who goes to and fro between the picture's edges at `speed` px/s."""
    low, high = side / 2, WIDTH - side / 2

    def path(t: float) -> Box:
        along = (speed * t + phase) % (2 * (high - low))
        return centred(low + min(along, 2 * (high - low) - along), y, side)

    return path


def present(path: Path, *spans: tuple[float, float]) -> Path:
    """Return a path that exists in some spans of time only."""
    return lambda t: path(t) if any(start <= t < end for start, end in spans) else None


def moved(
    path: Path, dx: Callable[[float], float], dy: Callable[[float], float], zoom: Callable[[float], float]
) -> Path:
    """Return a path as a camera sees it that moves by (dx, dy) pixels and zooms about the picture's centre."""

    def seen(t: float) -> Box | None:
        box = path(t)
        if box is None:
            return None
        factor = zoom(t)
        x = WIDTH / 2 + factor * (box.x + box.width / 2 - WIDTH / 2) + dx(t)
        y = HEIGHT / 2 + factor * (box.y + box.height / 2 - HEIGHT / 2) + dy(t)
        return centred(x, y, factor * box.width)

    return seen


def meet(y: float, hidden_s: float, side: float = 100.0) -> tuple[Path, Path]:
    """Return the paths of two who pass each other on one line; the one behind is hidden for `hidden_s`.

    Each is covered by half or more while their centres are less than half a side apart.
    """
    speed = side / (2 * hidden_s)
    middle_s = 4.0
    return (
        walk(WIDTH / 2 - speed * middle_s, y, speed, side),
        walk(WIDTH / 2 + speed * middle_s, y, -speed, side),
    )


def halt(y: float, hidden_s: float, side: float = 100.0) -> tuple[Path, Path]:
    """Return the paths of one who sits, and of one who walks behind, stands still there, and walks on."""
    speed = 1.5 * side

    def behind(t: float) -> Box:
        walked = min(t, 4.0) + max(0.0, t - 4.0 - hidden_s)
        return centred(WIDTH / 2 + speed * (walked - 4.0), y, 0.9 * side)

    return still(WIDTH / 2, y, side), behind


def _nothing(_: float) -> float:
    return 0.0


def _shake(strength: float) -> tuple[Callable[[float], float], Callable[[float], float], Callable[[float], float]]:
    return (
        lambda t: strength * (math.sin(2 * math.pi * 3.1 * t) + 0.5 * math.sin(2 * math.pi * 7.3 * t)),
        lambda t: strength * (math.sin(2 * math.pi * 2.7 * t + 1) + 0.5 * math.sin(2 * math.pi * 6.1 * t)),
        lambda _: 1.0,
    )


def _row(count: int, side: float = 100.0, gap: float = 1.6) -> list[Path]:
    return [still(WIDTH / 2 + (i - (count - 1) / 2) * gap * side, HEIGHT / 2, side) for i in range(count)]


def _crowd(count: int, seed: int) -> list[Path]:
    """People who stroll in all directions at different speeds, nearer ones larger."""
    rng = np.random.default_rng(seed)
    paths = []
    for side in sorted(rng.uniform(60, 140, count), reverse=True):
        a = rng.uniform(0.3, 0.9, 4)
        b = rng.uniform(0, 6.28, 4)

        def path(t: float, a: np.ndarray = a, b: np.ndarray = b, side: float = side) -> Box:
            x = WIDTH / 2 + 360 * math.sin(a[0] * t + b[0]) + 160 * math.sin(a[1] * t + b[1])
            y = HEIGHT / 2 + 160 * math.sin(a[2] * t + b[2]) + 80 * math.sin(a[3] * t + b[3])
            return centred(x, y, float(side))

        paths.append(path)
    return paths


def scenes() -> list[Scene]:
    """Return all scenes, the easy ones first."""
    five = [
        walk(WIDTH / 2 - s * (4 + 0.3 * i), HEIGHT / 2, s, 110 - 6 * i)
        for i, s in enumerate((130, -140, 210, -90, -230))
    ]
    strides = [
        present(walk(-40, 300, 240, 90), (0, 5.6)),
        present(walk(WIDTH + 40, 300, -240, 90, 6.5), (6.5, 12.5)),
    ]
    visitors = [
        present(walk(-40, 200, 260, 110), (0, 5.2)),
        present(walk(WIDTH + 40, 420, -200, 100, 1.5), (1.5, 8.5)),
        present(still(640, 560, 90), (2, 10)),
        present(walk(-40, 330, 180, 80, 4), (4, 10)),
        present(still(200, 600, 100), (0, 4), (8, 10)),
    ]
    return [
        Scene("a row of six", 8, _row(6)),
        Scene("detector blinks", 8, _row(3), blind_s=[(1, 1.3), (2.5, 3.0), (5, 5.7)]),
        Scene("zoom", 6, [moved(p, _nothing, _nothing, lambda t: 2 ** math.sin(2 * t)) for p in _row(3, 70)]),
        Scene("shake", 8, [moved(p, *_shake(22)) for p in _row(5)]),
        Scene("entering and leaving", 10, visitors),
        Scene("passing, 0.5 s hidden", 8, meet(360, 0.5)),
        Scene("two cuts", 9, _row(2), cuts_s=[3, 6]),
        Scene("passing, 1.5 s hidden", 8, meet(360, 1.5), hard=True),
        Scene("halting behind, 1 s", 9, halt(360, 1.0 - 0.5 / 1.5), hard=True),
        Scene("five on one line", 8, five, hard=True),
        Scene("out and back", 12, strides, hard=True),
        Scene("2 widths a second", 8, [bounce(200, 160, 80), bounce(500, 160, 80, 500)], hard=True),
        Scene("4 widths a second", 8, [bounce(200, 320, 80), bounce(500, 320, 80, 500)], hard=True),
        Scene("10 widths a second", 8, [bounce(200, 600, 60), bounce(500, 600, 60, 500)], hard=True),
        Scene("strong shake", 8, [moved(p, *_shake(45)) for p in _row(5)], hard=True),
        Scene("a crowd of eight", 20, _crowd(8, 3), hard=True),
        Scene("false faces", 10, _crowd(3, 5), hard=True, false_rate=0.1),
        Scene("a seat taken again", 10, [present(still(640, 360), (0, 4)), present(still(650, 350), (7, 10))]),
    ]
