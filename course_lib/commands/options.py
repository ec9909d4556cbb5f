"""The options that commands share. Slow imports are inside functions, so that help is quick."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from functools import partial, wraps
from inspect import Parameter, Signature, signature
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec, cast, get_type_hints

import typer

from course_lib import paths
from course_lib.language import printable, say
from course_lib.poems import Dynasty, Poem, Split, load_poems

if TYPE_CHECKING:
    from course_lib.checkpoints import Checkpoint
    from course_lib.engine.machine import Machine
    from course_lib.instructions import Instruction
    from course_lib.recipes import Recipe
    from course_lib.run_folder import RunFolder
    from course_lib.training import TrainingSettings

Inputs = ParamSpec("Inputs")
Precision = Literal["auto", "bf16", "fp16", "float32"]
Optimizer = Literal["muon", "adamw"]


def finite(value: Any) -> Any:
    """The value of an option. Raises BadParameter, which names the option, if it is nan or infinite."""
    if isinstance(value, float) and not isfinite(value):
        raise typer.BadParameter(say("{value} is not a finite number", value=value))
    return value


option: Callable[..., Any] = partial(typer.Option, callback=finite)


MISSING = 'packages are missing: python -m pip install -c constraints.txt -e ".[{extra}]"'


class Refusal(ValueError):
    """A command cannot do what was asked. The message is all that the user needs."""


OWN_ELSE_SHIPPED = "checkpoints/finetuned if you have made it, else assets/checkpoints/finetuned"
Folder = Annotated[
    Path | None, option("--checkpoint", metavar="DIR", help="The checkpoint folder.", show_default=OWN_ELSE_SHIPPED)
]
FIRST_TAUGHT = "the first one that it was taught"
Asked = Annotated[str | None, option(metavar="NAME", help="What to ask the model for.", show_default=FIRST_TAUGHT)]
BEST_DEVICE = "the first that this machine has"
Device = Annotated[str | None, option(metavar="NAME", help="cuda, mps or cpu.", show_default=BEST_DEVICE)]
Json = Annotated[bool, option("--json", help="Print JSON instead of text.")]
SplitChoice = Annotated[Split, option(help="Which poems to use.")]
PATIENCE = "Stop after so many validation losses without a better one, and keep the best weights."
Comparable = Annotated[Precision, option(help="float32 gives the same figures on every machine.")]


@dataclass(frozen=True)
class RunOptions:
    """The options that `pretrain`, `finetune` and `prefer` share, with the defaults of `pretrain`."""

    optimizer: Annotated[Optimizer, option(help="The optimizer.")] = "muon"
    learning_rate: Annotated[float, option(help="The highest learning rate.")] = 3e-3
    batch_size: Annotated[int, option(min=1, help="Rows in a batch. A row fills one context; for pairs, two.")] = 16
    accumulate: Annotated[int, option(min=1, help="Batches in a step.")] = 1
    weight_decay: Annotated[float, option(min=0, help="How strongly large weights are drawn to zero.")] = 0.1
    dropout: Annotated[float, option(help="The share of values that a step drops.")] = 0.0
    warmup_steps: Annotated[int, option(min=0, help="The learning rate rises during this many steps.")] = 150
    decay_fraction: Annotated[float, option(help="The learning rate falls to zero in this last share of steps.")] = 0.4
    seed: Annotated[int, option(help="Decides the order of the data and, in `pretrain`, the first weights.")] = 0
    dynasties: Annotated[str, option(help="Which poems to read: tang, song or tang,song.")] = "tang,song"
    tang_times: Annotated[int, option(min=1, help="If there are Song poems: read each Tang poem this often.")] = 3
    poems: Annotated[int | None, option(min=1, help="Read only this many poems.", show_default="all")] = None
    evaluate_every: Annotated[int, option(min=0, help="Steps between two validation losses; 0: none.")] = 500
    patience: Annotated[int, option(min=0, help=PATIENCE, show_default="take all steps, keep the last weights")] = 0
    teacher: Annotated[Path | None, option(metavar="DIR", help="Learn the probabilities of this checkpoint.")] = None
    run_folder: Annotated[Path, option(metavar="DIR", help="Where to keep the unfinished run.")] = Path("runs/pretrain")
    save_every: Annotated[float, option(min=0, help="Seconds between two saves of the run.")] = 120
    out: Annotated[Path, option(metavar="DIR", help="Where to write the checkpoint.")] = Path("checkpoints/base")
    measure: Annotated[bool, option("--measure/--no-measure", help="Measure the model on the test poems.")] = True
    device: Device = None
    precision: Annotated[Precision, option(help="auto: 16 bits, if they are faster here.")] = "auto"
    compiled: Annotated[bool, option("--compile/--no-compile", help="Start slowly, then take faster steps.")] = True

    def prepare(self, steps: int) -> tuple[Machine, RunFolder]:
        """The machine and the run folder. Raises ValueError if the run cannot be done, before anything slow begins."""
        from course_lib.engine.machine import Machine
        from course_lib.long_run import check_writable
        from course_lib.run_folder import RunFolder

        self.settings(steps)
        check_writable(self.out, self.run_folder)
        machine = Machine.choose(self.device, self.precision, self.compiled).joined()
        return machine, RunFolder(self.run_folder, self.save_every)

    def settings(self, steps: int) -> TrainingSettings:
        """The settings for a run of this many steps."""
        from course_lib.training import TrainingSettings

        own = vars(self)  # options and settings have the same names
        return TrainingSettings(steps, **{f.name: own[f.name] for f in fields(TrainingSettings) if f.name in own})

    def training_poems(self) -> list[Poem]:
        """The training poems to read, each once."""
        names = cast("list[Dynasty]", self.dynasties.split(","))  # load_poems raises ValueError for any other name
        return [poem for name in names for poem in load_poems("train", name)][: self.poems]

    def bind(self, method: Callable[Inputs, Recipe], **given: Any) -> Callable[Inputs, Recipe]:
        """The training method, with the arguments that all methods share: validation poems, batch size and seed."""
        shared = {"evaluation": load_poems("validation"), "batch_size": self.batch_size, "seed": self.seed, **given}
        return cast("Callable[Inputs, Recipe]", partial(cast("Any", method), **shared))


def with_run_options(
    defaults: RunOptions, without: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator: the command has the fields of `RunOptions` as options, and gets them as its first argument."""
    types = {n: t for n, t in get_type_hints(RunOptions, include_extras=True).items() if n not in without}
    shared = [Parameter(n, Parameter.KEYWORD_ONLY, default=getattr(defaults, n), annotation=types[n]) for n in types]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(signature(command, eval_str=True).parameters.values())[1:]

        @wraps(command)
        def run(**given: Any) -> None:
            command(RunOptions(**{name: given.pop(name) for name in types}), **given)

        run.__annotations__ = {p.name: p.annotation for p in (*own, *shared)}
        vars(run)["__signature__"] = Signature([*own, *shared])  # where typer looks for the options
        return run

    return decorate


def note(line: str) -> None:
    """Print one line to stderr, beside the output. Control characters are shown as their code points."""
    print(printable(line).replace("\n", " "), file=sys.stderr, flush=True)


def open_checkpoint(folder: Path | None, device: str | None, precision: Precision) -> tuple[Checkpoint, Machine]:
    """The checkpoint that the user wants, and the machine that it is on. Prints what was not named on stderr."""
    from course_lib.checkpoints import load_checkpoint
    from course_lib.engine.machine import Machine

    machine = Machine.choose(device, precision)
    checkpoint = load_checkpoint(chosen := paths.own_or_shipped(folder), machine.device)
    note(machine.described() + ("" if folder else say("; {folder} is used", folder=chosen)))
    return checkpoint, machine


def asked_of(checkpoint: Checkpoint, typed: str | None) -> Instruction:
    """The instruction that the user typed, or the first one. Simplified characters are read as those of a title are."""
    from course_lib.titles import to_traditional

    is_label = typed in [each.label for each in checkpoint.instructions]  # of one's own data: it may be Simplified
    name, remark = (typed, "") if is_label else to_traditional(typed or "", checkpoint.tokenizer)
    if remark:
        note(remark)
    return checkpoint.instruction(name)
