"""The two runs of the course, pretraining and fine-tuning, as settings for the one loop.

The notebooks and the command line both call these; what comes back is a `Trainer` to iterate over.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from course_lib.batches import InstructionBatches, PlainTextBatches
from course_lib.checkpoints import Checkpoint
from course_lib.engine.processes import ALONE, World
from course_lib.model import ModelConfig, PoetryModel
from course_lib.poems import ASSETS, Poem, load_poems
from course_lib.prosody import scan
from course_lib.roles import WRITE_A_POEM, WRITE_OLD_STYLE, Instruct, plainly
from course_lib.tokenizer import CharacterTokenizer
from course_lib.training import Trainer, TrainingSettings

BASE = ASSETS / "checkpoints" / "base"
FINETUNED = ASSETS / "checkpoints" / "finetuned"
OWN = Path("checkpoints") / "finetuned"  # the learner's, below the folder they work in


def tang_weighted(poems: Sequence[Poem], times: int) -> list[Poem]:
    """The poems with each Tang poem `times` over, if there are Song poems beside them.

    Song has five times as many characters as Tang, and Tang is what the model is judged by. Text that is read
    up to four times teaches almost as much as new text (Muennighoff et al. 2023).
    """
    tang = [p for p in poems if p.dynasty == "tang"]
    song = [p for p in poems if p.dynasty == "song"]
    return tang * times + song if song else tang


def naming_the_style(poem: Poem) -> str:
    """The instruction that a poem answers, if "a poem" means regulated verse and the rest is asked for by name.

    Regulated verse (近體詩) rhymes and has no fault of tone: about six poems in ten. What does not is old-style
    verse (古體詩), or came down to us damaged.
    """
    heard = scan(poem.text)
    return WRITE_A_POEM if heard.rhymes and heard.regulated else WRITE_OLD_STYLE


def instruct_of(card: Mapping[str, Any]) -> Instruct:
    """How the checkpoint with this card was asked for the poems it learned from."""
    return naming_the_style if "old_style_instruction" in card else plainly


def pretraining(
    settings: TrainingSettings,
    tokenizer: CharacterTokenizer,
    poems: Sequence[Poem],
    *,
    shape: ModelConfig | None = None,
    start: PoetryModel | None = None,
    batch_size: int = 16,
    seed: int = 0,
    device: torch.device | None = None,
    precision: torch.dtype | None = None,
    compiled: bool = True,
    world: World = ALONE,
) -> tuple[Checkpoint, Trainer]:
    """A new model, or `start` to go on with, and the trainer that reads `poems` end to end.

    The validation poems are its evaluation.
    """
    torch.manual_seed(seed)
    model = start or PoetryModel(shape or ModelConfig(vocab_size=len(tokenizer)))
    checkpoint = Checkpoint(model, tokenizer)
    context = checkpoint.model.config.max_position_embeddings
    batches = PlainTextBatches(poems, tokenizer, context=context, batch_size=batch_size, seed=seed)
    held_out = PlainTextBatches(load_poems("validation"), tokenizer, context=context, batch_size=batch_size, seed=None)
    trainer = Trainer(
        checkpoint.model,
        batches,
        settings,
        pad_id=tokenizer.pad_id,
        evaluation=held_out,
        device=device,
        precision=precision,
        compiled=compiled,
        world=world,
    )
    return checkpoint, trainer


def finetuning(
    base: Checkpoint,
    settings: TrainingSettings,
    poems: Sequence[Poem],
    *,
    evaluation: Sequence[Poem] = (),
    instruct: Instruct = plainly,
    batch_size: int = 16,
    seed: int = 0,
    device: torch.device | None = None,
    precision: torch.dtype | None = None,
    compiled: bool = False,
    world: World = ALONE,
) -> tuple[Checkpoint, Trainer]:
    """A copy of `base` that knows the roles, and the trainer that teaches it to answer a title with a poem.

    `batch_size` counts rows of the model's context, each with about three poems; `instruct` gives the instruction
    that a poem answers.
    """
    checkpoint = base.with_roles()
    tokenizer, context = checkpoint.tokenizer, checkpoint.model.config.max_position_embeddings

    def batches(of: Sequence[Poem], seed: int | None) -> InstructionBatches:
        return InstructionBatches.from_poems(
            of, tokenizer, context=context, batch_size=batch_size, seed=seed, instruct=instruct
        )

    trainer = Trainer(
        checkpoint.model,
        batches(poems, seed),
        settings,
        pad_id=tokenizer.pad_id,
        evaluation=batches(evaluation, None) if evaluation else None,
        device=device,
        precision=precision,
        compiled=compiled,
        world=world,
    )
    return checkpoint, trainer


# --- how long the notebooks take ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Schedule:
    """A run that suits the machine: how many poems, how often, and where the result goes.

    `poems` is how many are drawn from the training split, None for all of them; `trap_steps` is the length
    of each of the small runs that show what goes wrong.
    """

    poems: int | None
    epochs: int
    batch_size: int
    evaluate_every: int
    trap_steps: int
    compiled: bool
    folder: Path = OWN

    @property
    def run_folder(self) -> Path:
        """Where the unfinished run is kept, to go on with."""
        return self.folder.with_name(f"{self.folder.name}-run")

    def draw(self, poems: Sequence[Poem]) -> list[Poem]:
        """The poems of this run, the same every time."""
        return random.Random(0).sample(poems, min(self.poems or len(poems), len(poems)))

    def settings(self, steps: int) -> TrainingSettings:
        """The training settings for that many steps.

        The rate is a third of pretraining's: the model is to learn a manner, not to forget what it has read.
        """
        warmup, every = min(30, steps // 4), min(self.evaluate_every, max(1, steps // 3))
        return TrainingSettings(steps=steps, learning_rate=1e-3, warmup_steps=warmup, evaluate_every=every)


def fast() -> bool:
    """Whether notebooks are to be quick, not thorough: the environment variable COURSE_FAST is 1, as in tests."""
    return os.environ.get("COURSE_FAST") == "1"


def evaluation_size() -> tuple[int, int]:
    """How many titles the evaluation notebook writes on, and on how many poems it takes losses."""
    return (16, 40) if fast() else (100, 200)


def schedule(device: torch.device, precision: torch.dtype) -> Schedule:
    """How long to train in the notebook.

    * On CUDA five epochs of all Tang poems, about 21 M tokens.
    * Elsewhere one epoch of 11,500 poems, about 0.9 M tokens in 460 steps: on two idle cores that multiply in 16 bits
      under five minutes at 3,400 tokens a second. Rows of 8 keep the notebook below 1.5 GB.
    * A CPU whose fastest products are those of float32 is a third as fast. It reads 4,500 poems, and nothing is
      compiled, since there that gains nothing (`benchmarks/README.md`).
    * With the environment variable COURSE_FAST=1 some 40 steps of 4 rows: enough to see the loss fall and
      most poems end. Tests use it. The result goes to a folder of its own and never replaces a longer run's.
    """
    if fast():
        own = OWN.with_name("finetuned-fast")
        return Schedule(480, 1, batch_size=4, evaluate_every=10, trap_steps=30, compiled=False, folder=own)
    if device.type == "cuda":
        return Schedule(None, 5, batch_size=16, evaluate_every=500, trap_steps=50, compiled=True)
    if device.type == "cpu" and precision == torch.float32:
        return Schedule(4_500, 1, batch_size=8, evaluate_every=30, trap_steps=40, compiled=False)
    return Schedule(11_500, 1, batch_size=8, evaluate_every=60, trap_steps=50, compiled=device.type == "cpu")
