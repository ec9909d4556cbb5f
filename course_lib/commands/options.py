"""What the commands have in common: their options, and how they speak to the user."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import torch

    from course_lib.checkpoints import Checkpoint

PROGRAM = "python -m course_lib"


class Split(StrEnum):
    """The three splits of the poems."""

    train = "train"
    validation = "validation"
    test = "test"


class Precision(StrEnum):
    """What matrices are multiplied in."""

    auto = "auto"
    bf16 = "bf16"
    float32 = "float32"


class Optimizer(StrEnum):
    """What turns gradients into steps."""

    muon = "muon"
    adamw = "adamw"


class Refusal(ValueError):
    """What was asked for cannot be done; the message is all the user needs."""


def examples(*lines: str) -> str:
    """An epilog that keeps its line breaks."""
    return "\b\nExamples:\n" + "\n".join(f"  {PROGRAM} {line}" for line in lines)


def option(*names: str, **details: Any) -> Any:
    """A `typer.Option` for use in `Annotated`."""
    return typer.Option(*names, **details)


# --- options --------------------------------------------------------------------------------------

OWN_ELSE_SHIPPED = "checkpoints/finetuned if you have made it, else assets/checkpoints/finetuned"

Folder = Annotated[
    Path | None,
    option("--checkpoint", metavar="DIR", help="Checkpoint folder.", show_default=OWN_ELSE_SHIPPED),
]
Device = Annotated[str | None, option(metavar="NAME", help="cuda, mps or cpu.", show_default="the first there is")]
Json = Annotated[bool, option("--json", help="Print JSON instead of text.")]
SplitChoice = Annotated[Split, option(help="Which poems.")]
Comparable = Annotated[Precision, option(help="float32 gives the same figures on every machine.")]


# --- what they name -------------------------------------------------------------------------------


def chosen(device: str | None, precision: Precision) -> tuple[torch.device, torch.dtype]:
    """The device and the precision to use."""
    import torch

    from course_lib.engine.machine import choose_device, choose_precision

    where = choose_device(device)
    named = {Precision.bf16: torch.bfloat16, Precision.float32: torch.float32}
    return where, named.get(precision) or choose_precision(where)


def announced(device: str | None, precision: Precision) -> tuple[torch.device, torch.dtype]:
    """The device and the precision to use, said on stderr."""
    from course_lib.engine.machine import describe

    where, products = chosen(device, precision)
    note(describe(where, products, compiled=False))
    return where, products


def choose_checkpoint(folder: Path | None) -> Path:
    """The checkpoint folder asked for, else the learner's own, else the shipped one."""
    from course_lib.checkpoints import WEIGHTS
    from course_lib.recipes import recipe as recipes

    return folder or (recipes.OWN if (recipes.OWN / WEIGHTS).is_file() else recipes.FINETUNED)


def open_checkpoint(folder: Path | None, device: str | None) -> Checkpoint:
    """What is in that folder, on the device asked for."""
    from course_lib.checkpoints import load_checkpoint
    from course_lib.engine.machine import choose_device

    return load_checkpoint(choose_checkpoint(folder), choose_device(device))


def note(line: str) -> None:
    """One line beside the output."""
    print(line, file=sys.stderr, flush=True)
