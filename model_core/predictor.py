"""Crops in, calibrated affect out: the only door to the networks that the service uses."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_core.affect import ACTION_UNITS, ActionUnit, Affect, AffectLogits, Expression
from model_core.bundle import Bundle
from model_core.calibration import Calibration
from model_core.faces import Crop
from model_core.manifest import BundleManifest
from model_core.preprocessing import to_batch
from model_core.runtimes import RuntimeOptions, build_runtime

Outputs: TypeAlias = NDArray[np.float64]
"""One face's uncalibrated outputs, [D]: those of its network's tasks one after another, in the order of TASKS."""


class Predictor:
    """A bundle on a device. Calls must not overlap: one thread owns the network."""

    def __init__(self, bundle: Bundle, device: torch.device, options: RuntimeOptions | None = None) -> None:
        """Raises what build_runtime raises, and ValueError for a temporal bundle."""
        manifest = bundle.manifest
        if manifest.temporal:
            raise ValueError(f"{manifest.name} is temporal, and cannot be served frame by frame")
        self.manifest: BundleManifest = manifest
        self.device = device
        self.options = options or RuntimeOptions()
        tasks = tuple(manifest.network.widths)
        self._run = build_runtime(bundle.network, tasks, manifest.input.size, device, self.options)

    def predict(self, crops: Sequence[Crop]) -> list[Affect]:
        """Estimates for crops of the bundle's size and alignment, uint8 [S, S, 3] RGB, in their order.

        Raises ValueError on a crop of another shape; nothing is computed then.
        """
        return self.affects(self.outputs(crops))

    def outputs(self, crops: Sequence[Crop]) -> list[Outputs]:
        """The first half of `predict`: what the network says of each crop."""
        if not crops:
            return []
        return list(self._run(to_batch(crops, self.manifest.input)))

    def affects(self, outputs: Sequence[Outputs]) -> list[Affect]:
        """The second half: outputs, perhaps smoothed over time, become calibrated estimates. Needs no network."""
        if not outputs:
            return []
        network = self.manifest.network
        parts = torch.from_numpy(np.stack(outputs)).split(list(network.widths.values()), dim=1)
        logits = AffectLogits(**dict(zip(network.widths, parts, strict=True)))
        return calibrated(logits, network.labels, self.manifest.calibration)


def calibrated(logits: AffectLogits, labels: Sequence[str], calibration: Calibration) -> list[Affect]:
    """Logits of B faces -> B results."""
    valence_arousal, expression, units = (
        _array(value) for value in (logits.valence_arousal, logits.expression, logits.action_units)
    )
    size = next(len(array) for array in (valence_arousal, expression, units) if array is not None)
    valence_arousal = None if valence_arousal is None else calibration.valence_arousal_estimates(valence_arousal)
    expression = None if expression is None else calibration.expression_probabilities(expression)
    units = None if units is None else calibration.unit_probabilities(units)
    return [
        Affect(
            valence=None if valence_arousal is None else float(valence_arousal[i, 0]),
            arousal=None if valence_arousal is None else float(valence_arousal[i, 1]),
            expression=None if expression is None else _expression(expression[i], labels),
            action_units=None if units is None else _action_units(units[i], calibration),
        )
        for i in range(size)
    ]


def _array(value: Tensor | None) -> NDArray[np.float64] | None:
    return None if value is None else value.double().cpu().numpy()


def _expression(probabilities: NDArray[np.float64], labels: Sequence[str]) -> Expression:
    by_label = dict(zip(labels, probabilities.tolist(), strict=True))
    return Expression(max(by_label, key=by_label.__getitem__), by_label)


def _action_units(probabilities: NDArray[np.float64], calibration: Calibration) -> dict[str, ActionUnit]:
    return {
        name: ActionUnit(probability, active=probability >= calibration.unit(name).threshold)
        for name, probability in zip(ACTION_UNITS, probabilities.tolist(), strict=True)
    }
