"""What is chosen on a machine, and what happens when it cannot do what it was asked for."""

from __future__ import annotations

import gc
import logging
import os
import platform
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tiny import run
from torch._dynamo.backends.common import aot_autograd

from course_lib.engine import SINGLE_PROCESS, Machine, World, choose_device, release_memory
from course_lib.engine.machine import Pending, choose_precision, fastest_precision, product_times, try_compile

CPU = torch.device("cpu")
BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32


# --- the choice -----------------------------------------------------------------------------------


def test_a_device_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"no device 'abacus' on this machine; it has .*cpu"):
        choose_device("abacus")
    for name in ("cpu:x", "cpu:", "cpu:-1", "cpu:0:0", "cpus", "", "cpu:1", "cpu:00"):
        with pytest.raises(ValueError, match=f"no device '{name}' on this machine"):
            choose_device(name)
    assert choose_device("cpu") == CPU
    assert choose_device("cpu:0") == torch.device("cpu:0")
    with pytest.raises(ValueError, match="no device 'abacus'"):
        Machine.choose("abacus", "float32")


def test_a_card_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [choose_device(name).index for name in ("cuda", "cuda:0", "cuda:1")] == [None, 0, 1]
    for name in ("cuda:2", "cuda:01"):
        with pytest.raises(ValueError, match=f"no device '{name}' on this machine; it has cuda, "):
            choose_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # the driver is too old for this PyTorch
    assert choose_device().type != "cuda"


@pytest.mark.parametrize(("name", "precision"), [("bf16", BF16), ("fp16", FP16), ("float32", FP32)])
def test_a_precision_can_be_asked_for_by_name(name: str, precision: torch.dtype) -> None:
    assert Machine.choose("cpu", name) == Machine(CPU, precision, compiled=False, world=SINGLE_PROCESS)
    assert Machine.choose("cpu", name, compiled=True).compiled


def test_an_unknown_precision_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="precision is 'int8', must be one of auto, bf16, fp16, float32"):
        Machine.choose("cpu", "int8")


def test_choosing_changes_no_global_setting() -> None:
    before = torch.get_float32_matmul_precision()
    assert Machine.choose("cpu").precision in (BF16, FP32)
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize(
    ("capability", "precision"),
    [((7, 0), FP16), ((7, 5), FP16), ((8, 0), BF16), ((8, 6), BF16), ((9, 0), BF16), ((12, 0), BF16)],
)
def test_a_gpu_has_bfloat16_from_compute_capability_8(
    capability: tuple[int, int], precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert choose_precision(torch.device("cuda")) == precision


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ({BF16: 1.0, FP32: 3.0}, BF16),
        ({BF16: 2.1, FP32: 3.0}, FP32),
        ({BF16: 5.0, FP32: 3.0}, FP32),
        ({BF16: float("inf"), FP16: 1.0, FP32: 3.0}, FP16),
        ({BF16: 1.5, FP16: 1.0, FP32: 3.0}, BF16),
    ],
)
def test_a_16_bit_type_is_chosen_only_if_it_is_faster(times: dict[torch.dtype, float], chosen: torch.dtype) -> None:
    assert fastest_precision(times) == chosen


def clock_of(*ticks: float) -> tuple[Callable[[], float], Iterator[float]]:
    """A clock that shows these times, and the times that it has not shown yet."""
    left = iter(ticks)
    return lambda: next(left), left


def test_each_type_has_its_best_time_of_all_turns() -> None:
    slow_turns = [time for _ in range(23) for time in (0, 2, 0, 4)]
    clock, left = clock_of(*slow_turns, 0, 1, 0, 3)
    assert product_times(CPU, (BF16, FP32), size=4, clock=clock) == {BF16: 1, FP32: 3}
    assert list(left) == []


def test_a_type_a_hundred_times_slower_is_dropped_after_two_turns() -> None:
    clock, left = clock_of(*[0, 300, 0, 3] * 2, *[0, 3] * 22)
    assert product_times(CPU, (BF16, FP32), size=4, clock=clock) == {BF16: 300, FP32: 3}
    assert list(left) == []


# --- what it says and does ------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "threads"), [(1, "1 thread"), (2, "2 threads")])
def test_one_line_says_what_was_chosen(count: int, threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: count)
    assert str(Machine(CPU, BF16)) == f"device cpu ({threads}), bfloat16 products, not compiled"
    pair = Machine(CPU, FP32, compiled=True, world=World(0, 2))
    assert str(pair) == f"device cpu ({threads}), float32 products, compiled, 2 processes"
    assert str(Machine(torch.device("mps"), BF16)) == "device mps, bfloat16 products, not compiled"


def test_the_full_name_begins_with_the_processor() -> None:
    machine = Machine(CPU, FP32)
    assert len(machine.full_name) > len(f": {machine}")
    assert machine.full_name.endswith(f": {machine}")


def test_the_names_of_a_machine_are_english_in_any_language(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(CPU, BF16, compiled=True, world=World(0, 2))
    monkeypatch.setenv("COURSE_LANG", "en")
    names = machine.full_name, str(machine)
    assert machine.described() == str(machine)
    monkeypatch.setenv("COURSE_LANG", "zh")
    assert (machine.full_name, str(machine)) == names
    assert machine.described().startswith("设备 cpu")


@pytest.mark.parametrize("precision", [BF16, FP16, FP32])
def test_products_are_in_the_precision_of_the_machine(precision: torch.dtype) -> None:
    matrix = torch.ones(2, 2)
    with Machine(CPU, precision).autocast():
        assert (matrix @ matrix).dtype == precision
    assert (matrix @ matrix).dtype == FP32


def test_without_torchrun_there_is_nobody_to_join() -> None:
    machine = Machine(CPU, FP32)
    assert machine.joined() == machine


def test_pending_numbers_can_be_read_again() -> None:
    pending = Pending(torch.tensor([1.5, 2.5]))
    assert pending.read() == pending.read() == [1.5, 2.5]


# --- compiling ------------------------------------------------------------------------------------


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a compiler in it, and nothing else on the path."""
    path = tmp_path / "g++"
    path.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return path


def add_one(x: torch.Tensor) -> torch.Tensor:
    return x + 1


def test_a_machine_that_does_not_compile_leaves_a_function_as_it_is() -> None:
    assert Machine(CPU, FP32).compile(add_one) is add_one


def test_without_a_compiler_one_line_says_so_and_the_function_runs(
    compiler: Path, caplog: pytest.LogCaptureFixture
) -> None:
    compiler.unlink()
    with caplog.at_level(logging.WARNING):
        assert Machine(CPU, FP32, compiled=True).compile(add_one)(torch.tensor(1)) == 2
    assert [record.message.partition(":")[0] for record in caplog.records] == ["no C++ compiler found"]


class OutOfPaper(Exception):
    """An error that no compiler documents."""


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("error", [RuntimeError, OSError, OutOfPaper])
@pytest.mark.parametrize("moment", ["while it compiles", "when the compiled code runs"])
def test_whatever_fails_in_the_compiler_one_line_says_so_and_the_function_runs(
    moment: str, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    attempts: list[object] = []

    def fail(*_: object) -> None:
        attempts.append(_)
        raise error("the compiler is out of paper\nand of ink")

    torch._dynamo.reset()
    compiled = try_compile(add_one, backend=fail if moment == "while it compiles" else lambda *_: fail)
    with caplog.at_level(logging.WARNING, logger="course_lib"):
        assert [compiled(torch.tensor(1)), compiled(torch.tensor(2))] == [2, 3]
    assert len(attempts) == 1
    (message,) = (record.message for record in caplog.records if record.name.startswith("course_lib"))
    assert message.startswith("compiling failed, the model runs uncompiled: ")
    assert "\n" not in message


@pytest.mark.usefixtures("compiler")
def test_a_module_that_was_compiled_stays_so(caplog: pytest.LogCaptureFixture) -> None:
    torch._dynamo.reset()
    graphs: list[object] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    compiled = try_compile(torch.nn.Linear(2, 2), backend=backend)
    with caplog.at_level(logging.WARNING, logger="course_lib"):
        assert torch.equal(compiled(torch.ones(2)), compiled(torch.ones(2)))
    assert len(graphs) == 1
    assert [record for record in caplog.records if record.name.startswith("course_lib")] == []


@pytest.mark.usefixtures("compiler")
def test_gradients_that_cannot_be_compiled_are_computed_uncompiled(caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> None:
        raise OutOfPaper("no gradients today")

    weight = torch.ones(3, requires_grad=True)
    backend = aot_autograd(fw_compiler=lambda graph, _: graph, bw_compiler=fail)
    compiled = try_compile(lambda x: (x * weight).tanh().sum(), backend=backend)
    with caplog.at_level(logging.WARNING, logger="course_lib"):
        compiled(torch.ones(3)).backward()
    assert weight.grad is not None
    (message,) = (record.message for record in caplog.records if record.name.startswith("course_lib"))
    assert message.startswith("compiling failed, the model runs uncompiled: ")
    assert "no gradients today" in message


@pytest.mark.slow
def test_a_compiler_that_cannot_be_imported_is_a_sentence_and_an_uncompiled_run(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch makes the folder for compiled code while it imports its compiler."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/proc/nope")
    script = (
        "import torch; from course_lib.engine import Machine; "
        "machine = Machine(torch.device('cpu'), torch.float32, compiled=True); "
        "print(machine.compile(torch.square)(torch.tensor(3.0)).item())"
    )
    done = run(["-c", script], repository)
    assert done.stdout == "9.0\n"
    assert done.stderr.startswith("compiling failed, the model runs uncompiled: ")


@pytest.mark.usefixtures("compiler")
def test_an_error_of_the_function_itself_is_raised_and_not_blamed_on_the_compiler(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def first_four(x: torch.Tensor) -> torch.Tensor:
        if len(x) > 4:
            raise ValueError("more than four")
        return x + 1

    compiled = try_compile(first_four, backend="eager")
    with caplog.at_level(logging.WARNING, logger="course_lib"), pytest.raises(ValueError, match="more than four"):
        compiled(torch.zeros(5))
    assert compiled(torch.zeros(4)).tolist() == [1, 1, 1, 1]
    assert [record for record in caplog.records if record.name.startswith("course_lib")] == []


# --- memory ---------------------------------------------------------------------------------------


class Knot:
    """An object that refers to itself and that nothing else refers to."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def knot() -> Iterator[weakref.ref[Knot]]:
    """A knot that stays in memory until somebody collects garbage."""
    gc.disable()
    yield weakref.ref(Knot())
    gc.enable()


def test_what_refers_to_itself_alone_is_released(knot: weakref.ref[Knot]) -> None:
    assert knot() is not None
    release_memory()
    assert knot() is None


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library, which may return memory by itself")
def test_freed_memory_goes_back_to_the_system() -> None:
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
