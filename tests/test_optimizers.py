"""Which optimizer moves which weights, and whether Muon moves them as PyTorch's own does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from course_lib.checkpoints import Checkpoint
from course_lib.engine.optimizers import Muon, load_optimizer_tensors, make_optimizers, optimizer_tensors

SHAPES = [(32, 48), (48, 32), (32, 48), (32, 32)]


def names(checkpoint: Checkpoint, group: dict[str, Any]) -> set[str]:
    """The names of the weights in a group of an optimizer."""
    ids = {id(weight) for weight in group["params"]}
    return {name for name, weight in checkpoint.model.named_parameters() if id(weight) in ids}


def test_adamw_moves_everything_and_norms_do_not_decay(checkpoint: Checkpoint) -> None:
    (adamw,) = make_optimizers(checkpoint.model, "adamw", 0.01, 0.1, torch.float32)
    decaying, others = adamw.param_groups
    assert (decaying["weight_decay"], others["weight_decay"], decaying["lr"]) == (0.1, 0.0, 0.01)
    assert all("norm" in name for name in names(checkpoint, others))
    assert names(checkpoint, decaying) | names(checkpoint, others) == {
        n for n, _ in checkpoint.model.named_parameters()
    }


def test_muon_moves_the_hidden_matrices_and_adamw_the_rest(checkpoint: Checkpoint) -> None:
    muon, adamw = make_optimizers(checkpoint.model, "muon", 0.01, 0.1, torch.float32)
    assert names(checkpoint, adamw.param_groups[0]) == {"model.embed_tokens.weight"}
    assert all("norm" in name for name in names(checkpoint, adamw.param_groups[1]))
    moved = names(checkpoint, muon.param_groups[0])
    assert len(moved) == 7 * checkpoint.model.config.num_hidden_layers
    assert all(name.endswith("proj.weight") for name in moved)


def matrices() -> list[Tensor]:
    """Random matrices of several shapes, the same at each call."""
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape) / 5) for shape in SHAPES]


def give_gradients(weights: Sequence[Tensor], step: int, scale: float = 1.0) -> None:
    """Random gradients, in which the directions of a matrix have unequal lengths."""
    torch.manual_seed(step)
    for weight in weights:
        weight.grad = scale * torch.randn_like(weight) * torch.linspace(0, 1, weight.shape[1])


def moved(optimizer: torch.optim.Optimizer, steps: int = 3, scale: float = 1.0) -> Tensor:
    """How far the weights of `matrices` are from where they began, after some steps of the optimizer over them."""
    weights = optimizer.param_groups[0]["params"]
    for step in range(steps):
        give_gradients(weights, step, scale)
        optimizer.step()
    return torch.cat([(weight - start).detach().flatten() for weight, start in zip(weights, matrices(), strict=True)])


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch has no Muon; it came with 2.9")
def test_muon_moves_the_weights_as_the_muon_of_pytorch_does() -> None:
    theirs = torch.optim.Muon(matrices(), 0.02, 0.1, adjust_lr_fn="match_rms_adamw")  # it multiplies in bfloat16
    expected = moved(theirs)
    assert relative_error(moved(Muon(matrices(), 0.02, 0.1, torch.bfloat16)), expected) < 0.02
    assert relative_error(moved(Muon(matrices(), 0.02, 0.1, torch.float32)), expected) < 0.02


@pytest.mark.parametrize(("precision", "bound"), [(torch.bfloat16, 2e-2), (torch.float16, 3e-3), (torch.float32, 3e-6)])
@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_muon_is_as_exact_as_its_products(precision: torch.dtype, bound: float, scale: float) -> None:
    """A step does not depend on the size of the gradients, even if float16 would lose them."""
    exact = moved(Muon(matrices(), 0.02, 0.1, torch.float64))
    error = relative_error(moved(Muon(matrices(), 0.02, 0.1, precision), scale=scale), exact)
    assert bound / 20 < error < bound


def test_muon_leaves_a_matrix_without_a_gradient_as_it_is() -> None:
    weights = matrices()
    muon = Muon(weights, 0.02, 0.1, torch.float32)
    give_gradients(weights, 0)
    weights[2].grad = None
    muon.step()
    assert [torch.equal(weight, start) for weight, start in zip(weights, matrices(), strict=True)] == [
        *(False, False, True, False)
    ]


def test_muon_goes_on_from_its_saved_state() -> None:
    whole = moved(Muon(matrices(), 0.02, 0.1, torch.float32), steps=4)
    first = Muon(matrices(), 0.02, 0.1, torch.float32)
    moved(first, steps=3)
    tensors = optimizer_tensors([first])
    assert tensors.keys() == {f"optimizer.0.{i}.momentum_buffer" for i in range(len(SHAPES))}
    second = Muon(first.param_groups[0]["params"], 0.02, 0.1, torch.float32)
    load_optimizer_tensors([second], {name: tensor.clone() for name, tensor in tensors.items()})
    give_gradients(weights := second.param_groups[0]["params"], step=3)
    second.step()
    found = torch.cat([(w - start).detach().flatten() for w, start in zip(weights, matrices(), strict=True)])
    assert torch.equal(found, whole)
