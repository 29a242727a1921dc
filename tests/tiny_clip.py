"""A CLIP so small that its random weights are made in a moment."""

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file

TINY = "tests-tiny"
CONFIG = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def write_tiny_clip(folder: Path) -> Path:
    """Weights of a model that open_clip then knows as TINY, in a folder that is a model of its own, too."""
    (folder / "configs").mkdir()
    (folder / "configs" / f"{TINY}.json").write_text(json.dumps(CONFIG))
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": CONFIG, "preprocess_cfg": {"mean": [0.5] * 3}})
    )
    open_clip.add_model_config(folder / "configs")
    with torch.random.fork_rng():
        torch.manual_seed(8)
        model = open_clip.create_model(TINY, pretrained=None)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder / "open_clip_model.safetensors"
