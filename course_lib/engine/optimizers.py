"""The two optimizers of the course, AdamW and Muon, and their state as named tensors."""

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

    AdamW: Loshchilov & Hutter 2019. Muon: Jordan et al. 2024. Raises RuntimeError if `name` is "muon" and this PyTorch
    has no Muon.
    """
    vectors = [weight for weight in model.parameters() if weight.ndim < 2]
    embedding = [weight for key, weight in model.named_parameters() if "embed_tokens" in key]
    matrices = [weight for key, weight in model.named_parameters() if weight.ndim > 1 and "embed_tokens" not in key]
    optimizers: list[Optimizer] = []
    if name == "muon":
        if not hasattr(torch.optim, "Muon"):
            raise RuntimeError(f"torch.optim.Muon needs PyTorch 2.9, this is {torch.__version__}: choose 'adamw'")
        optimizers = [torch.optim.Muon(matrices, learning_rate, weight_decay, adjust_lr_fn="match_rms_adamw")]
        matrices = []
    groups = [{"params": embedding + matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [*optimizers, torch.optim.AdamW(groups, learning_rate, betas=(0.9, 0.95), fused=True)]


class KeepFloat32(TorchFunctionMode):
    """A context in which `tensor.bfloat16()` returns a float32 copy.

    `torch.optim.Muon` multiplies in bfloat16 on every machine. Without hardware for bfloat16 that is slow.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.bfloat16:
            return args[0].to(torch.float32, copy=True)
        return func(*args, **(kwargs or {}))


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
