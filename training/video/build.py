"""Assembling a run on video data: reader, encoder, features and head."""

from pathlib import Path

import torch

from model_core.affect import LABEL_SETS
from model_core.models.heads import PromptHead
from model_core.models.registry import build_network
from training.datasets import build_sequence_reader
from training.video.config import SequenceConfig
from training.video.encoders import build_encoder
from training.video.features import FeatureCache
from training.video.predictions import split_by_video
from training.video.run import SequenceRun
from training.video.tracks import load_tracks


def build_sequence_run(config: SequenceConfig, folder: Path, device: torch.device) -> SequenceRun:
    """Return a seeded run in its folder; features that the cache lacks are computed first, on `device`.

    Raises DatasetError, BundleError, ClipError, ValueError, and ModuleNotFoundError without the extra `clip`.
    """
    torch.manual_seed(config.run.seed)
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    data, task = config.data, config.network.task
    reader = build_sequence_reader(data.dataset, **data.reader)
    encoder = build_encoder(config.encoder, config.network, LABEL_SETS[reader.label_set])
    tracks = load_tracks(reader, data.root, task, FeatureCache(data.cache, encoder.to(device)), "train")
    held_out, trained = split_by_video(tracks, data.held_out, config.run.seed)
    network = build_network(encoder.spec, encoder.backbone)
    head = network.heads[task]
    if isinstance(head, PromptHead) and encoder.text is not None:
        head.text.copy_(encoder.text)
    folder.mkdir(parents=True, exist_ok=True)
    return SequenceRun(config, encoder, network, trained, held_out, folder)
