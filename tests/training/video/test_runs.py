"""Heads on video data from configuration to bundle, on a small generated set."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model_core.bundles.bundle import load_bundle
from model_core.bundles.manifest import TemporalSpec
from model_core.models.registry import build_network
from model_core.models.spec import NetworkSpec
from tests.tiny_clip import TINY, write_tiny_clip
from tests.training.sequences import unlabelled
from training import calibrate, evaluate, export, submit, train
from training.datasets import DatasetError
from training.datasets.affwild2 import HEADERS
from training.generate import Plan, generate
from training.measuring.fitting import GRID
from training.runs.checkpoint import CheckpointError, load_trained
from training.runs.config_file import checked, read_values
from training.runs.trained import read_calibration
from training.video.build import build_sequence_run
from training.video.config import SequenceConfig, WindowConfig
from training.video.predictions import ProtocolError
from training.video.protocol import measure
from training.video.run import SequenceRun
from training.video.scoring import headline, predict, track_outputs
from training.video.thresholds import Thresholds
from training.video.tracks import Track
from training.video.trained import fit_sequences, load_sequences

CPU = torch.device("cpu")
TASKS = {"va": "valence_arousal", "expr": "expression", "au": "action_units"}
SCORES = {"va": "p_va", "expr": "p_expr", "au": "p_au"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated set `set`, and the features that all tests share."""
    folder = tmp_path_factory.mktemp("videos")
    generate(Plan(videos=4, frames=40, validation=1), folder / "set")
    return folder


@pytest.fixture(scope="module")
def places(data: Path, quick_bundle_dir: Path) -> list[str]:
    """What a run is told beside a shipped configuration."""
    return [
        f"data.root={data / 'set'}",
        f"data.cache={data / 'features'}",
        "data.reference=derived",
        f"encoder.bundle={quick_bundle_dir}",
        "optimizer.epochs=2",
        "optimizer.rate=1e-3",
        "run.threads=1",
    ]


def run_of(config: str, overrides: list[str], folder: Path) -> SequenceRun:
    return build_sequence_run(checked(SequenceConfig, read_values(Path(config), overrides), config), folder, CPU)


def command(monkeypatch: pytest.MonkeyPatch, module: object, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    module.main()


@pytest.mark.parametrize("memory", ["fc", "lstm"])
@pytest.mark.parametrize("task", TASKS)
def test_from_configuration_to_bundle(
    task: str,
    memory: str,
    places: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / f"ddamfn-{memory}-{task}"
    overrides = [word for override in places for word in ("--set", override)]
    command(monkeypatch, train, "--config", f"paper/ddamfn_{memory}_{task}.toml", "--run", run, *overrides)
    command(monkeypatch, calibrate, "--run", run)
    command(monkeypatch, evaluate, "--run", run, "--resamples", 3, "--submission", tmp_path / "answers.txt")
    command(
        monkeypatch, export, "--run", run, "--out", tmp_path / "bundle", "--quality", run / "protocol.json",
        "--name", run.name, "--version", 1, "--licence", "Apache-2.0", "--data-terms", "Generated.",
    )  # fmt: skip
    result = json.loads((run / "protocol.json").read_text())
    assert SCORES[task] in result["measures"][TASKS[task]]
    assert f"| {run.name} | derived labels in the layout of affwild2, validation, 1 videos |" in capsys.readouterr().out
    assert (tmp_path / "answers.txt").read_text().startswith("image_location,")
    manifest = load_bundle(tmp_path / "bundle").manifest
    assert manifest.references == {TASKS[task]: "derived"}
    assert manifest.quality == result
    assert manifest.temporal == (TemporalSpec(30.0, 10, "reset", 0.05) if memory == "lstm" else None)
    assert not {"data", "encoder", "run"} & set(manifest.training["options"])


@pytest.mark.parametrize("memory", ["fc", "lstm"])
def test_clip_with_its_prompts(memory: str, places: list[str], data: Path, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    weights = write_tiny_clip(tmp_path / "weights")
    clip = f'encoder.clip={{model="{TINY}", weights="{weights}"}}'
    overrides = [*(each for each in places if not each.startswith("encoder.")), clip]
    run = run_of(f"paper/clip_{memory}_expr.toml", overrides, tmp_path / "run")
    before = run.network.heads["expression"].adapter.weight.clone()
    run.run()
    trained = load_trained(tmp_path / "run" / "best.pt")
    assert not torch.equal(trained.weights["heads.expression.adapter.weight"], before)
    assert torch.equal(trained.weights["heads.expression.text"], run.encoder.text)
    assert trained.spec.labels[-1] == "other"
    assert (trained.spec.recurrent is None) == (memory == "fc")


def test_an_interrupted_run_ends_as_if_it_had_not_been(places: list[str], tmp_path: Path) -> None:
    whole = run_of("paper/ddamfn_lstm_va.toml", places, tmp_path / "whole")
    whole.run()
    part = run_of("paper/ddamfn_lstm_va.toml", places, tmp_path / "part")
    part.train_epoch()
    part.finish_epoch()
    again = run_of("paper/ddamfn_lstm_va.toml", places, tmp_path / "part")
    assert again.resume()
    again.run()
    for name, value in whole.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], value), name
    other = run_of("paper/ddamfn_lstm_va.toml", [*places, "optimizer.rate=1e-2"], tmp_path / "part")
    with pytest.raises(CheckpointError, match=r"made with another configuration \(optimizer\.rate\)"):
        other.resume()


def test_the_videos_that_choose_are_not_trained_on(places: list[str], tmp_path: Path) -> None:
    run = run_of("paper/ddamfn_fc_va.toml", places, tmp_path)
    trained, held_out = ({track.video for track in tracks} for tracks in (run.tracks, run.held_out))
    assert len(held_out) == 1
    assert not trained & held_out
    assert "generated004" not in trained | held_out  # the validation video


@pytest.mark.parametrize("config", ["paper/ddamfn_fc_va.toml", "paper/ddamfn_fc_au.toml"])
def test_labels_in_frames_without_a_face_alone_are_told(
    config: str, places: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(config, places, tmp_path)
    hidden = [
        replace(
            track,
            present=np.zeros_like(track.present),
            sequence=replace(track.sequence, frames=(None,) * len(track.present)),
        )
        for track in run.held_out
    ]
    with pytest.raises(ProtocolError, match="the held-out videos have no labels in frames with a face"):
        headline(run.network, run.config, hidden)
    run.run()
    model = load_sequences(tmp_path)
    assert model is not None
    monkeypatch.setattr(type(model), "tracks", lambda self, split: hidden)
    with pytest.raises(CheckpointError, match="the held-out videos have no labels to fit on"):
        fit_sequences(model)


def test_state_is_reset_or_carried_and_ends_at_a_gap() -> None:
    torch.manual_seed(2)
    network = build_network(NetworkSpec("mfn-pooled", ("action_units",), recurrent=6)).eval()
    present = np.array([True] * 7 + [False] * 2 + [True] * 3)
    features = np.random.default_rng(1).normal(size=(12, 512)).astype(np.float32)
    track = Track(unlabelled(12), features, present)
    alone = network.forward_vectors(torch.from_numpy(features)).action_units.detach().numpy()
    same = {}
    for state in ("reset", "carried"):
        window = WindowConfig(length=3, state=state, max_gap_s=0.05)
        outputs = track_outputs(network, "action_units", track, window, 30.0)
        same[state] = [i for i in np.flatnonzero(present) if np.allclose(outputs[i], alone[i], atol=1e-6)]
    # As if it were alone is a frame only where nothing is remembered: at a start, every third frame, after the gap.
    assert same == {"reset": [0, 3, 6, 9], "carried": [0, 9]}


@pytest.mark.parametrize("config", ["paper/ddamfn_lstm_va", "best/ddamfn_fc_au"])
def test_every_frame_of_videos_without_labels_is_answered(
    config: str,
    places: list[str],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_of(f"{config}.toml", places, tmp_path / "run").run()
    crops = tmp_path / "crops"
    shutil.copytree(data / "set" / "cropped_aligned" / "generated004", crops / "unknown")
    (crops / "faceless").mkdir()
    task = "valence_arousal" if config.endswith("va") else "action_units"
    rows = [("unknown", number) for number in range(1, 41)] + [("faceless", 1), ("faceless", 2)]
    images = [f"{name}/{number:05d}.jpg" for name, number in rows]
    (tmp_path / "example.txt").write_text("\n".join([f"image_location,{HEADERS[task]}", *images]))
    places_of = ("--frames", crops, "--list", tmp_path / "example.txt", "--out", tmp_path / "answers.txt")
    command(monkeypatch, submit, "--run", tmp_path / "run", *places_of)
    told = "42 frames of 2 videos; without any picture, answered by zeros: faceless; the run is not calibrated"
    assert told in capsys.readouterr().out
    header, *lines = (tmp_path / "answers.txt").read_text().splitlines()
    assert header == f"image_location,{HEADERS[task]}"
    assert [line.split(",")[0] for line in lines] == images
    assert all(line.count(",") == header.count(",") for line in lines)
    # The same frames as evaluation sees them, where they have a picture.
    model = load_sequences(tmp_path / "run")
    assert model is not None
    command(monkeypatch, evaluate, "--run", tmp_path / "run", "--resamples", 0, "--submission", tmp_path / "known.txt")
    known = (tmp_path / "known.txt").read_text().replace("generated004/", "unknown/").splitlines()[1:]
    assert len(known) > 30
    assert set(known) <= set(lines)
    with pytest.raises(SystemExit, match=r"answers\.txt exists; choose another name"):
        command(monkeypatch, submit, "--run", tmp_path / "run", *places_of)


@pytest.mark.parametrize("search", ["sorted", "grid"])
def test_raw_and_calibrated_outputs_are_measured_apart(
    search: str, places: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("paper/ddamfn_fc_au.toml", places, tmp_path)
    run.run()
    command(monkeypatch, evaluate, "--run", tmp_path, "--resamples", 0)
    before = json.loads((tmp_path / "protocol.json").read_text())
    assert before["calibrated"] is None
    command(monkeypatch, calibrate, "--run", tmp_path, "--thresholds", search)
    with pytest.raises(SystemExit, match="--rest is for a run on still pictures"):
        command(monkeypatch, calibrate, "--run", tmp_path, "--rest", tmp_path)
    command(monkeypatch, evaluate, "--run", tmp_path, "--resamples", 0)
    result = json.loads((tmp_path / "protocol.json").read_text())
    model = load_sequences(tmp_path)
    assert model is not None

    # Raw: as before the calibration, with thresholds of the paper's grid that the held-out videos tuned.
    assert {**result, "calibrated": None} == before
    assert result["thresholds"]["tuned_on"] == model.held_out
    assert result["thresholds"]["method"] == "grid"
    assert set(result["thresholds"]["units"].values()) <= set(GRID)
    # Calibrated: the same measures at the calibration's own thresholds.
    calibration, tracks = read_calibration(tmp_path), model.tracks("validation")
    limits = {name: unit.threshold for name, unit in calibration.action_units.items()}
    answers = predict(model.network, model.config, calibration, tracks)
    expected = measure(answers, Thresholds(limits, "calibration", tuple(model.held_out))).measures
    assert result["calibrated"]["measures"] == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("encoder.bundle=nowhere", "no bundle 'nowhere'"),
        ("data.dataset=affwild3", "affwild3"),
        ("data.root=nowhere", "nowhere is missing: Aff-Wild2 expects a folder there"),
        ("encoder.clip={model='ViT-B-16', weights='openai'}", "needs either a bundle or clip"),
        ("network.depth=2", "network.depth: Extra inputs are not permitted"),
    ],
)
def test_a_run_that_cannot_be(
    override: str, message: str, places: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [word for each in [*places, override] for word in ("--set", each)]
    with pytest.raises(SystemExit, match=message):
        command(monkeypatch, train, "--config", "paper/ddamfn_fc_va.toml", "--run", tmp_path / "run", *overrides)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("recipe", ["paper", "best"])
@pytest.mark.parametrize("system", ["ddamfn_fc_va", "ddamfn_lstm_va", "ddamfn_lstm_expr", "ddamfn_lstm_au"])
def test_a_run_that_diverges_ends_with_one_line_and_without_weights(
    recipe: str,
    system: str,
    places: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the published settings the loss stays finite: gates saturate, and concordance is bounded."""
    overrides = [word for each in [*places, "optimizer.rate=1e12"] for word in ("--set", each)]
    with pytest.raises(SystemExit, match=r"^error: training diverged at epoch 1, step \d+: .*; no weights are kept$"):
        command(monkeypatch, train, "--config", f"{recipe}/{system}.toml", "--run", tmp_path, *overrides)
    assert capsys.readouterr().err == ""
    assert not (tmp_path / "best.pt").exists()


def test_a_run_on_still_pictures_is_told_apart(finished: object, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="is a run on still pictures"):
        command(monkeypatch, evaluate, "--run", finished.folder)
    with pytest.raises(SystemExit, match="calibrated with --prepared"):
        command(monkeypatch, calibrate, "--run", finished.folder)


def test_options_reach_the_reader(places: list[str], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"affwild2 has no option present_from; it has: none"):
        run_of("paper/ddamfn_fc_au.toml", [*places, "data.reader.present_from=3"], tmp_path)
