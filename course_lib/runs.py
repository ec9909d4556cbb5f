"""A long training run from the command line: one folder that it can be resumed from, told as it goes.

run.json             what the run was started with, so that it is never resumed as another; where it ran
tokenizer.json       the vocabulary (pretraining)
log.jsonl            one line a step            } course_lib.run_folder.RunFolder
state.safetensors    what a resumed run needs   }
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from course_lib.batches import plain_text
from course_lib.checkpoints import Checkpoint, CheckpointError, load_training_state, write_json
from course_lib.commands.options import note
from course_lib.engine.machine import describe
from course_lib.model import PoetryModel
from course_lib.poems import Poem
from course_lib.run_folder import RunFolder
from course_lib.tokenizer import CharacterTokenizer
from course_lib.training import StepReport, Trainer, TrainingSettings

RECORD, VOCABULARY, LOG, STATE = "run.json", "tokenizer.json", "log.jsonl", "state.safetensors"
PLAIN_EVERY = 50  # steps between two lines where there is no terminal to draw a bar on


# --- the folder -----------------------------------------------------------------------------------


def own_tokenizer(folder: Path, poems: Sequence[Poem]) -> CharacterTokenizer:
    """The tokenizer of a pretraining run: the one in its folder, else one trained on `poems` and kept there.

    Raises:
        CheckpointError: the file in the folder is damaged.
    """
    path = folder / VOCABULARY
    if path.is_file():
        try:
            return CharacterTokenizer.load(path)
        except Exception as error:  # the tokenizers library raises bare exceptions
            raise CheckpointError(f"{path}: not a tokenizer of this course ({error})") from error
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = CharacterTokenizer.train(plain_text(p) for p in poems)
    aside = path.with_suffix(".part")
    tokenizer.save(aside)
    os.replace(aside, path)
    return tokenizer


def take_up(folder: Path, trainer: Trainer, identity: Mapping[str, Any], machine: str) -> str:
    """Make sure that `folder` is free or holds this very run, and write down what it is and where it runs.

    `identity` is whatever must be the same when the run goes on. Steps may be added or left out as long as
    every step already taken had the learning rate that it would have now. All machines so far come back.

    Raises:
        CheckpointError: the folder holds another run, or one that went further.
    """
    record = folder / RECORD
    identity = json.loads(json.dumps({**identity, **schedule_free(trainer.settings)}))
    before: dict[str, Any] = {"started_with": identity, "machines": []}
    if record.is_file():
        before = read_record(record)
    if different := {k for k in identity if before["started_with"].get(k) != identity[k]}:
        name = sorted(different)[0]
        raise CheckpointError(
            f"{folder} holds a run with {name} {before['started_with'].get(name)}, not {identity[name]}: "
            "choose another --run-folder, or delete it"
        )
    step = steps_taken(folder)
    if step > trainer.settings.steps:
        raise CheckpointError(
            f"{folder} holds a run of {step} steps already, --steps is {trainer.settings.steps}: "
            "choose another --run-folder, or delete it"
        )
    for report in read_log(folder)[:step]:
        rate = trainer.settings.learning_rate_at(report["step"] - 1)
        if abs(report["learning_rate"] - rate) > 1e-6 * rate:
            raise CheckpointError(
                f"{folder} holds a run whose step {report['step']} had learning rate "
                f"{report['learning_rate']:.3g}, with these options it is {rate:.3g}: "
                "give the options it was started with, or choose another --run-folder"
            )
    if machine not in before["machines"] and (step < trainer.settings.steps or not before["machines"]):
        before["machines"].append(machine)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(record, before)
    return "; ".join(before["machines"])


def schedule_free(settings: TrainingSettings) -> dict[str, Any]:
    """The settings that may not change at all within a run; the log shows whether the others fit."""
    return {k: v for k, v in asdict(settings).items() if k in ("optimizer", "weight_decay", "max_grad_norm")}


def read_record(path: Path) -> dict[str, Any]:
    """What a run was started with, and its machines.

    Raises:
        CheckpointError: the file is damaged.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {"started_with": dict(record["started_with"]), "machines": list(record["machines"])}
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not the record of a run ({error})") from error


def steps_taken(folder: Path) -> int:
    """The step that the run in `folder` would be resumed from; 0 if there is none.

    Raises:
        CheckpointError: the state is damaged.
    """
    state = folder / STATE
    return int(load_training_state(state)[1]["step"]) if state.is_file() else 0


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The reports of all steps in the log."""
    path = folder / LOG
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}")]  # a kill may have cut the last one short


def check_writable(*folders: Path) -> None:
    """Find out before a long run, not after it, that its result cannot be written.

    Raises:
        CheckpointError: a folder is a file, or lies where nothing can be written.
    """
    for folder in folders:
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        if not there.is_dir():
            raise CheckpointError(f"{folder}: cannot be a folder, because {there} is a file")
        if not os.access(there, os.W_OK):
            raise CheckpointError(f"{folder}: nothing can be written in {there}")


def speeds(folder: Path) -> list[float]:
    """Tokens per second of each step in the log."""
    return [report["tokens_per_second"] for report in read_log(folder)]


# --- told as it goes ------------------------------------------------------------------------------


def finish_steps(trainer: Trainer, folder: Path, save_every: float, compiled: bool) -> bool:
    """Take all the steps that are left; False if Ctrl-C cut them short, the run saved and the user told."""
    steps, reports = trainer.settings.steps, RunFolder(folder, save_every).run(trainer)
    if not trainer.world.is_main:
        return all(True for _ in reports)
    processes = f", {trainer.world.size} processes" if trainer.world.size > 1 else ""
    note(describe(trainer.device, trainer.precision, compiled) + processes)
    if taken := steps_taken(folder):
        note(f"{folder} has taken {taken:,} of {steps:,} steps")
    try:
        for _ in told(reports, steps):
            pass
    except KeyboardInterrupt:
        note(f"interrupted after step {trainer.step:,} of {steps:,}; {folder} has it: the same command goes on")
        return False
    if trainer.best:
        ended = f"stopped after step {trainer.step:,}: " if trainer.stopped_early else ""
        loss, step = trainer.best.loss.response, trainer.best.step
        note(f"{ended}the validation loss was lowest, {loss:.3f}, after step {step:,}; those weights are kept")
    return True


def as_saved(checkpoint: Checkpoint, trainer: Trainer) -> Checkpoint:
    """The checkpoint, its weights whole and rounded to the file's 16 bits: the card's figures are the file's.

    Of several processes all must call this.
    """
    model = PoetryModel(checkpoint.model.config)
    model.load_state_dict({name: tensor.half().float() for name, tensor in trainer.weights().items()})
    return Checkpoint(model.to(trainer.device), checkpoint.tokenizer)


def told(reports: Iterable[StepReport], steps: int) -> Iterator[StepReport]:
    """Pass the reports on, with a progress bar on stderr, or a line now and then if it is no terminal."""
    bar: tqdm[Any] | None = None
    is_terminal = sys.stderr.isatty()
    try:
        for report in reports:
            if bar is None and is_terminal:
                bar = tqdm(total=steps, initial=report.step - 1, unit="step", dynamic_ncols=True)
            if bar is not None:
                bar.set_postfix_str(f"loss {report.loss.response:.3f}, {report.tokens_per_second:,.0f} tokens/s", False)
                bar.update()
            elif report.step % PLAIN_EVERY == 0 or report.step == steps:
                tqdm.write(plain_line(report, steps), file=sys.stderr)
            if report.evaluation:
                tqdm.write(evaluation_line(report), file=sys.stderr)
            yield report
    finally:
        if bar is not None:
            bar.close()


def plain_line(report: StepReport, steps: int) -> str:
    """`step 50 of 9,000, loss 6.123, 6,812 tokens/s, 92 minutes left`"""
    left = (steps - report.step) * report.seconds / report.step / 60
    return (
        f"step {report.step:,} of {steps:,}, loss {report.loss.response:.3f}, "
        f"{report.tokens_per_second:,.0f} tokens/s, {left:.0f} minutes left"
    )


def evaluation_line(report: StepReport) -> str:
    """`step 500: validation loss 4.912`, and the whole sequence's where it is another."""
    assert report.evaluation is not None
    response, whole = report.evaluation
    both = f"{response:.3f}" if response == whole else f"{response:.3f} on the response, {whole:.3f} over the whole"
    return f"step {report.step:,}: validation loss {both}"
