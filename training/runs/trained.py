"""Networks that can be measured: the best weights of a run, or a bundle, with their calibration."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_core.bundles.bundle import MANIFEST, load_bundle, locate_bundle
from model_core.bundles.manifest import calibration_values, parse_calibration
from model_core.calibration import Calibration
from model_core.models.heads import AffectNetwork
from model_core.models.spec import NetworkSpec
from model_core.preprocessing import InputSpec
from training.data.prepared import PreparedFaces, load_prepared
from training.datasets import DatasetError
from training.runs.checkpoint import CheckpointError, load_trained

CALIBRATION = "calibration.json"


@dataclass(frozen=True)
class Evaluable:
    """A trained network with its calibration."""

    network: AffectNetwork
    spec: NetworkSpec
    input: InputSpec
    calibration: Calibration
    training: Mapping[str, Any]
    """Its configuration, data and validation measures, for reports and bundles."""


def load_evaluable(path: Path) -> Evaluable:
    """Read the folder of a bundle or a run. Raises BundleError, CheckpointError."""
    if (path / MANIFEST).is_file():
        bundle = load_bundle(path)
        manifest = bundle.manifest
        return Evaluable(bundle.network, manifest.network, manifest.input, manifest.calibration, manifest.training)
    trained = load_trained(path / "best.pt")
    return Evaluable(trained.build(), trained.spec, trained.input, read_calibration(path), trained.training)


def find_evaluable(model: str) -> Evaluable:
    """Read a shipped bundle by name, or the folder of a bundle or a run. Raises BundleError, CheckpointError."""
    folder = Path(model)
    return load_evaluable(folder if (folder / "best.pt").is_file() else locate_bundle(model))


def load_for_measuring(model: str, prepared: Path) -> tuple[Evaluable, PreparedFaces]:
    """Read a network (see `find_evaluable`) and the prepared set that it is to be measured on.

    Raises BundleError, CheckpointError, DatasetError.
    """
    evaluable, faces = find_evaluable(model), load_prepared(prepared)
    require_match(evaluable, faces)
    return evaluable, faces


def require_alignment(evaluable: Evaluable, faces: PreparedFaces) -> None:
    """Refuse crops that the network was not made for. Raises DatasetError."""
    if evaluable.input.alignment != faces.info.alignment:
        raise DatasetError(f"the network wants alignment {evaluable.input.alignment}, not {faces.info.alignment}")


def require_match(evaluable: Evaluable, faces: PreparedFaces) -> None:
    """Refuse crops or labels that the network was not made for. Raises DatasetError."""
    require_alignment(evaluable, faces)
    if evaluable.spec.labels and evaluable.spec.labels != faces.info.labels:
        raise DatasetError(f"the network's labels are {evaluable.spec.labels}, the data set's {faces.info.labels}")


def write_calibration(run: Path, calibration: Calibration) -> None:
    """Write a calibration beside the run's weights."""
    path = run / CALIBRATION
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(calibration_values(calibration), indent=2) + "\n")
    partial.replace(path)


def read_calibration(run: Path) -> Calibration:
    """Read the run's calibration, which is empty where none was fitted. Raises CheckpointError where it is damaged."""
    path = run / CALIBRATION
    if not path.exists():
        return Calibration()
    try:
        return parse_calibration(json.loads(path.read_text()))
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not a calibration ({error}); run training.calibrate again") from error
