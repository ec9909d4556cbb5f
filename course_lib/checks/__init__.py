"""*Check yourself*: each function takes a learner's function and returns a verdict.

    >>> from course_lib import checks
    >>> checks.labels(...)
    not attempted: put your answer in place of the three dots

An answer is *not attempted* (still `...`), *wrong* (with a hint), *right*, or it *raised* an error.
"""

from course_lib.checks.data import labels, layout, mixed_windows, padded, segments
from course_lib.checks.evaluation import experiment, longest_run, rhyming
from course_lib.checks.generation import nucleus_size, quatrains, read_until
from course_lib.checks.instructing import is_acrostic, kept_messages, own_row
from course_lib.checks.preferring import own_judge, preference_loss, step_to_keep
from course_lib.checks.training import (
    diluted_loss,
    even_odds,
    grown_embedding,
    keywords,
    layer_parameters,
    one_couplet,
    response_loss,
)
