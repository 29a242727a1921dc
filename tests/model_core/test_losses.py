import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model_core.affect import AffectLogits, AffectTarget
from model_core.losses import (
    affect_losses,
    attention_distances,
    attention_loss,
    ccc_loss,
    change_loss,
    consistency_loss,
    relative_squared_error,
    soft_binary_cross_entropy,
    soft_cross_entropy,
    vector_loss,
)

seeds = st.integers(0, 10_000)


def test_soft_cross_entropy_by_hand() -> None:
    # Probabilities (3/4, 1/4): -(1/2 ln 3/4 + 1/2 ln 1/4); the second row is masked out.
    logits = torch.tensor([[math.log(3), 0.0], [50.0, -50.0]])
    target = torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    loss = soft_cross_entropy(logits, target, torch.tensor([1.0, 0.0]))
    assert loss.item() == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)


def test_soft_cross_entropy_is_the_mean_over_rows() -> None:
    logits, target = torch.zeros(3, 8), torch.eye(8)[:3]
    assert soft_cross_entropy(logits, target, torch.ones(3)).item() == pytest.approx(math.log(8))


def test_soft_binary_cross_entropy_by_hand() -> None:
    # sigmoid(ln 3) = 3/4. Of four entries two count: target 1 costs -ln 3/4, target 0 costs -ln 1/4.
    logits = torch.full((2, 2), math.log(3))
    target = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    mask = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    loss = soft_binary_cross_entropy(logits, target, mask)
    assert loss.item() == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)


def test_relative_squared_error_by_hand() -> None:
    # sigmoid(0) = 1/2. Errors of 1/2 and 1/4 against variances of 1/4 and 1/16: 1 each; the second row is masked out.
    logits = torch.tensor([[0.0, 0.0], [9.0, 9.0]])
    target = torch.tensor([[1.0, 0.25], [0.0, 0.0]])
    mask = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert relative_squared_error(logits, target, mask, torch.tensor([0.25, 0.0625])).item() == pytest.approx(1)


def test_guessing_the_mean_has_a_relative_squared_error_of_one() -> None:
    target = torch.tensor([[0.0, 0.1], [0.4, 0.3]])
    mean = target.mean(dim=0).expand(2, 2)
    error = relative_squared_error(mean.logit(), target, torch.ones(2, 2), target.var(dim=0, correction=0))
    assert error.item() == pytest.approx(1)


def test_change_loss_by_hand() -> None:
    # At rest one face is above the mean logit of 0 by 2, the other one below it: ln 3 and -ln 3 are left of them.
    logits = torch.tensor([[math.log(3) + 2], [-math.log(3) - 2]])
    loss = change_loss(logits, torch.tensor([[2.0], [-2.0]]), torch.tensor([[1.0], [0.0]]), torch.ones(2, 1))
    assert loss.item() == pytest.approx(-math.log(0.75))


def test_a_change_is_learned_from_both_pictures() -> None:
    logits, at_rest = (torch.zeros(1, 1, requires_grad=True) for _ in range(2))
    change_loss(logits, at_rest, torch.ones(1, 1), torch.ones(1, 1)).backward()
    assert (logits.grad, at_rest.grad) == (torch.tensor([[-0.5]]), torch.tensor([[0.5]]))


def test_vector_loss_by_hand() -> None:
    # Squared errors of 1 and 4 against variances of 1 and 4 (and 0.001 to keep constant components finite).
    taught = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
    loss = vector_loss(taught + torch.tensor([1.0, 2.0]), taught)
    assert loss.item() == pytest.approx((1 / 1.001 + 4 / 4.001) / 2)
    assert vector_loss(taught, taught).item() == 0
    assert vector_loss(taught[:1] + 1, taught[:1]).item() == 0


def test_ccc_loss_by_hand() -> None:
    # Column 0: x = 0, 2 and y = 0, 1: cov .5, variances 1 and .25, means 1 and .5: ccc = 1 / 1.5 = 2/3.
    # Column 1: y = -x: ccc = -1. The third row is masked out.
    estimate = torch.tensor([[0.0, -1.0], [2.0, 1.0], [9.0, 9.0]])
    target = torch.tensor([[0.0, 1.0], [1.0, -1.0], [-9.0, 0.0]])
    loss = ccc_loss(estimate, target, torch.tensor([1.0, 1.0, 0.0]))
    assert loss.item() == pytest.approx(1 - (2 / 3 - 1) / 2, abs=1e-6)


@given(seeds)
def test_ccc_loss_is_zero_for_equal_values(seed: int) -> None:
    values = torch.randn(6, 2, generator=torch.Generator().manual_seed(seed))
    assert abs(ccc_loss(values, values, torch.ones(6)).item()) < 1e-5


@pytest.mark.parametrize("kept", [0, 1])
def test_ccc_loss_without_two_rows_is_silent(kept: int) -> None:
    estimate = torch.randn(3, 2, requires_grad=True)
    mask = (torch.arange(3) < kept).float()
    loss = ccc_loss(estimate, torch.randn(3, 2), mask)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert estimate.grad is not None
    assert (estimate.grad == 0).all()


@given(seeds, st.sampled_from([0.0, 1e-4, 1.0, 30.0]))
def test_gradients_are_finite_and_absent_where_masked(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = [(scale * torch.randn(4, width, generator=generator)).requires_grad_() for width in (2, 8, 12)]
    kept = torch.rand(4, generator=generator) > 0.5
    mask = kept.float()
    target = AffectTarget(
        torch.rand(4, 2, generator=generator) * 2 - 1,
        mask,
        torch.rand(4, 8, generator=generator).softmax(1),
        mask,
        torch.rand(4, 12, generator=generator),
        mask[:, None].expand(-1, 12),
    )
    losses = affect_losses(AffectLogits(*logits), target)
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    for tensor in logits:
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
        assert (tensor.grad[~kept] == 0).all()


def test_only_the_networks_tasks_have_losses() -> None:
    target = AffectTarget(
        *(torch.zeros(2, 2), torch.ones(2), torch.eye(8)[:2], torch.ones(2)), *[torch.ones(2, 12)] * 2
    )
    assert set(affect_losses(AffectLogits(expression=torch.zeros(2, 8)), target)) == {"expression"}
    full = AffectLogits(torch.zeros(2, 2), torch.zeros(2, 8), torch.zeros(2, 12))
    losses = affect_losses(full, target)
    assert losses["expression"].item() == pytest.approx(math.log(8))
    assert losses["action_units"].item() == pytest.approx(math.log(2))
    assert set(losses) == {"valence_arousal", "expression", "action_units"}


def test_attention_loss_by_hand() -> None:
    # Distances of the pairs: 1, 4, 1; mean 2.
    maps = [torch.zeros(1, 2, 2), torch.ones(1, 2, 2), torch.full((1, 2, 2), 2.0)]
    distances = attention_distances(maps)
    assert distances.tolist() == [2]
    assert attention_loss(distances, epsilon=0.5).item() == pytest.approx(1 / 2.5)


def test_attention_loss_is_bounded_where_heads_agree() -> None:
    distances = attention_distances([torch.ones(1, 2), torch.ones(1, 2)])
    assert attention_loss(distances, epsilon=0.1).item() == pytest.approx(10)


def test_consistency_loss_by_hand() -> None:
    one = AffectLogits(torch.tensor([[0.5, 0.0]]), torch.zeros(1, 2), torch.zeros(1, 2))
    other = AffectLogits(
        torch.tensor([[0.1, 0.0]]), torch.tensor([[math.log(3), 0.0]]), torch.full((1, 2), math.log(4))
    )
    # 0.4 squared over two columns, probabilities of 3/4 and 1/4 against 1/2, and of 4/5 against 1/2.
    assert consistency_loss(one, other).item() == pytest.approx(0.08 + 0.0625 + 0.09)
    assert consistency_loss(AffectLogits(expression=torch.zeros(1, 2)), other).item() == pytest.approx(0.0625)
    nothing = AffectLogits(*[torch.zeros(0, 2)] * 3)
    assert consistency_loss(nothing, nothing).item() == 0
