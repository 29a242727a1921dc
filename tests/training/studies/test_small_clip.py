from pathlib import Path

import numpy as np
import pytest
import torch

from model_core.affect import LABEL_SETS
from model_core.models.clip import ClipSource, class_prompts, load_clip
from model_core.preprocessing import to_batch
from training.generate import Plan, generate
from training.studies import small_clip

open_clip = pytest.importorskip("open_clip", reason="open_clip is absent: install the extra `clip`")


def test_it_is_a_clip_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(Plan(videos=2, frames=30, validation=1), tmp_path / "set")
    monkeypatch.setattr(small_clip, "BATCH", 8)
    small_clip.write(small_clip.train(tmp_path / "set", epochs=1, seed=0), tmp_path / "clip")
    source = ClipSource(f"local-dir:{tmp_path / 'clip'}")
    clip = load_clip(source, class_prompts(LABEL_SETS["abaw"]))
    crops, labels = small_clip.labelled_faces(tmp_path / "set")
    assert len(crops) == len(labels) > 20
    assert set(labels) <= set(range(8))
    with torch.inference_mode():
        logits = clip(to_batch(crops[:2], clip.encoder.input("arcface-1")))
    assert logits.shape == (2, 8)
    assert np.isfinite(logits.numpy()).all()
