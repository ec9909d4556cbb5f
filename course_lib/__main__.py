"""The command line: `python -m course_lib --help`.

What takes long to import is imported inside the commands, so that help and refusals come at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer

from course_lib.commands import evaluate as cli_evaluate
from course_lib.commands import train as cli_training
from course_lib.commands import write as cli_write
from course_lib.commands.options import (
    PROGRAM,
    Refusal,
    examples,
    note,
)

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


app.command(
    epilog=examples(
        "write 春夜喜雨",
        "write 春夜喜雨 秋思 --count 3 --temperature 1",
        "write 春夜喜雨 --candidates 8",
        "write 春夜喜雨 --checkpoint assets/checkpoints/base --max-new-tokens 100",
        "write --titles titles.txt --out poems.jsonl",
    )
)(cli_write.write)


app.command(epilog=examples("evaluate-loss --split validation --checkpoint assets/checkpoints/base"))(
    cli_evaluate.evaluate_loss
)
app.command(
    epilog=examples(
        "evaluate",
        "evaluate --checkpoint assets/checkpoints/base --titles 50",
        "evaluate --titles 500 --candidates 8 --json",
    )
)(cli_evaluate.evaluate)


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
