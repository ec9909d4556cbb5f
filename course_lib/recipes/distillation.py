"""Distillation: a student learns the probabilities that a larger model, its teacher, gives to all next characters."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from course_lib.batches import Batch
from course_lib.checkpoints import Checkpoint
from course_lib.losses import LossSums, distillation_sums
from course_lib.recipes.recipe import Recipe, weights_digest


def distillation(recipe: Recipe, teacher: Checkpoint, folder: Path | None = None) -> Recipe:
    """The same recipe, but the student learns the probabilities of `teacher` instead of the poems' characters.

    A poem has one next character; the teacher also says how likely each of the others would have been (Hinton et al.
    2015). The evaluation loss is still that of the characters. `folder`, which holds the teacher, is for the model
    card. Raises ValueError if the teacher has another vocabulary, was taught other instructions, or has a shorter
    context than the student.
    """
    student = recipe.checkpoint
    differences = {
        "another vocabulary": teacher.tokenizer.backend.get_vocab() != student.tokenizer.backend.get_vocab(),
        "other instructions": teacher.instructions != student.instructions,
        "a shorter context": teacher.context < student.context,
    }
    if found := " and ".join(name for name, is_there in differences.items() if is_there):
        raise ValueError(f"{folder or 'this model'} cannot be the teacher: it has {found} than the student")
    model = copy.deepcopy(teacher.model).eval()

    def loss(student: Callable[..., Tensor], batch: Batch) -> LossSums:
        return distillation_sums(student, batch, model.to(batch.input_ids.device))

    identity = {**recipe.identity, "teacher": weights_digest(model)}
    return replace(recipe, loss=loss, identity=identity, teacher=folder)
