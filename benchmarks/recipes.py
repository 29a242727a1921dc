"""`python -m benchmarks.recipes`: ideas of the field, judged on the runs that `benchmarks.systems` left in a folder.

Three ideas of later ABAW entries (arXiv 2603.12693), each against `best/` without it, on the reported videos:

* smoothing: class logits averaged over time before the argmax;
* gate: the encoder's own expression head answers where it is surer than a limit, else the new head; the limit is chosen
  on the videos that were held out of training;
* multi-task: one network with a head for each task, in place of three networks.

A gain has an interval over the videos, drawn in pairs. An idea is kept where every seed's interval lies above 0.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.reporting import section, table
from model_core.affect import LABEL_SETS, LEARNED_TASKS, Task
from model_core.bundles.bundle import load_bundle, locate_bundle
from model_core.calibration import Calibration
from model_core.metrics import binary_f1, ccc, macro_f1
from model_core.models.heads import AffectNetwork
from model_core.models.registry import build_network
from model_core.models.spec import NetworkSpec
from training.datasets import build_sequence_reader
from training.measuring.bootstrap import intervals
from training.video.batches import TrainingWindows, training_windows
from training.video.config import EvaluationConfig, SequenceConfig
from training.video.objectives import build_objective
from training.video.predictions import Pooled, pool, split_by_video
from training.video.scoring import headline, outputs_over_time, predictions_of
from training.video.tracks import Track, load_tracks
from training.video.trained import TrainedSequences, load_sequences
from training.video.windows import Indices

Floats = NDArray[np.float64]

LABELS = LABEL_SETS["abaw"]
LIMITS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""How sure the encoder's own head must be to answer; never, where none of them gains on the held-out videos."""
SYSTEMS = {
    "fc": {"valence_arousal": "ddamfn_fc_va", "expression": "ddamfn_fc_expr", "action_units": "ddamfn_fc_au"},
    "lstm": {"valence_arousal": "ddamfn_lstm_va", "expression": "ddamfn_lstm_expr", "action_units": "ddamfn_lstm_au"},
}


@dataclass(frozen=True)
class Gain:
    """What an idea gained on one system and seed: score without, score with, and [low, high] of the difference."""

    idea: str
    system: str
    seed: int
    without: float
    with_it: float
    interval: tuple[float, float]


def score(task: Task, values: Floats, targets: Floats, mask: NDArray[np.bool_]) -> float:
    """The challenge's measure of raw outputs, [N, K] all three: mean concordance, macro F1, or mean F1 at 0.5."""
    if task == "valence_arousal":
        return float(np.mean([ccc(values[:, i], targets[:, i]) for i in range(2)]))
    if task == "expression":
        return macro_f1(values.argmax(axis=1), targets.argmax(axis=1), range(len(LABELS)))
    columns = [(values[mask[:, i], i] >= 0.5, targets[mask[:, i], i] >= 0.5) for i in range(values.shape[1])]
    return float(np.mean([binary_f1(active, actual) for active, actual in columns]))


def pooled(model: TrainedSequences, outputs: Sequence[Floats], tracks: Sequence[Track], task: Task) -> Pooled:
    """Raw outputs of tracks beside their references."""
    found = pool(predictions_of(outputs, task, Calibration(), tracks), task)
    assert found is not None, f"{model.root} has no labels of {task}"
    return found


def gain(idea: str, system: str, seed: int, task: Task, pair: tuple[Pooled, Pooled], resamples: int) -> Gain:
    """Compare outputs without and with an idea, on the same frames."""

    def scores(frames: NDArray[np.int64]) -> list[float]:
        return [score(task, each.values[frames], each.targets[frames], each.mask[frames]) for each in pair]

    def difference(videos: NDArray[np.int64]) -> dict[str, float]:
        without, with_it = scores(pair[0].frames(videos))
        return {"gain": with_it - without}

    low, high = intervals(difference, pair[0].videos, resamples)["gain"]
    without, with_it = scores(np.arange(len(pair[0].values)))
    return Gain(idea, system, seed, without, with_it, (low, high))


def smoothing_gains(out: Path, seeds: Sequence[int], resamples: int) -> Iterator[Gain]:
    """Expressions of every system of `best/`, with logits as they are and smoothed with and without the future."""
    for system in ("ddamfn_fc_expr", "ddamfn_lstm_expr", "clip_fc_expr", "clip_lstm_expr"):
        for seed in seeds:
            model = _model(out, system, seed)
            tracks = model.tracks("validation")
            plain, causal, offline = (_smoothed(model, tracks, how) for how in ("none", "causal", "offline"))
            yield gain("logits smoothed, causal", system, seed, "expression", (plain, causal), resamples)
            yield gain("logits smoothed, offline", system, seed, "expression", (plain, offline), resamples)


def _smoothed(model: TrainedSequences, tracks: Sequence[Track], how: str) -> Pooled:
    config = model.config.model_copy(update={"evaluation": EvaluationConfig.model_validate({"smoothing": how})})
    return pooled(model, outputs_over_time(model.network, config, tracks), tracks, "expression")


def gate_gains(out: Path, seeds: Sequence[int], resamples: int) -> Iterator[Gain]:
    """Expressions of DDAMFN's systems of `best/`, gated by the expression head of the bundle that encodes."""
    own = load_bundle(locate_bundle("default"))
    for system in ("ddamfn_fc_expr", "ddamfn_lstm_expr"):
        for seed in seeds:
            model = _model(out, system, seed)
            sides = []
            for split in ("train", "validation"):
                tracks = model.tracks(split)
                new = outputs_over_time(model.network, model.config, tracks)
                sure = [_own_probabilities(own.network, own.manifest.network.labels, track) for track in tracks]
                sides.append((tracks, new, sure))
            limit = _best_limit(model, *sides[0])
            tracks, new, sure = sides[1]
            pair = (
                pooled(model, new, tracks, "expression"),
                pooled(model, gated(new, sure, limit), tracks, "expression"),
            )
            name = "gate (never: no limit gained on held-out videos)" if limit is None else f"gate at {limit}"
            yield gain(name, system, seed, "expression", pair, resamples)


@torch.inference_mode()
def _own_probabilities(network: AffectNetwork, labels: Sequence[str], track: Track) -> Floats:
    """The encoder's own probabilities [T, 8] in the order of LABELS; a label that it lacks has 0."""
    logits = network.forward_vectors(torch.from_numpy(np.array(track.features))).expression
    assert logits is not None
    own = logits.softmax(dim=1).double().numpy()
    columns = [own[:, labels.index(label)] if label in labels else np.zeros(len(own)) for label in LABELS]
    return np.stack(columns, axis=1)


def gated(new: Sequence[Floats], sure: Sequence[Floats], limit: float | None) -> list[Floats]:
    """Outputs in which the encoder's own probabilities stand where their highest reaches the limit."""
    if limit is None:
        return list(new)
    return [
        np.where(own.max(axis=1, keepdims=True) >= limit, own, _softmax(logits))
        for logits, own in zip(new, sure, strict=True)
    ]


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _best_limit(
    model: TrainedSequences, tracks: Sequence[Track], new: Sequence[Floats], sure: Sequence[Floats]
) -> float | None:
    def held_out_score(limit: float | None) -> float:
        found = pooled(model, gated(new, sure, limit), tracks, "expression")
        return score("expression", found.values, found.targets, found.mask)

    choices: list[float | None] = [None, *LIMITS]
    return max(choices, key=held_out_score)


def multitask_gains(out: Path, seeds: Sequence[int], resamples: int) -> Iterator[Gain]:
    """One network for the three tasks against three networks, with the settings of `best/`."""
    for memory, systems in SYSTEMS.items():
        for seed in seeds:
            singles = {task: _model(out, systems[task], seed) for task in LEARNED_TASKS}
            together = train_together(singles, seed)
            for task, single in singles.items():
                tracks = single.tracks("validation")
                alone, joint = (
                    pooled(single, outputs_over_time(network, single.config, tracks), tracks, task)
                    for network in (single.network, together)
                )
                yield gain(f"one network, {memory}", systems[task], seed, task, (alone, joint), resamples)


def train_together(singles: Mapping[Task, TrainedSequences], seed: int) -> AffectNetwork:
    """Train one network for all tasks as each single one was, by the sum of their losses; the epoch with the best mean.

    Every task must have labels in the same videos, as in a generated set.
    """
    torch.manual_seed(seed)
    configs = {task: model.config for task, model in singles.items()}
    first = singles["valence_arousal"]
    options, window = first.config.optimizer, first.config.window
    spec = first.trained.spec
    network = build_network(
        NetworkSpec(spec.backbone, LEARNED_TASKS, LABELS, spec.hidden, spec.recurrent), first.network.backbone
    )
    held_out, tracks = split_by_video(_all_training_tracks(first), first.config.data.held_out, seed)
    objectives = {task: build_objective(task, tracks, configs[task].loss) for task in LEARNED_TASKS}
    parts = [network.heads, *([network.recurrent] if network.recurrent is not None else [])]
    trained = nn.ModuleList(parts)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=options.rate, weight_decay=options.weight_decay)
    places = _places(tracks, first.config)
    common = {task: TrainingWindows(tracks, places, task, window.length) for task in LEARNED_TASKS}
    steps = options.epochs * -(-len(places) // options.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best, best_score = {}, float("-inf")
    for epoch in range(options.epochs):
        trained.train()
        drawn = (common[task].batches(options.batch_size, (seed, epoch)) for task in LEARNED_TASKS)
        for batches in zip(*drawn, strict=True):
            optimizer.zero_grad(set_to_none=True)
            losses = [objectives[task](network, batch) for task, batch in zip(LEARNED_TASKS, batches, strict=True)]
            torch.stack(losses).sum().backward()
            optimizer.step()
            schedule.step()
        found = float(np.mean([headline(network, configs[task], held_out)["score"] for task in LEARNED_TASKS]))
        if found > best_score:
            best_score = found
            best = {name: value.detach().clone() for name, value in trained.state_dict().items()}
    trained.load_state_dict(best)
    return network.eval()


def _places(tracks: Sequence[Track], config: SequenceConfig) -> list[tuple[int, Indices]]:
    """The sequences in which any of the tasks has a label."""
    places: dict[tuple[int, int], tuple[int, Indices]] = {}
    for task in LEARNED_TASKS:
        for index, frames in training_windows(tracks, task, config.window, config.data.frame_rate).places:
            places[index, int(frames[0])] = (index, frames)
    return [places[key] for key in sorted(places)]


def _all_training_tracks(model: TrainedSequences) -> list[Track]:
    """The tracks of the training split, held out or not, from the features that the run kept."""
    data = model.config.data
    reader = build_sequence_reader(data.dataset, **data.reader)
    return load_tracks(reader, model.root, model.config.network.task, model.cache(), "train")


def _model(out: Path, system: str, seed: int) -> TrainedSequences:
    model = load_sequences(out / f"best-{system}-{seed}")
    assert model is not None, "runs on video data"
    return model


IDEAS: Mapping[str, Callable[[Path, Sequence[int], int], Iterator[Gain]]] = {
    "smoothing": smoothing_gains,
    "gate": gate_gains,
    "multi-task": multitask_gains,
}


def report(gains: Sequence[Gain]) -> str:
    """Markdown: a row for each idea, system and seed."""
    rows = [
        [
            each.idea,
            f"best/{each.system}",
            each.seed,
            f"{each.without:.3f}",
            f"{each.with_it:.3f}",
            f"{each.with_it - each.without:+.3f} [{each.interval[0]:+.3f}, {each.interval[1]:+.3f}]",
        ]
        for each in gains
    ]
    return section("Ideas", table(["idea", "system", "seed", "without", "with", "gain"], rows))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", required=True, type=Path, help="folder that benchmarks.systems wrote")
    parser.add_argument("--seeds", default=2, type=int)
    parser.add_argument("--resamples", default=500, type=int)
    parser.add_argument("--ideas", nargs="+", default=list(IDEAS), choices=list(IDEAS))
    args = parser.parse_args()
    gains = [each for idea in args.ideas for each in IDEAS[idea](args.out, range(args.seeds), args.resamples)]
    print(report(gains))


if __name__ == "__main__":
    main()
