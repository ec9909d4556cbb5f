"""*Check yourself*: each function takes a learner's answer and returns a verdict.

    >>> from course_lib import checks
    >>> checks.end_mark(...)
    not attempted: put your answer in place of the three dots

An answer is *not attempted* (still `...`), *wrong* (with a hint), *right*, or it *raised* an error.
"""

from course_lib.checks.data import end_mark, labels, padded, regular, segments, shift
from course_lib.checks.evaluation import interval, longest_run, rhyming
from course_lib.checks.generation import nucleus_size, read_until, sharpened
from course_lib.checks.training import choices, clipped, diluted_loss, grown_embedding, layer_parameters, response_loss

__all__ = [
    "choices",
    "clipped",
    "diluted_loss",
    "end_mark",
    "grown_embedding",
    "interval",
    "labels",
    "layer_parameters",
    "longest_run",
    "nucleus_size",
    "padded",
    "read_until",
    "regular",
    "response_loss",
    "rhyming",
    "segments",
    "sharpened",
    "shift",
]
