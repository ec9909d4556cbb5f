"""The progress of a training run on stderr."""

import sys
from collections.abc import Iterable, Iterator

from tqdm import tqdm

from course_lib.commands.options import note
from course_lib.language import say
from course_lib.run_folder import RunFolder
from course_lib.training import StepReport, Trainer

PLAIN_EVERY = 50  # steps between two lines if there is no terminal to draw a bar on


def narrated(
    reports: Iterable[StepReport], trainer: Trainer, folder: RunFolder, measure: bool = True
) -> Iterator[StepReport]:
    """Pass the reports on. The main process draws a progress bar; if stderr is no terminal, it prints lines.

    With `measure`, it says at the end that more is to come.
    """
    if not trainer.machine.world.is_main:
        yield from reports
        return
    steps, taken = trainer.settings.steps, folder.steps_taken()
    note(trainer.machine.described())
    if trainer.machine.compiled and taken < steps:
        note(say("the model is being compiled first, which takes a minute or two without a GPU"))
    if taken:
        note(say("{path} has taken {taken:,} of {steps:,} steps", path=folder.path, taken=taken, steps=steps))
    is_terminal = sys.stderr.isatty()
    with tqdm(total=steps, initial=taken, unit="step", dynamic_ncols=True, disable=not is_terminal) as bar:
        for report in reports:
            if is_terminal:
                shown = say("loss {r.loss.response:.3f}, {r.tokens_per_second:,.0f} tokens/s", r=report)
                bar.set_postfix_str(shown, False)
                bar.update()
            elif report.step % PLAIN_EVERY == 0 or report.step == steps:  # to read a loss, the program waits for a GPU
                minutes = (steps - report.step) * report.seconds / report.step / 60
                now = say("step {r.step:,} of {steps:,}: loss {r.loss.response:.3f}", r=report, steps=steps)
                left = say("{r.tokens_per_second:,.0f} tokens/s, {n:.0f} minutes left", r=report, n=minutes)
                note(say(", ").join([now, left]))
            if loss := report.evaluation:
                shown = say("{loss.response:.3f} on the response, {loss.whole:.3f} over the whole sequence", loss=loss)
                if trainer.recipe.kind == "preference":
                    shown = say("{loss.response:.3f} for a pair, with the anchor", loss=loss)
                elif loss.response == loss.whole:
                    shown = f"{loss.whole:.3f}"
                line = say("step {step:,}: validation loss {shown}", step=report.step, shown=shown)
                tqdm.write(line, file=sys.stderr)
            yield report
    if measure:
        note(say("training has ended; now the model is measured, which takes some minutes without a GPU"))
