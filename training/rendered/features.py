"""What both head models share: eyeballs, brows and hair."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.rendered.brows import brows
from training.rendered.eyes import eyeball
from training.rendered.hair import hair, hair_ribbons
from training.rendered.mesh import Mesh
from training.rendered.people import Person
from training.rendered.pieces import Piece, plain

Eye = tuple[NDArray[np.float64], float]
"""Centre [3] and radius of an eyeball, in cm."""

_ENAMEL = np.array([0.72, 0.67, 0.56])
_BROW_SHADE = 0.7
"""Brows are darker than the hair."""


class Features:
    """A person's eyeballs, brows and hair on a head.

    Each has a random generator of its own, so that people who differ in one attribute share all others.
    """

    def __init__(self, person: Person, skin: Mesh, eyes: Sequence[Eye]) -> None:
        """skin: the head at rest. eyes: the left and the right one."""
        self._person = person
        self._eyes = eyes
        left, right = (centre for centre, _ in eyes)
        brow_hairs, hairs, enamel = (np.random.default_rng([person.seed, part]) for part in (2, 3, 4))
        self._brows = brows(skin, float(np.linalg.norm(left - right)), person.brow, brow_hairs)
        self._hair = hair(skin, person.hair, hairs)
        self.enamel: NDArray[np.float64] = _ENAMEL * enamel.uniform(0.75, 1.1)
        """Colour of the teeth, float64 [3] in linear RGB."""

    def pieces(self, skin: Mesh, gaze: tuple[float, float], toward: NDArray[np.float64]) -> list[Piece]:
        """Return them for a moved face. gaze: degrees to the person's left and up. toward: [3], where the camera is."""
        colour = np.array(self._person.hair_colour)
        found = [plain("hair", self._brows.mesh(skin, toward), _BROW_SHADE * colour)]
        for centre, radius in self._eyes:
            found.append(Piece("eye", *eyeball(centre, radius, gaze, self._person.eyes, self._person.seed)))
        strands, normals = self._hair
        if len(strands):
            rng = np.random.default_rng(self._person.seed)
            mesh = hair_ribbons(strands, normals, toward, rng)
            shade = np.repeat(rng.lognormal(0, 0.3, len(strands)), len(mesh.vertices) // len(strands))
            found.append(Piece("hair", mesh, (colour * shade[:, None]).clip(0, 0.9).astype(np.float32)))
        return found
