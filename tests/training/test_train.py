import sys
from pathlib import Path

import pytest
import torch

from model_core.affect import LABEL_SETS, LEARNED_TASKS
from model_core.bundles.bundle import load_bundle, save_bundle
from model_core.models.ddamfn import DDAMFN
from model_core.models.registry import build_network
from tests.fakes import formula_state, write_prepared
from tests.training.conftest import FinishedRun
from tests.training.importing.upstream_module import mfn_state, nest, upstream_package
from training import import_checkpoint, train
from training.data.prepared import load_prepared, write_targets
from training.export import Labelling, manifest_of
from training.runs.checkpoint import CheckpointError, TrainedNetwork, load_trained, save_trained
from training.runs.config import load_config
from training.runs.start import start_from
from training.runs.trained import load_evaluable
from training.train import build_run

CPU = torch.device("cpu")


def test_the_full_network_continues_from_the_pooled_one(finished: FinishedRun, tmp_path: Path) -> None:
    best = finished.folder / "best.pt"
    overrides = ["network.backbone=ddamfn", f"network.start_from={best}", "input.size=112"]
    network = build_run(load_config(finished.config, overrides), tmp_path, CPU).network
    earlier = load_trained(best).weights
    assert isinstance(network.backbone, DDAMFN)
    state = network.state_dict()
    kept = [name for name in earlier if name.startswith(("backbone.features.", "heads."))]
    assert len(kept) > 800
    assert all(torch.equal(state[name], earlier[name]) for name in kept)
    torch.testing.assert_close(state["backbone.Linear.conv.weight"], torch.full((512, 1, 7, 7), 1 / 49))


def test_a_network_continues_from_its_own_kind(finished: FinishedRun, tmp_path: Path) -> None:
    best = finished.folder / "best.pt"
    network = build_run(load_config(finished.config, [f"network.start_from={best}"]), tmp_path, CPU).network
    earlier = load_trained(best).weights
    assert all(torch.equal(value, earlier[name]) for name, value in network.state_dict().items())


def test_heads_of_another_width_are_new_and_told(
    finished: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [f"network.start_from={finished.folder}", "network.hidden=8"]
    network = build_run(load_config(finished.config, overrides), tmp_path, CPU).network
    earlier = load_trained(finished.folder / "best.pt").weights
    state = network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in earlier.items() if name.startswith("backbone."))
    told = ", ".join(f"a new head of {task}" for task in LEARNED_TASKS)
    assert capsys.readouterr().out == f"{finished.folder}: the backbone is taken; {told}\n"


def test_the_pooled_network_cannot_continue_from_the_full_one(finished: FinishedRun, tmp_path: Path) -> None:
    pooled = load_trained(finished.folder / "best.pt")
    spec = type(pooled.spec)("ddamfn", pooled.spec.tasks, pooled.spec.labels)
    weights = build_network(spec).state_dict()
    save_trained(TrainedNetwork(spec, pooled.input, weights, pooled.training), tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match="mfn-pooled cannot continue from a ddamfn"):
        start_from(build_network(pooled.spec), pooled.spec, tmp_path / "best.pt")


def test_derived_tasks_need_derived_targets(finished: FinishedRun, tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "prepared")
    faces = load_prepared(prepared)
    arrays = {name: value for name, value in vars(faces).items() if name not in ("info", "crops")}
    write_targets(prepared, type(faces.info)(**{**vars(faces.info), "derived": False}), arrays)
    overrides = [f"data.prepared={prepared}"]
    with pytest.raises(train.DatasetError, match="need a set prepared with --teacher"):
        build_run(load_config(finished.config, overrides), tmp_path / "run", CPU)
    annotated = write_prepared(tmp_path / "annotated", annotated=True)
    with pytest.raises(train.DatasetError, match=r"^action units need a set prepared with --teacher"):
        build_run(load_config(finished.config, [f"data.prepared={annotated}"]), tmp_path / "run", CPU)
    alone = build_run(load_config(finished.config, [*overrides, "network.tasks=['expression']"]), tmp_path / "run", CPU)
    assert alone.spec.tasks == ("expression",)
    assert set(alone.spec.tasks) < set(LEARNED_TASKS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "optimizer.rat=1"], "error: .*optimizer.rat: Extra inputs are not permitted"),
        (["--set", "data.prepared=nowhere"], "error: nowhere is not a prepared data set"),
        (["--set", "data.limit=1"], "error: 1 training faces do not fill one batch"),
        (["--set", "run.seed=9"], "error: .*was made with another configuration \\(run\\.seed\\); "),
        (["--set", "network.start_from=nowhere.pt"], r"error: nowhere\.pt does not exist"),
        (["--set", "network.hidden=0"], "error: .*hidden"),
        (["--set", "optimizer.accumulate=3"], r"error: optimizer\.batch_size 8 does not divide into 1 .* x 3 .* equal"),
        (["--set", "optimizer.accumulate=8"], "error: .* equal parts of at least 2"),
        (
            ["--set", "optimizer.repeated=3", "--set", "optimizer.accumulate=2"],
            r"error: optimizer\.batch_size \+ optimizer\.repeated 11 does not divide into 1 .* x 2 ",
        ),
        (["--set", "optimizer.repeated=9"], r"error: optimizer\.repeated is larger than optimizer\.batch_size"),
        (["--set", "run.precision=float16"], "error: .*float16 needs a GPU"),
        (["--device", "abacus"], "error: --device abacus: PyTorch knows no such device"),
    ],
)
def test_mistakes_end_the_command_with_one_line(
    finished: FinishedRun, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    fixed = ["training.train", "--config", str(finished.config), "--run", str(finished.folder)]
    monkeypatch.setattr(sys, "argv", [*fixed, *arguments])
    with pytest.raises(SystemExit, match=message) as caught:
        train.main()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"--device {name}: PyTorch finds no GPU"):
        train.choose_device(name)


@pytest.mark.parametrize(("name", "chosen"), [("cuda", "cuda:3"), ("cuda:1", "cuda:1"), ("cpu", "cpu")])
def test_each_process_of_a_machine_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch, name: str, chosen: str) -> None:
    taken: list[torch.device] = []
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    assert train.choose_device(name) == torch.device(chosen)
    assert taken == [torch.device(chosen)] * (name != "cpu")


def imported(source: Path, folder: Path, content: object, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `training.import_checkpoint` makes of a torch file."""
    torch.save(content, source)
    monkeypatch.setattr(sys, "argv", ["training.import_checkpoint", str(source), "--out", str(folder)])
    import_checkpoint.main()
    return folder


def test_training_goes_on_from_an_imported_affectnet_bundle(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {name: value if value.ndim == 0 else value.float() for name, value in formula_state().items()}
    content = {"iter": 1, "model_state_dict": state, "optimizer_state_dict": {}}
    bundle = imported(tmp_path / "affecnet8.pth", tmp_path / "affectnet", content, monkeypatch)
    capsys.readouterr()
    overrides = [f"network.start_from={bundle}", "network.backbone=ddamfn", "input.size=112"]
    network = build_run(load_config(finished.config, overrides), tmp_path / "run", CPU).network
    told = capsys.readouterr().out
    assert "the head of expression is taken, a new head of valence_arousal, a new head of action_units" in told
    assert (
        "warning: it was trained with colour rgb (now grey), mean (0.485, 0.456, 0.406) (now (0.5, 0.5, 0.5))" in told
    )
    assert "alignment ddamfn-frontal-1 (now arcface-1)" in told
    half = torch.float16  # a bundle's weights rest in it
    own = network.state_dict()
    assert torch.equal(own["backbone.features.8.conv.weight"], state["features.8.conv.weight"].to(half).float())
    rows = {label: own["heads.expression.weight"][i] for i, label in enumerate(LABEL_SETS["ferplus"])}
    for i, label in enumerate(LABEL_SETS["affectnet8"]):
        assert torch.equal(rows[label], state["fc.weight"][i].to(half).float()), label


@pytest.mark.parametrize("backbone", ["mfn-pooled", "ddamfn", "ddamfn-local"])
def test_training_goes_on_from_an_imported_trunk(
    backbone: str,
    finished: FinishedRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = mfn_state()
    with upstream_package() as part:
        folder = imported(tmp_path / "MFN_msceleb.pth", tmp_path / "mfn", nest(part, state), monkeypatch)
    capsys.readouterr()
    overrides = [f"network.start_from={folder / 'trunk.pt'}", f"network.backbone={backbone}", "input.size=112"]
    network = build_run(load_config(finished.config, overrides), tmp_path / "run", CPU).network
    assert torch.equal(network.state_dict()["backbone.features.8.conv.weight"], state["part8.conv.weight"])
    assert capsys.readouterr().out == f"{folder / 'trunk.pt'}: the trunk is taken; all above it is new\n"


def test_training_goes_on_from_a_bundle_with_fewer_tasks(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = ["--set", 'network.tasks=["expression"]', "--set", "optimizer.epochs=1"]
    command = ["training.train", "--config", str(finished.config)]
    monkeypatch.setattr(sys, "argv", [*command, "--run", str(tmp_path / "first"), *tasks])
    train.main()
    trained = load_evaluable(tmp_path / "first")
    manifest = manifest_of(trained, Labelling("first", "1", "MIT", "Generated for tests."))
    save_bundle(tmp_path / "bundle", manifest, trained.network)
    capsys.readouterr()
    more = ["--set", f"network.start_from={tmp_path / 'bundle'}", "--set", "optimizer.epochs=1"]
    monkeypatch.setattr(sys, "argv", [*command, "--run", str(tmp_path / "second"), *more])
    train.main()
    told = "the head of expression is taken, a new head of valence_arousal, a new head of action_units"
    assert f"{tmp_path / 'bundle'}: the backbone is taken; {told}\n" in capsys.readouterr().out
    assert load_trained(tmp_path / "second" / "best.pt").spec.tasks == LEARNED_TASKS


def test_a_network_can_go_on_from_a_bundle(tiny_bundle_dir: Path) -> None:
    bundle = load_bundle(tiny_bundle_dir)
    network = build_network(bundle.manifest.network)
    start_from(network, bundle.manifest.network, tiny_bundle_dir)
    expected = bundle.network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())
