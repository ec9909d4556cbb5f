"""The options that commands share. What takes long to import is imported inside functions, so that help is quick."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_type_hints

import typer

from course_lib import paths
from course_lib.poems import Dynasty, Poem, Split, load_poems

if TYPE_CHECKING:
    from course_lib.engine.machine import Machine
    from course_lib.training import TrainingSettings

Precision = Literal["auto", "bf16", "fp16", "float32"]
Optimizer = Literal["muon", "adamw"]


class Refusal(ValueError):
    """A command cannot do what was asked. The message is all that the user needs."""


def option(*names: str, **details: Any) -> Any:
    """A `typer.Option` for use in `Annotated`."""
    return typer.Option(*names, **details)


OWN_ELSE_SHIPPED = "checkpoints/finetuned if you have made it, else assets/checkpoints/finetuned"

Folder = Annotated[
    Path | None,
    option("--checkpoint", metavar="DIR", help="Checkpoint folder.", show_default=OWN_ELSE_SHIPPED),
]
Device = Annotated[str | None, option(metavar="NAME", help="cuda, mps or cpu.", show_default="the first there is")]
Json = Annotated[bool, option("--json", help="Print JSON instead of text.")]
SplitChoice = Annotated[Split, option(help="Which poems.")]
Comparable = Annotated[Precision, option(help="float32 gives the same figures on every machine.")]
RunDir = Annotated[Path, option("--run-folder", metavar="DIR", help="Where the run is kept, to go on with.")]
OutDir = Annotated[Path, option(metavar="DIR", help="The checkpoint folder to write at the end.")]
Asked = Annotated[
    str | None,
    option(metavar="NAME", help="What to ask for, by name or label.", show_default="the first the model was taught"),
]


# --- the options of a training run ----------------------------------------------------------------


@dataclass(frozen=True)
class RunOptions:
    """The options that `pretrain` and `finetune` share, with the defaults of `pretrain`."""

    optimizer: Annotated[Optimizer, option(help="muon needs PyTorch 2.9.")] = "muon"
    learning_rate: Annotated[float, option(help="The highest learning rate.")] = 3e-3
    batch_size: Annotated[int, option(min=1, help="Rows of a batch, each as long as the context.")] = 16
    accumulate: Annotated[int, option(min=1, help="Batches that make up one step.")] = 1
    warmup_steps: Annotated[int, option(min=0, help="Steps in which the learning rate rises.")] = 150
    decay_fraction: Annotated[float, option(help="The last part of the run, in which it falls to zero.")] = 0.4
    seed: Annotated[int, option(help="Decides the initial weights and the order of the poems.")] = 0
    dynasties: Annotated[str, option(help="Which poems to read: tang, song or tang,song.")] = "tang,song"
    tang_times: Annotated[int, option(min=1, help="How often to read each Tang poem for one reading of Song.")] = 3
    poems: Annotated[int | None, option(min=1, help="Read only so many poems.", show_default="all")] = None
    evaluate_every: Annotated[int, option(min=0, help="Steps between two validation losses; 0: never.")] = 500
    run_folder: RunDir = Path("runs/pretrain")
    save_every: Annotated[float, option(min=0, help="Seconds between two savings of the run.")] = 120
    out: OutDir = Path("checkpoints/base")
    device: Device = None
    precision: Annotated[Precision, option(help="auto: 16 bits where that is faster.")] = "auto"
    compiled: Annotated[bool, option("--compile/--no-compile", help="Compile: a slow start, then fast steps.")] = True

    def machine(self) -> Machine:
        """The machine to train on, with the other processes if torchrun started several."""
        from course_lib.engine.machine import Machine

        return Machine.choose(self.device, self.precision, self.compiled).joined()

    def settings(self, steps: int) -> TrainingSettings:
        """The training settings for a run of that many steps.

        Raises:
            ValueError: an option is out of its range.
        """
        from course_lib.training import TrainingSettings

        return TrainingSettings(
            steps=steps,
            learning_rate=self.learning_rate,
            warmup_steps=self.warmup_steps,
            decay_fraction=self.decay_fraction,
            optimizer=self.optimizer,
            evaluate_every=self.evaluate_every,
            accumulate=self.accumulate,
        )

    def training_poems(self) -> list[Poem]:
        """The training poems to read, each once."""
        names = cast("list[Dynasty]", self.dynasties.split(","))  # load_poems refuses any other name
        return [poem for name in names for poem in load_poems("train", name)][: self.poems]


def with_run_options(defaults: RunOptions) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator: the command has every field of `RunOptions` as an option, and gets them as its first argument."""
    types = get_type_hints(RunOptions, include_extras=True)
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


# --- what the user sees ---------------------------------------------------------------------------


def note(line: str) -> None:
    """Print one line to stderr, beside the output."""
    print(line, file=sys.stderr, flush=True)


def choose_folder(folder: Path | None) -> Path:
    """The checkpoint folder to use. Tells the user if it is their own and they did not name it."""
    chosen = paths.own_or_shipped(folder)
    if folder is None and chosen == paths.OWN:
        note(f"{chosen} is used")
    return chosen
