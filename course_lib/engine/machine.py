"""Which processor to use and how: measured on the machine, not guessed from its name."""

from __future__ import annotations

import ctypes
import gc
import logging
import math
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import torch
from torch.overrides import TorchFunctionMode

logger = logging.getLogger(__name__)

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def choose_device(name: str | None = None) -> torch.device:
    """The device asked for, else the first there is of `cuda`, `mps` and `cpu`.

    Raises:
        ValueError: the device asked for is not on this machine.
    """
    there: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
        "cpu": lambda: True,
    }
    if name is None:
        return torch.device(next(kind for kind, is_there in there.items() if is_there()))
    kind = name.partition(":")[0]
    if kind not in there or not there[kind]():
        usable = ", ".join(k for k, is_there in there.items() if is_there())
        raise ValueError(f"no device {name!r} on this machine; it has {usable}")
    return torch.device(name)


def choose_precision(device: torch.device) -> torch.dtype:
    """The type to multiply matrices in: the first of these whose products take at most 2/3 of float32's time.

    bfloat16; on a GPU float16, for those that have no units for bfloat16; else float32. Weights, sums and losses
    stay float32.
    """
    torch.set_float32_matmul_precision("high")  # on CUDA, float32 products may use TF32
    few_bits = (torch.bfloat16,) if device.type == "cpu" else (torch.bfloat16, torch.float16)
    times = product_times(device, (*few_bits, torch.float32))
    return next((t for t in few_bits if times[t] < 2 / 3 * times[torch.float32]), torch.float32)


def product_times(device: torch.device, types: Sequence[torch.dtype], size: int = 512) -> dict[torch.dtype, float]:
    """Seconds that a product of two (size, size) matrices takes in each type; infinite where there is none.

    The types take turns and the best time of each counts, so that a busy moment does not decide. One that has no
    chance gets two turns only: without units for bfloat16, a product of it may take a hundred times as long.
    """
    best = dict.fromkeys(types, math.inf)
    for turn in range(24):
        for dtype in types:
            if turn >= 2 and best[dtype] > 5 * min(best.values()):
                continue
            try:
                matrix = torch.ones(size, size, dtype=dtype, device=device)
                start = time.perf_counter()
                (matrix @ matrix)[0, 0].item()  # .item() waits for a GPU to finish
            except RuntimeError:  # the device has no such type
                continue
            best[dtype] = min(best[dtype], time.perf_counter() - start)
    return best


class KeepFloat32(TorchFunctionMode):
    """A context in which `tensor.bfloat16()` gives a float32 copy.

    For `torch.optim.Muon`, which multiplies in bfloat16 on every machine, whether that is fast there or not.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.bfloat16:
            return args[0].to(torch.float32, copy=True)
        return func(*args, **(kwargs or {}))


def release_memory() -> None:
    """Give back to the system what is no longer used.

    Objects that refer to each other are found first: PyTorch ties such a knot around a program's first optimizer.
    Linux's C library, for its part, keeps what was freed, in pieces that the next run may not fit (`malloc_trim(3)`).
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:  # glibc has it, musl has not
        trim(0)


def try_compile(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """`torch.compile(function)`, or the function itself, with one line in the log, if that is not possible.

    Compiling happens at the first call for each new shape and takes 10 to 60 seconds.
    """
    if not any(shutil.which(name) for name in ("g++", "clang++", "cl", "c++")):
        logger.warning("no C++ compiler found: the model runs uncompiled, at about half the speed")
        return function
    fast: Callable[Arguments, Result] | None = torch.compile(function, dynamic=False)

    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        nonlocal fast
        if fast is not None:
            try:
                return fast(*args, **kwargs)
            except torch._dynamo.exc.TorchDynamoException as error:
                reason = str(error).strip().partition("\n")[0]
                logger.warning("compiling failed, the model runs uncompiled: %s", reason)
                fast = None
        return function(*args, **kwargs)

    return call


def describe(device: torch.device, precision: torch.dtype, compiled: bool) -> str:
    """One line that says what was chosen: `device cpu (2 threads), bfloat16 products, compiled`."""
    name = f"{torch.get_num_threads()} threads" if device.type == "cpu" else ""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    parts = [f"device {device.type} ({name})" if name else f"device {device.type}"]
    parts.append(f"{str(precision).removeprefix('torch.')} products")
    return ", ".join([*parts, "compiled" if compiled else "not compiled"])
