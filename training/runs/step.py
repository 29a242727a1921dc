"""The gradient of a batch, however the batch is divided: among processes, and into parts that follow each other.

Concordance and the attention loss are no means over faces: a part's loss says nothing about the batch's. So each part's
outputs, some numbers a face, are brought together first; the loss of them all gives each output its gradient, and each
part goes backward from there. With batch norms fixed this is the undivided batch's gradient but for rounding; in
training a batch norm normalises by the part that it sees (`training.runs.norms` says of which processes).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from model_core.affect import AffectLogits, AffectTarget
from model_core.losses import (
    LossWeights,
    affect_losses,
    attention_distances,
    attention_loss,
    relative_squared_error,
)
from model_core.models.ddamfn import DDAMFN
from model_core.models.heads import AffectNetwork
from training.data.batches import Batch
from training.runs.config import Precision
from training.runs.processes import Processes


def encode(backbone: nn.Module, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The heads' vector [B, D], and the attention maps of a backbone that has any."""
    if isinstance(backbone, DDAMFN):
        parts = backbone.parts(images)
        return parts.vector, parts.attention
    return backbone(images), ()


def total_loss(
    logits: AffectLogits,
    target: AffectTarget,
    distances: Tensor | None,
    weights: LossWeights,
    variance: Tensor | None = None,
) -> Tensor:
    """The weighted sum of task losses, with the attention loss where there are `attention_distances` [B].

    variance: of each unit's targets, [U]; without it there is no relative squared error.
    """
    losses = dict(affect_losses(logits, target))
    if distances is not None and weights.attention > 0:
        losses["attention"] = attention_loss(distances)
    if variance is not None and logits.action_units is not None and weights.unit_error > 0:
        losses["unit_error"] = relative_squared_error(
            logits.action_units, target.action_units, target.action_units_mask, variance
        )
    factors: Mapping[str, float] = asdict(weights)
    return torch.stack([factors[name] * loss for name, loss in losses.items()]).sum()


@dataclass
class BatchGradient:
    """Computes gradients on a device, in autocast unless `precision` is float32; heads and loss are in float32 always.

    variance: of each unit's targets, [U], for the relative squared error.
    accumulate: parts of this process's share of a batch. With more than one the network runs forward twice, first
    without a graph, so that memory holds one part's graph only; running statistics of batch norms see each part twice.
    Raises ValueError for float16 elsewhere than on CUDA.
    """

    network: AffectNetwork
    weights: LossWeights
    processes: Processes
    device: torch.device
    variance: Tensor | None = None
    precision: Precision = "float32"
    accumulate: int = 1
    compile: bool = False

    def __post_init__(self) -> None:
        if self.precision == "float16" and self.device.type != "cuda":
            raise ValueError("run.precision float16 needs a GPU (--device cuda); bfloat16 runs on the CPU as well")
        if self.variance is not None:
            self.variance = self.variance.to(self.device)
        self._encode = torch.compile(encode) if self.compile else encode

    def compute(self, batch: Batch, scaler: torch.amp.GradScaler) -> float:
        """Add the batch's gradient, times the scaler's factor, to the parameters', the same in all processes.

        Returns the loss of the whole batch, without the factor.
        """
        parts = batch.images.to(self.device).chunk(self.accumulate)
        with torch.set_grad_enabled(len(parts) == 1):
            outputs = [self._forward(part) for part in parts]
        joined = {name: torch.cat([output[name] for output in outputs]) for name in outputs[0]}
        loss, gradients = self._loss(joined, batch.target, scaler)
        if len(parts) == 1:
            _backward(joined, gradients)
        else:
            split = {name: gradient.split([len(part) for part in parts]) for name, gradient in gradients.items()}
            for i, part in enumerate(parts):
                _backward(self._forward(part), {name: pieces[i] for name, pieces in split.items()})
        self.processes.add_up([value.grad for value in self.network.parameters() if value.grad is not None])
        return loss

    def _forward(self, images: Tensor) -> dict[str, Tensor]:
        """float32 logits of each task, and `attention`, [b], where the backbone has attention maps."""
        with torch.autocast(self.device.type, getattr(torch, self.precision), enabled=self.precision != "float32"):
            vector, maps = self._encode(self.network.backbone, images)
        logits = vars(self.network.forward_vectors(vector.float()))
        outputs = {task: values for task, values in logits.items() if values is not None}
        if maps:
            outputs["attention"] = attention_distances([values.float() for values in maps])
        return outputs

    def _loss(
        self, outputs: Mapping[str, Tensor], target: AffectTarget, scaler: torch.amp.GradScaler
    ) -> tuple[float, dict[str, Tensor]]:
        """The whole batch's loss, and its scaled gradient for this process's share of the outputs."""
        whole = {name: self.processes.gather(values).requires_grad_() for name, values in outputs.items()}
        logits = AffectLogits(**{name: values for name, values in whole.items() if name != "attention"})
        target = AffectTarget(**{name: value.to(self.device) for name, value in vars(target).items()})
        loss = total_loss(logits, target, whole.get("attention"), self.weights, self.variance)
        gradients = torch.autograd.grad(scaler.scale(loss), list(whole.values()), materialize_grads=True)
        share = self.processes.share(len(target.expression))
        return float(loss.detach()), {name: values[share] for name, values in zip(whole, gradients, strict=True)}


def _backward(outputs: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
    torch.autograd.backward(list(outputs.values()), [gradients[name] for name in outputs])
