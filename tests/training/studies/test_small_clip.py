import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from model_core.affect import LABEL_SETS
from model_core.models.clip import ClipSource, class_prompts, load_clip
from tests.tiny_clip import TINY, write_tiny_clip
from training.data.batches import image_batch
from training.generate import Plan, generate
from training.runs.config_file import checked, read_values
from training.studies import small_clip
from training.studies.small_clip import Recipe, labelled_faces, training_sequences
from training.video.build import build_sequence_run
from training.video.config import SequenceConfig

open_clip = pytest.importorskip("open_clip", reason="open_clip is absent: install the extra `clip`")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small-clip") / "set"
    generate(Plan(videos=5, frames=20, validation=2), folder)
    return folder


def test_it_is_a_clip_that_loads(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_clip, "BATCH", 8)
    recipe = Recipe(steps=3)
    small_clip.write(small_clip.train(root, recipe), tmp_path / "clip")
    clip = load_clip(ClipSource(f"local-dir:{tmp_path / 'clip'}"), class_prompts(LABEL_SETS["abaw"]))
    crops, labels = labelled_faces(training_sequences(root, recipe))
    assert len(crops) == len(labels) > 20
    assert set(labels) <= set(range(8))
    with torch.inference_mode():
        logits = clip(image_batch(crops[:2], clip.encoder.input("arcface-1")))
    assert logits.shape == (2, 8)
    assert np.isfinite(logits.numpy()).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_it_reads_the_videos_that_a_run_of_its_seed_trains_on(root: Path, tmp_path: Path, seed: int) -> None:
    (tmp_path / "weights").mkdir()
    overrides = [
        f"data.root={root}",
        f"data.cache={tmp_path / 'features'}",
        f"run.seed={seed}",
        f'encoder.clip={{model="{TINY}", weights="{write_tiny_clip(tmp_path / "weights")}"}}',
    ]
    config = checked(SequenceConfig, read_values(Path("paper/clip_fc_expr.toml"), overrides), "test")
    run = build_sequence_run(config, tmp_path / "run", torch.device("cpu"))
    read = {sequence.name for sequence in training_sequences(root, Recipe(config.data.held_out, seed))}
    assert read == {track.sequence.name for track in run.tracks}
    assert not read & {track.sequence.name for track in run.held_out}
    assert not read & {"generated004", "generated005"}  # the reported videos


def test_every_face_comes_once_before_any_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_clip, "BATCH", 4)
    batches = list(small_clip._batches(12, Recipe(steps=6)))
    assert [len(rows) for rows in batches] == [4] * 6
    for half in (batches[:3], batches[3:]):
        assert sorted(np.concatenate(half)) == list(range(12))


def test_the_command_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["small_clip", "--root", str(tmp_path / "no"), "--out", str(tmp_path / "clip")])
    with pytest.raises(SystemExit, match="no is missing: Aff-Wild2 expects a folder there"):
        small_clip.main()
