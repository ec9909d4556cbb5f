"""Two processes take the steps of one."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import TINY_FINETUNE, log, run

from course_lib.__main__ import main
from course_lib.batches import Batch
from course_lib.checkpoints import load_checkpoint
from course_lib.engine import SINGLE_PROCESS, World

# Three rows in a batch: one process gets two of them.
FINETUNE = ["finetune", *TINY_FINETUNE, "--batch-size", "3", "--steps", "8"]
FINETUNE += ["--learning-rate", "0.01", "--accumulate", "2"]

needs_processes = pytest.mark.skipif(
    not torch.distributed.is_available() or not hasattr(signal, "SIGKILL"),
    reason="this PyTorch cannot talk to other processes, or torchrun is not tried on this system",
)


@pytest.fixture(autouse=True)
def _fresh_meeting_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the README says: without it a restart may wait for an address from before it (PyTorch's issue 135712)."""
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def torchrun(repository: Path, *command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """The command in two processes of this machine."""
    return run(["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *options, *command], repository)


# --- a world --------------------------------------------------------------------------------------


def batch_of(rows: int) -> Batch:
    ids = torch.arange(rows * 3).view(rows, 3)
    return Batch(ids, ids, ids >= 0, None)


def test_a_single_process_keeps_every_row_and_every_value() -> None:
    batch = batch_of(5)
    assert SINGLE_PROCESS.is_main
    assert torch.equal(SINGLE_PROCESS.shard(batch).input_ids, batch.input_ids)
    model = torch.nn.Linear(2, 2)
    assert SINGLE_PROCESS.wrap(model) is model
    assert SINGLE_PROCESS.all_reduce(torch.tensor(3)) == 3
    assert SINGLE_PROCESS.broadcast("value") == "value"
    with SINGLE_PROCESS.main_first(), SINGLE_PROCESS.no_sync_until_last(model, last=False):
        pass


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_each_row_of_a_batch_goes_to_one_process(rows: int) -> None:
    batch = batch_of(rows)
    shards = [World(rank, 2).shard(batch) for rank in range(2)]
    assert all(shard.position_ids is None for shard in shards)
    found = torch.cat([shard.input_ids for shard in shards])
    assert sorted(found.tolist()) == batch.input_ids.tolist()
    assert [len(shard.labels) for shard in shards] == [rows - rows // 2, rows // 2]
    assert [World(rank, 2).is_main for rank in range(2)] == [True, False]


# --- the command ----------------------------------------------------------------------------------


def losses(folder: str) -> list[float]:
    """The tokens, both train losses, the gradient norm and the evaluation of each step in a run's log."""
    return [
        value
        for row in log(folder)
        for value in (row["tokens_seen"], *row["loss"].values(), row["grad_norm"], *(row["evaluation"] or {}).values())
    ]


@pytest.fixture(scope="module")
def alone(base: Path) -> str:
    """The run folder of one process."""
    assert main([*FINETUNE, "--run-folder", "runs/alone", "--out", "checkpoints/alone"]) == 0
    return "runs/alone"


@needs_processes
@pytest.mark.slow
def test_the_command_on_two_processes_writes_what_it_writes_on_one(alone: str, repository: Path) -> None:
    command = ["-m", "course_lib", *FINETUNE, "--run-folder", "runs/pair", "--out", "checkpoints/pair"]
    done = torchrun(repository, *command)
    assert done.returncode == 0, done.stderr
    assert "2 processes" in done.stderr
    assert done.stdout.count("written:") == 1  # the main process speaks for both
    assert losses("runs/pair") == pytest.approx(losses(alone), abs=1e-5)
    expected, found = (load_file(f"checkpoints/{name}/model.safetensors") for name in ("alone", "pair"))
    for key, weights in expected.items():
        torch.testing.assert_close(found[key], weights, atol=2e-3, rtol=0)  # in 16 bits
    assert load_checkpoint("checkpoints/pair").model  # one process reads it, sums and all


DIES_ONCE = """
import os, signal, sys
from pathlib import Path
from torch import nn
from course_lib.__main__ import main

clip, calls, died = nn.utils.clip_grad_norm_, [], Path("runs/died")

def clip_or_die(*arguments):
    calls.append(arguments)
    if len(calls) == 5 and os.environ["RANK"] == "1" and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return clip(*arguments)

nn.utils.clip_grad_norm_ = clip_or_die
sys.exit(main(sys.argv[1:]))
"""


@needs_processes
@pytest.mark.slow
def test_a_killed_process_ends_the_other_and_a_restart_resumes_the_run(alone: str, repository: Path) -> None:
    Path("dies_once.py").write_text(DIES_ONCE)
    command = [*FINETUNE, "--save-every", "0", "--run-folder", "runs/killed", "--out", "checkpoints/killed"]
    done = torchrun(repository, "dies_once.py", *command, options=("--max-restarts=1",))
    assert Path("runs/died").exists()
    assert done.returncode == 0, done.stderr
    assert re.search("has taken [45] of 8 steps", done.stderr)  # the main process may have finished the fifth
    assert losses("runs/killed") == pytest.approx(losses(alone), abs=1e-5)
