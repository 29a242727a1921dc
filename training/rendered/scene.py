"""A portrait is path-traced with Mitsuba 3 and denoised with Intel's Open Image Denoise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.rendered.errors import RenderError
from training.rendered.mesh import joined
from training.rendered.pieces import MATERIALS, Material, Piece

_VARIANT = "llvm_ad_rgb"
_ROUGHNESS = {"skin": 0.45, "cloth": 0.9, "mouth": 0.3, "eye": 0.06, "tooth": 0.2, "hair": 0.42, "lash": 0.8}
_SPECULAR = {"skin": 0.35, "cloth": 0.1, "mouth": 0.5, "eye": 0.6, "tooth": 0.5, "hair": 0.35, "lash": 0.1}
"""Parameters of Disney's principled reflectance for each material."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera in front of the face, which looks along -z."""

    distance_cm: float
    """From the eyes."""
    height_cm: float
    """Height of what the picture shows, at the eyes' distance."""
    shift_cm: tuple[float, float]
    """What is in the middle of the picture, to the right and above the eyes."""


@dataclass(frozen=True)
class Shot:
    """Everything but the person and the movement: the head's pose, the camera and the light."""

    rotation: NDArray[np.float64]
    """float64 [3, 3], turns the head about the neck."""
    pivot: NDArray[np.float64]
    """float64 [3], in cm."""
    camera: Camera
    sky: NDArray[np.float32]
    """float32 [H, 2 H, 3], the light from all directions as an equirectangular map, in linear RGB."""


class Renderer:
    """Renders pieces as pictures of `size` pixels with `samples` light paths for each."""

    def __init__(self, size: int, samples: int) -> None:
        """Raises ModuleNotFoundError without the extra `render`, RenderError where Mitsuba finds no LLVM."""
        import drjit
        import mitsuba
        import pyoidn

        try:
            mitsuba.set_variant(_VARIANT)
        except (ImportError, RuntimeError) as error:
            raise RenderError(f"Mitsuba cannot use LLVM; DRJIT_LIBLLVM_PATH should name version 19: {error}") from error
        # One thread adds the light of all paths in the same order each time.
        drjit.set_thread_count(1)
        self._mi: Any = mitsuba
        # Mitsuba's integrator of both traces the paths once for the light and once more for the features.
        self._light = mitsuba.load_dict({"type": "path", "max_depth": 4, "hide_emitters": True})
        self._features = mitsuba.load_dict({"type": "aov", "aovs": "albedo:albedo,normal:sh_normal"})
        self._denoise: Any = pyoidn.denoise
        self._size = size
        self._samples = samples

    def render(self, pieces: Sequence[Piece], shot: Shot, seed: int) -> NDArray[np.float32]:
        """Return light and coverage, float32 [size, size, 4]: linear RGB over black, and alpha."""
        scene = self._mi.load_dict(self._scene(pieces, shot))
        light, features = (
            np.array(self._mi.render(scene, integrator=integrator, seed=seed), dtype=np.float32)
            for integrator in (self._light, self._features)
        )
        colour, alpha = light[:, :, :3], light[:, :, 3:]
        albedo, normal = features[:, :, :3], features[:, :, 3:]
        clean = self._denoise(
            np.ascontiguousarray(colour), np.ascontiguousarray(albedo), np.ascontiguousarray(normal), hdr=True
        )
        return np.concatenate([clean, alpha], axis=2)

    def _scene(self, pieces: Sequence[Piece], shot: Shot) -> dict[str, Any]:
        scene: dict[str, Any] = {
            "type": "scene",
            "sensor": self._sensor(shot.camera),
            "sky": {"type": "envmap", "bitmap": self._mi.Bitmap(shot.sky)},
        }
        offset = shot.pivot - shot.rotation @ shot.pivot
        for material in MATERIALS:
            members = [piece for piece in pieces if piece.material == material]
            if members:
                scene[material] = self._shape(material, members, shot.rotation, offset)
        return scene

    def _sensor(self, camera: Camera) -> dict[str, Any]:
        x, y = camera.shift_cm
        film = {
            "type": "hdrfilm",
            "width": self._size,
            "height": self._size,
            "pixel_format": "rgba",
            "rfilter": {"type": "box"},
        }
        return {
            "type": "perspective",
            "fov": float(np.degrees(2 * np.arctan(camera.height_cm / 2 / camera.distance_cm))),
            "to_world": self._mi.ScalarTransform4f().look_at([x, y, camera.distance_cm], [x, y, 0], [0, 1, 0]),
            "film": film,
            "sampler": {"type": "independent", "sample_count": self._samples},
        }

    def _shape(
        self, material: Material, pieces: Sequence[Piece], rotation: NDArray[np.float64], offset: NDArray[np.float64]
    ) -> Any:
        mi = self._mi
        mesh = joined([piece.mesh for piece in pieces]).moved(rotation, offset)
        surface: dict[str, Any] = {
            "type": "principled",
            "base_color": {"type": "mesh_attribute", "name": "vertex_color"},
            "roughness": _ROUGHNESS[material],
            "specular": _SPECULAR[material],
        }
        if material == "eye":
            surface |= {"clearcoat": 1.0, "clearcoat_gloss": 0.98}
        if material not in ("skin", "eye"):
            surface = {"type": "twosided", "inside": surface}
        if material == "lash":
            surface = {"type": "mask", "inside": surface, "opacity": 0.5}
        properties = mi.Properties()
        properties["surface"] = mi.load_dict(surface)
        shape = mi.Mesh(material, len(mesh.vertices), len(mesh.triangles), properties, has_vertex_normals=True)
        shape.add_attribute("vertex_color", 3, np.concatenate([piece.colours for piece in pieces]).ravel())
        parameters = mi.traverse(shape)
        parameters["vertex_positions"] = mesh.vertices.ravel()
        parameters["vertex_normals"] = mesh.normals.ravel()
        parameters["faces"] = mesh.triangles.ravel().astype(np.uint32)
        parameters.update()
        return shape
