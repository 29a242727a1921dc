"""`python -m training.studies.temporal`: the gain of smoothing or an LSTM over single frames, on simulated tracks.

It compares framewise outputs, causal and offline smoothing, and an LSTM trained here on the backbone's features, by
error and lag where the face changes and by jitter where it does not. The LSTM is trained on faces of the training split
and measured on those of another.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from model_core.affect import AffectLogits, AffectTarget
from model_core.bundles.bundle import BundleError
from model_core.faces.alignment import shrink
from model_core.inference.smoothing import smooth_causal, smooth_offline
from model_core.losses import LossWeights
from model_core.models.heads import AffectNetwork, task_head
from model_core.models.lstm import LSTMEncoder
from model_core.models.spec import NetworkSpec
from training.data.batches import image_batch
from training.data.mirror_images import vectors_of
from training.data.prepared import PreparedFaces
from training.datasets import DatasetError
from training.datasets.raw import SPLITS, Split
from training.measuring.figures import write_figures
from training.measuring.temporal_measures import Tracks, compare, render
from training.runs.checkpoint import CheckpointError
from training.runs.command_line import CommandParser, at_least, fail, require_parent
from training.runs.step import total_loss
from training.runs.trained import Evaluable, load_for_measuring
from training.studies.simulated import FRAME_RATE, TREMBLING, Motion, blended, ramp, simulate

FRAMES = 40
"""Frames of a simulated track."""


@dataclass(frozen=True)
class TrackKind:
    """A kind of simulated tracks."""

    motion: Motion
    change: tuple[int, int] | None
    """Shortest and longest dissolve from the first face to the second, in frames. None: the face does not change."""


KINDS: Mapping[str, TrackKind] = {
    "changing": TrackKind(Motion(), (5, 20)),
    "jumping": TrackKind(Motion(), (1, 1)),
    "still": TrackKind(TREMBLING, None),
}


def make_tracks(
    model: Evaluable, faces: PreparedFaces, rows: NDArray[np.int64], kind: str, count: int, seed: int
) -> Tracks:
    """Return the features of `count` tracks of a kind in KINDS, each of a random pair of faces among `rows`."""
    rng = np.random.default_rng(seed)
    usable = rows[faces.found[rows] & faces.derived[rows] & (faces.votes[rows].sum(axis=1) > 0)]
    vectors = []
    targets = []
    starts = []
    change = KINDS[kind].change
    for _ in tqdm(range(count), desc=f"{kind} tracks", unit="track"):
        first, second = (int(row) for row in rng.choice(usable, 2, replace=False))
        start, mix = FRAMES, np.zeros(FRAMES)
        if change is not None:
            shortest, longest = change
            start = int(rng.integers(5, FRAMES - longest - 10))
            mix = ramp(FRAMES, start, int(rng.integers(shortest, longest + 1)))
        frames = simulate(faces.crops[first], faces.crops[second], mix, KINDS[kind].motion, rng)
        crops = [shrink(frame, model.input.size) for frame in frames]
        with torch.inference_mode():
            vectors.append(vectors_of(model.network.backbone, image_batch(crops, model.input), model.input))
        targets.append(blended(faces, first, second, mix))
        starts.append(start)
    stacked = {
        field.name: torch.stack([getattr(target, field.name) for target in targets]) for field in fields(AffectTarget)
    }
    return Tracks(torch.stack(vectors), AffectTarget(**stacked), np.array(starts))


def train_lstm(tracks: list[Tracks], spec: NetworkSpec, weights: LossWeights, epochs: int = 20) -> AffectNetwork:
    """Return an LSTM with task heads, trained on whole tracks."""
    encoder = LSTMEncoder(tracks[0].vectors.shape[2])
    heads: dict[str, nn.Module] = {
        task: task_head(encoder.vector_size, width, None) for task, width in spec.widths.items()
    }
    network = AffectNetwork(encoder, heads)
    vectors = torch.cat([part.vectors for part in tracks]).clone()
    target = {f.name: torch.cat([getattr(part.target, f.name) for part in tracks]) for f in fields(AffectTarget)}
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.01)
    batch = min(16, len(vectors))
    steps = len(vectors) // batch
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    for _ in tqdm(range(epochs), desc="LSTM", unit="epoch"):
        for chosen in torch.randperm(len(vectors))[: steps * batch].split(batch):
            logits = network(vectors[chosen])
            flat = AffectLogits(**{task: getattr(logits, task).flatten(0, 1) for task in spec.widths})
            wanted = AffectTarget(**{name: values[chosen].flatten(0, 1) for name, values in target.items()})
            optimizer.zero_grad(set_to_none=True)
            total_loss(flat, wanted, None, weights).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


Method = Callable[[Tensor], NDArray[np.float64]]
"""Features of tracks, float32 [N, T, D] -> raw outputs of all tasks side by side, float64 [N, T, K]."""


def build_methods(model: Evaluable, lstm: AffectNetwork) -> dict[str, Method]:
    """Return the methods to compare, by name; the first is the reference."""

    def framewise(vectors: Tensor) -> NDArray[np.float64]:
        return _side_by_side(model.network.forward_vectors(vectors), model.spec)

    times_s = np.arange(FRAMES) / FRAME_RATE
    return {
        "framewise": framewise,
        "causal": lambda vectors: np.array([smooth_causal(track, times_s) for track in framewise(vectors)]),
        "offline": lambda vectors: np.array([smooth_offline(track, times_s) for track in framewise(vectors)]),
        "lstm": lambda vectors: _side_by_side(lstm(vectors), model.spec),
    }


def _side_by_side(logits: AffectLogits, spec: NetworkSpec) -> NDArray[np.float64]:
    return torch.cat([getattr(logits, task) for task in spec.widths], dim=2).double().numpy()


@torch.inference_mode()
def estimates(method: Method, tracks: Tracks, spec: NetworkSpec) -> NDArray[np.float64]:
    """Return uncalibrated estimates, float64 [N, T, K]: valence and arousal, then probabilities."""
    outputs = torch.from_numpy(method(tracks.vectors))
    parts = dict(zip(spec.widths, outputs.split(list(spec.widths.values()), 2), strict=True))
    if "expression" in parts:
        parts["expression"] = F.softmax(parts["expression"], dim=2)
    if "action_units" in parts:
        parts["action_units"] = parts["action_units"].sigmoid()
    return torch.cat(list(parts.values()), dim=2).numpy()


def study(
    model: Evaluable, faces: PreparedFaces, split: Split, train_tracks: int, tracks: int
) -> dict[str, dict[str, float]]:
    """Return figures by method: an LSTM learns from `train_tracks`, and all are measured on `tracks` of each kind."""
    torch.manual_seed(0)
    model = replace(model, spec=model.spec.learned)
    train = [
        make_tracks(model, faces, faces.indices("train"), kind, max(1, round(share * train_tracks)), seed)
        for seed, (kind, share) in enumerate((("changing", 0.6), ("jumping", 0.2), ("still", 0.2)))
    ]
    methods = build_methods(model, train_lstm(train, model.spec, LossWeights()))
    measured = {
        kind: make_tracks(model, faces, faces.indices(split), kind, tracks, 100 + seed)
        for seed, kind in enumerate(KINDS)
    }
    found = {
        name: {kind: estimates(method, part, model.spec) for kind, part in measured.items()}
        for name, method in methods.items()
    }
    return {name: compare(by_kind, found["framewise"], measured, model.spec) for name, by_kind in found.items()}


def main() -> None:
    """Command line."""
    parser = CommandParser(prog="python -m training.studies.temporal", description=__doc__)
    parser.add_argument("--model", default="default", help="a shipped bundle's name, a bundle's or a run's folder")
    parser.add_argument("--prepared", required=True, type=Path)
    parser.add_argument("--split", default="validation", choices=SPLITS)
    parser.add_argument("--train-tracks", type=at_least(1), default=500)
    parser.add_argument("--tracks", type=at_least(1), default=150, help="measured tracks of each kind")
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    args = parser.parse_args()
    try:
        require_parent(args.out)
        model, faces = load_for_measuring(args.model, args.prepared)
    except (BundleError, CheckpointError, DatasetError, OSError) as error:
        fail(error)
    figures = study(model, faces, args.split, args.train_tracks, args.tracks)
    print(render(figures))
    if args.out:
        write_figures(args.out, figures)


if __name__ == "__main__":
    main()
