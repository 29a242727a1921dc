"""A run of the features of a region on flat faces, of which those that move are brighter."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model_core.affect import ACTION_UNITS
from model_core.models.spec import NetworkSpec
from tests.fakes import write_prepared
from tests.training.sittings import AU12, write_sittings
from training.datasets import DatasetError
from training.runs.checkpoint import load_trained
from training.runs.config import FaceRegionConfig
from training.runs.config_file import ConfigError, checked, read_values
from training.runs.face_region import FaceRegionRun, build_face_region_run
from training.runs.trained import load_evaluable


def run_of(tmp_path: Path, prepared: Path, *overrides: str, kind: str = "eye-region") -> FaceRegionRun:
    file = tmp_path / "config.toml"
    file.write_text(
        f'kind = "{kind}"\n[data]\nprepared = "{prepared}"\n[augmentation]\nrotation_deg = 4\n'
        "[optimizer]\nrate = 2e-3\nbatch_size = 8\nepochs = 2\n"
    )
    config = checked(FaceRegionConfig, read_values(file, overrides), "config.toml")
    return build_face_region_run(config, tmp_path / "run")


@pytest.fixture(scope="module")
def sittings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight training faces of six people, of one of whom a face is not found, and validation faces of two."""
    folder = tmp_path_factory.mktemp("eyes") / "prepared"
    return write_sittings(folder, ["train"] * 6 + ["validation"] * 2, missing=(5,))


@pytest.mark.parametrize("kind", ["eye-region", "mouth-region"])
def test_a_run_learns_and_goes_on_where_it_stopped(kind: str, sittings: Path, tmp_path: Path) -> None:
    run = run_of(tmp_path, sittings, kind=kind)
    assert run.options.steps == (6 * 4 - 1) // 8
    run.run()
    trained = load_trained(tmp_path / "run" / "best.pt")
    assert trained.spec == NetworkSpec(kind, ("action_units",))
    assert not any(name.startswith("seen") for name in trained.weights)
    evaluable = load_evaluable(tmp_path / "run")
    assert (evaluable.input.size, evaluable.input.colour) == (112, "grey")
    again = run_of(tmp_path, sittings, kind=kind)
    assert again.resume()
    assert again.progress.epoch == 2
    for name, value in run._trained.state_dict().items():
        assert torch.equal(again._trained.state_dict()[name], value)


def test_the_loss_counts_units_and_what_else_is_known(sittings: Path, tmp_path: Path) -> None:
    losses = {}
    for weight in (0.0, 0.5):
        run = run_of(tmp_path, sittings, f"loss.seen={weight}")
        run.seen[:] = 2.0
        head = run._trained["seen"]
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        losses[weight] = run.step(next(iter(run.batches())))
    # Every known value is 2 or -2, and 0 is told.
    assert losses[0.5] - losses[0.0] == pytest.approx(0.5 * 4, abs=1e-5)


def test_mirror_images_are_told_to_look_to_the_other_side(sittings: Path, tmp_path: Path) -> None:
    run = run_of(tmp_path, sittings)
    batches = list(run.batches())
    mirrored = np.concatenate([batch.mirrored for batch in batches])
    assert 0 < mirrored.sum() < len(mirrored) == 2 * 8
    assert batches[0].target.action_units[:, AU12].max() == pytest.approx(0.8)
    assert len(ACTION_UNITS) == batches[0].target.action_units.shape[1]


@pytest.mark.parametrize("override", ["input.size=96", "input.oriented=true"])
def test_other_crops_are_refused(sittings: Path, tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError, match="a region is read from crops of 112 pixels that are not oriented"):
        run_of(tmp_path, sittings, override)


def test_faces_that_are_not_rendered_are_refused(tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "prepared", train=8, validation=4, test=2)
    with pytest.raises(DatasetError, match="prepared does not hold rendered faces, of which it is known what moves"):
        run_of(tmp_path, prepared)
