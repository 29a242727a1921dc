"""`python -m training.studies.small_clip`: a small CLIP that knows drawn faces, for trying the CLIP systems offline.

It is trained from nothing on the training videos of a generated set, faces against the sentences of their expressions,
and written as a folder that `encoder.clip.model=local-dir:FOLDER` takes. It has never seen a photograph.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from model_core.affect import LABEL_SETS
from model_core.faces.geometry import Crop
from model_core.losses import contrastive_loss
from model_core.models.clip import CONFIG, WEIGHTS, class_prompts
from model_core.preprocessing import InputSpec, to_batch
from training.datasets import DatasetError, build_sequence_reader
from training.video.features import read_crop

SIZE, BATCH, RATE = 56, 64, 5e-4
MEAN = STD = (0.5, 0.5, 0.5)
ARCHITECTURE: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": SIZE, "patch_size": 8, "width": 128, "head_width": 32, "layers": 3},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}


def labelled_faces(root: Path) -> tuple[list[Crop], NDArray[np.int64]]:
    """Training faces that have an expression, uint8 [SIZE, SIZE, 3] RGB, and its index. Raises DatasetError."""
    crops, labels = [], []
    for sequence in build_sequence_reader("affwild2").sequences(root):
        if sequence.split != "train":
            continue
        rows = zip(sequence.frames, sequence.targets.expression, sequence.targets.expression_mask, strict=True)
        for path, expression, seen in rows:
            if path is not None and seen:
                crops.append(read_crop(path, SIZE))
                labels.append(int(expression.argmax()))
    return crops, np.array(labels, dtype=np.int64)


def train(root: Path, epochs: int, seed: int) -> nn.Module:
    """A trained open_clip model, float32."""
    import open_clip

    torch.manual_seed(seed)
    model: nn.Module = open_clip.CLIP(**ARCHITECTURE, quick_gelu=False)
    sentences = open_clip.SimpleTokenizer(context_length=ARCHITECTURE["text_cfg"]["context_length"])
    tokens = sentences(list(class_prompts(LABEL_SETS["abaw"])))
    crops, labels = labelled_faces(root)
    steps = epochs * (len(crops) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=max(1, steps))
    for rows in tqdm(_batches(len(crops), epochs, seed), total=steps):
        images = to_batch([crops[i] for i in rows], InputSpec(SIZE, "rgb", MEAN, STD, "arcface-1"))
        vectors = F.normalize(model.visual(images), dim=-1)  # type: ignore[operator]
        text = model.encode_text(tokens, normalize=True)  # type: ignore[operator]
        loss = contrastive_loss(vectors, text, torch.from_numpy(labels[rows]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def _batches(count: int, epochs: int, seed: int) -> Iterator[NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        order = rng.permutation(count)
        for start in range(0, count - BATCH + 1, BATCH):
            yield order[start : start + BATCH]


def write(model: nn.Module, folder: Path) -> None:
    """Write a model's folder. Raises FileExistsError."""
    folder.mkdir(parents=True)
    settings = {"model_cfg": ARCHITECTURE, "preprocess_cfg": {"mean": MEAN, "std": STD}}
    (folder / CONFIG).write_text(json.dumps(settings, indent=2) + "\n")
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / WEIGHTS[0])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.studies.small_clip", description=__doc__.split("\n", 1)[0]
    )
    parser.add_argument("--root", required=True, type=Path, help="a generated set")
    parser.add_argument("--out", required=True, type=Path, help="new folder for the model")
    parser.add_argument("--epochs", default=6, type=int)
    parser.add_argument("--seed", default=0, type=int)
    args = parser.parse_args()
    try:
        if args.out.exists():
            raise FileExistsError(f"{args.out} exists; choose another folder or remove it")
        write(train(args.root, args.epochs, args.seed), args.out)
    except (DatasetError, FileExistsError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
