"""What a model runs on: the device, the type of the matrix products, compilation, and the processes."""

import ctypes
import gc
import logging
import math
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar

import torch
from torch import Tensor

from course_lib.engine.processes import SINGLE_PROCESS, World, init_processes
from course_lib.language import say

logger = logging.getLogger(__name__)

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class Machine:
    """Where a model runs and how. `precision` is the type of the matrix products; weights stay float32."""

    device: torch.device
    precision: torch.dtype
    compiled: bool = False
    world: World = SINGLE_PROCESS

    @classmethod
    def choose(cls, device: str | None = None, precision: str = "auto", compiled: bool = False) -> Self:
        """The device with this name, or the best one here; "auto" takes the fastest precision.

        Raises ValueError if there is no such device here, or no such precision.
        """
        if precision not in ("auto", *PRECISIONS):
            raise ValueError(f"precision is {precision!r}, must be one of auto, {', '.join(PRECISIONS)}")
        chosen = choose_device(device)
        return cls(chosen, PRECISIONS.get(precision) or choose_precision(chosen), compiled)

    def joined(self) -> Self:
        """The same machine, together with the other processes that `torchrun` started."""
        world, device = init_processes(self.device)
        return replace(self, device=device, world=world, precision=world.broadcast(self.precision))

    def autocast(self) -> torch.autocast:
        """A context in which matrices are multiplied in `precision`."""
        return torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)

    def compile(self, function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        """The function, compiled if this machine compiles."""
        return try_compile(function) if self.compiled else function

    def __str__(self) -> str:
        """One line, always in English: `device cpu (2 threads), bfloat16 products, compiled`."""
        return self.described(str.format)

    def described(self, say: Callable[..., str] = say) -> str:
        """The same line in the reader's language."""
        kind, count = self.device.type, torch.get_num_threads()
        threads = say("1 thread") if count == 1 else say("{count} threads", count=count)
        name = torch.cuda.get_device_name(self.device) if kind == "cuda" else threads if kind == "cpu" else ""
        device = say("{kind} ({name})", kind=kind, name=name) if name else kind
        n = {"device": device, "products": str(self.precision).removeprefix("torch.")}
        how = say("compiled") if self.compiled else say("not compiled")
        processes = say(", {count} processes", count=self.world.size) if self.world.size > 1 else ""
        return say("device {device}, {products} products, {how}", how=how, **n) + processes

    @property
    def full_name(self) -> str:
        """The line in English, for model cards: on a CPU, the processor's name is in front."""
        if self.device.type != "cpu":
            return str(self)
        cpuinfo = Path("/proc/cpuinfo")  # on Linux
        lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
        names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        return f"{next(names, '') or platform.processor() or platform.machine()}: {self}"


class Pending:
    """A few numbers that a GPU may still be computing. Only `read` waits for them."""

    def __init__(self, values: Tensor) -> None:
        self._values = values.to("cpu", non_blocking=True) if values.is_cuda else values
        self._copied = torch.cuda.current_stream(values.device).record_event() if values.is_cuda else None

    def read(self) -> list[float]:
        """The numbers; waits until they are there."""
        if self._copied:
            self._copied.synchronize()
        return self._values.tolist()


def choose_device(name: str | None = None) -> torch.device:
    """The device with this name; without a name, the first one here of `cuda`, `mps` and `cpu`.

    Raises ValueError if this machine has no such device.
    """
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0  # it also counts cards that CUDA cannot use
    counts = {"cuda": cards, "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    usable = [kind for kind, count in counts.items() if count]
    asked = re.fullmatch(r"([a-z]+)(?::(0|[1-9][0-9]*))?", usable[0] if name is None else name)
    if not asked or int(asked[2] or 0) >= counts.get(asked[1], 0):
        raise ValueError(say("no device {name!r} on this machine; it has {all}", name=name, all=", ".join(usable)))
    return torch.device(name or usable[0])


def choose_precision(device: torch.device) -> torch.dtype:
    """The fastest type for matrix products on this device. Weights, sums and losses stay float32."""
    if device.type == "cuda":  # an A100 has compute capability 8.0; a T4 has 7.5, and no hardware for bfloat16
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    short = (torch.bfloat16,) if device.type == "cpu" else (torch.bfloat16, torch.float16)
    return fastest_precision(product_times(device, (*short, torch.float32)))


def fastest_precision(times: Mapping[torch.dtype, float]) -> torch.dtype:
    """The first type whose product takes less than 2/3 of float32's time; otherwise float32."""
    return next((dtype for dtype in times if times[dtype] < 2 / 3 * times[torch.float32]), torch.float32)


def product_times(
    device: torch.device, types: Sequence[torch.dtype], size: int = 512, clock: Callable[[], float] = time.perf_counter
) -> dict[torch.dtype, float]:
    """Seconds that a product of two (size, size) matrices takes in each type; infinite if the device has no such type.

    The types take turns and the best time of each counts, so that a busy moment does not decide. A type five times
    slower than the best is dropped after two turns: without hardware for it, a type can be a hundred times slower.
    """
    best = dict.fromkeys(types, math.inf)
    for turn in range(24):
        for dtype in types:
            if turn >= 2 and best[dtype] > 5 * min(best.values()):
                continue
            try:
                matrix = torch.ones(size, size, dtype=dtype, device=device)
                start = clock()
                (matrix @ matrix)[0, 0].item()  # .item() waits for the device to finish
            except RuntimeError:  # the device has no such type
                continue
            best[dtype] = min(best[dtype], clock() - start)
    return best


def try_compile(
    function: Callable[Arguments, Result], backend: str | Callable[..., Any] = "inductor"
) -> Callable[Arguments, Result]:
    """`torch.compile(function)`. If compiling fails, `function` runs uncompiled from then on, after one warning.

    Compiling happens at the first call for each new shape and takes 10 to 60 seconds. The gradients are compiled then
    too, so that this fails here, and not in the middle of a step.
    """
    if not any(shutil.which(name) for name in ("g++", "clang++", "cl", "c++")):
        logger.warning("no C++ compiler found: the model runs uncompiled, at about half the speed")
        return function
    current: Callable[Arguments, Result] | None = None

    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        nonlocal current
        try:
            if current is None:  # even importing the compiler can fail
                from torch._functorch import config

                if hasattr(config, "force_non_lazy_backward_lowering"):  # since PyTorch 2.8
                    config.force_non_lazy_backward_lowering = True
                current = torch.compile(function, dynamic=False, backend=backend)
            return current(*args, **kwargs)
        except Exception as error:
            result = function(*args, **kwargs)  # raises if the error is the function's own
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            logger.warning("compiling failed, the model runs uncompiled: %s", reason)
            current = function
            return result

    return call


def release_memory() -> None:
    """Return memory that is no longer used to the system; call it before a long run.

    First it collects objects that refer to each other: PyTorch creates such a cycle around the first optimizer.
    Linux's C library keeps freed memory in pieces that the next run may not fit into; `malloc_trim(3)` returns them.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:  # glibc has it, musl does not
        trim(0)
