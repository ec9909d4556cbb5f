"""Several processes that share one run, as `torchrun` starts them. Without torchrun there is one process.

Each process reads its own rows of every batch. PyTorch averages the gradients over the processes
(DistributedDataParallel, Li et al. 2020), so the run takes the same steps as a single process would.
"""

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
    """How many processes share the run, and the number (rank) of this one."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that prints and writes files."""
        return self.rank == 0

    def shard(self, batch: Batch) -> Batch:
        """This process's rows of a batch: (B, T) -> about (B / size, T)."""
        return Batch._make(None if part is None else part[self.rank :: self.size] for part in batch)

    def wrap(self, model: nn.Module) -> nn.Module:
        """The module to call instead of `model`. Its gradients are averaged over all processes."""
        return model if self.size == 1 else DistributedDataParallel(model)

    def no_sync_until_last(self, wrapped: nn.Module, last: bool) -> AbstractContextManager[None]:
        """A context in which gradients are averaged only if this is the last micro-batch of a step."""
        if isinstance(wrapped, DistributedDataParallel) and not last:
            return wrapped.no_sync()
        return nullcontext()

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum of the tensor over all processes. With several processes, `tensor` itself is overwritten."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def broadcast(self, value: Value) -> Value:
        """The main process's value, in every process."""
        values = [value]
        if self.size > 1:
            dist.broadcast_object_list(values)
        return values[0]

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """A context: the main process runs the block first, for example to write a file that the others read."""
        if not self.is_main:
            dist.barrier()
        yield
        if self.size > 1 and self.is_main:
            dist.barrier()


SINGLE_PROCESS = World()


def init_processes(device: torch.device) -> tuple[World, torch.device]:
    """Wait for all processes that `torchrun` started. Returns their world and the device of this process."""
    if not dist.is_torchelastic_launched():
        return SINGLE_PROCESS, device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group()  # gloo for tensors on the CPU, NCCL for those on CUDA
        # gloo's threads may hold the last tensors they sent. Freeing one after Python has shut down aborts the process.
        atexit.register(dist.destroy_process_group)
        atexit.register(gc.collect)  # runs first: a model that is garbage may keep the group alive
    return World(dist.get_rank(), dist.get_world_size()), device
