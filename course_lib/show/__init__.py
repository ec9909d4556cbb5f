"""What the notebooks show: poems, masks and tables as HTML, plots as pictures, and the title box.

from course_lib import show
show.poem(poem)     # at the end of a cell: the notebook displays the poem
"""

from course_lib.show.annotate import scanned, side_by_side
from course_lib.show.html import Html, chat, columns, mask, plain, poem, stack, table, tokens, verse
from course_lib.show.live_plot import LivePlot
from course_lib.show.plots import Picture, comparison_figure, loss_figure
from course_lib.show.title_box import TitleBox, poem_html, title_box

__all__ = [
    "Html",
    "LivePlot",
    "Picture",
    "TitleBox",
    "chat",
    "columns",
    "comparison_figure",
    "loss_figure",
    "mask",
    "plain",
    "poem",
    "poem_html",
    "scanned",
    "side_by_side",
    "stack",
    "table",
    "title_box",
    "tokens",
    "verse",
]
