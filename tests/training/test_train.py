import sys
from pathlib import Path

import pytest
import torch

from model_core.affect import TASKS
from model_core.bundles.bundle import load_bundle
from model_core.models import build_network
from model_core.models.ddamfn import DDAMFN
from tests.fakes import write_prepared
from tests.training.conftest import FinishedRun
from training import train
from training.data.prepared import load_prepared, write_targets
from training.runs.checkpoint import CheckpointError, TrainedNetwork, load_trained, save_trained
from training.runs.config import load_config
from training.runs.start import start_from
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


def test_other_heads_are_refused(finished: FinishedRun, tmp_path: Path) -> None:
    overrides = [f"network.start_from={finished.folder / 'best.pt'}", "network.hidden=8"]
    with pytest.raises(CheckpointError, match=r"best\.pt has other tasks, labels or heads"):
        build_run(load_config(finished.config, overrides), tmp_path, CPU)


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
    assert set(alone.spec.tasks) < set(TASKS)


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


def test_a_network_can_go_on_from_a_bundle(tiny_bundle_dir: Path) -> None:
    bundle = load_bundle(tiny_bundle_dir)
    network = build_network(bundle.manifest.network)
    start_from(network, bundle.manifest.network, tiny_bundle_dir)
    expected = bundle.network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())
