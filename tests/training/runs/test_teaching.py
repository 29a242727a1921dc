"""A network that learns another one's answers to a set's faces, averaged over each face and its mirror image."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit

from model_core.preprocessing import own_weights
from tests.fakes import write_prepared
from tests.training.conftest import FinishedRun
from training.data.mirror_images import logits_of, vectors_of
from training.data.prepared import load_prepared
from training.measuring.scoring import collect
from training.runs.checkpoint import CheckpointError, load_trained, save_trained
from training.runs.config import TrainConfig, load_config
from training.runs.config_file import ConfigError
from training.runs.network import NetworkRun
from training.runs.processes import Processes
from training.runs.trained import load_evaluable
from training.studies.symmetry import mirrored
from training.train import build_run

CPU = torch.device("cpu")

CONFIG = """
kind = "network"
[data]
[[data.sets]]
prepared = "{folder}/own"
[[data.sets]]
prepared = "{folder}/others"
taught = true
[network]
backbone = "mfn-pooled"
start_from = "{folder}/teacher"
[teacher]
network = "{folder}/teacher"
[input]
size = 16
[loss]
vector = 1.0
[optimizer]
rate = 1e-3
batch_size = 8
epochs = 4
fixed_norm_epochs = 4
average_decay = 0.5
[run]
threads = 1
"""


@pytest.fixture(scope="module")
def config(finished: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of 4 epochs of 4 steps, whose teacher averages over mirror images and is where it starts from."""
    folder = tmp_path_factory.mktemp("taught")
    for name in ("own", "others"):
        write_prepared(folder / name, train=16, validation=8, test=2)
    trained = load_trained(finished.folder / "best.pt")
    (folder / "teacher").mkdir()
    averaged = replace(trained, input=replace(trained.input, with_mirror_image=True))
    save_trained(averaged, folder / "teacher" / "best.pt")
    (folder / "config.toml").write_text(CONFIG.format(folder=folder))
    threads = torch.get_num_threads()
    yield folder / "config.toml"
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def run(config: Path, tmp_path_factory: pytest.TempPathFactory) -> NetworkRun:
    run = build_run(load_config(config), tmp_path_factory.mktemp("run"), CPU)
    run.run()
    return run


def test_only_faces_that_are_taught_have_the_teachers_answers(config: Path, run: NetworkRun) -> None:
    teacher = load_evaluable(config.parent / "teacher")
    untaught = replace(run, teacher=None)
    untaught.progress = run.progress
    plain, taught = list(untaught._batches_from(0)), list(run._batches_from(0))
    assert len(taught) == len(plain) == 4
    for batch, own in zip(taught, plain, strict=True):
        assert torch.equal(batch.images, own.images)
        assert batch.lesson is not None
        assert batch.lesson.places.tolist() == [4, 5, 6, 7]
        for name, value in vars(batch.target).items():
            assert torch.equal(value[:4], vars(own.target)[name][:4])
        images = batch.images[4:]
        with torch.inference_mode():
            logits = logits_of(teacher.network.eval(), images, teacher.input)
            vectors = vectors_of(teacher.network.backbone, images, teacher.input)
        assert logits.expression is not None
        assert logits.action_units is not None
        target = batch.target
        torch.testing.assert_close(batch.lesson.vectors, vectors, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(target.expression[4:], logits.expression.softmax(dim=1), atol=1e-5, rtol=0)
        torch.testing.assert_close(target.action_units[4:], logits.action_units.sigmoid(), atol=1e-5, rtol=0)
        torch.testing.assert_close(target.valence_arousal[4:], logits.valence_arousal, atol=1e-5, rtol=0)
        masks = (target.expression_mask, target.valence_arousal_mask, target.action_units_mask)
        assert all(bool((mask[4:] == 1).all()) for mask in masks)


def asymmetry(run: NetworkRun, prepared: Path) -> float:
    """Mean difference of the probabilities of action units between validation faces and their mirror images."""
    faces = load_prepared(prepared)
    faces = faces.take(faces.indices("validation"))
    rows = np.arange(len(faces))
    plain, mirror = (collect(run.network, each, rows, run.input, CPU).action_units for each in (faces, mirrored(faces)))
    assert plain is not None
    assert mirror is not None
    return float(np.abs(expit(plain) - expit(mirror)).mean())


def test_a_learner_that_reads_once_comes_closer_to_its_mirror_image(
    config: Path, run: NetworkRun, tmp_path: Path
) -> None:
    before = asymmetry(build_run(load_config(config), tmp_path, CPU), config.parent / "own")
    assert not run.input.with_mirror_image
    assert asymmetry(run, config.parent / "own") < before


def test_a_network_of_oriented_faces_sees_the_brighter_half_on_the_left(config: Path, tmp_path: Path) -> None:
    run = build_run(load_config(config, ["input.oriented=true"]), tmp_path, CPU)
    images = np.concatenate([batch.images.numpy() for batch in run._batches_from(0)])
    assert (own_weights(images, run.input) >= 0.5).all()
    plain = np.concatenate(
        [batch.images.numpy() for batch in build_run(load_config(config), tmp_path, CPU)._batches_from(0)]
    )
    assert (own_weights(plain, run.input) < 0.5).any()


def test_what_is_taught_is_told(run: NetworkRun) -> None:
    training = load_trained(run.folder / "best.pt").training
    assert [each["taught"] for each in training["sets"]] == [False, True]


def test_the_engine_of_the_teacher_does_not_decide_the_weights(config: Path) -> None:
    plain = load_config(config).fingerprint()
    assert load_config(config, ["teacher.engine=openvino"]).fingerprint() == plain
    assert load_config(config, ["teacher.precision=bfloat16"]).fingerprint() != plain


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["network.backbone=ddamfn", "input.size=112"], "cannot teach: it is no framewise network with a ddamfn"),
        (["input.colour=rgb"], "cannot teach: it sees other pictures"),
        (["teacher.network={fewer}"], "cannot teach valence_arousal, action_units, which it does not tell"),
    ],
    ids=["backbone", "pictures", "tasks"],
)
def test_a_teacher_that_does_not_fit_is_refused(
    config: Path, tmp_path: Path, overrides: list[str], message: str
) -> None:
    trained = load_trained(config.parent / "teacher" / "best.pt")
    heads = {name: value for name, value in trained.weights.items() if not name.startswith("heads.")}
    heads |= {name: value for name, value in trained.weights.items() if name.startswith("heads.expression")}
    fewer = replace(trained, spec=replace(trained.spec, tasks=("expression",)), weights=heads)
    save_trained(fewer, tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match=message):
        build_run(load_config(config, [each.format(fewer=tmp_path) for each in overrides]), tmp_path, CPU)


def test_several_processes_are_refused(config: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a network that has a teacher is trained by one process"):
        build_run(load_config(config), tmp_path, CPU, Processes(rank=0, count=2))


def changed(config: Path, **changes: object) -> TrainConfig:
    return TrainConfig.model_validate(load_config(config).model_dump(mode="json") | changes)


def test_teacher_and_pupils_need_each_other(config: Path) -> None:
    with pytest.raises(ValueError, match="a teacher needs sets that are taught, and these need a teacher"):
        changed(config, teacher=None)
    with pytest.raises(ValueError, match=r"loss\.vector needs a teacher"):
        changed(config, teacher=None, data={"prepared": str(config.parent / "own")})
