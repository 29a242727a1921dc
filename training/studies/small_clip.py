"""`python -m training.studies.small_clip`: a small CLIP that knows drawn faces, for trying the CLIP systems offline.

It is trained from nothing on faces of a generated set against the sentences of their expressions, and written as a
folder that `encoder.clip.model=local-dir:FOLDER` takes. It has never seen a photograph. It reads only the videos that a
run of the same seed trains on, so neither the reported videos nor those that choose the epoch, the thresholds and the
calibration are known to it.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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
from model_core.preprocessing import InputSpec
from training.data.batches import image_batch
from training.datasets import DatasetError, build_sequence_reader
from training.datasets.sequences import Sequence
from training.runs.command_line import CommandParser, at_least, fail
from training.video.features import read_crop
from training.video.predictions import split_by_video
from training.video.tracks import labelled_sequences

SIZE = 56
BATCH = 64
RATE = 5e-4
MEAN = STD = (0.5, 0.5, 0.5)
ARCHITECTURE: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": SIZE, "patch_size": 8, "width": 128, "head_width": 32, "layers": 3},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}


@dataclass(frozen=True)
class Recipe:
    """Options of training a small CLIP."""

    held_out: float = 0.2
    """Share of the training videos that are not read: `data.held_out` of the runs that will use the tower."""
    seed: int = 0
    """Of the weights and the order of faces; with `held_out` it chooses the videos, so it is `run.seed` of the runs."""
    steps: int = 1000
    """Batches of 64 faces. With 400 some seeds still tell nothing; many more fit the few people of a small set."""


def training_sequences(root: Path, recipe: Recipe) -> list[Sequence]:
    """Return the sequences with expressions that a run of the same seed trains on: no held-out and no reported video.

    Raises DatasetError, ProtocolError.
    """
    labelled = labelled_sequences(build_sequence_reader("affwild2"), root, "expression", "train")
    _, trained_on = split_by_video(labelled, recipe.held_out, recipe.seed)
    return trained_on


def labelled_faces(sequences: Iterable[Sequence]) -> tuple[list[Crop], NDArray[np.int64]]:
    """Return the faces that have an expression, uint8 [SIZE, SIZE, 3] RGB, and its index [N]. Raises DatasetError."""
    crops, labels = [], []
    for sequence in sequences:
        rows = zip(sequence.frames, sequence.targets.expression, sequence.targets.expression_mask, strict=True)
        for path, expression, seen in rows:
            if path is not None and seen:
                crops.append(read_crop(path, SIZE))
                labels.append(int(expression.argmax()))
    return crops, np.array(labels, dtype=np.int64)


def train(root: Path, recipe: Recipe) -> nn.Module:
    """Return a trained open_clip model, float32. Raises DatasetError, ProtocolError."""
    import open_clip

    torch.manual_seed(recipe.seed)
    model: nn.Module = open_clip.CLIP(**ARCHITECTURE, quick_gelu=False)
    sentences = open_clip.SimpleTokenizer(context_length=ARCHITECTURE["text_cfg"]["context_length"])
    tokens = sentences(list(class_prompts(LABEL_SETS["abaw"])))
    crops, labels = labelled_faces(training_sequences(root, recipe))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=recipe.steps)
    for rows in tqdm(_batches(len(crops), recipe), total=recipe.steps):
        images = image_batch([crops[i] for i in rows], InputSpec(SIZE, "rgb", MEAN, STD, "arcface-1"))
        vectors = F.normalize(model.visual(images), dim=-1)  # type: ignore[operator]
        text = model.encode_text(tokens, normalize=True)  # type: ignore[operator]
        loss = contrastive_loss(vectors, text, torch.from_numpy(labels[rows]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def _batches(count: int, recipe: Recipe) -> Iterator[NDArray[np.int64]]:
    """The rows of each step: the faces in shuffled order, again and again."""
    rng = np.random.default_rng(recipe.seed)
    size = min(BATCH, count)
    waiting = rng.permutation(count)
    for _ in range(recipe.steps):
        if len(waiting) < size:
            waiting = rng.permutation(count)
        yield waiting[:size]
        waiting = waiting[size:]


def write(model: nn.Module, folder: Path) -> None:
    """Write a model's folder. Raises FileExistsError."""
    folder.mkdir(parents=True)
    settings = {"model_cfg": ARCHITECTURE, "preprocess_cfg": {"mean": MEAN, "std": STD}}
    (folder / CONFIG).write_text(json.dumps(settings, indent=2) + "\n")
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / WEIGHTS[0])


def main() -> None:
    """Command line."""
    parser = CommandParser(prog="python -m training.studies.small_clip", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--root", required=True, type=Path, help="a generated set")
    parser.add_argument("--out", required=True, type=Path, help="new folder for the model")
    parser.add_argument("--held-out", default=Recipe.held_out, type=float, help="data.held_out of the runs that use it")
    parser.add_argument("--seed", default=Recipe.seed, type=int, help="run.seed of the runs that use it")
    parser.add_argument("--steps", default=Recipe.steps, type=at_least(1), help="batches of 64 faces")
    args = parser.parse_args()
    try:
        if args.out.exists():
            raise FileExistsError(f"{args.out} exists; choose another folder or remove it")
        write(train(args.root, Recipe(args.held_out, args.seed, args.steps)), args.out)
    except (DatasetError, FileExistsError, ModuleNotFoundError, ValueError) as error:
        fail(error)


if __name__ == "__main__":
    main()
