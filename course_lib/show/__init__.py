"""What the notebooks show: poems, masks and tables as HTML, plots as pictures, and the boxes to write with.

A cell that ends with `show.poem(poem)` displays the poem.
"""

from course_lib.show.annotate import scanned, side_by_side
from course_lib.show.chat_box import ChatBox as chat_box
from course_lib.show.chat_box import chat_html
from course_lib.show.choice_box import ChoiceBox as choice_box
from course_lib.show.choice_box import choice_html
from course_lib.show.html import chat, columns, mask, plain, poem, stack, table, tokens, verse
from course_lib.show.live_plot import LivePlot
from course_lib.show.plots import comparison_figure, loss_figure, preference_figure
from course_lib.show.title_box import TitleBox as title_box
from course_lib.show.title_box import poem_html
