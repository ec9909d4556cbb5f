"""The command line: `python -m course_lib --help`."""

import codecs
import io
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import typer

from course_lib.commands.chat import chat
from course_lib.commands.course import check, course, lab, title_box
from course_lib.commands.evaluate import evaluate, evaluate_loss
from course_lib.commands.export import export
from course_lib.commands.options import note
from course_lib.commands.pairs import pairs
from course_lib.commands.preview import preview
from course_lib.commands.train import average, finetune, prefer, pretrain
from course_lib.commands.write import write
from course_lib.language import is_chinese, say

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
        "write 春夜喜雨                # a poem",
        "write 春夜喜雨 --json         # a poem as JSON",
        "finetune --steps 800          # a model of your own",
        "evaluate                      # how good it is",
        "lab                           # the notebooks",
    )
    + f"\n\n`{PROGRAM} COMMAND --help` explains the options of a command. If a command cannot do what you ask, one "
    "line says why, and the exit status is 2.",
)


EXAMPLES: dict[Callable[..., None], list[str]] = {
    pretrain: ["pretrain", "pretrain --dynasties tang --steps 300"],
    finetune: ["finetune --steps 800", "finetune --instructions many", "finetune --data mine.jsonl"],
    preview: ["preview mine.jsonl", "preview mine.jsonl --show 10"],
    pairs: ["pairs", "pairs --judge title --titles 200"],
    prefer: ["prefer runs/pairs.jsonl", "prefer mine.jsonl --base assets/checkpoints/instructed"],
    average: ["average runs/a runs/b --out checkpoints/mean"],
    write: [
        "write 春夜喜雨 --instruction 古體詩",
        "write 春夜喜雨 秋思 --count 3 --temperature 1",
        "write 春夜喜雨 --checkpoint assets/checkpoints/base",
        "write --titles titles.txt --out poems.jsonl",
    ],
    chat: ["chat --checkpoint assets/checkpoints/instructed"],
    evaluate_loss: ["evaluate-loss --checkpoint assets/checkpoints/base"],
    export: ["export assets/checkpoints/finetuned --out build/export"],
    evaluate: ["evaluate --checkpoint assets/checkpoints/base", "evaluate --candidates 8 --json"],
}
for command, lines in EXAMPLES.items():
    app.command(epilog=examples(*lines))(command)

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}  # options of the program that a command starts
app.command(context_settings=PASS_ON, epilog=examples("lab --port 8889 --no-browser"))(lab)
app.command("app", context_settings=PASS_ON)(title_box)
app.command(context_settings=PASS_ON, epilog=examples("course notebooks/04_finetune.ipynb"))(course)
app.command("test", epilog=examples("test quick"))(check)


FRAME: tuple[str, ...] = ("Usage:", "Arguments:", "Options:", "Commands:", "[default:", "[required]", "Value error,")
FRAME += ("No such option:", "No such command", "Possible options:", "Missing argument", "requires an argument")
FRAME += ("Option '", "Invalid value for", " is not one of", "Got unexpected extra argument(s)", "Did you mean")
FRAME += ("Input should be a valid integer, unable to parse string as an integer", "Show this message and exit.")
FRAME += ("Input should be a valid number, unable to parse string as a number", "does not take a value")
FRAME += ("Input should be greater than or equal to ", "Input should be less than or equal to ")
WIDE = "[⺀-｠]"
UNBROKEN = f"[（「【]|{WIDE}(?=[，。：；、）」】\u2060])"  # characters after which no line ends


def translate(item: Any) -> None:
    """Put the help of a command, its options and its subcommands into the reader's language."""
    for name in ("help", "epilog", "show_default"):
        if isinstance(text := getattr(item, name, None), str):
            setattr(item, name, spaced("\n\n".join(map(translated, text.split("\n\n")))))
    for part in (*getattr(item, "params", ()), *getattr(item, "commands", {}).values()):
        translate(part)
    if page := getattr(item, "get_help", None):  # of a command
        item.get_help = lambda context: framed(page(context))


def translated(paragraph: str) -> str:
    """A paragraph of a help page in the reader's language. In examples, that is what stands behind #."""
    if paragraph.startswith("\b"):
        return "\n".join("# ".join(map(say, line.split("# "))) for line in paragraph.split("\n"))
    return say(" ".join(paragraph.split()))


def spaced(text: str) -> str:
    """A text to be broken into lines: each wide character has a space behind it, and so counts as two.

    Where no line may end, U+200B stands for this space, and U+2060 for one that was there before.
    """
    text = re.sub(f"(?<={WIDE}) ", "\u2060", text)
    return re.sub(f"({WIDE})(?!\u200b)", r"\1 ", re.sub(f"({UNBROKEN})", "\\1\u200b", text))


def framed(page: str) -> str:
    """A help page or a usage error, without what `spaced` has added, and with `FRAME` in the reader's language."""
    for words in FRAME:
        page = page.replace(words, say(words))
    return re.sub(f"({WIDE})[ \u200b]", r"\1", page).replace("\u2060", " ")


def as_escapes(error: UnicodeError) -> tuple[str, int]:
    """Characters that a stream's encoding lacks, as the escapes of JSON: so JSON stays JSON on every stream."""
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def prepare_streams() -> None:
    """Make the three streams take any text. A closed one is replaced by one that leads nowhere."""
    codecs.register_error("as_escapes", as_escapes)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # the first free number is that of the stream, so no other file gets it
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "r" if name == "stdin" else "w"))
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper) and name != "stdin":
            stream.reconfigure(errors="as_escapes")


def drop_output() -> None:
    """Drop what cannot be written any more. Python would try again when it ends, and complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status.

    It is 0, or 2 if the command cannot do what was asked. After Ctrl-C or SIGTERM it is 130. It is 141 if nobody reads
    the output. A program that `lab`, `app`, `course` or `test` starts has its own status.
    """
    prepare_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    usage_error: Any = typer.BadParameter.__base__  # newer versions of typer bring a click of their own
    try:
        command = typer.main.get_command(app)
        if is_chinese():
            translate(command)
        status = int(command.main(given or ["--help"], prog_name=PROGRAM, standalone_mode=False) or 0)
        sys.stdout.flush()
        return status
    except (BrokenPipeError, SystemExit):  # typer turns the first into the second
        drop_output()
        return 141
    except usage_error as error:
        message = error.format_message()
        if is_chinese():
            wide = "('.*?')| ?([()?])"  # these marks become （, ） and ？, except in quotes: a person typed that
            message = re.sub(wide, lambda it: it[1] or chr(ord(it[2]) + 0xFEE0), framed(message)).rstrip(".")
            message = message.replace("': ", "'：").replace("'. ", "'。")
        message += say(" (see `{command} --help`)", command=getattr(error.ctx, "command_path", PROGRAM))
    except OSError as error:
        message = say(error.strerror) if error.strerror else str(error)
        if error.filename:
            message = say("{it}: {said}", it=error.filename, said=message)
    except (ValueError, FloatingPointError) as error:  # CheckpointError and Refusal are ValueErrors
        message = str(error)
    except typer.Abort:
        return 130
    with suppress(OSError):
        note(" ".join(message.split()))
    drop_output()
    return 2


if __name__ == "__main__":
    sys.exit(main())
