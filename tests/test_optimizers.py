"""Which optimizer moves which weights, and in which precision Muon multiplies."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch

from course_lib.checkpoints import Checkpoint
from course_lib.engine.optimizers import KeepFloat32, make_optimizers

needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch has no Muon; it came with 2.9")


def names(checkpoint: Checkpoint, group: dict[str, Any]) -> set[str]:
    """The names of the weights in a group of an optimizer."""
    ids = {id(weight) for weight in group["params"]}
    return {name for name, weight in checkpoint.model.named_parameters() if id(weight) in ids}


def test_adamw_moves_everything_and_norms_do_not_decay(checkpoint: Checkpoint) -> None:
    (adamw,) = make_optimizers(checkpoint.model, "adamw", learning_rate=0.01, weight_decay=0.1)
    decaying, others = adamw.param_groups
    assert (decaying["weight_decay"], others["weight_decay"], decaying["lr"]) == (0.1, 0.0, 0.01)
    assert all("norm" in name for name in names(checkpoint, others))
    assert names(checkpoint, decaying) | names(checkpoint, others) == {
        n for n, _ in checkpoint.model.named_parameters()
    }


@needs_muon
def test_muon_moves_the_hidden_matrices_and_adamw_the_rest(checkpoint: Checkpoint) -> None:
    muon, adamw = make_optimizers(checkpoint.model, "muon", learning_rate=0.01, weight_decay=0.1)
    assert names(checkpoint, adamw.param_groups[0]) == {"model.embed_tokens.weight"}
    assert all("norm" in name for name in names(checkpoint, adamw.param_groups[1]))
    moved = names(checkpoint, muon.param_groups[0])
    assert len(moved) == 7 * checkpoint.model.config.num_hidden_layers
    assert all(name.endswith("proj.weight") for name in moved)


def test_a_pytorch_without_muon_is_told_to_choose_adamw(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(RuntimeError, match=r"Muon needs PyTorch 2\.9, this is .*: choose 'adamw'"):
        make_optimizers(checkpoint.model, "muon", learning_rate=0.01, weight_decay=0.1)


@needs_muon
def test_muon_is_kept_in_float32() -> None:
    """Its steps are then nearer to those it takes in float64, and the gradients are left as they were."""

    def step(*modes: contextlib.AbstractContextManager[object]) -> torch.Tensor:
        weight = torch.nn.Parameter(torch.zeros(32, 48))
        weight.grad = gradient.clone()
        with contextlib.ExitStack() as stack:
            for mode in modes:
                stack.enter_context(mode)
            torch.optim.Muon([weight], lr=1.0).step()
        assert torch.equal(weight.grad, gradient)
        return weight.detach()

    class KeepFloat64(KeepFloat32):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return args[0].double() if func is torch.Tensor.bfloat16 else func(*args, **(kwargs or {}))

    with KeepFloat32():
        assert (copy := (ones := torch.ones(2)).bfloat16()) is not ones
        assert copy.dtype == torch.float32
    gradient = torch.randn(32, 48, generator=torch.Generator().manual_seed(0))
    exact = step(KeepFloat64())
    assert (step(KeepFloat32()) - exact).abs().max() < 1e-4 < 1e-3 < (step() - exact).abs().max()
