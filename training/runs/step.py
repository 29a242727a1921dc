"""The gradient of a batch that is divided among processes, and into parts that are computed one after another.

Concordance and the attention loss are not means over faces, so the loss of the batch is not a mean of the parts'
losses. The outputs of all parts, which are small, are therefore gathered first. The loss of the whole batch gives the
gradient of each output, from which each part runs its backward pass. With fixed batch norms the result is the gradient
of the undivided batch up to rounding; in training a batch norm normalises by the part that it sees (`share_norms`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from model_core.affect import TASKS, AffectLogits, AffectTarget
from model_core.losses import (
    LossWeights,
    affect_losses,
    attention_distances,
    attention_loss,
    change_loss,
    consistency_loss,
    relative_squared_error,
    vector_loss,
)
from model_core.models.ddamfn import DDAMFN
from model_core.models.heads import AffectNetwork
from training.data.batches import Batch
from training.runs.config import Precision
from training.runs.processes import Processes


def encode(backbone: nn.Module, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the heads' input [B, D], and the attention maps of a backbone that has any."""
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
    repeated: Tensor | None = None,
) -> Tensor:
    """Return the weighted sum of the task losses.

    distances: `attention_distances` [B]; without them there is no attention loss. variance: of each unit's targets,
    [U]; without it there is no relative squared error. repeated: int64 [R], the places of the faces that the last R
    rows show once more; without it there is no consistency loss.
    """
    losses = dict(affect_losses(logits, target))
    if distances is not None and weights.attention > 0:
        losses["attention"] = attention_loss(distances)
    if variance is not None and logits.action_units is not None and weights.unit_error > 0:
        losses["unit_error"] = relative_squared_error(
            logits.action_units, target.action_units, target.action_units_mask, variance
        )
    if repeated is not None and weights.consistency > 0:
        second = slice(-len(repeated), None)
        losses["consistency"] = consistency_loss(_rows(logits, repeated), _rows(logits, second))
    factors: Mapping[str, float] = asdict(weights)
    return torch.stack([factors[name] * loss for name, loss in losses.items()]).sum()


def _rows(logits: AffectLogits, rows: Tensor | slice) -> AffectLogits:
    return AffectLogits(**{task: None if values is None else values[rows] for task, values in vars(logits).items()})


@dataclass
class BatchGradient:
    """Computes gradients of whole batches on a device. Raises ValueError for float16 on another device than CUDA."""

    network: AffectNetwork
    weights: LossWeights
    processes: Processes
    device: torch.device
    variance: Tensor | None = None
    """float32 [U]: variance of each unit's targets, for the relative squared error."""
    precision: Precision = "float32"
    """Number format of the backbone, by autocast; heads and losses are computed in float32 always."""
    accumulate: int = 1
    """Parts of this process's share of a batch.

    With more than one the network runs forward twice, first without a graph, so that only one part's graph is in memory
    at a time; the running statistics of batch norms see each part twice.
    """
    compile: bool = False
    """Compile the backbone (torch.compile)."""

    def __post_init__(self) -> None:
        if self.precision == "float16" and self.device.type != "cuda":
            raise ValueError("run.precision float16 needs a GPU (--device cuda); bfloat16 runs on the CPU as well")
        if self.variance is not None:
            self.variance = self.variance.to(self.device)
        self._encode = torch.compile(encode) if self.compile else encode

    def compute(self, batch: Batch, scaler: torch.amp.GradScaler) -> float:
        """Add the gradient of the batch, times the scaler's factor, to that of the parameters, alike in all processes.

        Return the loss of the whole batch, without the factor.
        """
        parts = batch.images.to(self.device).chunk(self.accumulate)
        with torch.set_grad_enabled(len(parts) == 1):
            outputs = [self._forward(part) for part in parts]
        whole = {name: torch.cat([output[name] for output in outputs]) for name in outputs[0]}
        loss, gradients = self._loss(whole, batch, scaler)
        if len(parts) == 1:
            _backward(whole, gradients)
        else:
            split = {name: gradient.split([len(part) for part in parts]) for name, gradient in gradients.items()}
            for i, part in enumerate(parts):
                _backward(self._forward(part), {name: pieces[i] for name, pieces in split.items()})
        self.processes.add_up([value.grad for value in self.network.parameters() if value.grad is not None])
        return loss

    def _forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return float32 logits of each task, and `attention` [b], the distances of attention maps if there are any."""
        with torch.autocast(self.device.type, getattr(torch, self.precision), enabled=self.precision != "float32"):
            vector, maps = self._encode(self.network.backbone, images)
        logits = vars(self.network.forward_vectors(vector.float()))
        outputs = {task: values for task, values in logits.items() if values is not None}
        if self.weights.vector > 0:
            outputs["vector"] = vector.float()
        if maps:
            outputs["attention"] = attention_distances([values.float() for values in maps])
        return outputs

    def _loss(
        self, outputs: Mapping[str, Tensor], batch: Batch, scaler: torch.amp.GradScaler
    ) -> tuple[float, dict[str, Tensor]]:
        """Return the loss of the whole batch, and its scaled gradient for this process's share of the outputs."""
        whole = {name: self.processes.gather(values).requires_grad_() for name, values in outputs.items()}
        seen = len(batch.rows)  # what follows are the same people at rest, who have no targets
        logits = AffectLogits(**{task: whole[task][:seen] if task in whole else None for task in TASKS})
        distances = whole["attention"][:seen] if "attention" in whole else None
        target = AffectTarget(**{name: value.to(self.device) for name, value in vars(batch.target).items()})
        repeated = torch.from_numpy(batch.repeated).to(self.device) if len(batch.repeated) else None
        loss = total_loss(logits, target, distances, self.weights, self.variance, repeated)
        if batch.lesson is not None and self.weights.vector > 0:
            places = torch.from_numpy(batch.lesson.places).to(self.device)
            taught = batch.lesson.vectors.to(self.device)
            loss = loss + self.weights.vector * vector_loss(whole["vector"][places], taught)
        if len(batch.compared):
            compared, units = torch.from_numpy(batch.compared).to(self.device), whole["action_units"]
            targets, mask = target.action_units[compared], target.action_units_mask[compared]
            loss = loss + self.weights.change * change_loss(units[compared], units[seen:], targets, mask)
        gradients = torch.autograd.grad(scaler.scale(loss), list(whole.values()), materialize_grads=True)
        share = self.processes.share(len(next(iter(whole.values()))))
        return float(loss.detach()), {name: values[share] for name, values in zip(whole, gradients, strict=True)}


def _backward(outputs: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
    torch.autograd.backward(list(outputs.values()), [gradients[name] for name in outputs])
