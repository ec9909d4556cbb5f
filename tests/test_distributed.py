"""Two processes take the steps of one, whether each holds the whole model or a part of it."""

import signal
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import TINY_FINETUNE, log, run

from course_lib.__main__ import main
from course_lib.checkpoints import load_checkpoint
from course_lib.engine.processes import World
from course_lib.training import Trainer, TrainingSettings

FINETUNE = ["finetune", *TINY_FINETUNE, "--steps", "8", "--learning-rate", "0.01", "--accumulate", "2"]

pytestmark = [
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch cannot talk to other processes"),
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="on this system torchrun is not tried"),
]


@pytest.fixture(autouse=True)
def fresh_meeting_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the README says: without it a restart may wait for an address from before it (PyTorch's issue 135712)."""
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")


def torchrun(repository: Path, *command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """The command in two processes of this machine."""
    return run(["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *options, *command], repository)


def losses(folder: str) -> list[list[float]]:
    """Both train losses, the gradient's norm and the evaluation of each step."""
    rows = log(folder)
    return [
        [*row["loss"].values(), row["grad_norm"], *(row["evaluation"] or {}).values()]  # type: ignore[attr-defined]
        for row in rows
    ]


@pytest.fixture(scope="module")
def alone(base: Path) -> str:
    """The run folder of one process."""
    assert main([*FINETUNE, "--run-folder", "runs/alone", "--out", "checkpoints/alone"]) == 0
    return "runs/alone"


def flat(rows: list[list[float]]) -> list[float]:
    return [value for row in rows for value in row]


@pytest.mark.parametrize("shard", [[], ["--shard"]])
def test_two_processes_have_the_losses_of_one(alone: str, repository: Path, shard: list[str]) -> None:
    name = "sharded" if shard else "pair"
    command = ["-m", "course_lib", *FINETUNE, *shard, "--run-folder", f"runs/{name}", "--out", f"checkpoints/{name}"]
    done = torchrun(repository, *command)
    assert done.returncode == 0, done.stderr
    assert "2 processes" in done.stderr
    assert done.stdout.count("written:") == 1  # the main process speaks for both
    assert flat(losses(f"runs/{name}")) == pytest.approx(flat(losses(alone)), abs=1e-5)
    expected, found = (load_file(f"checkpoints/{n}/model.safetensors") for n in ("alone", name))
    for key, weights in expected.items():
        torch.testing.assert_close(found[key], weights, atol=2e-3, rtol=0)  # in 16 bits
    assert load_checkpoint(f"checkpoints/{name}").model  # one process reads it, sums and all


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
    assert "has taken 4 of 8 steps" in done.stderr
    assert flat(losses(f"runs/{name}")) == pytest.approx(flat(losses(alone)), abs=1e-5)


def test_sharding_takes_several_processes(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FINETUNE, "--shard", "--run-folder", "runs/one"]) == 2
    assert "sharding takes several processes: start them with torchrun" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "precision", "sentence"),
    [
        (TrainingSettings(1, optimizer="muon"), torch.float32, "a sharded run needs the optimizer adamw"),
        (TrainingSettings(1), torch.float16, "a sharded run has no loss scaling"),
    ],
)
def test_what_a_sharded_run_cannot_do_is_refused(checkpoint, settings, precision, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        Trainer(checkpoint.model, [], settings, pad_id=0, precision=precision, world=World(0, 2, sharded=True))
