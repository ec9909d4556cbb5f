"""Killed ten times at random moments: only what came after the last save is lost, and the same command goes on."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import TINY, TINY_FINETUNE, log

from course_lib.__main__ import main
from course_lib.checkpoints import Checkpoint, load_checkpoint, read_card, save_checkpoint, sha256
from course_lib.run_folder import RunFolder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork a process"),
]
KILLS = 10


def kill_within(seconds: float, act: Callable[[], object], number: int) -> None:
    """Start `act` in a process of its own, and kill that at a random moment."""

    def quietly() -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        act()

    process = multiprocessing.get_context("fork").Process(target=quietly)
    process.start()
    time.sleep(random.Random(number).uniform(0, seconds))
    process.kill()
    process.join()


def timed(act: Callable[[], object]) -> float:
    start = time.monotonic()
    act()
    return time.monotonic() - start


def same_after_kills(command: list[str], home: Path, kind: str) -> None:
    """Run a command without a stop, and again with kills. Fails unless the losses and the weights are the same."""

    def run(name: str) -> int:
        return main([*command, "--run-folder", str(home / name), "--out", str(home / f"{name}-out")])

    whole, killed = f"{kind}-whole", f"{kind}-killed"
    seconds = timed(lambda: run(whole))
    folder, taken = RunFolder(home / killed), 0
    for number in range(KILLS):
        kill_within(seconds / 1.5, lambda: run(killed), number)
        assert folder.steps_taken() >= max(taken, len(folder.reports()) - 1)  # each step is saved
        taken = folder.steps_taken()
    assert taken > 0
    assert run(killed) == 0
    assert log(home / killed) == log(home / whole)
    assert sha256(home / f"{killed}-out/model.safetensors") == sha256(home / f"{whole}-out/model.safetensors")
    assert not [path.name for path in (home / killed).iterdir() if path.name.startswith(".")]


def test_pretraining(home: Path) -> None:
    same_after_kills(["pretrain", *TINY, "--steps", "200", "--evaluate-every", "50"], home, "pretrain")


def test_fine_tuning(home: Path, base: Path) -> None:
    options = [*TINY_FINETUNE, "--base", str(base), "--steps", "100", "--evaluate-every", "30", "--save-every", "0"]
    same_after_kills(["finetune", *options], home, "finetune")


def test_saving_a_checkpoint(checkpoint: Checkpoint, tmp_path: Path) -> None:
    def save(value: float) -> None:
        with torch.no_grad():
            checkpoint.model.model.norm.weight.fill_(value)
        save_checkpoint(checkpoint, tmp_path / "saved", {"value": value}, "# For a test")

    def save_often() -> None:
        for number in range(100_000):
            save(2.0 + number % 2)

    save(1.0)
    seconds = timed(lambda: save(1.0))
    for number in range(10 * KILLS):  # they are quick
        kill_within(4 * seconds, save_often, number)
        loaded = load_checkpoint(tmp_path / "saved")  # its checksums are right
        assert loaded.model.model.norm.weight.unique().tolist() == [read_card(tmp_path / "saved")["value"]]
    save(1.0)
    assert len(list((tmp_path / "saved").iterdir())) == 7


def test_writing_many_titles(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint, tmp_path / "small", {}, "")
    signs = "山中一夜雨樹上幾聲鶯水向門前去雲從石生"
    (tmp_path / "titles.txt").write_text("\n".join(a + b for a in signs for b in signs), encoding="utf-8")

    def write(name: str) -> int:
        common = ["--checkpoint", str(tmp_path / "small"), "--count", "3", "--max-new-tokens", "20"]
        return main(["write", "--titles", str(tmp_path / "titles.txt"), "--out", str(tmp_path / name), *common])

    seconds = timed(lambda: write("whole.jsonl"))
    whole, killed = (tmp_path / "whole.jsonl"), (tmp_path / "killed.jsonl")
    assert whole.read_bytes().count(b"\n") > 1_000
    there = 0
    for number in range(KILLS):
        kill_within(seconds / 3, lambda: write("killed.jsonl"), number)
        lines = killed.read_bytes().split(b"\n")[:-1] if killed.exists() else []
        assert len(lines) >= there
        assert all(json.loads(line) for line in lines)
        there = len(lines)
    assert there > 0
    assert write("killed.jsonl") == 0
    assert killed.read_bytes() == whole.read_bytes()
