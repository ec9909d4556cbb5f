"""What the machine is asked, and what happens when it cannot do what was asked of it."""

import logging

import pytest
import torch

from course_lib import device
from course_lib.device import choose_device, choose_precision, describe, try_compile

CPU = torch.device("cpu")


def test_a_device_that_is_not_there_is_refused_by_name():
    with pytest.raises(ValueError, match=r"no device 'abacus' on this machine; it has .*cpu"):
        choose_device("abacus")
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize(("bf16_seconds", "chosen"), [(1, torch.bfloat16), (5, torch.float32)])
def test_bfloat16_is_taken_only_where_it_is_fast(monkeypatch, bf16_seconds, chosen):
    """A clock that knows how long each product takes: float32 takes 3 seconds, bfloat16 what is given."""
    ticks = iter([now for turn in range(24) for now in (0, bf16_seconds, 0, 3)])
    monkeypatch.setattr(device.time, "perf_counter", lambda: next(ticks))
    assert choose_precision(CPU) == chosen


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
