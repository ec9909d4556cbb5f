"""The two optimizers of the course, AdamW and Muon, and their state as named tensors."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def make_optimizers(
    model: nn.Module, name: Literal["adamw", "muon"], learning_rate: float, weight_decay: float, precision: torch.dtype
) -> list[Optimizer]:
    """AdamW for all weights, or Muon for the hidden matrices and AdamW for the rest. Norm weights do not decay.

    AdamW: Loshchilov & Hutter 2019. `precision` is the type of Muon's products.
    """
    vectors = [weight for weight in model.parameters() if weight.ndim < 2]
    embedding = [weight for key, weight in model.named_parameters() if "embed_tokens" in key]
    matrices = [weight for key, weight in model.named_parameters() if weight.ndim > 1 and "embed_tokens" not in key]
    optimizers: list[Optimizer] = []
    if name == "muon":
        optimizers = [Muon(matrices, learning_rate, weight_decay, precision)]
        matrices = []
    groups = [{"params": embedding + matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [*optimizers, torch.optim.AdamW(groups, learning_rate, betas=(0.9, 0.95), fused=True)]


class Muon(Optimizer):
    """Moves each matrix along the mean of its recent gradients, made orthogonal (Jordan et al. 2024).

    So a step changes a matrix equally in all directions, and not mostly in the few that its gradients share. A step is
    as large as one of AdamW (Liu et al. 2025). Matrices of one shape are computed together, which a GPU does at once.
    """

    MOMENTUM = 0.95

    def __init__(
        self, matrices: Sequence[Tensor], learning_rate: float, weight_decay: float, precision: torch.dtype
    ) -> None:
        super().__init__(matrices, {"lr": learning_rate, "weight_decay": weight_decay})
        self.precision = precision
        for weight in matrices:
            self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            same_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    same_shape.setdefault(weight.shape, []).append((weight, weight.grad))
            for shape, pairs in same_shape.items():
                weights, gradients = map(list, zip(*pairs, strict=True))
                means = [self.state[weight]["momentum_buffer"] for weight in weights]
                torch._foreach_lerp_(means, gradients, 1 - self.MOMENTUM)
                ahead = torch.stack(torch._foreach_lerp(gradients, means, self.MOMENTUM))  # Nesterov's momentum
                size = 0.2 * max(shape) ** 0.5 * group["lr"]
                torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(weights, orthogonal(ahead, self.precision).unbind(), alpha=-size)


def orthogonal(matrices: Tensor, precision: torch.dtype) -> Tensor:
    """For each matrix one with the same singular vectors, whose singular values are near 1: (N, A, B), same shape.

    Five Newton-Schulz steps (Jordan et al. 2024), multiplied in `precision`; the result is float32.
    """
    if matrices.shape[1] > matrices.shape[2]:  # the smaller of the two Gram matrices is enough
        return orthogonal(matrices.mT, precision).mT
    x = (matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)).to(precision)
    for _ in range(5):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.float()


def optimizer_tensors(optimizers: Sequence[Optimizer]) -> dict[str, Tensor]:
    """The state of the optimizers as tensors, named `optimizer.NUMBER OF THE OPTIMIZER.NUMBER OF THE WEIGHT.KEY`."""
    return {
        f"optimizer.{n}.{i}.{key}": torch.as_tensor(value)
        for n, optimizer in enumerate(optimizers)
        for i, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }


def load_optimizer_tensors(optimizers: Sequence[Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """Give the optimizers the state that `optimizer_tensors` returned; other tensors are ignored."""
    for n, optimizer in enumerate(optimizers):
        state = optimizer.state_dict() | {"state": {}}
        for name in [name for name in tensors if name.startswith(f"optimizer.{n}.")]:
            *_, i, key = name.split(".")
            state["state"].setdefault(int(i), {})[key] = tensors[name]
        optimizer.load_state_dict(state)
