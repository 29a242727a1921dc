"""`python -m training.export`: a run's best weights and calibration -> a bundle that the service loads."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_core.affect import LEARNED_TASKS, TASKS, Reference, Task
from model_core.bundles.bundle import BundleError, save_bundle
from model_core.bundles.manifest import BundleManifest, TemporalSpec
from training.measuring.trust import unit_notes
from training.runs.checkpoint import CheckpointError
from training.runs.command_line import CommandParser, fail
from training.runs.trained import CALIBRATION, Evaluable, load_evaluable

_ADDED = tuple(task for task in TASKS if task not in LEARNED_TASKS)
"""The tasks that are read off a finished network."""


@dataclass(frozen=True)
class Labelling:
    """Facts that only the person who exports knows. data_terms: one sentence on the terms of the training data."""

    name: str
    version: str
    licence: str
    data_terms: str


def manifest_of(trained: Evaluable, labelling: Labelling, reports: Sequence[dict[str, Any]] = ()) -> BundleManifest:
    """Describe a trained network, with where the references of its tasks came from.

    `reports` are those of `training.evaluate` on its test sets. Raises CheckpointError, and ValueError where two of
    them are on the same set.
    """
    training = trained.training
    if "videos" in training:
        origin, references = training["videos"], dict.fromkeys(trained.spec.tasks, training["videos"]["reference"])
    elif "prepared" in training:
        origin, references = training["prepared"], _references(trained)
    else:
        raise CheckpointError("only a training run can be exported, and this is a bundle")
    notes = unit_notes(reports, _unit_references(training)) if "action_units" in trained.spec.tasks else None
    return BundleManifest(
        name=labelling.name,
        version=labelling.version,
        network=trained.spec,
        input=trained.input,
        detector=origin["detector"],
        references=references,
        calibration=trained.calibration,
        licence=labelling.licence,
        training={
            "dataset": origin["dataset"],
            "data_terms": labelling.data_terms,
            "options": _options(training["config"]),
            "validation": training["validation"],
            **{task: _added(training[task]) for task in _ADDED if task in training},
            **({"sets": [_described(each) for each in training["sets"]]} if "sets" in training else {}),
        },
        quality=quality_of(reports),
        temporal=_temporal(trained),
        unit_notes=notes,
    )


def uncalibrated_tasks(trained: Evaluable) -> list[Task]:
    """Return the tasks of a network whose outputs no calibration was fitted for, in the network's order."""
    return [task for task in trained.spec.tasks if not trained.calibration.fitted(task)]


def _references(trained: Evaluable) -> dict[Task, Reference]:
    """Of a prepared set: expressions were annotated or composed; what else was derived, the set says.

    Of several sets, the one with the largest share among those that teach a task decides.
    """
    training = trained.training
    alone = {"prepared": training["prepared"], "tasks": trained.spec.tasks}
    sets = _by_rising_share(training) or [alone]
    largest = {task: each["prepared"] for each in sets for task in each["tasks"]}
    return {task: _reference(task, largest[task]) for task in trained.spec.learned.tasks} | _added_references(training)


def _added_references(training: Mapping[str, Any]) -> dict[Task, Reference]:
    """Of what is read off a network: the weaker one of several origins, for a teacher's readings are no knowledge."""
    sets = {task: training[task]["sets"] for task in _ADDED if task in training}
    return {task: "rendered" if all(each.get("rendered") for each in of) else "derived" for task, of in sets.items()}


def _by_rising_share(training: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the sets of a mixture by rising share, and of equal ones the first last; none where there is one set."""
    sets = list(training.get("sets", []))
    sets.reverse()  # sorting keeps the order of equal ones
    return sorted(sets, key=lambda each: float(each["share"]))


def _reference(task: Task, prepared: Mapping[str, Any]) -> Reference:
    if prepared.get("rendered"):
        return "rendered"
    annotated = task == "expression" or (task == "valence_arousal" and prepared.get("annotated"))
    return "annotated" if annotated or not prepared["derived"] else "derived"


def _unit_references(training: Mapping[str, Any]) -> dict[str, Reference] | None:
    """Return the origin of each unit's targets, by the same rule as for tasks; None where all have the same."""
    teaching = [each for each in _by_rising_share(training) if "action_units" in each["tasks"]]
    origins = {
        unit: _reference("action_units", each["prepared"]) for each in teaching for unit in each["trusted_units"]
    }
    return origins if len(set(origins.values())) > 1 else None


def _described(each: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of one of the sets that a bundle was trained on."""
    kept = ("share", "tasks", "trusted_units", "neutral_at_rest", "resting_factor", "balance", "taught")
    return {"dataset": each["prepared"]["dataset"]} | {name: each[name] for name in kept if name in each}


def _added(head: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of what the head of a task was fitted to that is read off the network."""
    told = {"datasets": [each["dataset"] for each in head["sets"]], "validation": head["validation"]}
    return told | ({"fitted_to": head["fitted_to"]} if "fitted_to" in head else {})


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without its places: where files lay on the training machine is nobody's business."""
    options = {name: table for name, table in config.items() if name not in ("data", "run", "encoder")}
    options["network"] = {name: value for name, value in options["network"].items() if name != "start_from"}
    if options.get("teacher"):
        options["teacher"] = {name: value for name, value in options["teacher"].items() if name != "network"}
    return options


def _temporal(trained: Evaluable) -> TemporalSpec | None:
    if trained.spec.recurrent is None:
        return None
    config = trained.training["config"]
    window = config["window"]
    return TemporalSpec(config["data"]["frame_rate"], window["length"], window["state"], window["max_gap_s"])


def read_quality(path: Path) -> dict[str, Any]:
    """Read what `training.evaluate` wrote. Raises OSError, and ValueError for a file that is no JSON object."""
    try:
        quality = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error})") from error
    if not isinstance(quality, dict):
        raise ValueError(f"{path} holds no JSON object")
    return quality


def quality_of(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return one report as it is, and several by the names of their data sets.

    Raises ValueError where one of several names no set, or two the same.
    """
    if len(reports) <= 1:
        return dict(*reports)
    names = [report.get("faces", {}).get("dataset") for report in reports]
    if None in names or len(set(names)) < len(names):
        raise ValueError(f"several reports must be on different data sets, not on {', '.join(map(str, names))}")
    return dict(zip(names, reports, strict=True))


def main() -> None:
    """Command line."""
    parser = CommandParser(prog="python -m training.export", description=__doc__)
    parser.add_argument("--run", required=True, type=Path, help="run folder with best.pt and calibration.json")
    parser.add_argument("--out", required=True, type=Path, help="new folder for the bundle")
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--licence", required=True, help="licence of the weights, as an SPDX identifier")
    parser.add_argument("--data-terms", required=True, help="one sentence on the terms of the training data")
    parser.add_argument(
        "--quality",
        nargs="+",
        type=Path,
        default=[],
        metavar="JSON",
        help="written by training.evaluate: --out, or protocol.json; one for each data set, where there are several",
    )
    parser.add_argument("--uncalibrated", action="store_true", help="export a run whose calibration was not fitted")
    args = parser.parse_args()
    try:
        reports = [read_quality(path) for path in args.quality]
        trained = load_evaluable(args.run)
        labelling = Labelling(args.name, args.version, args.licence, args.data_terms)
        manifest = manifest_of(trained, labelling, reports)
        if not args.uncalibrated and not (args.run / CALIBRATION).exists():
            how = "run training.calibrate first, or export it as it is with --uncalibrated"
            raise CheckpointError(f"{args.run} has no calibration: {how}")
        saved = save_bundle(args.out, manifest, trained.network)
    except (BundleError, CheckpointError, OSError, ValueError) as error:
        fail(error)
    print(f"{args.out}: {saved.name} {saved.version}, weights {saved.weights_sha256[:12]}…")
    if missing := uncalibrated_tasks(trained):
        print(f"warning: not calibrated, and served as the network gives it: {', '.join(missing)}")


if __name__ == "__main__":
    main()
