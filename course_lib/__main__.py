"""The command line: `python -m course_lib --help`."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer

from course_lib.commands.evaluate import evaluate, evaluate_loss
from course_lib.commands.options import Refusal, note
from course_lib.commands.train import finetune, pretrain
from course_lib.commands.write import write

PROGRAM = "python -m course_lib"


def examples(*lines: str) -> str:
    """The last part of a help page; `\\b` keeps its line breaks."""
    return "\b\nExamples:\n" + "\n".join(f"  {PROGRAM} {line}" for line in lines)


app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help="Train small models on Chinese poems, write poems with them, and measure how good they are.",
    epilog=examples(
        "write 春夜喜雨                                          # a poem",
        "write 春夜喜雨 --checkpoint assets/checkpoints/base     # verse without end",
        "finetune --steps 800                                    # a model of your own",
        "evaluate                                                # how good it is",
    )
    + f"\n\n`{PROGRAM} COMMAND --help` explains the options of a command. If a command cannot do what you ask, one "
    "line says why, and the exit status is 2.",
)


@app.command()
def corpus() -> None:
    """Make the poem files again (needs npm).

    The Tang poems go to assets/poems, and the Song poems to the cache.
    """
    from course_lib.corpus import build

    try:
        built = build()
    except RuntimeError as error:  # npm, or its archive
        raise Refusal(str(error)) from error
    for dynasty, counts in built.items():
        for rule, count in counts.items():
            print(f"{dynasty}  {count:>10,}  {rule}")


EXAMPLES: dict[Callable[..., None], list[str]] = {
    pretrain: ["pretrain", "pretrain --dynasties tang --steps 300 --run-folder runs/small --out checkpoints/small"],
    finetune: ["finetune --steps 800", "finetune --epochs 5 --out checkpoints/thorough --run-folder runs/thorough"],
    write: [
        "write 春夜喜雨 --instruction 古體詩",
        "write 春夜喜雨 秋思 --count 3 --temperature 1",
        "write 春夜喜雨 --checkpoint assets/checkpoints/base --max-new-tokens 100",
        "write --titles titles.txt --out poems.jsonl",
    ],
    evaluate_loss: ["evaluate-loss --split validation --checkpoint assets/checkpoints/base"],
    evaluate: ["evaluate --titles 50 --checkpoint assets/checkpoints/base", "evaluate --candidates 8 --json"],
}
for command, lines in EXAMPLES.items():
    app.command(epilog=examples(*lines))(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, 2 if it cannot do what was asked, 130 after Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    usage_error: Any = typer.BadParameter.__base__  # newer versions of typer bring a click of their own
    try:
        return int(typer.main.get_command(app).main(given or ["--help"], prog_name=PROGRAM, standalone_mode=False) or 0)
    except usage_error as error:
        message = f"{error.format_message()} (see `{getattr(error.ctx, 'command_path', PROGRAM)} --help`)"
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except (ValueError, FloatingPointError) as error:  # CheckpointError and Refusal are ValueErrors
        message = str(error)
    except typer.Abort:
        return 130
    note(" ".join(message.split()))
    return 2


if __name__ == "__main__":
    sys.exit(main())
