"""The command line: `python -m course_lib --help`.

What takes long to import is imported inside the commands, so that help and refusals come at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any

import typer

from course_lib import cli_training
from course_lib.cli import (
    PROGRAM,
    Comparable,
    Device,
    Folder,
    Json,
    Precision,
    Refusal,
    Split,
    SplitChoice,
    announced,
    examples,
    note,
    open_checkpoint,
    option,
)

if TYPE_CHECKING:
    from course_lib.checkpoints import Checkpoint
    from course_lib.generation import Writing

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help="From a model that rambles on in verse to one that writes a poem for your title.",
    epilog=examples(
        "write 春夜喜雨                                          a poem",
        "write 春夜喜雨 --checkpoint assets/checkpoints/base     verse without end",
        "finetune --steps 800                                    a model of your own",
        "evaluate                                                how good it is",
    )
    + f"\n\n`{PROGRAM} COMMAND --help` explains a command's options. What cannot be done as asked ends with "
    "one line that says why, and exit status 2.",
)

# --- for maintainers ------------------------------------------------------------------------------


@app.command(epilog=examples("corpus"))
def corpus() -> None:
    """Make the poem files again (maintainers only).

    Fetches the source with npm, and writes Tang to assets/poems and Song to the cache.
    """
    from course_lib.corpus import build

    try:
        built = build()
    except RuntimeError as error:  # npm, or its archive
        raise Refusal(str(error)) from error
    for dynasty, counts in built.items():
        for rule, count in counts.items():
            print(f"{dynasty}  {count:>10,}  {rule}")


app.command(
    epilog=examples(
        "pretrain",
        "pretrain --dynasties tang --steps 300 --run-folder runs/small --out checkpoints/small",
    )
)(cli_training.pretrain)
app.command(
    epilog=examples(
        "finetune --steps 800",
        "finetune --epochs 5 --out checkpoints/thorough --run-folder runs/thorough",
    )
)(cli_training.finetune)


# --- using a checkpoint ---------------------------------------------------------------------------


@app.command(
    epilog=examples(
        "write 春夜喜雨",
        "write 春夜喜雨 秋思 --count 3 --temperature 1",
        "write 春夜喜雨 --checkpoint assets/checkpoints/base --max-new-tokens 100",
    )
)
def write(
    titles: Annotated[list[str], typer.Argument(metavar="TITLE", help="One poem is written for each.")],
    checkpoint: Folder = None,
    seed: Annotated[int, option(help="The same title and seed give the same poem.")] = 0,
    temperature: Annotated[float, option(help="0: always the likeliest; above 1: wild.")] = 0.8,
    top_p: Annotated[float, option(help="Draw among the likeliest that make up this share.")] = 0.95,
    max_new_tokens: Annotated[int, option(help="Stop after so many characters at the latest.")] = 200,
    count: Annotated[int, option(min=1, help="Poems for each title, with seeds counted up.")] = 1,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Write a poem on a title, character by character.

    A base model does not know where a poem ends and writes on to the limit. Why it stopped is said on stderr.
    With --json, each poem is one line of JSON.
    """
    if any(not title.strip() for title in titles):
        raise Refusal("a title is blank: give it at least one character")
    from course_lib.generation import GenerationSettings
    from course_lib.generation import write as begin

    settings = GenerationSettings(temperature, top_p, max_new_tokens=max_new_tokens, seed=seed)
    opened = open_checkpoint(checkpoint, device)
    for title, number in product(read_titles(titles, opened), range(seed, seed + count)):
        writing = begin(opened, title, replace(settings, seed=number))
        if as_json:
            text = "".join(writing)
            told = {"title": title, "seed": number, "text": text, "ended": writing.reason == "end"}
            print(json.dumps(told, ensure_ascii=False), flush=True)
        else:
            print(f"《{title}》\n" if len(titles) > 1 else "", end="")
            show(writing)


def read_titles(typed: Sequence[str], checkpoint: Checkpoint) -> list[str]:
    """The titles as the model gets them; what was done to one is said on stderr.

    Raises:
        Refusal: one of them is of no use.
    """
    from course_lib.titles import read_title

    read = [read_title(title, checkpoint.tokenizer) for title in typed]
    for original, title in zip(typed, read, strict=True):
        if title.refused:
            raise Refusal(f"{original}: {title.message}")
    for original, title in zip(typed, read, strict=True):
        if title.message:
            note(f"{original}: {title.message}")
    return [title.title for title in read]


def show(writing: Writing) -> None:
    """Print a poem as it comes, and say on stderr why it stopped. Ctrl-C ends it, and the program."""
    at_terminal = sys.stdout.isatty()
    try:
        for character in writing:
            print(character, end="", flush=at_terminal)
    except KeyboardInterrupt:
        print(flush=True)
        note(f"stopped by you after {len(writing.text)} characters")
        raise typer.Exit(130) from None
    print(end="" if writing.text.endswith("\n") else "\n", flush=True)
    how = "ended by itself" if writing.reason == "end" else "stopped"
    note(f"{how} after {len(writing.text)} characters")


@app.command(epilog=examples("evaluate-loss --split validation --checkpoint assets/checkpoints/base"))
def evaluate_loss(
    checkpoint: Folder = None,
    split: SplitChoice = Split.validation,
    device: Device = None,
    precision: Comparable = Precision.float32,
    as_json: Json = False,
) -> None:
    """The loss on a split, in nats per character.

    For a base model every character of title and poem counts. For one that was taught to answer, there
    are two losses: over the response alone, and over the whole sequence.
    """
    from course_lib.evaluation import held_out_loss
    from course_lib.poems import load_poems

    opened = open_checkpoint(checkpoint, device)
    _, products = announced(device, precision)
    poems = load_poems(split.value)
    loss = held_out_loss(opened, poems, products)
    has_roles = opened.tokenizer.has_roles
    told: dict[str, Any] = {"split": split.value, "poems": len(poems)}
    if has_roles:
        told |= {"response_loss": loss.response, "whole_loss": loss.whole}
    else:
        told |= {"plain_text_loss": loss.whole}
    if as_json:
        print(json.dumps(told))
        return
    on = f"nats per character on the {len(poems):,} {split.value} poems"
    if has_roles:
        print(f"response        {loss.response:.4f} {on}")
        print(f"whole sequence  {loss.whole:.4f}, flattered by the instruction, which is free to predict")
    else:
        print(f"{loss.whole:.4f} {on}, as plain text")


@app.command(
    epilog=examples("evaluate", "evaluate --checkpoint assets/checkpoints/base --titles 50", "evaluate --json")
)
def evaluate(
    checkpoint: Folder = None,
    split: SplitChoice = Split.test,
    titles: Annotated[int, option(min=1, help="Write a poem for the first so many of them.")] = 200,
    device: Device = None,
    precision: Comparable = Precision.float32,
    as_json: Json = False,
) -> None:
    """How well a model writes: endings, form and losses.

    Poems are written at the default settings of `write`, losses taken on all poems of the split. What does
    not apply to a base model is said (in JSON: null).
    """
    from tqdm import tqdm

    from course_lib.evaluation import evaluate as figures
    from course_lib.poems import load_poems

    opened = open_checkpoint(checkpoint, device)
    _, products = announced(device, precision)
    with tqdm(total=titles, unit="poem", disable=None, leave=False) as bar:
        found = figures(
            opened,
            load_poems(split.value),
            titles=titles,
            precision=products,
            progress=lambda done: bar.update(done - bar.n),
        )
    print(json.dumps(found.as_dict()) if as_json else found.table())


# --- how it ends ----------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status comes back: 0, 2 for what cannot be done as asked, 130 for Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = typer.main.get_command(app)
    usage_error: Any = typer.BadParameter.__base__  # newer versions of typer bring a click of their own
    try:
        return int(command.main(given or ["--help"], prog_name=PROGRAM, standalone_mode=False) or 0)
    except usage_error as error:
        name = getattr(error.ctx, "command_path", PROGRAM)
        note(f"{one_line(error.format_message())} (see `{name} --help`)")
    except OSError as error:
        note(f"{error.filename}: {error.strerror}" if error.filename else one_line(str(error)))
    except (ValueError, FloatingPointError) as error:  # CheckpointError is a ValueError
        note(one_line(str(error)))
    except typer.Abort:
        return 130
    return 2


def one_line(message: str) -> str:
    """A message without line breaks."""
    return " ".join(message.split())


if __name__ == "__main__":
    sys.exit(main())
