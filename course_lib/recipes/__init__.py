"""The training methods of the course. Each is a function in a file of its own, and returns a `Recipe`."""

from course_lib.recipes.distillation import distillation
from course_lib.recipes.finetuning import conversing, finetuning
from course_lib.recipes.preference import preference
from course_lib.recipes.pretraining import pretraining
from course_lib.recipes.recipe import Recipe, tang_weighted
