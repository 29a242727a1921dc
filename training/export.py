"""`python -m training.export`: a run's best weights and calibration -> a bundle that the service loads."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from model_core.affect import Reference, Task
from model_core.bundle import BundleError, save_bundle
from model_core.manifest import BundleManifest
from training.checkpoint import CheckpointError
from training.trained import Evaluable, load_evaluable


def manifest_of(
    trained: Evaluable, *, name: str, version: str, licence: str, data_terms: str, quality: dict[str, Any]
) -> BundleManifest:
    """Describe a trained network. Expressions were annotated; what else was derived, the set says."""
    if "prepared" not in trained.training:
        raise CheckpointError("only a training run can be exported, and this is a bundle")
    prepared = trained.training["prepared"]
    derived: Reference = "derived" if prepared["derived"] else "annotated"
    # Where files lay on the training machine is nobody's business.
    options = {name: table for name, table in trained.training["config"].items() if name not in ("data", "run")}
    options["network"] = {name: value for name, value in options["network"].items() if name != "start_from"}
    annotated = {"expression"} | ({"valence_arousal"} if prepared.get("annotated") else set())
    references: dict[Task, Reference] = {
        task: "annotated" if task in annotated else derived for task in trained.spec.tasks
    }
    return BundleManifest(
        name=name,
        version=version,
        network=trained.spec,
        input=trained.input,
        detector=prepared["detector"],
        references=references,
        calibration=trained.calibration,
        licence=licence,
        training={
            "dataset": prepared["dataset"],
            "data_terms": data_terms,
            "options": options,
            "validation": trained.training["validation"],
        },
        quality=quality,
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.add_argument("--run", required=True, type=Path, help="run folder with best.pt and calibration.json")
    parser.add_argument("--out", required=True, type=Path, help="new folder for the bundle")
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--licence", required=True, help="licence of the weights, as an SPDX identifier")
    parser.add_argument("--data-terms", required=True, help="one sentence on the terms of the training data")
    parser.add_argument("--quality", type=Path, help="JSON written by training.evaluate --out on the test split")
    args = parser.parse_args()
    try:
        quality = json.loads(args.quality.read_text()) if args.quality else {}
        trained = load_evaluable(args.run)
        manifest = manifest_of(
            trained,
            name=args.name,
            version=args.version,
            licence=args.licence,
            data_terms=args.data_terms,
            quality=quality,
        )
        saved = save_bundle(args.out, manifest, trained.network)
    except (BundleError, CheckpointError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"{args.out}: {saved.name} {saved.version}, weights {saved.weights_sha256[:12]}…")


if __name__ == "__main__":
    main()
