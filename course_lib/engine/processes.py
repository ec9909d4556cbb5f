"""One run on several processes, as `torchrun` starts them; a process alone is a world of one.

Every process reads its own rows of each batch, and the gradients are added up (DistributedDataParallel, Li et
al. 2020). Sharded, each keeps only its part of the weights and of the optimizer's state, and gets the others'
when it needs them (FSDP2, Zhao et al. 2023). Either way the run takes the steps that one process would take.
"""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from course_lib.batches import Batch

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class World:
    """The processes that share a run, and which of them this one is."""

    rank: int = 0
    size: int = 1
    sharded: bool = False

    @property
    def is_main(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def share(self, batch: Batch) -> Batch:
        """This process's rows of a batch: (B, T) -> about (B / size, T)."""
        if self.size == 1:
            return batch
        return Batch._make(None if part is None else part[self.rank :: self.size] for part in batch)

    def spread(self, model: nn.Module) -> nn.Module:
        """The model to call in place of `model`: its gradients are the mean of all processes'."""
        if self.size == 1:
            return model
        if not self.sharded:
            return DistributedDataParallel(model)
        from torch.distributed.fsdp import fully_shard  # takes half as long to import as all of torch

        for layer in model.model.layers:  # type: ignore[union-attr]
            fully_shard(layer)
        fully_shard(model)
        return model

    def backward_of(self, model: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Within it, gradients are exchanged after the last of a step's batches only."""
        if isinstance(model, DistributedDataParallel) and not last:
            return model.no_sync()  # type: ignore[no-any-return, unused-ignore]
        return nullcontext()

    def total(self, sums: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size > 1:
            dist.all_reduce(sums)
        return sums

    def agreed(self, value: Value) -> Value:
        """The main process's value, in every process."""
        values = [value]
        if self.size > 1:
            dist.broadcast_object_list(values)
        return values[0]

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process goes through the block before the others do: it makes a file, they read it."""
        if self.size > 1 and not self.is_main:
            dist.barrier()
        yield
        if self.size > 1 and self.is_main:
            dist.barrier()


ALONE = World()


def join(device: torch.device, shard: bool = False) -> tuple[World, torch.device]:
    """The processes `torchrun` started, once all of them are there, and the device that falls to this one.

    Raises:
        ValueError: there is but one process and it is to share the model with others.
    """
    if not dist.is_torchelastic_launched():
        if shard:
            raise ValueError("sharding takes several processes: start them with torchrun (see the README)")
        return ALONE, device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group()  # gloo for tensors on the CPU, NCCL for those on CUDA
        atexit.register(leave)
    return World(dist.get_rank(), dist.get_world_size(), shard), device


def leave() -> None:
    """Part from the other processes, while Python still runs.

    gloo's threads may hold the last tensors they sent; to drop one when Python has already shut down aborts the
    process. They end with the group, and the group ends when no model holds it any more.
    """
    gc.collect()
    if dist.is_initialized():
        dist.destroy_process_group()


# --- sharded tensors on their way to and from a file ----------------------------------------------


def gathered(tensor: Tensor) -> Tensor:
    """The whole of a tensor, if this process holds but a part of it. All processes must ask together."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def parted(whole: Tensor, like: Tensor) -> Tensor:
    """The part of `whole` that this process holds of `like`."""
    if not (hasattr(like, "device_mesh") and hasattr(like, "placements")) or whole.shape != like.shape:
        return whole
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements)
