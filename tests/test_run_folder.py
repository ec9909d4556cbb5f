"""A run on disk goes on as if it had never stopped, and is not mixed with another."""

from __future__ import annotations

import copy
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import in_step

from course_lib.checkpoints import Checkpoint, CheckpointError
from course_lib.engine.machine import Machine
from course_lib.engine.processes import World
from course_lib.instructions import OLD_STYLE, POEM
from course_lib.losses import LossSums, loss_sums
from course_lib.poems import Poem
from course_lib.recipes import finetuning
from course_lib.run_folder import RunFolder
from course_lib.training import StepReport, Trainer, TrainingSettings

NewTrainer = Callable[..., Trainer]
OF_RECIPE = ("batch_size", "seed", "instructions", "evaluation")
SETTINGS = TrainingSettings(steps=12, learning_rate=1e-2, warmup_steps=2)


@pytest.fixture
def new_trainer(checkpoint: Checkpoint, poems: list[Poem]) -> NewTrainer:
    """Trainers of the same run; keywords change its settings or its recipe."""

    def make(machine: Machine | None = None, **changes: Any) -> Trainer:
        of_recipe = {name: changes.pop(name) for name in OF_RECIPE if name in changes}
        read = changes.pop("poems", poems * 3)
        recipe = finetuning(copy.deepcopy(checkpoint), read, **{"batch_size": 2, **of_recipe})
        return Trainer(recipe, replace(SETTINGS, **changes), machine or Machine(torch.device("cpu"), torch.float32))

    return make


def take(folder: RunFolder, trainer: Trainer, steps: int) -> list[StepReport]:
    """The reports of a run that is left after that many steps."""
    reports: list[StepReport] = []
    runs = folder.run(trainer)
    for report in runs:
        reports.append(report)
        if len(reports) == steps:
            runs.close()
    return reports


def steps_in_log(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (path / "log.jsonl").read_text().splitlines()]


# --- going on -------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_resumed_from_disk_equals_one_that_was_not_interrupted(
    new_trainer: NewTrainer, tmp_path: Path, optimizer: str
) -> None:
    whole = [r.loss for r in RunFolder(tmp_path / "whole").run(new_trainer(optimizer=optimizer))]
    parts = RunFolder(tmp_path / "parts")
    for steps in (4, 5, 3):
        take(parts, new_trainer(optimizer=optimizer), steps)
    assert steps_in_log(parts.path) == list(range(1, 13))
    assert [report.loss for report in parts.reports()] == whole
    assert parts.steps_taken() == 12
    assert list(parts.run(new_trainer(optimizer=optimizer))) == []  # all steps are taken


def test_a_run_with_dropout_draws_the_same_noise_after_a_stop(new_trainer: NewTrainer, tmp_path: Path) -> None:
    noisy, exact, parts = (RunFolder(tmp_path / name) for name in ("noisy", "exact", "parts"))
    list(noisy.run(new_trainer(dropout=0.2)))
    list(exact.run(new_trainer()))
    for steps in (4, 5, 3):
        torch.rand(3)  # another process has drawn other numbers before
        take(parts, new_trainer(dropout=0.2), steps)
    assert [report.loss for report in parts.reports()] == [report.loss for report in noisy.reports()]
    assert not {report.loss for report in noisy.reports()} & {report.loss for report in exact.reports()}


def test_each_process_and_each_step_draws_its_own_noise(new_trainer: NewTrainer) -> None:
    def drawn(rank: int) -> list[float]:
        """A random number of each step of the process with this rank."""
        machine = Machine(torch.device("cpu"), torch.float32, world=World(rank))
        numbers = []
        trainer = new_trainer(machine, steps=3)

        def loss(*arguments: Any) -> LossSums:
            numbers.append(torch.rand(()).item())
            return loss_sums(*arguments)

        trainer.recipe = replace(trainer.recipe, loss=loss)
        list(trainer)
        return numbers

    first, other = drawn(0), drawn(1)
    assert drawn(0) == first
    assert len({*first, *other}) == 6


def test_log_lines_after_the_last_save_are_taken_back(new_trainer: NewTrainer, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    take(folder, new_trainer(), 4)
    saved = (tmp_path / "state.safetensors").read_bytes()
    list(folder.run(new_trainer()))
    (tmp_path / "state.safetensors").write_bytes(saved)  # as if the run had been killed before it saved
    (first,) = take(folder, new_trainer(), 1)
    assert first.step == 5
    assert steps_in_log(tmp_path) == [1, 2, 3, 4, 5]


def test_a_log_line_that_a_kill_cut_short_is_left_out(new_trainer: NewTrainer, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    take(folder, new_trainer(), 4)
    log = tmp_path / "log.jsonl"
    log.write_text(log.read_text()[:-20])
    assert [report.step for report in folder.reports()] == [1, 2, 3]
    log.write_text('{"step"\n' + log.read_text())
    with pytest.raises(CheckpointError, match=r"log.jsonl: not the log of a run"):
        folder.reports()


def test_a_folder_that_is_not_there_is_a_run_of_no_steps(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "nothing")
    assert (folder.steps_taken(), folder.reports(), folder.machines()) == (0, [], [])
    assert not folder.path.exists()


def test_the_state_is_saved_as_often_as_asked(new_trainer: NewTrainer, tmp_path: Path) -> None:
    often, rarely = RunFolder(tmp_path / "often", save_every=0), RunFolder(tmp_path / "rarely")
    for folder, steps in ((often, 3), (rarely, 0)):
        runs = folder.run(new_trainer())
        assert [next(runs).step for _ in range(3)] == [1, 2, 3]
        assert folder.steps_taken() == steps
        runs.close()
        assert folder.steps_taken() == 3


def test_ctrl_c_in_the_middle_of_a_step_waits_for_its_end(new_trainer: NewTrainer, tmp_path: Path) -> None:
    whole = [r.loss for r in RunFolder(tmp_path / "whole").run(new_trainer())]
    folder = RunFolder(tmp_path / "pressed")
    reports: list[StepReport] = []
    with in_step(5, lambda: signal.raise_signal(signal.SIGINT)), pytest.raises(KeyboardInterrupt):
        reports.extend(folder.run(new_trainer()))
    assert folder.steps_taken() == 5
    assert steps_in_log(folder.path) == [1, 2, 3, 4, 5]
    list(folder.run(new_trainer()))
    assert [report.loss for report in folder.reports()] == whole


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a program can handle")
def test_sigterm_saves_as_ctrl_c_does(new_trainer: NewTrainer, tmp_path: Path) -> None:
    whole = [r.loss for r in RunFolder(tmp_path / "whole").run(new_trainer())]
    folder = RunFolder(tmp_path / "stopped")
    with in_step(5, lambda: signal.raise_signal(signal.SIGTERM)), pytest.raises(KeyboardInterrupt):
        list(folder.run(new_trainer()))
    assert folder.steps_taken() == 5
    runs = folder.run(new_trainer())
    assert next(runs).step == 6
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)  # between two steps
    runs.close()
    assert folder.steps_taken() == 6
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    list(folder.run(new_trainer()))
    assert [report.loss for report in folder.reports()] == whole


def test_a_second_run_in_the_folder_is_refused_and_the_first_goes_on(new_trainer: NewTrainer, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, save_every=0)
    runs = folder.run(new_trainer())
    next(runs)
    with pytest.raises(OSError, match=r"log\.jsonl: another run or command is writing there; wait until it ends"):
        next(RunFolder(tmp_path).run(new_trainer()))
    list(runs)
    assert steps_in_log(tmp_path) == list(range(1, 13))
    assert list(RunFolder(tmp_path).run(new_trainer())) == []  # now it may


def test_a_second_ctrl_c_does_not_wait(new_trainer: NewTrainer, tmp_path: Path) -> None:
    def press_twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    trainer = new_trainer()
    with in_step(5, press_twice), pytest.raises(KeyboardInterrupt):
        list(RunFolder(tmp_path).run(trainer))
    assert trainer.step == 4
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_two_ctrl_c_in_the_last_evaluation_lose_nothing(
    new_trainer: NewTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All steps are taken then, but the run is not saved yet."""
    trainer = new_trainer(evaluate_every=12)

    def press_twice(_: Trainer) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "evaluate", press_twice)
    with pytest.raises(KeyboardInterrupt):
        list(RunFolder(tmp_path).run(trainer))
    assert RunFolder(tmp_path).steps_taken() == 12


# --- the best weights -----------------------------------------------------------------------------

HASTY: dict[str, Any] = {"learning_rate": 3e-2, "steps": 40, "decay_fraction": 0.0, "evaluate_every": 3}


def evaluations(reports: list[StepReport]) -> dict[int, float]:
    """The loss of each evaluation, by its step."""
    return {report.step: report.evaluation.response for report in reports if report.evaluation}


@pytest.fixture
def overfitting(new_trainer: NewTrainer, poems: list[Poem]) -> NewTrainer:
    """Trainers that learn one poem by heart, and are evaluated on the others."""
    return partial(new_trainer, poems=poems[:1], evaluation=poems[1:], **HASTY)


def test_patience_stops_a_run_that_gets_no_better_and_keeps_its_best_weights(overfitting: NewTrainer) -> None:
    trainer = overfitting(patience=2)
    losses = evaluations(list(trainer))
    best = min(losses, key=losses.__getitem__)
    assert trainer.step == max(losses) == best + 6 < 40
    assert trainer.best_step == best
    kept = trainer.evaluate()
    assert kept
    assert kept.response == losses[best] < losses[trainer.step]
    assert list(trainer) == []  # it stays so
    assert trainer.evaluate() == kept


def test_a_run_that_takes_all_steps_has_its_best_weights_too(overfitting: NewTrainer) -> None:
    patient, last = overfitting(patience=20), overfitting()
    losses = evaluations(list(patient))
    assert losses == evaluations(list(last))
    assert max(losses) == 40
    best, end = patient.evaluate(), last.evaluate()
    assert best
    assert end
    assert best.response == min(losses.values())
    assert end.response == losses[40] > best.response  # without patience, a run ends with its last weights


def test_the_best_weights_survive_a_kill(overfitting: NewTrainer, tmp_path: Path) -> None:
    whole = overfitting(patience=2)
    reports = list(whole)
    folder = RunFolder(tmp_path)
    taken: list[StepReport] = []
    for _ in range(0, len(reports), 5):
        taken += take(folder, overfitting(patience=2), 5)
    assert [report.loss for report in taken] == [report.loss for report in reports]
    resumed = overfitting(patience=2)
    assert list(folder.run(resumed)) == []
    assert (resumed.step, resumed.best_step) == (whole.step, whole.best_step)
    ends = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(mine, ends[1][name]) for name, mine in ends[0].items())


@pytest.mark.parametrize("first", [{"patience": 2}, {"patience": 2, "steps": 12}])
def test_a_run_that_ended_with_its_best_weights_goes_on_from_its_last_ones(
    first: dict[str, int], overfitting: NewTrainer, tmp_path: Path
) -> None:
    """More patience, or more steps: the run is the one that had them from the start."""
    whole = overfitting(patience=20)
    losses = [report.loss for report in whole]
    ended = overfitting(**first)
    begun = list(RunFolder(tmp_path).run(ended))
    assert 0 < ended.best_step < ended.step < 40
    resumed = overfitting(patience=20)
    went_on = list(RunFolder(tmp_path).run(resumed))
    assert [report.loss for report in [*begun, *went_on]] == losses
    assert (resumed.best_step, resumed.evaluate()) == (whole.best_step, whole.evaluate())


# --- what goes wrong ------------------------------------------------------------------------------


def test_a_broken_step_leaves_the_saved_state_alone(new_trainer: NewTrainer, tmp_path: Path) -> None:
    trainer = new_trainer()
    runs = RunFolder(tmp_path, save_every=0).run(trainer)
    next(runs)
    saved = (tmp_path / "state.safetensors").read_bytes()
    trainer.model.get_parameter("model.norm.weight").data[0] = float("nan")
    with pytest.raises(FloatingPointError, match="loss of step 2 is nan"):
        next(runs)
    assert (tmp_path / "state.safetensors").read_bytes() == saved


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sets no limit to the size of files")
def test_a_full_disk_is_told_and_what_was_saved_is_untouched(new_trainer: NewTrainer, tmp_path: Path) -> None:
    import resource

    runs = RunFolder(tmp_path, save_every=0).run(new_trainer())
    next(runs)
    saved = (tmp_path / "state.safetensors").read_bytes()
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(saved) // 2, allowed[1]))
    try:
        with pytest.raises(OSError, match=r"state.safetensors: not written; what was there is untouched"):
            list(runs)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
    assert (tmp_path / "state.safetensors").read_bytes() == saved
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.jsonl", "run.json", "state.safetensors"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("state.safetensors", b"nothing of the kind", r"state.safetensors: not the state of a run"),
        ("run.json", b"{}", r"run.json: not the record of a run"),
        ("run.json", b"{", r"run.json: not the record of a run"),
        ("run.json", b"[]", r"run.json: not the record of a run"),
        ("run.json", b'{"started_with": 1, "machines": []}', r"run.json: not the record of a run"),
        ("run.json", b'{"started_with": {}, "machines": [1]}', r"run.json: not the record of a run"),
        ("log.jsonl", b"[]\n[]\n", r"log.jsonl: not the log of a run"),
        ("log.jsonl", b'{"step": 5}\n', r"log.jsonl: not the log of a run"),
        ("log.jsonl", b"\xff\n", r"log.jsonl: not the log of a run"),
    ],
)
def test_a_damaged_folder_is_refused(
    new_trainer: NewTrainer, tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    folder = RunFolder(tmp_path)
    take(folder, new_trainer(), 3)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=says):
        next(folder.run(new_trainer()))


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ('"step": 2', '"step": "2"', "'2' is not a number"),
        ('"step": 2', '"step": 1', "its steps are not in order"),
        ('"seconds": ', '"seconds": true, "_": ', "not the log of a run"),
        ('"learning_rate": ', '"learning_rate": null, "_": ', "not the log of a run"),
    ],
)
def test_a_damaged_line_of_the_log_is_told(
    new_trainer: NewTrainer, tmp_path: Path, before: str, after: str, says: str
) -> None:
    folder = RunFolder(tmp_path)
    take(folder, new_trainer(), 3)
    log = tmp_path / "log.jsonl"
    assert before in log.read_text()
    log.write_text(log.read_text().replace(before, after))
    with pytest.raises(CheckpointError, match=f"log.jsonl: .*{says}"):
        folder.reports()


def test_a_learning_rate_that_is_no_number_is_that_of_another_run(new_trainer: NewTrainer, tmp_path: Path) -> None:
    take(RunFolder(tmp_path), new_trainer(), 3)
    log = tmp_path / "log.jsonl"
    log.write_text(log.read_text().replace('"learning_rate": 0.005', '"learning_rate": NaN'))
    with pytest.raises(CheckpointError, match="step 1 had learning rate nan"):
        next(RunFolder(tmp_path).run(new_trainer()))


@pytest.mark.parametrize("numbers", [{}, {"step": "3"}, [], {"step": 3}, {"step": None, "seconds": 1.0}])
def test_a_state_without_its_numbers_is_told(new_trainer: NewTrainer, tmp_path: Path, numbers: object) -> None:
    take(RunFolder(tmp_path), new_trainer(), 3)
    tensors = load_file(tmp_path / "state.safetensors")
    save_file(tensors, tmp_path / "state.safetensors", {"state": json.dumps(numbers)})
    with pytest.raises(CheckpointError, match=r"state.safetensors: not the state of a run \(it lacks a number\)"):
        next(RunFolder(tmp_path).run(new_trainer()))


def test_a_state_without_its_weights_is_told(new_trainer: NewTrainer, tmp_path: Path) -> None:
    take(RunFolder(tmp_path), new_trainer(), 3)
    with safe_open(tmp_path / "state.safetensors", framework="pt") as file:
        numbers = file.metadata()
    save_file({"model.norm": torch.ones(1)}, tmp_path / "state.safetensors", numbers)
    with pytest.raises(CheckpointError, match=r"state.safetensors: not the state of this run \(.*Missing key"):
        next(RunFolder(tmp_path).run(new_trainer()))


def test_a_vocabulary_is_made_once_and_kept(poems: list[Poem], tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    made = folder.tokenizer(poems * 5)
    kept = folder.tokenizer(poems[:1])
    assert kept.backend.to_str() == made.backend.to_str()
    (folder.path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer.json: not a tokenizer"):
        folder.tokenizer(poems)


# --- which run it is ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"batch_size": 1}, "a run with batch_size 2, not 1"),
        ({"seed": 1}, "a run with seed 0, not 1"),
        ({"instructions": (POEM, OLD_STYLE)}, "a run with instructions poem, not poem,old-style"),
        ({"poems": [Poem("山", "試筆", ("山中一夜雨，樹上幾聲鶯。",))]}, "a run with poems 9, not 1"),
        ({"poems": [Poem("山", "試筆", ("山中一夜雨，樹上幾聲鶯。",))] * 9}, "holds a run on other poems"),
        ({"accumulate": 2}, "a run with accumulate 1, not 2"),
        ({"weight_decay": 0.0}, "a run with weight_decay 0.1, not 0.0"),
        ({"dropout": 0.1}, "a run with dropout 0.0, not 0.1"),
        ({"steps": 3}, "a run of 9 steps, more than 3"),
        (
            {"steps": 10},
            "step 9 had learning rate 0.01; with these settings it is 0.008",
        ),  # it would have begun to fall
        ({"learning_rate": 1e-3}, "step 1 had learning rate 0.005; with these settings it is 0.0005"),
    ],
)
def test_a_folder_is_not_used_for_another_run(
    new_trainer: NewTrainer, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    folder = RunFolder(tmp_path)
    take(folder, new_trainer(decay_fraction=0.25), 9)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(CheckpointError, match=says) as refused:
        next(folder.run(new_trainer(**{"decay_fraction": 0.25, **changes})))
    assert str(refused.value).startswith(f"{tmp_path} holds ")
    assert str(refused.value).endswith(". Delete this folder to start again, or choose another one")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_part_of_the_identity_that_is_left_out_is_another_run_too(new_trainer: NewTrainer, tmp_path: Path) -> None:
    """As the teacher of a run that is repeated without one."""
    taught, alone = new_trainer(), new_trainer()
    taught.recipe = replace(taught.recipe, identity={**alone.recipe.identity, "teacher": "abc"})
    take(RunFolder(tmp_path), taught, 2)
    with pytest.raises(CheckpointError, match="a run with teacher abc, not None"):
        next(RunFolder(tmp_path).run(alone))


def test_steps_may_be_added_while_the_rate_is_constant(new_trainer: NewTrainer, tmp_path: Path) -> None:
    whole = [r.loss for r in RunFolder(tmp_path / "whole").run(new_trainer(steps=20))]
    folder = RunFolder(tmp_path / "longer")
    take(folder, new_trainer(steps=12), 7)
    list(folder.run(new_trainer(steps=20)))
    assert [report.loss for report in folder.reports()] == whole


def test_a_run_without_a_record_is_taken_up(new_trainer: NewTrainer, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    take(folder, new_trainer(), 4)
    (tmp_path / "run.json").unlink()
    assert next(folder.run(new_trainer())).step == 5


def test_a_run_may_move_to_a_machine_of_another_precision(new_trainer: NewTrainer, tmp_path: Path) -> None:
    """As from a CPU to a GPU that is fastest in float16, which scales its losses, and back."""
    folder = RunFolder(tmp_path)
    for precision in (torch.float32, torch.float16, torch.bfloat16):
        take(folder, new_trainer(Machine(torch.device("cpu"), precision)), 4)
    assert steps_in_log(tmp_path) == list(range(1, 13))
    assert len(folder.machines()) == 3


def test_every_machine_that_took_steps_is_noted_once(new_trainer: NewTrainer, tmp_path: Path) -> None:
    folder, alone = RunFolder(tmp_path / "both"), RunFolder(tmp_path / "alone")
    exact, rough = (Machine(torch.device("cpu"), precision) for precision in (torch.float32, torch.bfloat16))
    for machine in (exact, rough, exact, rough):
        take(folder, new_trainer(machine), 2)
    assert folder.machines() == [exact.full_name, rough.full_name]
    list(alone.run(new_trainer(exact)))
    assert list(alone.run(new_trainer(rough))) == []
    assert alone.machines() == [exact.full_name]  # the other one took no step
