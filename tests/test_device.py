"""What the machine is asked, and what happens when it cannot do what was asked of it."""

import contextlib
import gc
import logging
import os
import platform
import weakref
from functools import partial
from pathlib import Path

import pytest
import torch

from course_lib.engine import machine as device
from course_lib.engine.machine import choose_device, choose_precision, describe, release_memory, try_compile

CPU = torch.device("cpu")


def test_a_device_that_is_not_there_is_refused_by_name():
    with pytest.raises(ValueError, match=r"no device 'abacus' on this machine; it has .*cpu"):
        choose_device("abacus")
    assert choose_device("cpu") == CPU


@pytest.fixture
def small(monkeypatch):
    """Products that are done at once: what they take is for the clock of a test to say."""
    monkeypatch.setattr(device, "product_times", partial(device.product_times, size=4))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("bf16_seconds", "chosen"), [(1, torch.bfloat16), (5, torch.float32)])
def test_bfloat16_is_taken_only_where_it_is_fast(monkeypatch, bf16_seconds, chosen):
    """A clock that knows how long each product takes: float32 takes 3 seconds, bfloat16 what is given."""
    ticks = iter([now for turn in range(24) for now in (0, bf16_seconds, 0, 3)])
    monkeypatch.setattr(device.time, "perf_counter", lambda: next(ticks))
    assert choose_precision(CPU) == chosen
    assert next(ticks, None) is None  # both were looked at to the end


@pytest.mark.usefixtures("small")
def test_a_type_that_has_no_chance_is_given_up(monkeypatch):
    """bfloat16 takes 100 times as long, as on a processor that has no units for it: two products of it are enough."""
    ticks = iter([0, 300, 0, 3] * 2 + [0, 3] * 22)
    monkeypatch.setattr(device.time, "perf_counter", lambda: next(ticks))
    assert choose_precision(CPU) == torch.float32
    assert next(ticks, None) is None


@pytest.fixture
def knot():
    """What sees an object that refers to itself and to nothing else: there until somebody looks for such things."""

    class Knot:
        def __init__(self):
            self.itself = self

    gc.disable()
    yield weakref.ref(Knot())
    gc.enable()


def test_what_refers_to_itself_alone_is_released(knot):
    assert knot() is not None
    release_memory()
    assert knot() is None


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="another library, which may return what is freed by itself"
)
def test_freed_memory_goes_back_to_the_system():
    def held() -> float:
        """Megabytes in memory: the second number counts pages (proc(5))."""
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    blocks = [b"1" * 100_000 for _ in range(3_000)]
    last = blocks[-1]  # what lies below it stays
    full = held()
    del blocks
    release_memory()
    assert held() < full - 250
    assert len(last) == 100_000


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch has no Muon; it came with 2.9")
def test_muon_is_kept_in_float32():
    """Its matrices of random gradients are nearer to what float64 makes of them, and the gradients are as they were."""

    def step(*modes: contextlib.AbstractContextManager[object]) -> torch.Tensor:
        weight = torch.nn.Parameter(torch.zeros(32, 48))
        weight.grad = gradient.clone()
        with contextlib.ExitStack() as stack:
            for mode in modes:
                stack.enter_context(mode)
            torch.optim.Muon([weight], lr=1.0).step()
        assert torch.equal(weight.grad, gradient)
        return weight.detach()

    class KeepFloat64(device.KeepFloat32):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return args[0].double() if func is torch.Tensor.bfloat16 else func(*args, **(kwargs or {}))

    with device.KeepFloat32():
        assert (copy := (ones := torch.ones(2)).bfloat16()) is not ones
        assert copy.dtype == torch.float32
    gradient = torch.randn(32, 48, generator=torch.Generator().manual_seed(0))
    exact = step(KeepFloat64())
    assert (step(device.KeepFloat32()) - exact).abs().max() < 1e-4 < 1e-3 < (step() - exact).abs().max()


def test_without_a_compiler_one_line_says_so_and_the_function_runs(monkeypatch, caplog):
    monkeypatch.setattr(device.shutil, "which", lambda _: None)
    with caplog.at_level(logging.WARNING):
        assert try_compile(lambda x: x + 1)(1) == 2
    assert [r.message.partition(":")[0] for r in caplog.records] == ["no C++ compiler found"]


def test_a_failed_compile_says_so_once_and_the_function_runs(monkeypatch, caplog):
    def fails(*_, **__):
        raise torch._dynamo.exc.TorchDynamoException("the compiler is out of paper\nand of ink")

    monkeypatch.setattr(device.shutil, "which", lambda name: name)
    monkeypatch.setattr(device.torch, "compile", lambda *_, **__: fails)
    add_one = try_compile(lambda x: x + 1)
    with caplog.at_level(logging.WARNING):
        assert [add_one(1), add_one(2)] == [2, 3]
    assert len(caplog.records) == 1
    assert caplog.records[0].message.endswith("runs uncompiled: the compiler is out of paper")


def test_the_choice_is_said_in_one_line():
    line = describe(CPU, torch.bfloat16, compiled=False)
    assert line == f"device cpu ({torch.get_num_threads()} threads), bfloat16 products, not compiled"
