"""The shipped configurations of the paper's systems say what its notebooks say."""

from pathlib import Path

import pytest

from training.runs.config_file import checked, read_values
from training.video.config import SequenceConfig

# System -> length and stride of a training sequence, sequences of a batch, epochs, width of the LSTM.
SETTINGS = {
    "ddamfn_fc_va": (10, 10, 4, 10, None),
    "ddamfn_fc_expr": (10, 10, 4, 10, None),
    "ddamfn_fc_au": (10, 10, 4, 10, None),
    "ddamfn_lstm_va": (10, 10, 4, 10, 128),
    "ddamfn_lstm_expr": (10, 5, 4, 10, 128),
    "ddamfn_lstm_au": (10, 10, 4, 10, 128),
    "clip_fc_expr": (1, 1, 64, 20, None),
    "clip_lstm_expr": (100, 20, 64, 20, 512),
}


def config_of(name: str) -> SequenceConfig:
    return checked(SequenceConfig, read_values(Path(f"{name}.toml")), name)


@pytest.mark.parametrize("system", SETTINGS)
def test_the_papers_settings(system: str) -> None:
    config = config_of(f"paper/{system}")
    window, optimizer = config.window, config.optimizer
    found = (window.length, window.stride, optimizer.batch_size, optimizer.epochs, config.network.recurrent)
    assert found == SETTINGS[system]
    assert (optimizer.rate, optimizer.weight_decay, optimizer.schedule) == (1e-5, 0.0, "constant")
    assert (config.loss.logit_adjustment, config.loss.positive_weight) == (0.0, 1.0)
    assert (window.state, config.evaluation.smoothing) == ("reset", "none")
    assert config.network.hidden == (None if config.encoder.clip else 512)


@pytest.mark.parametrize("memory", ["fc", "lstm"])
def test_only_our_recipe_scales_clips_vectors(memory: str) -> None:
    assert config_of(f"paper/clip_{memory}_expr").encoder.clip.normalized is False
    assert config_of(f"best/clip_{memory}_expr").encoder.clip.normalized is True


@pytest.mark.parametrize(
    ("system", "smoothing"),
    [("ddamfn_fc_expr", "offline"), ("ddamfn_lstm_expr", "none"), ("clip_fc_expr", "none"), ("clip_lstm_expr", "none")],
)
def test_class_logits_are_smoothed_where_that_won(system: str, smoothing: str) -> None:
    assert config_of(f"best/{system}").evaluation.smoothing == smoothing
