"""How good is a model? Metrics with intervals, on titles and poems that it has never read."""

from course_lib.evaluation.compare import compare, evaluate
from course_lib.evaluation.held_out import held_out_loss, loss_rows
from course_lib.evaluation.measures import measure_poems, passes, shuffled
from course_lib.evaluation.metrics import Evaluation, bootstrap_mean, table_rows, text_table
from course_lib.evaluation.novelty import distinct_2, training_index
from course_lib.evaluation.obedience import measure_obedience, obedience_table
from course_lib.evaluation.pairs import measure_pairs
from course_lib.evaluation.title_fit import log_likelihoods, title_fit
