"""The progress of a training run on stderr."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from tqdm import tqdm

from course_lib.commands.options import note
from course_lib.run_folder import RunFolder
from course_lib.training import StepReport, Trainer

PLAIN_EVERY = 50  # steps between two lines if there is no terminal to draw a bar on


def narrated(reports: Iterable[StepReport], trainer: Trainer, folder: RunFolder) -> Iterator[StepReport]:
    """Pass the reports on. The main process draws a progress bar; if stderr is no terminal, it prints lines."""
    if not trainer.machine.world.is_main:
        yield from reports
        return
    steps, taken = trainer.settings.steps, folder.steps_taken()
    note(str(trainer.machine))
    if taken:
        note(f"{folder.path} has taken {taken:,} of {steps:,} steps")
    is_terminal = sys.stderr.isatty()
    bar: tqdm[Any] = tqdm(total=steps, initial=taken, unit="step", dynamic_ncols=True, disable=not is_terminal)
    with bar:
        for report in reports:
            if is_terminal:
                bar.set_postfix_str(f"loss {report.loss.response:.3f}, {report.tokens_per_second:,.0f} tokens/s", False)
                bar.update()
            elif report.step % PLAIN_EVERY == 0 or report.step == steps:  # to read a loss, the program waits for a GPU
                minutes = (steps - report.step) * report.seconds / report.step / 60
                speed = f"{report.tokens_per_second:,.0f} tokens/s, {minutes:.0f} minutes left"
                note(f"step {report.step:,} of {steps:,}: loss {report.loss.response:.3f}, {speed}")
            if loss := report.evaluation:
                both = f"{loss.response:.3f} on the response, {loss.whole:.3f} over the whole sequence"
                shown = f"{loss.whole:.3f}" if loss.response == loss.whole else both
                tqdm.write(f"step {report.step:,}: validation loss {shown}", file=sys.stderr)
            yield report
    note("training has ended; now the model is measured, which takes some minutes without a GPU")
