"""Copies of faces as cameras outside the laboratory see them: each crop with one random perturbation."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from training.data.perturbations import perturbations
from training.data.prepared import PreparedFaces

STRENGTHS = (1, 2, 3)
"""The strengths that are drawn. Stronger ones leave little of a face, of which the service says so itself."""


def degraded(faces: PreparedFaces, rows: NDArray[np.int64], seed: int = 0) -> PreparedFaces:
    """Return the records at `rows`, int64 [M], each with a perturbation and a strength that its position draws.

    A record whose face was not found keeps its black crop. The targets stay, as if nothing were covered.
    """
    chosen = faces.take(rows)
    registry = list(perturbations(faces.info.alignment).values())
    crops = chosen.crops.copy()
    for position in np.flatnonzero(chosen.found):
        rng = np.random.default_rng((seed, int(position)))
        perturbation = registry[rng.integers(len(registry))]
        crops[position] = perturbation(crops[position], int(rng.choice(STRENGTHS)), rng)
    return replace(chosen, crops=crops)
