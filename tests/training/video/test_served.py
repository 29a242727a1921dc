"""What evaluation measured is what a bundle answers: the same frames, through training and through serving."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model_core.bundles.bundle import load_bundle, save_bundle
from model_core.inference.predictor import Predictor
from tests.tiny_clip import TINY, write_tiny_clip
from training.export import Labelling, manifest_of
from training.generate import Plan, generate
from training.runs.config_file import checked, read_values
from training.runs.trained import load_evaluable, read_calibration, write_calibration
from training.video.build import build_sequence_run
from training.video.config import SequenceConfig
from training.video.features import read_crop
from training.video.scoring import predict
from training.video.trained import fit_sequences, load_sequences

SYSTEMS = {
    "paper/ddamfn_fc_va": "valence_arousal",
    "paper/ddamfn_lstm_va": "valence_arousal",
    "best/ddamfn_fc_au": "action_units",
    "best/ddamfn_lstm_au": "action_units",
    "paper/ddamfn_fc_expr": "expression",
    "best/ddamfn_lstm_expr": "expression",
    "paper/clip_fc_expr": "expression",
    "best/clip_lstm_expr": "expression",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    generate(Plan(videos=3, frames=30, validation=1), folder / "set")
    return folder


def trained(system: str, data: Path, bundle: Path, folder: Path) -> None:
    overrides = [
        f"data.root={data / 'set'}",
        f"data.cache={data / 'features'}",
        "run.threads=1",
        "evaluation.smoothing=none",
    ]
    overrides += ["optimizer.epochs=1", "optimizer.rate=1e-3", "data.held_out=0.5"]
    if "clip" in system:
        (folder / "weights").mkdir(parents=True)
        overrides.append(f'encoder.clip={{model="{TINY}", weights="{write_tiny_clip(folder / "weights")}"}}')
    else:
        overrides.append(f"encoder.bundle={bundle}")
    config = checked(SequenceConfig, read_values(Path(f"{system}.toml"), overrides), system)
    build_sequence_run(config, folder, torch.device("cpu")).run()


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_bundle_answers_what_was_evaluated(system: str, data: Path, quick_bundle_dir: Path, tmp_path: Path) -> None:
    task, run = SYSTEMS[system], tmp_path / "run"
    trained(system, data, quick_bundle_dir, run)
    model = load_sequences(run)
    assert model is not None
    write_calibration(run, fit_sequences(model))
    track = model.tracks("validation")[0]
    [evaluated] = predict(model.network, model.config, read_calibration(run), [track])

    evaluable = load_evaluable(run)
    save_bundle(tmp_path / "bundle", manifest_of(evaluable, Labelling("n", "1", "MIT", "")), evaluable.network)
    predictor = Predictor([load_bundle(tmp_path / "bundle")])
    [encoder], ensemble = predictor.encoders, predictor.everything
    states, size = ensemble.track_states(), encoder.input.size
    frames = [(number, path) for number, path in enumerate(track.sequence.frames) if path is not None]
    features = encoder.features([read_crop(path, size) for _, path in frames])
    rate = model.config.data.frame_rate
    outputs = [states.step(1, vector, number / rate) for (number, _), vector in zip(frames, features, strict=True)]
    for (number, _), affect in zip(frames, ensemble.affects(outputs), strict=True):
        expected = getattr(evaluated, task)[number]
        if task == "valence_arousal":
            served = [affect.valence, affect.arousal]
        elif task == "expression":
            served = list(affect.expression.probabilities.values())
        else:
            served = [unit.probability for unit in affect.action_units.values()]
        np.testing.assert_allclose(served, expected, atol=1e-3)
