"""What a model can be taught besides a poem on a title: many instructions, conversations, pairs, data of your own."""

from course_lib.tasks.lottery import mixed_conversations
from course_lib.tasks.many import FORMS, MANY, from_rows, to_rows, verse_form
from course_lib.tasks.own_data import marked, read_conversations, survey, taught_by
from course_lib.tasks.pairs import Pair, read_pairs
from course_lib.tasks.requests import Request, requests
