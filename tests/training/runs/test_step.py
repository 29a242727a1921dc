import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from model_core.affect import ACTION_UNITS, LABEL_SETS, LEARNED_TASKS, AffectLogits, AffectTarget
from model_core.losses import LossWeights, attention_distances
from model_core.models.ddamfn import DDAMFN, PooledMFN
from model_core.models.heads import AffectNetwork
from model_core.models.registry import build_network
from model_core.models.spec import NetworkSpec
from training.data.batches import Batch
from training.runs.processes import ALONE
from training.runs.step import BatchGradient, encode, total_loss

CPU = torch.device("cpu")
PLAIN = torch.amp.GradScaler("cpu", enabled=False)


TOLERANCE = 2e-4
"""Of gradients, relative to the largest of a tensor: ten times what float32 was seen to differ by."""


def network_and_batch(backbone: str, size: int, faces: int) -> tuple[AffectNetwork, Batch]:
    """A seeded network whose norms are fixed as measured on the batch; the last face has expression votes only."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = build_network(NetworkSpec(backbone, LEARNED_TASKS, LABEL_SETS["ferplus"]))
        derived = torch.ones(faces)
        derived[-1] = 0
        target = AffectTarget(
            torch.rand(faces, 2) * 2 - 1,
            derived,
            torch.rand(faces, 8).softmax(dim=1),
            torch.ones(faces),
            torch.rand(faces, len(ACTION_UNITS)),
            derived[:, None].expand(-1, len(ACTION_UNITS)),
        )
        batch = Batch(torch.randn(faces, 3, size, size), target, np.arange(faces))
        update_bn([batch.images], network)
        return network.eval(), batch


def gradients_of(network: AffectNetwork) -> Mapping[str, Tensor]:
    found = {name: value.grad for name, value in network.named_parameters() if value.grad is not None}
    network.zero_grad(set_to_none=True)
    return found


def assert_same_gradients(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        tolerance = TOLERANCE * float(value.abs().max())
        torch.testing.assert_close(found[name], value, rtol=0, atol=tolerance, msg=name)


@pytest.mark.parametrize(("backbone", "size", "faces"), [("ddamfn", 112, 4), ("mfn-pooled", 32, 8)])
def test_parts_give_the_gradient_of_the_whole_batch(backbone: str, size: int, faces: int) -> None:
    network, batch = network_and_batch(backbone, size, faces)
    vector, maps = encode(network.backbone, batch.images)
    loss = total_loss(
        network.forward_vectors(vector), batch.target, attention_distances(maps) if maps else None, LossWeights()
    )
    loss.backward()
    expected = gradients_of(network)
    for parts in range(1, faces // 2 + 1):  # a part has two faces at least, as in a run
        gradient = BatchGradient(network, LossWeights(), ALONE, CPU, accumulate=parts)
        assert gradient.compute(batch, PLAIN) == pytest.approx(loss.item(), rel=1e-5)
        assert_same_gradients(gradients_of(network), expected)


def test_a_part_alone_would_not_do() -> None:
    """The mean of the parts' own losses is another loss: concordance is one number of a whole batch."""
    network, batch = network_and_batch("mfn-pooled", 32, 4)
    whole = BatchGradient(network, LossWeights(), ALONE, CPU).compute(batch, PLAIN)
    with torch.no_grad():
        halves = []
        for part in (slice(0, 2), slice(2, 4)):
            target = AffectTarget(**{name: value[part] for name, value in vars(batch.target).items()})
            halves.append(float(total_loss(network(batch.images[part]), target, None, LossWeights())))
    assert abs(sum(halves) / 2 - whole) > 0.01


def test_bfloat16_is_near_float32() -> None:
    network, batch = network_and_batch("mfn-pooled", 32, 4)
    exact = BatchGradient(network, LossWeights(), ALONE, CPU).compute(batch, PLAIN)
    gradients_of(network)
    short = BatchGradient(network, LossWeights(), ALONE, CPU, precision="bfloat16").compute(batch, PLAIN)
    assert short != exact
    assert short == pytest.approx(exact, rel=0.02)
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in gradients_of(network).values())


def test_the_scaler_scales_the_gradient_and_not_the_loss() -> None:
    network, batch = network_and_batch("mfn-pooled", 32, 2)
    gradient = BatchGradient(network, LossWeights(), ALONE, CPU)
    loss = gradient.compute(batch, PLAIN)
    expected = {name: value * 1024 for name, value in gradients_of(network).items()}
    assert gradient.compute(batch, torch.amp.GradScaler("cpu", init_scale=1024)) == loss
    assert_same_gradients(gradients_of(network), expected)


def test_float16_is_for_gpus() -> None:
    network, _ = network_and_batch("mfn-pooled", 32, 2)
    with pytest.raises(ValueError, match=r"run\.precision float16 needs a GPU"):
        BatchGradient(network, LossWeights(), ALONE, CPU, precision="float16")


def test_encode_knows_attention() -> None:
    with torch.inference_mode():
        vector, attention = encode(DDAMFN().eval(), torch.zeros(1, 3, 112, 112))
        assert vector.shape == (1, 512)
        assert len(attention) == 2
        vector, attention = encode(PooledMFN().eval(), torch.zeros(1, 3, 32, 32))
        assert vector.shape == (1, 512)
        assert attention == ()


def test_total_loss_by_hand() -> None:
    rows, units = torch.ones(2), torch.ones(2, len(ACTION_UNITS))
    constant = torch.zeros(2, 2)
    target = AffectTarget(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), rows, torch.eye(8)[:2], rows, units, units)
    logits = AffectLogits(constant, torch.zeros(2, 8), torch.zeros(2, 12))
    distances = torch.tensor([0.5, 1.5])
    weights = LossWeights(expression=1, valence_arousal=0.5, action_units=2, attention=0.1)
    # A constant estimate has no concordance: a loss of 1. The maps are 1 apart on average: 1 / 1.05.
    expected = math.log(8) + 0.5 * 1 + 2 * math.log(2) + 0.1 / 1.05
    assert total_loss(logits, target, distances, weights).item() == pytest.approx(expected)
    assert total_loss(logits, target, None, weights).item() == pytest.approx(expected - 0.1 / 1.05)
    weights = LossWeights(0, 0, 0, 0, unit_error=0.5)
    # Sigmoids of 0.5 miss targets of 1 by 0.25, squared: the variance of six units, half of the others'.
    variance = torch.tensor([0.25] * 6 + [0.5] * 6)
    assert total_loss(logits, target, None, weights, variance).item() == pytest.approx(0.5 * 0.75)
    assert total_loss(logits, target, None, weights).item() == 0
    views = AffectLogits(action_units=torch.tensor([[0.0] * 12, [math.log(4)] * 12]))
    weights = LossWeights(0, 0, 0, 0, consistency=2)
    # The second row is another view of the first: 4/5 against 1/2.
    assert total_loss(views, target, None, weights, repeated=torch.tensor([0])).item() == pytest.approx(2 * 0.09)
    assert total_loss(views, target, None, weights).item() == 0
    none = LossWeights(0, 0, 0, 0)
    assert total_loss(logits, target, distances, none).item() == 0
