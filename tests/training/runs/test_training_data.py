"""Runs on several prepared sets, from the configuration to the bundle."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from model_core.affect import ACTION_UNITS
from tests.fakes import write_prepared
from training.data.batches import Batch
from training.data.mixture import MixedFaces
from training.data.prepared import load_prepared, write_targets
from training.datasets import DatasetError
from training.export import Labelling, manifest_of
from training.runs.config import TrainConfig, load_config
from training.runs.config_file import ConfigError
from training.runs.network import NetworkRun
from training.runs.trained import load_evaluable
from training.train import build_run

CPU = torch.device("cpu")

CONFIG = """
kind = "network"
[data]
[[data.sets]]
prepared = "{folder}/faces"
share = 3
trusted_units = ["AU2", "AU12"]
[[data.sets]]
prepared = "{folder}/renders"
share = 1
tasks = ["action_units"]
[network]
backbone = "mfn-pooled"
[input]
size = 16
[optimizer]
batch_size = 8
epochs = 2
[run]
seed = 3
threads = 1
"""


def write_rendered(folder: Path) -> None:
    """A prepared set of ten rendered faces: six training, two validation and two test faces."""
    write_prepared(folder, train=6, validation=2, test=2)
    faces = load_prepared(folder)
    arrays = {name: value for name, value in vars(faces).items() if isinstance(value, np.ndarray) and name != "crops"}
    arrays["derived"] = np.zeros(10, dtype=bool)
    known = {"dataset": "rendered", "rendered": True, "derived": False, "annotators": 1}
    write_targets(folder, type(faces.info)(**{**vars(faces.info), **known}), arrays)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainConfig]:
    """A run of 2 epochs of 4 steps, of 24 faces and some of 6 rendered ones."""
    folder = tmp_path_factory.mktemp("mixed")
    write_prepared(folder / "faces", train=24, validation=4, test=2)
    write_rendered(folder / "renders")
    (folder / "config.toml").write_text(CONFIG.format(folder=folder))
    threads = torch.get_num_threads()
    yield load_config(folder / "config.toml")
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> NetworkRun:
    run = build_run(config, tmp_path_factory.mktemp("whole"), CPU)
    run.run()
    return run


class Killed(Exception):
    """Stands for the end of a process."""


def test_a_run_that_stops_within_an_epoch_goes_on_to_the_same_weights(
    config: TrainConfig, whole: NetworkRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saving = config.model_copy(update={"run": config.run.model_copy(update={"save_every": 1})})
    first = build_run(saving, tmp_path, CPU)
    step, taken = first.step, []

    def until_the_sixth(batch: Batch) -> float:
        if len(taken) == 6:
            raise Killed
        taken.append(batch)
        return step(batch)

    monkeypatch.setattr(first, "step", until_the_sixth)
    with pytest.raises(Killed):
        first.run()
    again = build_run(config, tmp_path, CPU)
    assert again.resume()
    assert (again.progress.epoch, again.progress.step) == (1, 2)
    again.run()
    expected = whole.network.state_dict()
    for name, value in again.network.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6, msg=name)
    assert again.progress.history[-1] == pytest.approx(whole.progress.history[-1], abs=1e-5)


def test_every_batch_holds_each_sets_share_and_only_what_it_teaches(whole: NetworkRun) -> None:
    assert isinstance(whole.faces, MixedFaces)
    batches = list(whole._batches_from(0))
    assert len(batches) == 4
    trusted = torch.tensor([float(name in ("AU2", "AU12")) for name in ACTION_UNITS])
    for batch in batches:
        rendered = torch.from_numpy(whole.faces.origins[batch.rows] == 1)
        assert rendered.tolist() == [False] * 6 + [True] * 2
        assert (batch.target.action_units_mask[:6] == trusted).all()
        assert (batch.target.action_units_mask[6:] == 1).all()
        assert batch.target.expression_mask.tolist() == [1] * 6 + [0] * 2
        assert batch.target.valence_arousal_mask.tolist() == [1] * 6 + [0] * 2


def test_each_set_is_validated_by_itself(whole: NetworkRun) -> None:
    record = whole.progress.history[-1]
    faces = {name.removeprefix("faces/") for name in record if name.startswith("faces/")}
    renders = {name.removeprefix("renders/") for name in record if name.startswith("renders/")}
    assert faces == {"accuracy", "macro_f1", "ccc_v", "ccc_a", "au_r", "score"}
    assert renders == {"au_r", "score"}
    assert record["score"] == pytest.approx((3 * record["faces/score"] + record["renders/score"]) / 4)


def test_a_bundle_says_what_it_was_trained_on(whole: NetworkRun) -> None:
    manifest = manifest_of(load_evaluable(whole.folder), Labelling("mixed", "1", "MIT", "Generated for tests."))
    assert manifest.references == {
        "valence_arousal": "derived",
        "expression": "annotated",
        "action_units": "derived",
    }
    assert manifest.training["dataset"] == "ferplus+rendered"
    assert manifest.training["sets"] == [
        {
            "dataset": "ferplus",
            "share": 3,
            "tasks": ["valence_arousal", "expression", "action_units"],
            "trusted_units": ["AU2", "AU12"],
            "neutral_at_rest": False,
            "resting_factor": 1,
            "balance": 0,
            "taught": False,
        },
        {
            "dataset": "rendered",
            "share": 1,
            "tasks": ["action_units"],
            "trusted_units": list(ACTION_UNITS),
            "neutral_at_rest": False,
            "resting_factor": 1,
            "balance": 0,
            "taught": False,
        },
    ]
    json.dumps(manifest.training)


def variant(config: TrainConfig, number: int, **changes: object) -> TrainConfig:
    """The configuration with one of its sets changed."""
    values = config.model_dump(mode="json")
    values["data"]["sets"][number] |= changes
    return TrainConfig.model_validate(values)


def test_what_no_set_teaches_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="none of faces, renders teaches valence arousal"):
        build_run(variant(config, 0, tasks=("expression", "action_units")), tmp_path, CPU)
    units = tuple(name for name in ACTION_UNITS if name not in ("AU4", "AU12", "AU26"))
    with pytest.raises(DatasetError, match=r"none of faces, renders teaches AU4, AU26$"):
        build_run(variant(config, 1, trusted_units=units), tmp_path, CPU)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.prepared=somewhere", "data: Value error, give either prepared, or sets"),
        ("data.sets=[]", "data: Value error, give either prepared, or sets"),
        ('data.sets=[{prepared="x", share=0}]', "data.sets.0.share: Input should be greater than 0"),
        ('data.sets=[{prepared="x", trusted_units=["AU3"]}]', "data.sets.0.trusted_units.0: Input should be 'AU1', "),
        ('data.sets=[{prepared="x", tasks=[]}]', "data.sets.0.tasks: "),
    ],
)
def test_a_mistake_is_named(whole: NetworkRun, tmp_path: Path, override: str, message: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(CONFIG.format(folder=tmp_path))
    with pytest.raises(ConfigError) as caught:
        load_config(file, [override])
    assert message in str(caught.value)
