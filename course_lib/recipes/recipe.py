"""A recipe: what is trained, on which data, with which loss. `Trainer` runs it.

A training method is one file in this folder: a function that returns a `Recipe`.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from course_lib.batches import Batch, Batches, ceil_div
from course_lib.checkpoints import Checkpoint
from course_lib.engine import chunked_loss
from course_lib.losses import LossFunction, count_targets
from course_lib.model import PoetryModel
from course_lib.poems import Poem
from course_lib.roles import pretraining_text


@dataclass(frozen=True)
class Recipe:
    """What is trained (`checkpoint`, in place), on which batches, with which loss.

    `loss(model, batch)` returns the sums of a batch. `count(batches)` returns how many items the two losses of a step
    are averaged over (here: tokens); the trainer needs it before the first gradient. `identity` is what a resumed run
    must share; a value that is an option of the command line has its name as the key. `poems`, `parent` (the folder of
    the first weights) and `teacher` (a folder too) are for the model card.
    """

    kind: Literal["base", "instruction", "preference", "exercise"]  # of the checkpoint that results
    checkpoint: Checkpoint
    batches: Batches
    evaluation: Batches | None = None
    loss: LossFunction = chunked_loss.loss_sums
    evaluation_loss: LossFunction = chunked_loss.loss_sums
    count: Callable[[Sequence[Batch]], tuple[Tensor, Tensor]] = count_targets
    identity: Mapping[str, Any] = field(default_factory=dict)
    poems: Sequence[Poem] = ()
    parent: Path | None = None
    teacher: Path | None = None

    def steps_per_epoch(self, accumulate: int = 1) -> int:
        """How many steps read every batch once, with `accumulate` batches in a step."""
        return ceil_div(len(self.batches), accumulate)

    def steps_for(self, epochs: float, accumulate: int = 1) -> int:
        """How many steps read every batch `epochs` times, rounded up.

        Raises ValueError if `epochs` is not a number above 0.
        """
        if not 0 < epochs < math.inf:
            raise ValueError(f"epochs is {epochs:g}, must be a number above 0")
        return math.ceil(epochs * self.steps_per_epoch(accumulate))


def tang_weighted(poems: Sequence[Poem], times: int) -> list[Poem]:
    """Each Tang poem `times` times and each Song poem once; without Song poems, each Tang poem once.

    There is five times as much Song as Tang text, but the model is judged on Tang poems. Text that is read up to four
    times teaches almost as much as new text (Muennighoff et al. 2023).
    """
    tang = [poem for poem in poems if poem.dynasty == "tang"]
    song = [poem for poem in poems if poem.dynasty == "song"]
    return tang * times + song if song else tang


def identity_of(poems: Sequence[Poem], batches: Batches) -> dict[str, Any]:
    """What identifies the data of a run. A change in any poem changes `sha256_of_poems`."""
    return {
        "poems": len(poems),
        "dynasties": ",".join(dict.fromkeys(poem.dynasty for poem in poems)),
        "batch_size": batches.batch_size,
        "seed": batches.seed,
        "sha256_of_poems": digest_of("".join(map(pretraining_text, poems))),
    }


def digest_of(text: str) -> str:
    """Twelve hexadecimal digits that change with any character of the text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def weights_digest(model: PoetryModel) -> str:
    """Twelve hexadecimal digits that change with any weight of the model."""
    digest = hashlib.sha256()
    for weight in model.state_dict().values():
        digest.update(weight.cpu().contiguous().numpy())
    return digest.hexdigest()[:12]
