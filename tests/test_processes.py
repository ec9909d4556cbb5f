"""Two processes take the steps of one."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import TINY_FINETUNE, log, run, synthetic

from course_lib.__main__ import main
from course_lib.batches import Batch
from course_lib.checkpoints import load_checkpoint
from course_lib.engine import SINGLE_PROCESS, Machine, World
from course_lib.model import ModelConfig
from course_lib.recipes import finetuning, pretraining
from course_lib.roles import pretraining_text
from course_lib.tokenizer import CharacterTokenizer
from course_lib.training import Trainer, TrainingSettings

FINETUNE = ["finetune", *TINY_FINETUNE, "--steps", "8", "--learning-rate", "0.01", "--accumulate", "2"]

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


# --- the trainer ----------------------------------------------------------------------------------


def tiny_trainer(machine: Machine) -> Trainer:
    """A trainer that fine-tunes a tiny model for six steps of two batches, the same in any process."""
    torch.set_num_threads(1)
    poems = synthetic(40, 0)
    tokenizer = CharacterTokenizer.train([pretraining_text(p) for p in poems], min_count=1)
    base = pretraining(poems, tokenizer, shape=ModelConfig.sized(len(tokenizer), hidden_size=16, layers=1, context=64))
    recipe = finetuning(base.checkpoint, poems, evaluation=synthetic(9, 1), batch_size=3)
    settings = TrainingSettings(6, learning_rate=1e-2, warmup_steps=2, evaluate_every=3, accumulate=2)
    return Trainer(recipe, settings, machine)


def figures(trainer: Trainer) -> list[float]:
    """Both losses, the gradient norm and the evaluation of each step."""
    return [value for r in trainer for value in (*r.loss, r.grad_norm, r.tokens_seen, *(r.evaluation or ()))]


def process() -> None:
    """What each process of the test below does: all of them train, and the main one writes what came of it."""
    machine = Machine.choose("cpu", "float32").joined()
    trainer = tiny_trainer(machine)
    found = figures(trainer)
    if machine.world.is_main:
        Path("figures.json").write_text(json.dumps([str(machine), *found]))
        save_file(trainer.model.state_dict(), "weights.safetensors")


@needs_processes
@pytest.mark.slow
def test_two_processes_have_the_losses_and_the_weights_of_one(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = torchrun(repository, __file__)
    assert done.returncode == 0, done.stderr
    name, *found = json.loads(Path("figures.json").read_text())
    threads = torch.get_num_threads()
    trainer = tiny_trainer(Machine(torch.device("cpu"), torch.float32))
    expected = figures(trainer)
    torch.set_num_threads(threads)
    assert name.endswith(", 2 processes")
    assert len(found) == 6 * 4 + 2 * 2
    assert found == pytest.approx(expected, abs=1e-5)
    for key, tensor in load_file("weights.safetensors").items():
        torch.testing.assert_close(tensor, trainer.model.state_dict()[key], atol=2e-3, rtol=0)


# --- the command ----------------------------------------------------------------------------------


def losses(folder: str) -> list[float]:
    """Both train losses, the gradient norm and the evaluation of each step in a run's log."""
    return [
        value
        for row in log(folder)
        for value in (*row["loss"].values(), row["grad_norm"], *(row["evaluation"] or {}).values())
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
@pytest.mark.parametrize("restarts", [0, 1])
def test_a_killed_process_ends_the_run_and_a_restart_resumes_it(alone: str, repository: Path, restarts: int) -> None:
    Path("runs/died").unlink(missing_ok=True)
    Path("dies_once.py").write_text(DIES_ONCE)
    name = f"killed-{restarts}"
    command = [*FINETUNE, "--save-every", "0", "--run-folder", f"runs/{name}", "--out", f"checkpoints/{name}"]
    done = torchrun(repository, "dies_once.py", *command, options=(f"--max-restarts={restarts}",))
    assert Path("runs/died").exists()
    if not restarts:
        assert done.returncode != 0
        assert "SIGKILL" in done.stderr  # torchrun names the rank and the signal
        assert not Path(f"checkpoints/{name}").exists()
        return
    assert done.returncode == 0, done.stderr
    assert re.search("has taken [45] of 8 steps", done.stderr)  # the main process may have finished the fifth
    assert losses(f"runs/{name}") == pytest.approx(losses(alone), abs=1e-5)


if __name__ == "__main__":
    process()
