"""The title box: type a title, press *Write*, watch the poem appear. The face of `generation` in a notebook.

`poem_html` draws, `TitleBox` hands it the characters. All its widgets are in ipywidgets 7 and 8 alike.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import partial
from html import escape
from typing import Literal

import ipywidgets as widgets

from course_lib.checkpoints import Checkpoint
from course_lib.evaluation.novelty import training_library
from course_lib.generation import GenerationSettings, Reason, Writing, write
from course_lib.poems import DEMO_TITLE
from course_lib.prosody import scan
from course_lib.show.annotate import LEGEND, marked_rows, nearest_told, sound
from course_lib.show.html import INK, PAPER, RED, RULE, SANS, SERIF, small
from course_lib.titles import read_title

State = Literal["ready", "writing", "refused", "failed", Reason]

# What each state is called, and what it means. The signs are there so that no state is told by colour alone.
STATES: dict[State, tuple[str, str]] = {
    "ready": ("○ Ready.", "Type a title, then press Write or the Enter key."),
    "writing": ("▶ Writing.", "{count} so far."),
    "end": ("● Finished.", "The model ended the poem itself, after {count}."),
    "length": ("◆ Cut off.", "The limit was reached after {count}, and the model had not ended."),
    "stopped": ("■ Stopped", "by you, after {count}."),
    "refused": ("✗ Refused.", ""),
    "failed": ("✗ Failed.", "The poem could not be finished; press Write to try again."),
}

SHORTEST, LONGEST = 12, 18  # characters in a column: a couplet of five-character lines has 12, of seven 16
USUAL = 4  # columns kept free for a poem that has just begun: most poems have two to four couplets
THREAD = "title box"  # the name of the thread that writes


# --- the page, as HTML ----------------------------------------------------------------------------


def poem_html(title: str, text: str, state: State, note: str = "", origin: str = "") -> str:
    """A poem set vertically, right to left, a couplet a column, above a line that says how it stands.

    On a narrow page the columns go on below, so that none is cut off. `note` is one more sentence, such as
    why a title was refused. A poem that ended itself has its tones and rhymes marked, and `origin`, a sentence on
    the poem nearest to it, stands below. Everything is escaped.
    """
    text = "\n".join(row.strip() for row in text.strip().split("\n"))
    rows: list[list[str]] = (
        marked_rows(text) if state == "end" else [[escape(c) for c in row] for row in text.split("\n")]
    )
    height = min(LONGEST, max([SHORTEST, *map(len, rows)]))
    columns = [_column(part, height) for row in rows for part in _parts(row, height)] if text else []
    heading = [_column(part, height, "font-weight:bold") for part in _parts([escape(c) for c in title], height)]
    if state == "writing":
        columns += [_column((), height)] * (USUAL - len(columns))
    if state == "end":
        columns.append(_seal())
    poem = "".join([*heading, '<div style="width:.3em"></div>', *columns])
    count = len(text.replace("\n", ""))
    name, meaning = STATES[state]
    meaning = meaning.format(count=f"{count} character{'' if count == 1 else 's'}")
    said = escape(" ".join(filter(None, (meaning, note))))
    flow = "display:flex;flex-flow:row-reverse wrap;gap:.8em .1em;width:fit-content;margin:0 auto"
    flow += f";font:1.5em/1.8 {SERIF};min-height:{SHORTEST * 1.12:.2f}em"
    paper = f"background:{PAPER};color:{INK};border:1px solid {RULE};border-radius:8px;box-sizing:border-box"
    below = [f"{sound(scan(text))} {LEGEND}", origin] if state == "end" else []
    return (
        f'<div style="{paper};max-width:46em;padding:1.4em 1.4em .8em">'
        f'<div lang="zh-Hant" style="{flow}">{poem}</div>'
        f'<div role="status" style="margin-top:1em;font:1em/1.5 {SANS}"><b>{name}</b> {said}</div>'
        f"{''.join(map(small, filter(None, below)))}</div>"
    )


def _parts(row: Sequence[str], height: int) -> list[Sequence[str]]:
    """A row of characters cut to the height of a column; an empty row stays one empty column."""
    return [row[i : i + height] for i in range(0, len(row), height)] or [()]


def _column(characters: Sequence[str], height: int, style: str = "") -> str:
    size = f"writing-mode:vertical-rl;white-space:pre;letter-spacing:.08em;height:{height * 1.12:.2f}em"
    return f'<div style="{size};min-width:1.8em;{style}">{"".join(characters)}</div>'


def _seal() -> str:
    """The end mark, as the red seal at the foot of a finished scroll: 完, "complete"."""
    box = f"align-self:flex-end;background:{RED};color:{PAPER};border-radius:.2em;padding:.1em .25em"
    return f'<div title="the end mark" style="{box};font-size:.8em">完</div>'


# --- the widget -----------------------------------------------------------------------------------


class TitleBox(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Fields for the title, temperature, top-p and seed, the buttons *Write* and *Stop*, and a page.

    The poem is written in a thread of its own, one at a time, so that *Stop* is heard; `pace` is the least
    time between two characters, in seconds. Temperature and top-p are sliders, and number fields beside them, since the
    sliders of ipywidgets have no name that a screen reader could read out.
    """

    def __init__(self, checkpoint: Checkpoint, *, pace: float = 0.05) -> None:
        self._checkpoint, self.pace = checkpoint, pace
        self._pen = threading.Lock()  # whoever writes holds it
        self._writing: Writing | None = None
        self._thread: threading.Thread | None = None
        usual = GenerationSettings()
        narrow = {"description_width": "initial"}
        self.typed = widgets.Text(DEMO_TITLE, description="Title", placeholder="題目", style=narrow)
        self.temperature = widgets.BoundedFloatText(
            usual.temperature, min=0, max=2, step=0.05, description="Temperature", style=narrow
        )
        self.top_p = widgets.BoundedFloatText(
            usual.top_p, min=0.05, max=1, step=0.05, description="Top-p", style=narrow
        )
        self.seed = widgets.IntText(usual.seed, description="Seed", style=narrow)
        self.write_button = widgets.Button(description="Write", button_style="primary")
        self.stop_button = widgets.Button(description="Stop", disabled=True)
        self.page = widgets.HTML(poem_html("", "", "ready"))
        self.typed.on_msg(self._on_message)
        self.write_button.on_click(self.write)
        self.stop_button.on_click(self.stop)
        super().__init__([self._controls(), self.page], layout=widgets.Layout(max_width="46em"))

    def __repr__(self) -> str:  # what a page without a kernel shows in place of the widget
        return "The title box comes to life when this cell is run in Jupyter."

    def _controls(self) -> widgets.VBox:
        self.typed.layout = widgets.Layout(flex="1 1 12em", width="auto", min_width="10em")
        for button in (self.write_button, self.stop_button):
            button.layout = widgets.Layout(width="6em")
        for field, width in ((self.temperature, "12em"), (self.top_p, "9em"), (self.seed, "9em")):
            field.layout = widgets.Layout(width=width)
        row = widgets.Layout(flex_flow="row wrap", align_items="center")
        return widgets.VBox(
            [
                widgets.HBox([self.typed, self.write_button, self.stop_button], layout=row),
                widgets.HBox([_with_slider(self.temperature), _with_slider(self.top_p), self.seed], layout=row),
            ]
        )

    def _on_message(self, _: object, content: dict[str, object], __: object) -> None:
        """The Enter key; `Text.on_submit`, which would hear it too, is deprecated in ipywidgets 8."""
        if content.get("event") == "submit":
            self.write()

    def write(self, _: object = None) -> None:
        """Begin a poem on the title typed; nothing happens while another is being written."""
        if not self._pen.acquire(blocking=False):
            return
        try:
            title = read_title(self.typed.value, self._checkpoint.tokenizer)
            if title.refused:
                self._rest("", "", "refused", title.message)
                return
            settings = GenerationSettings(self.temperature.value, self.top_p.value, seed=self.seed.value)
            self._writing = write(self._checkpoint, title.title, settings)
            self.write_button.disabled, self.stop_button.disabled = True, False
            arguments = (self._writing, title.title, title.message)
            self._thread = threading.Thread(target=self._work, args=arguments, name=THREAD, daemon=True)
            self._thread.start()
        except Exception as error:  # shown in the box: nothing may be raised into the page
            self._rest("", "", "failed", explain(error))

    def stop(self, _: object = None) -> None:
        """End the poem at its next character."""
        if self._writing is not None:
            self._writing.stop()

    def wait(self, seconds: float | None = None) -> None:
        """Return when the poem is finished, or after so many seconds."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _work(self, writing: Writing, title: str, note: str) -> None:
        """What the thread does: show each character as it comes, then how it ended."""
        state: State = "failed"
        origin = ""
        try:
            self.page.value = poem_html(title, "", "writing", note)
            for _ in writing:
                self.page.value = poem_html(title, writing.text, "writing", note)
                time.sleep(self.pace)
            state = writing.reason or "failed"
            if state == "end":  # shown at once: to open the training poems for the first time takes two seconds
                self.page.value = poem_html(title, writing.text, state, note)
                origin = nearest_told(training_library().nearest(writing.text))
        except Exception as error:  # a thread has nobody to raise it to
            note = explain(error)
        finally:
            self._rest(title, writing.text, state, note, origin)

    def _rest(self, title: str, text: str, state: State, note: str, origin: str = "") -> None:
        """Show the last page, lay down the pen, and let the next poem begin."""
        try:
            self.page.value = poem_html(title, text, state, note, origin)
            self.write_button.disabled, self.stop_button.disabled = False, True
        finally:
            self._pen.release()


def _with_slider(field: widgets.BoundedFloatText) -> widgets.HBox:
    """A number field and a slider that move together."""
    slider = widgets.FloatSlider(
        field.value, min=field.min, max=field.max, step=field.step, readout=False, layout=widgets.Layout(width="8em")
    )
    rounded = partial(round, ndigits=2)  # 18 steps of 0.05 are 0.9000000000000001
    widgets.link((slider, "value"), (field, "value"), transform=(rounded, rounded))
    return widgets.HBox([field, slider], layout=widgets.Layout(align_items="center"))


def title_box(checkpoint: Checkpoint) -> TitleBox:
    """A title box that writes with this checkpoint; the last line of a cell shows it."""
    return TitleBox(checkpoint)


def explain(error: Exception) -> str:
    """An exception as a sentence for the page."""
    return f"{type(error).__name__}: {str(error) or 'no more is known'}."
