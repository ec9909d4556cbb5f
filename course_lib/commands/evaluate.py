"""The commands `evaluate-loss` and `evaluate`: how good a checkpoint is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from course_lib import paths
from course_lib.commands import options
from course_lib.commands.options import Asked, Comparable, Device, Folder, Json, Refusal, SplitChoice, option
from course_lib.language import say
from course_lib.poems import load_poems

if TYPE_CHECKING:
    from course_lib.evaluation.held_out import Progress


def evaluate_loss(
    checkpoint: Folder = None,
    split: SplitChoice = "validation",
    device: Device = None,
    precision: Comparable = "float32",
    as_json: Json = False,
) -> None:
    """Measure the loss on the poems of a split.

    The unit is nats per character. For a base model, every character of title and poem counts. A fine-tuned model has
    two losses: one on the response alone, and one over the whole sequence.
    """
    from course_lib.evaluation import held_out_loss

    opened, machine = options.open_checkpoint(checkpoint, device, precision)
    poems = load_poems(split)
    loss = held_out_loss(opened, poems, machine.precision)
    on = {"loss": loss, "n": len(poems), "split": split}
    if as_json:
        losses = {"response_loss": loss.response, "whole_loss": loss.whole}
        row = losses if opened.instructions else {"plain_text_loss": loss.whole}
        print(json.dumps({"split": split, "poems": len(poems), **row}, allow_nan=False))
    elif opened.instructions:
        print(say("response        {loss.response:.4f} nats per character on the {n:,} {split} poems", **on))
        told = say("whole sequence  {loss.whole:.4f}, with instruction and title; do not compare models by this", **on)
        print(told)
    else:
        print(say("{loss.whole:.4f} nats per character on the {n:,} {split} poems, as plain text", **on))


def evaluate(
    checkpoint: Folder = None,
    split: SplitChoice = "test",
    instruction: Asked = None,
    obedience: Annotated[bool, option("--obedience", help="Measure how often it obeys each instruction.")] = False,
    titles: Annotated[
        int | None, option(min=1, help="Write poems on this many titles.", show_default="200; with --obedience 100")
    ] = None,
    candidates: Annotated[int, option(min=1, help="Also judge the best of this many poems for each title.")] = 1,
    seed: Annotated[int, option(help="The same seed gives the same table.")] = 0,
    device: Device = None,
    precision: Comparable = "float32",
    as_json: Json = False,
) -> None:
    """Measure how well a model writes.

    It writes poems on titles of the split, with the default settings of `write`. The table says how many are well
    formed, rhyme, fit their titles and are not copied. Other columns show the base model, the real poems on these
    titles, and the real poems with their characters shuffled. Losses are measured on all poems of the split.

    The range in brackets is a 95 % interval: for other titles, the figure would probably be in this range.

    With --obedience, the table says instead how often the model obeys each instruction that it was taught, and how
    often in a wording that it was not taught.
    """
    from course_lib.evaluation import compare, measure_obedience, obedience_table, text_table
    from course_lib.sampling import GenerationSettings

    opened, machine = options.open_checkpoint(checkpoint, device, precision)
    poems, settings = load_poems(split), GenerationSettings(seed=seed)
    if obedience:
        if not opened.instructions:
            raise Refusal(say("a base model was taught no instruction, so there is none that it could obey"))
        if instruction or candidates > 1 or precision != "float32":
            raise Refusal(say("--obedience takes no --instruction, no --candidates and no --precision"))
        with shown_progress() as show:
            obeyed = measure_obedience(opened, poems, titles or 100, settings, show)
        if not obeyed:
            raise Refusal(say("this model was taught nothing that a program can check: any answer would be right"))
        rows = {name: row._asdict() for name, row in obeyed.items()}
        print(json.dumps(rows, ensure_ascii=False) if as_json else obedience_table(obeyed))
        return
    from course_lib.checkpoints import WEIGHTS, load_checkpoint

    asked = options.asked_of(opened, instruction) if instruction else None
    if asked and asked.given in ("line", "poem"):
        raise Refusal(say("{it} takes a {given}, not a title: use --obedience", it=asked.name, given=say(asked.given)))
    with shown_progress() as show:
        columns = compare(
            opened,
            poems,
            base=load_checkpoint(paths.BASE, machine.device) if (paths.BASE / WEIGHTS).is_file() else None,
            titles=titles or 200,
            candidates=candidates,
            settings=settings,
            precision=machine.precision,
            instruction=asked,
            progress=show,
        )
    if as_json:
        rows = {name: column.as_dict() for name, column in columns.items()}
        print(json.dumps(rows, ensure_ascii=False, allow_nan=False))
    else:
        print(text_table(columns))


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """A function that shows on stderr how far an evaluation is; the line goes away in the end."""
    from tqdm import tqdm

    with tqdm(unit="poem", disable=None, leave=False) as bar:

        def show(stage: str, done: int, total: int) -> None:
            bar.desc = f"{stage}: "
            bar.n = done
            bar.total = total
            bar.refresh()

        yield show
