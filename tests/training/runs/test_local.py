import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from model_core.affect import LABEL_SETS, LEARNED_TASKS
from model_core.losses import change_loss
from model_core.models.local import LocalDDAMFN
from model_core.models.registry import build_network
from model_core.models.spec import NetworkSpec
from model_core.preprocessing import InputSpec
from tests.fakes import write_prepared
from tests.training.sittings import AU12, write_sittings
from training import train
from training.data.prepared import load_prepared
from training.datasets import DatasetError
from training.measuring.scoring import collect, headline
from training.runs.checkpoint import CheckpointError, TrainedNetwork, load_trained, save_trained
from training.runs.config import LocalConfig, LocalLoss
from training.runs.config_file import checked, read_values
from training.runs.local import LocalRun, build_local_run
from training.runs.maps import open_store, vectors_of
from training.runs.norms import batch_norms

LABELS = LABEL_SETS["ferplus"]
CPU = torch.device("cpu")
INPUT = InputSpec(112, "grey", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "arcface-1")


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of an untrained DDAMFN, and a configuration that goes on from it: 11 training and 3 validation faces."""
    base = tmp_path_factory.mktemp("local")
    prepared = write_prepared(base / "prepared", train=12, validation=4, test=2, missing=[3, 13])
    torch.manual_seed(7)
    spec = NetworkSpec("ddamfn", LEARNED_TASKS, LABELS)
    network = build_network(spec)
    for norm in batch_norms(network):
        norm.momentum = 1
    with torch.no_grad():  # so that norms fit what they see, and no stage's output dies away
        network.train()(torch.randn(4, 3, 112, 112))
    (base / "run").mkdir()
    save_trained(TrainedNetwork(spec, INPUT, dict(network.state_dict()), {}), base / "run" / "best.pt")
    (base / "config.toml").write_text(
        'kind = "local"\n'
        f'[data]\nprepared = "{prepared}"\n[network]\nstart_from = "{base / "run"}"\n[views]\ntrain = 2\n'
        "[augmentation]\nrotation_deg = 10\n[optimizer]\nrate = 1e-3\nbatch_size = 5\nepochs = 2\n"
    )
    return base


def write_region(folder: Path, input_spec: InputSpec, backbone: str = "eye-region") -> Path:
    """Write a run of the untrained features of a region, and return its folder."""
    spec = NetworkSpec(backbone, ("action_units",))
    folder.mkdir()
    save_trained(TrainedNetwork(spec, input_spec, dict(build_network(spec).state_dict()), {}), folder / "best.pt")
    return folder


def run_of(earlier: Path, folder: Path, *overrides: str) -> LocalRun:
    config = checked(LocalConfig, read_values(earlier / "config.toml", overrides), "config.toml")
    return build_local_run(config, folder)


@pytest.fixture(scope="module")
def finished(earlier: Path, tmp_path_factory: pytest.TempPathFactory) -> LocalRun:
    run = run_of(earlier, tmp_path_factory.mktemp("finished"))
    run.run()
    return run


def test_only_local_features_and_heads_change(earlier: Path, finished: LocalRun) -> None:
    before = load_trained(earlier / "run" / "best.pt").weights
    after = load_trained(finished.folder / "best.pt")
    assert after.spec == NetworkSpec("ddamfn-local", LEARNED_TASKS, LABELS)
    backbone = [name for name in before if name.startswith("backbone.")]
    assert all(torch.equal(after.weights[name], before[name]) for name in backbone)
    assert all(
        not torch.equal(after.weights[f"heads.{task}.weight"][:, :512], before[f"heads.{task}.weight"])
        for task in LEARNED_TASKS
    )


def test_what_was_validated_is_what_the_whole_network_answers(earlier: Path, finished: LocalRun) -> None:
    faces = load_prepared(earlier / "prepared")
    stored = finished.outputs(finished.network)
    whole = collect(finished.network, faces, faces.indices("validation"), finished.input, CPU)
    assert np.array_equal(stored.rows, whole.rows)
    assert stored.rows.tolist() == [12, 14, 15]
    for task in LEARNED_TASKS:
        # Rows are in half precision, and this network's logits go up to 90.
        np.testing.assert_allclose(getattr(stored, task), getattr(whole, task), atol=0.05)


def test_features_of_the_eye_region_are_added_and_stay_as_they_are(earlier: Path, tmp_path: Path) -> None:
    eyes = write_region(tmp_path / "eyes", INPUT)
    run = run_of(earlier, tmp_path / "run", f"network.eyes_from={eyes}", "optimizer.epochs=1")
    run.run()
    before, after = load_trained(eyes / "best.pt").weights, load_trained(tmp_path / "run" / "best.pt")
    assert after.spec.backbone == "ddamfn-local-eyes"
    for name, value in before.items():
        if name.startswith("backbone."):
            assert torch.equal(after.weights[name.replace("backbone.", "backbone.eyes.")], value)
    assert after.weights["heads.action_units.weight"][:, 896:].abs().min() > 0
    faces = load_prepared(earlier / "prepared")
    whole = collect(run.network, faces, faces.indices("validation"), run.input, CPU)
    np.testing.assert_allclose(run.outputs(run.network).action_units, whole.action_units, atol=0.05)
    # A later run goes on with them, although its configuration does not say so.
    assert run_of(earlier, tmp_path / "later", f"network.start_from={tmp_path / 'run'}").spec == after.spec
    with pytest.raises(CheckpointError, match="run has features of the region eyes, which its heads were fitted to"):
        run_of(earlier, tmp_path / "anew", f"network.start_from={tmp_path / 'run'}", f"network.eyes_from={eyes}")
    mouth = write_region(tmp_path / "mouth", INPUT, "mouth-region")
    last = run_of(earlier, tmp_path / "last", f"network.start_from={tmp_path / 'run'}", f"network.mouth_from={mouth}")
    assert last.spec.backbone == "ddamfn-local-regions"
    weights = last.network.state_dict()
    for name, value in load_trained(mouth / "best.pt").weights.items():
        if name.startswith("backbone."):
            assert torch.equal(weights[name.replace("backbone.", "backbone.mouth.")], value)
    # The heads answer as before until they have learned what the new features mean.
    assert torch.equal(weights["heads.action_units.weight"][:, :1088], after.weights["heads.action_units.weight"])
    assert not weights["heads.action_units.weight"][:, 1088:].any()


def test_frozen_parts_stay_as_they_are(earlier: Path, finished: LocalRun, tmp_path: Path) -> None:
    frozen = "network.frozen=['backbone.', 'heads.expression']"
    run = run_of(earlier, tmp_path / "run", f"network.start_from={finished.folder}", frozen, "optimizer.epochs=1")
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    run.run()
    after = load_trained(tmp_path / "run" / "best.pt").weights
    changed = {name for name, value in before.items() if not torch.equal(after[name], value)}
    heads = {f"heads.{task}.{part}" for task in ("action_units", "valence_arousal") for part in ("weight", "bias")}
    assert changed == heads
    # All that the heads read is stored, so their input is that of the whole network.
    faces = load_prepared(earlier / "prepared")
    whole = collect(run.network, faces, faces.indices("validation"), run.input, CPU)
    np.testing.assert_allclose(run.outputs(run.network).action_units, whole.action_units, atol=0.05)
    assert run.train.views[0].shape[1] == LocalDDAMFN.vector_size
    with pytest.raises(ValueError, match=r"network\.frozen: no parameter is called stem"):
        run_of(earlier, tmp_path / "other", "network.frozen=['stem']")


def test_features_that_do_not_fit_are_not_added(earlier: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="run is a ddamfn, and no eye-region"):
        run_of(earlier, tmp_path, f"network.eyes_from={earlier / 'run'}")
    mouth = write_region(tmp_path / "mouth", INPUT, "mouth-region")
    with pytest.raises(CheckpointError, match="mouth is a mouth-region, and no eye-region"):
        run_of(earlier, tmp_path, f"network.eyes_from={mouth}")
    with pytest.raises(CheckpointError, match=r"network\.mouth_from is added to features of the eye region"):
        run_of(earlier, tmp_path, f"network.mouth_from={mouth}")
    eyes = write_region(tmp_path / "eyes", replace(INPUT, colour="rgb"))
    with pytest.raises(CheckpointError, match="eyes reads other pictures than the network that its features"):
        run_of(earlier, tmp_path, f"network.eyes_from={eyes}")


def test_faces_are_validated_with_their_mirror_images_where_these_are_read(
    earlier: Path, finished: LocalRun, tmp_path: Path
) -> None:
    run = run_of(earlier, tmp_path, "network.with_mirror_image=true")
    faces = load_prepared(earlier / "prepared")
    stored, once = run.outputs(run.network), finished.outputs(run.network)
    whole = collect(run.network, faces, faces.indices("validation"), run.input, CPU)
    assert run.input.with_mirror_image
    for task in LEARNED_TASKS:
        np.testing.assert_allclose(getattr(stored, task), getattr(whole, task), atol=0.05)
        assert np.abs(getattr(once, task) - getattr(whole, task)).max() > 0.5  # the same faces as they are


def test_maps_belong_to_their_faces(earlier: Path, finished: LocalRun, tmp_path: Path) -> None:
    """A set that was prepared again, by which another face is missing or one looks otherwise, has maps of its own."""
    shutil.copytree(earlier / "prepared", tmp_path / "prepared")
    data = np.load(tmp_path / "prepared" / "faces.npz")
    crops = np.load(tmp_path / "prepared" / "crops.npy")

    def key() -> str:
        return open_store(tmp_path, load_prepared(tmp_path / "prepared"), *rest).folder.name

    backbone = finished.network.backbone
    assert isinstance(backbone, LocalDDAMFN)
    rest = (finished.input, backbone, finished.config)
    keys = [open_store(tmp_path, load_prepared(earlier / "prepared"), *rest).folder.name, key()]
    np.save(tmp_path / "prepared" / "crops.npy", 255 - crops)
    keys.append(key())
    np.save(tmp_path / "prepared" / "crops.npy", crops)
    np.savez(tmp_path / "prepared" / "faces.npz", **{**data, "found": np.roll(data["found"], 1)})
    keys.append(key())
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_epochs_are_judged_by_faces(earlier: Path, tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "unjudged", validation=0)
    with pytest.raises(DatasetError, match="no validation picture with a face"):
        run_of(earlier, tmp_path / "run", f"data.prepared={prepared}")


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(earlier: Path, finished: LocalRun, tmp_path: Path) -> None:
    shutil.copytree(finished.folder / "maps", tmp_path / "maps")
    first = run_of(earlier, tmp_path)
    assert not first.resume()
    first.train_epoch()
    first.finish_epoch()
    again = run_of(earlier, tmp_path)
    assert again.resume()
    assert again.progress.epoch == 1
    again.run()
    assert again.progress == finished.progress
    state = again.network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in finished.network.state_dict().items())
    with pytest.raises(CheckpointError, match=r"made with another configuration \(optimizer\.rate\)"):
        run_of(earlier, tmp_path, "optimizer.rate=0.5").resume()


def test_a_share_of_the_first_weights_is_kept(earlier: Path, finished: LocalRun, tmp_path: Path) -> None:
    """The same training as without it, of which three quarters count."""
    shutil.copytree(finished.folder / "maps", tmp_path / "maps")
    run = run_of(earlier, tmp_path, "network.start_share=0.25")
    first = {name: value.clone() for name, value in run.network.state_dict().items()}
    run.train_epoch()
    trained = run.network.state_dict()
    saved, measures = run.validate()
    for name, value in saved.state_dict().items():
        torch.testing.assert_close(
            value, 0.75 * trained[name] + 0.25 * first[name] if "num_" not in name else trained[name]
        )
    assert not torch.equal(saved.heads["expression"].weight, run.network.heads["expression"].weight)
    rows = load_prepared(earlier / "prepared").indices("validation")
    assert measures == headline(run.faces, rows, run.outputs(saved))


def test_the_mean_of_the_epochs_that_see_faces_as_they_are_is_kept(
    earlier: Path, finished: LocalRun, tmp_path: Path
) -> None:
    shutil.copytree(finished.folder / "maps", tmp_path / "maps")
    options = ("network.mean_of_epochs=true", "optimizer.epochs=3")
    run = run_of(earlier, tmp_path, *options)
    weights = []
    for _ in range(2):
        run.train_epoch()
        weights.append({name: value.clone() for name, value in run.network.heads.state_dict().items()})
        run.finish_epoch()
    run = run_of(earlier, tmp_path, *options)  # it was stopped between two epochs
    assert run.resume()
    run.train_epoch()
    weights.append(run.network.heads.state_dict())
    saved, _ = run.validate()
    for name, value in saved.heads.state_dict().items():  # the second epoch saw the other view
        torch.testing.assert_close(value, (weights[0][name] + weights[2][name]) / 2)


def test_a_network_of_oriented_faces_is_refused(earlier: Path, tmp_path: Path) -> None:
    trained = load_trained(earlier / "run" / "best.pt")
    save_trained(replace(trained, input=replace(trained.input, oriented=True)), tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match="reads oriented faces, on which no local features are trained"):
        run_of(earlier, tmp_path / "run", f"network.start_from={tmp_path}")


@pytest.fixture(scope="module")
def telling_eyes(earlier: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, whose network also tells closed eyes."""
    trained = load_trained(earlier / "run" / "best.pt")
    eyes = {"heads.eyes_closed.weight": torch.zeros(1, 512), "heads.eyes_closed.bias": torch.zeros(1)}
    spec = replace(trained.spec, tasks=(*LEARNED_TASKS, "eyes_closed"))
    folder = tmp_path_factory.mktemp("telling_eyes")
    save_trained(replace(trained, spec=spec, weights={**trained.weights, **eyes}), folder / "best.pt")
    return folder


def test_a_head_of_closed_eyes_is_left_behind(earlier: Path, telling_eyes: Path, tmp_path: Path) -> None:
    """It was read off vectors that change now."""
    run = run_of(earlier, tmp_path, f"network.start_from={telling_eyes}")
    assert run.spec.tasks == LEARNED_TASKS
    assert set(run.network.heads) == set(LEARNED_TASKS)


def test_local_features_learn_from_several_sets(earlier: Path, telling_eyes: Path, tmp_path: Path) -> None:
    """The first seven records of each set, of which one has no face; a batch of five holds three and two of them.

    No set teaches closed eyes, and none has to.
    """
    other = write_prepared(tmp_path / "other", train=8, validation=2, test=2, missing=[0])
    sets = (
        f'[{{prepared="{earlier / "prepared"}", share=3, trusted_units=["AU12"]}},'
        f' {{prepared="{other}", share=2, tasks=["action_units"]}}]'
    )
    overrides = ["data.limit=7", "optimizer.epochs=1", f"data.sets={sets}", f"network.start_from={telling_eyes}"]
    values = read_values(earlier / "config.toml", overrides)
    del values["data"]["prepared"]
    run = build_local_run(checked(LocalConfig, values, "config.toml"), tmp_path / "run")
    origins = run.faces.origins[run.train.indices]
    assert np.bincount(origins).tolist() == [6, 6]
    batches = list(run.batches())
    assert [np.bincount(origins[batch]).tolist() for batch in batches] == [[3, 2], [3, 2]]
    before = run.network.heads["action_units"].weight.detach().clone()
    run.run()
    assert not torch.equal(run.network.heads["action_units"].weight, before)
    assert {"prepared/ccc_v", "other/au_r", "score"} <= run.progress.history[0].keys()
    assert "other/accuracy" not in run.progress.history[0]


def mixed_run(earlier: Path, folder: Path, rendered: Path, *overrides: str) -> LocalRun:
    """A run that also learns the units of a rendered set."""
    sets = f'[{{prepared="{earlier / "prepared"}"}}, {{prepared="{rendered}", tasks=["action_units"]}}]'
    values = read_values(earlier / "config.toml", [f"data.sets={sets}", *overrides])
    del values["data"]["prepared"]
    return build_local_run(checked(LocalConfig, values, "config.toml"), folder)


@torch.no_grad()
def test_rendered_faces_are_compared_with_the_same_person_at_rest(earlier: Path, tmp_path: Path) -> None:
    """Two sittings of four pictures, the first of them at rest; no face is found in the second one's first picture."""
    rendered = write_sittings(tmp_path / "rendered", ["train", "train", "validation"], missing=(4,))
    plain, run = (mixed_run(earlier, tmp_path, rendered, f"loss.change={weight}") for weight in (0, 2))
    assert run.at_rest.tolist() == 11 * [-1] + [-1, 11, 11, 11] + 3 * [-1]
    run.network.load_state_dict(plain.network.state_dict())
    for each in (plain, run):
        each._trained.eval()
    logits = run.network.forward_vectors(vectors_of(run._backbone, run.train.views[0])).action_units
    assert logits is not None
    target = torch.tensor([12 * [0.0], 12 * [0.0]])
    target[0, AU12] = 0.8
    change = change_loss(logits[[12, 14]], logits[[11, 11]], target, torch.ones(2, 12))
    batch = np.array([3, 12, 14, 15])
    assert float(run._loss(batch) - plain._loss(batch)) == pytest.approx(2 * float(change), rel=1e-3)
    alone = np.array([3, 11, 15])
    assert torch.equal(run._loss(alone), plain._loss(alone))


def test_a_head_of_changes_is_learned_and_left_behind(earlier: Path, tmp_path: Path) -> None:
    rendered = write_sittings(tmp_path / "rendered", ["train", "train"])
    run = mixed_run(earlier, tmp_path / "run", rendered, "loss.change_head=2")
    head = run._trained["changes"]
    before = head.weight.detach().clone()
    run._trained.eval()
    batch = np.array([3, 12])  # AU12 at 0.8 beside the same person at rest, in place 11
    vectors = vectors_of(run._backbone, run.train.views[0][[12, 11]])
    target = torch.zeros(1, 12)
    target[0, AU12] = 0.8
    told = head(vectors[:1] - vectors[1:])
    expected = 2 * nn.functional.binary_cross_entropy_with_logits(told, target)
    with_head = run._loss(batch)
    run.config = run.config.model_copy(update={"loss": LocalLoss()})
    assert (with_head - run._loss(batch)).item() == pytest.approx(expected.item(), rel=1e-3)
    again = mixed_run(earlier, tmp_path / "run", rendered, "loss.change_head=2")
    again.run()
    assert not torch.equal(again._trained["changes"].weight, before)
    assert load_trained(again.folder / "best.pt").spec.tasks == LEARNED_TASKS
    # The rendered set has no validation people, so only the other one was measured.
    assert "prepared/score" in again.progress.history[0]
    assert not [name for name in again.progress.history[0] if name.startswith("rendered/")]


@pytest.mark.parametrize("weight", ["change", "change_head"])
def test_changes_need_faces_at_rest(earlier: Path, tmp_path: Path, weight: str) -> None:
    with pytest.raises(DatasetError, match=r"loss\.change compares the action units of rendered faces"):
        run_of(earlier, tmp_path / "run", f"loss.{weight}=1")


def test_what_the_teacher_read_beside_is_learned_and_left_behind(
    earlier: Path, finished: LocalRun, tmp_path: Path
) -> None:
    shutil.copytree(finished.folder / "maps", tmp_path / "maps")
    extra = ("auxiliary.blendshapes=4", "auxiliary.shape=1", "optimizer.epochs=1")
    run = run_of(earlier, tmp_path, *extra)
    assert run.auxiliary is not None
    assert [mirrored.any() for mirrored in run.train.mirrored] == [False, True]
    head = run._trained["auxiliary"].weight
    before = head.detach().clone()
    run.run()
    assert (head - before).abs().max() > 1e-4
    assert set(load_trained(tmp_path / "best.pt").weights) == set(load_trained(finished.folder / "best.pt").weights)
    again = run_of(earlier, tmp_path, *extra)
    assert again.resume()
    assert torch.equal(again._trained["auxiliary"].weight, head)


def test_short_arithmetic_gives_nearly_the_same_loss(earlier: Path, finished: LocalRun, tmp_path: Path) -> None:
    shutil.copytree(finished.folder / "maps", tmp_path / "maps")
    places = np.arange(5)
    exact, short = (
        float(run_of(earlier, tmp_path, "auxiliary.shape=100", f"run.precision={precision}")._loss(places).detach())
        for precision in ("float32", "bfloat16")
    )
    assert exact != short
    assert exact == pytest.approx(short, rel=0.02)


def test_views_are_computed_once_and_differ(earlier: Path, finished: LocalRun, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, changed = finished.train.views
    assert plain.shape == (11, 512 + 64 * 28 * 28)
    assert plain.dtype == np.float16
    assert np.abs(plain.astype(np.float32) - changed).max() > 0.01
    monkeypatch.setattr("training.runs.maps.MapStore._compute", None)
    again = run_of(earlier, finished.folder)
    assert all(np.array_equal(a, b) for a, b in zip(again.train.views, finished.train.views, strict=True))
    with pytest.raises(TypeError):
        run_of(earlier, finished.folder, "augmentation.rotation_deg=20")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "meta"], "error: local features are trained by one process, on the CPU"),
        (["--set", "optimizer.trunk_factor=1"], r"error: .*optimizer\.trunk_factor: Extra inputs are not permitted"),
        (["--set", "run.precision=float16"], r"error: .*run\.precision: Input should be 'float32' or 'bfloat16'"),
        (["--set", "optimizer.batch_size=64"], "error: 11 training faces do not fill one batch of 64"),
        (["--set", "network.start_from=nowhere"], r"error: nowhere/best\.pt does not exist"),
    ],
)
def test_what_cannot_be_trained_ends_with_one_line(
    earlier: Path, finished: LocalRun, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["train", "--config", str(earlier / "config.toml"), "--run", str(finished.folder), *arguments]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit, match=message):
        train.main()


def test_a_run_that_diverges_ends_with_one_line_and_without_weights(
    earlier: Path,
    finished: LocalRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(finished.folder / "maps", tmp_path / "maps")
    command = ["train", "--config", str(earlier / "config.toml"), "--run", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*command, "--set", "optimizer.rate=1e12"])
    with pytest.raises(SystemExit, match=r"^error: training diverged at epoch 1, step 2: .*; no weights are kept$"):
        train.main()
    assert capsys.readouterr().err == ""
    assert not (tmp_path / "best.pt").exists()


def test_tasks_without_targets_are_refused(earlier: Path, tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "prepared", annotated=True)
    with pytest.raises(DatasetError, match="action units need a set prepared with --teacher"):
        run_of(earlier, tmp_path / "run", f"data.prepared={prepared}")


def test_another_backbone_is_refused(earlier: Path, tmp_path: Path) -> None:
    trained = load_trained(earlier / "run" / "best.pt")
    spec = NetworkSpec("mfn-pooled", LEARNED_TASKS, LABELS)
    save_trained(TrainedNetwork(spec, trained.input, dict(build_network(spec).state_dict()), {}), tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match="is not a DDAMFN that reads single faces"):
        run_of(earlier, tmp_path / "run", f"network.start_from={tmp_path}")
