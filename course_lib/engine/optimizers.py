"""The two optimizers of the course, AdamW and Muon, and their state as named tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode


def make_optimizers(
    model: nn.Module, name: Literal["adamw", "muon"], learning_rate: float, weight_decay: float
) -> list[Optimizer]:
    """AdamW for all weights, or Muon for the hidden matrices and AdamW for the rest. Norm weights do not decay.

    AdamW: Loshchilov & Hutter 2019. Muon: Jordan et al. 2024.

    Raises:
        RuntimeError: `name` is "muon", and this PyTorch does not have it.
    """
    weights = dict(model.named_parameters())
    vectors = [weight for weight in weights.values() if weight.ndim < 2]
    embedding = [weight for key, weight in weights.items() if weight.ndim >= 2 and "embed_tokens" in key]
    matrices = [weight for key, weight in weights.items() if weight.ndim >= 2 and "embed_tokens" not in key]

    def adamw(decaying: list[nn.Parameter]) -> Optimizer:
        groups = [{"params": decaying, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), fused=True)

    if name == "adamw":
        return [adamw(embedding + matrices)]
    if not hasattr(torch.optim, "Muon"):
        raise RuntimeError(f"torch.optim.Muon needs PyTorch 2.9, this is {torch.__version__}: choose 'adamw'")
    muon = torch.optim.Muon(matrices, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
    return [muon, adamw(embedding)]


class KeepFloat32(TorchFunctionMode):
    """A context in which `tensor.bfloat16()` returns a float32 copy.

    `torch.optim.Muon` multiplies in bfloat16 on every machine. Without hardware for bfloat16 that is slow.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.bfloat16:
            return args[0].to(torch.float32, copy=True)
        return func(*args, **(kwargs or {}))


def optimizer_tensors(optimizers: Sequence[Optimizer]) -> dict[str, Tensor]:
    """The state of the optimizers as tensors, named `number of the optimizer.number of the weight.key`."""
    return {
        f"{n}.{i}.{key}": torch.as_tensor(value)
        for n, optimizer in enumerate(optimizers)
        for i, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }


def load_optimizer_tensors(optimizers: Sequence[Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """Give the optimizers the state that `optimizer_tensors` returned."""
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for name, tensor in tensors.items():
        n, i, key = name.split(".")
        states[int(n)].setdefault(int(i), {})[key] = tensor
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
