"""The training loop of the landmark network, and its measures on validation faces."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from model_core.faces.refinement import LANDMARK_UNIT_PX, PLACES, TEMPLATE_SCALE
from training.datasets import DatasetError
from training.refinement.labels import LabelledFace
from training.refinement.network import RefinementNetwork, normalised_batch
from training.refinement.samples import STARTS, Sampler, relit

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitOptions:
    """The settings of the training."""

    epochs: int = 30
    faces_a_step: int = 96
    """Each face is seen from two places in a step."""
    rate: float = 3e-3
    """Largest learning rate of the one-cycle schedule."""
    agreement: float = 1.0
    """Weight of the difference between the two answers about one face, which is what repeated looks feed on."""
    seed: int = 0


def fit(train: Sequence[LabelledFace], validation: Sequence[LabelledFace], options: FitOptions) -> RefinementNetwork:
    """Train on faces and return the averaged network; logs the errors on `validation` as it goes.

    Raises DatasetError where there are fewer faces than a step takes.
    """
    if len(train) < options.faces_a_step:
        raise DatasetError(f"{len(train)} training faces are fewer than the {options.faces_a_step} of a step")
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    sampler = Sampler(rng)
    network = RefinementNetwork()
    average = AveragedModel(network, avg_fn=_average, use_buffers=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=options.rate, weight_decay=1e-4)
    steps = len(train) // options.faces_a_step
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.rate, options.epochs * steps, pct_start=0.1)
    for epoch in range(options.epochs):
        network.train()
        order = rng.permutation(len(train))
        for step in range(steps):
            rows = order[step * options.faces_a_step : (step + 1) * options.faces_a_step]
            inputs, targets = sampler.pairs([train[row] for row in rows])
            loss = _loss(network, relit(inputs, generator), targets, options.agreement)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(network)
        if epoch % 5 == 4 or epoch == options.epochs - 1:
            logger.info("epoch %d: %s", epoch + 1, "; ".join(errors(average, validation)))
    network.load_state_dict(average.module.state_dict())
    return network.eval()


def _average(average: Tensor, value: Tensor, steps: int | Tensor) -> Tensor:
    """Return the next exponential average over a thousand steps, and at first over a tenth of the steps so far."""
    if not average.is_floating_point():  # the batch norms' counts
        return value
    return torch.lerp(average, value, max(0.001, 10 / (int(steps) + 10)))


def _loss(network: RefinementNetwork, inputs: Tensor, targets: Tensor, agreement: float) -> Tensor:
    """Return the negative log-likelihood of the places under a Laplace distribution, and the cost of disagreement.

    The doubt is the logarithm of the distribution's width, so a face that cannot be placed counts less.
    """
    pairs, faces = inputs.shape[:2]
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(normalised_batch(inputs.flatten(0, 1).unsqueeze(1)))
    outputs = outputs.float().view(pairs, faces, -1)
    missed = outputs[..., :PLACES] - targets
    doubt = outputs[..., PLACES].clamp(-5, 3)
    errors = F.smooth_l1_loss(missed, torch.zeros_like(missed), beta=0.05, reduction="none").mean(dim=-1)
    apart = missed[0] - missed[1]
    disagreement = F.smooth_l1_loss(apart, torch.zeros_like(apart), beta=0.05, reduction="none").mean(dim=-1)
    # Doubted faces count less, but the weight does not teach the doubt itself.
    sure = torch.exp(-doubt.detach().amax(dim=0))
    likelihood: Tensor = (errors * torch.exp(-doubt) + doubt).mean()
    return likelihood + agreement * (sure * disagreement).mean()


def errors(network: torch.nn.Module, faces: Sequence[LabelledFace]) -> list[str]:
    """Return a line for each of STARTS: the mean landmark error and the disagreement, in pixels of the template."""
    lines = []
    network.eval()
    for start in STARTS:
        sampler = Sampler(np.random.default_rng(0))
        missed = []
        doubts = []
        with torch.inference_mode():
            for first in range(0, len(faces), 256):
                inputs, targets = sampler.pairs(faces[first : first + 256], start)
                outputs = network(normalised_batch(inputs.flatten(0, 1).unsqueeze(1)))
                outputs = outputs.view(*targets.shape[:2], -1)
                missed.append((outputs[..., :PLACES] - targets)[..., :10] * LANDMARK_UNIT_PX / TEMPLATE_SCALE)
                doubts.append(outputs[..., PLACES])
        landmarks, doubt = torch.cat(missed, dim=1), torch.cat(doubts, dim=1)
        apart = (landmarks[0] - landmarks[1]).abs().mean()
        mean, median = landmarks.abs().mean(), landmarks.abs().mean(dim=-1).median()
        lines.append(
            f"turn {start.turn_deg:g}: error {mean:.2f} px (median {median:.2f}), apart {apart:.2f} px, "
            f"doubt {doubt.mean():.2f}"
        )
    return lines
