"""The command line: `python -m course_lib --help`."""

from __future__ import annotations

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
    """An epilog that keeps its line breaks."""
    return "\b\nExamples:\n" + "\n".join(f"  {PROGRAM} {line}" for line in lines)


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
    + f"\n\n`{PROGRAM} COMMAND --help` explains a command's options. A command that cannot do what you ask ends with "
    "one line that says why, and exit status 2.",
)


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


EXAMPLES: dict[Callable[..., None], list[str]] = {
    pretrain: ["pretrain", "pretrain --dynasties tang --steps 300 --run-folder runs/small --out checkpoints/small"],
    finetune: ["finetune --steps 800", "finetune --epochs 5 --out checkpoints/thorough --run-folder runs/thorough"],
    write: [
        "write 春夜喜雨",
        "write 春夜喜雨 --instruction 古體詩",
        "write 春夜喜雨 秋思 --count 3 --temperature 1",
        "write 春夜喜雨 --candidates 8",
        "write 春夜喜雨 --checkpoint assets/checkpoints/base --max-new-tokens 100",
        "write --titles titles.txt --out poems.jsonl",
    ],
    evaluate_loss: ["evaluate-loss --split validation --checkpoint assets/checkpoints/base"],
    evaluate: [
        "evaluate",
        "evaluate --checkpoint assets/checkpoints/base --titles 50",
        "evaluate --titles 500 --candidates 8 --json",
    ],
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
        name = getattr(error.ctx, "command_path", PROGRAM)
        note(f"{one_line(error.format_message())} (see `{name} --help`)")
    except OSError as error:
        note(f"{error.filename}: {error.strerror}" if error.filename else one_line(str(error)))
    except (ValueError, FloatingPointError) as error:  # CheckpointError and Refusal are ValueErrors
        note(one_line(str(error)))
    except typer.Abort:
        return 130
    return 2


def one_line(message: str) -> str:
    """A message without line breaks."""
    return " ".join(message.split())


if __name__ == "__main__":
    sys.exit(main())
