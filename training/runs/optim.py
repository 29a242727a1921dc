"""Optimizer and schedule of a training run."""

import math

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from training.runs.config import StepsConfig


def build_optimizer(network: nn.Module, config: StepsConfig, trunk_factor: float = 1.0) -> AdamW:
    """Return AdamW over all parameters; those with one dimension (norms, biases, PReLU slopes) are not decayed.

    `trunk_factor` scales the learning rate of `backbone.features`.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        key = (name.startswith("backbone.features."), parameter.ndim > 1)
        groups.setdefault(key, []).append(parameter)
    return AdamW(
        [
            {
                "params": parameters,
                "lr": config.rate * (trunk_factor if trunk else 1.0),
                "weight_decay": config.weight_decay if decayed else 0.0,
            }
            for (trunk, decayed), parameters in groups.items()
        ],
        fused=True,
    )


def take_step(
    loss: Tensor, network: nn.Module, optimizer: Optimizer, schedule: LRScheduler, config: StepsConfig
) -> float:
    """Update a network's weights once by its loss, and advance the schedule; return the loss."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), config.gradient_norm)
    optimizer.step()
    schedule.step()
    return float(loss.detach())


def build_schedule(optimizer: AdamW, config: StepsConfig, total_steps: int) -> LambdaLR:
    """Return a linear warm-up over `warmup_share` of the steps, then half a cosine down to 0."""
    warmup = max(1, round(config.warmup_share * total_steps))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup)))

    return LambdaLR(optimizer, factor)
