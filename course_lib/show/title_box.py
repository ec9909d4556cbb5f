"""The title box: type a title, press *Write*, and watch the poem appear.

`poem_html` draws a poem, and `TitleBox` connects it to fields and buttons. All widgets exist in ipywidgets 7 and 8.
"""

import threading
from collections.abc import Callable
from functools import partial
from html import escape
from typing import Any, Literal

import ipywidgets as widgets

from course_lib import paths
from course_lib.checkpoints import Checkpoint
from course_lib.evaluation.novelty import training_index
from course_lib.generation import PoemStream, Reason, write
from course_lib.instructions import Instruction
from course_lib.language import is_chinese, say, sentences
from course_lib.poems import DEMO_TITLE
from course_lib.prosody import scan
from course_lib.sampling import GenerationSettings
from course_lib.show.annotate import LEGEND, nearest_note, shape, signed_rows, sound
from course_lib.show.html import PAPER, RED, SANS, SHEET, UNCOPIED, Html, lang, serif, small
from course_lib.titles import read_title, simplified

Script = Callable[[str], str]  # the characters of a text as they are shown
State = Literal["ready", "choosing", "writing", "refused", "failed", Reason]
Job = tuple[str, Instruction | None, GenerationSettings, int]  # what the fields ask for; the last is "Best of"

# The name of each state, and what it means. The sign in front helps readers who cannot see colours.
STATES: dict[State, tuple[str, str]] = {
    "ready": ("○ Ready.", "Type a title, then press Write or the Enter key."),
    "choosing": ("▶ Writing.", "The best poem will appear here."),
    "writing": ("▶ Writing.", "{count} so far."),
    "end": ("● Finished.", "The model ended the poem itself, after {count}."),
    "length": ("◆ Cut off.", "The limit was reached after {count}, and the model had not ended the poem."),
    "stopped": ("■ Stopped.", "You stopped the poem after {count}."),
    "refused": ("✗ Refused.", ""),
    "failed": ("✗ Failed.", "The poem could not be finished. Press Write to try again."),
}

SHORTEST, LONGEST = 12, 18  # characters in a column: a five-character couplet has 12, a seven-character couplet 16
USUAL = 4  # columns that are reserved for a new poem: most poems have two to four couplets
MOST = 16  # poems to choose the best from
THREAD = "title box"  # the name of the thread that writes


def poem_html(title: str, text: str, state: State, note: str = "", origin: str = "", *, script: Script = str) -> Html:
    """A poem in vertical columns from right to left, one couplet a column, above a line that says its state.

    `note` is an extra sentence, such as why a title was refused. A poem that the model ended has the signs of its tones
    and rhymes, and below it `origin`, a sentence on its nearest training poem. `script` is explained at `signed_rows`.
    """
    text = "\n".join(row.strip() for row in text.strip().split("\n"))
    rows = [[escape(character) for character in row] for row in script(text).split("\n")]
    below = ""
    if state == "end":
        scansion = scan(text)
        rows = signed_rows(text, scansion, script)
        form = sentences(shape(text, scansion), sound(scansion))
        below = "".join(map(small, map(script, filter(None, (form, say(LEGEND), origin)))))
    height = min(LONGEST, max(SHORTEST, *map(len, rows)))
    heading = _columns([escape(character) for character in script(title)], height, "font-weight:bold")
    columns = [column for row in rows for column in _columns(row, height)] if text else []
    if state in ("choosing", "writing"):
        columns += _columns([], height) * (USUAL - len(columns))
    if state == "end":  # the end mark, as the red seal of a finished scroll: 完, "complete"
        seal = f"background:{RED};color:{PAPER};border-radius:.2em;padding:.1em .25em;font-size:.8em;{UNCOPIED}"
        columns.append(f'<div title="{say("the end mark")}" style="align-self:flex-end;{seal}">完</div>')
    poem = "".join([*heading, '<div style="width:.3em"></div>', *columns])
    flow = "display:flex;flex-flow:row-reverse wrap;gap:.8em .1em;width:fit-content;margin:0 auto"
    flow += f";font:1.5em/1.8 {serif(script)};min-height:{SHORTEST * 1.12:.2f}em"
    name, meaning = STATES[state]
    characters = len(text.replace("\n", ""))
    count = say("1 character") if characters == 1 else say("{count} characters", count=characters)
    said = escape(sentences(say(meaning, count=count), note))
    status = f'<div role="status" style="margin-top:1em;font:1em/1.5 {SANS}"><b>{say(name)}</b> {said}</div>'
    verse = f'<div {lang(script)} style="{flow}">{poem}</div>'
    paper = f"{SHEET};box-sizing:border-box;max-width:46em;padding:1.4em 1.4em .8em"
    return Html(f'<div style="{paper}">{verse}{status}{below}</div>')


def _columns(row: list[str], height: int, style: str = "") -> list[str]:
    """A row as columns of at most `height` characters. An empty row is one empty column."""
    size = f"writing-mode:vertical-rl;white-space:pre;letter-spacing:.08em;height:{height * 1.12:.2f}em"
    parts = ["".join(row[i : i + height]) for i in range(0, len(row), height)] or [""]
    return [f'<div style="{size};min-width:1.8em;{style}">{part}</div>' for part in parts]


class Box(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """What the boxes share. A thread writes, so that a button can be pressed meanwhile."""

    _thread = threading.Thread()
    _shown: tuple[Any, ...] = ()

    def __repr__(self) -> str:  # a page without a kernel shows this in place of the widget
        return say("Run this cell in Jupyter (Shift+Enter), and the box appears here.")

    def wait(self, seconds: float | None = None) -> None:
        """Return when nothing is being written, or after `seconds`."""
        if (thread := self._thread).is_alive():  # a press of a button may begin another one meanwhile
            thread.join(seconds)


class TitleBox(Box):
    """Fields for the title and the settings, the buttons *Write*, *Another* and *Stop*, and a page for the poem.

    *Another* writes with the next seed. `pace` is the least time between two characters, in seconds. A screen reader
    cannot name a slider, so each slider has a number field beside it. The menu of instructions is hidden if the
    checkpoint was taught only one.
    """

    def __init__(self, checkpoint: Checkpoint, *, pace: float = 0.05) -> None:
        self._checkpoint = checkpoint
        self.pace = pace
        self._lock = threading.RLock()  # held while the next two are changed
        self._job: Job | None = None  # the poem that is being written, or is the next
        self._stopping = threading.Event()
        self._stream: PoemStream | None = None
        self._running = False  # whether the thread will look at the request again
        usual = GenerationSettings()
        asked = [i for i in checkpoint.instructions if (i.kind, i.given) == ("sentence", "title")]
        menu = [(named(instruction), instruction) for instruction in asked]
        number = widgets.BoundedFloatText
        self.title = labelled(widgets.Text, say("Title"), "auto", value=DEMO_TITLE, placeholder=DEMO_TITLE)
        self.instruction = labelled(widgets.Dropdown, say("Instruction"), "15em", options=menu)
        self.temperature = labelled(number, say("Temperature"), "12em", value=usual.temperature, max=2, step=0.05)
        self.top_p = labelled(number, say("Top-p"), "9em", value=usual.top_p, min=0.05, max=1, step=0.05)
        self.seed = labelled(widgets.IntText, say("Seed"), "9em", value=usual.seed)
        self.best_of = labelled(widgets.BoundedIntText, say("Best of"), "9em", value=1, min=1, max=MOST)
        self.write_button = widgets.Button(description=say("Write"), button_style="primary", layout={"width": "6em"})
        self.another_button = widgets.Button(description=say("Another"), layout={"width": "6em"})
        self.stop_button = widgets.Button(description=say("Stop"), disabled=True, layout={"width": "6em"})
        self.script = script_menu(self._draw)
        self.page = widgets.HTML()
        self._draw("", "", "ready")
        # Enter writes. `Text.on_submit` does the same, but ipywidgets 8 deprecates it.
        self.title.on_msg(lambda _, content, __: self.write() if content.get("event") == "submit" else None)
        self.write_button.on_click(self.write)
        self.another_button.on_click(self.another)
        self.stop_button.on_click(self.stop)
        self.title.layout.flex, self.title.layout.min_width = "1 1 12em", "10em"
        rows = [
            [self.title, together(self.write_button, self.another_button, self.stop_button)],
            [*[self.instruction] * (len(menu) > 1), together(self.seed, self.best_of), *[self.script] * is_chinese()],
            [_with_slider(self.temperature), _with_slider(self.top_p)],
        ]
        controls = [widgets.HBox(row, layout={"flex_flow": "row wrap", "align_items": "center"}) for row in rows]
        super().__init__([*controls, self.page], layout={"max_width": "46em"})

    def write(self, _: object = None) -> None:
        """Begin a poem on the title. A poem that is being written stops first, unless it is the same one."""
        values = {"temperature": self.temperature.value, "top_p": self.top_p.value, "seed": self.seed.value}
        settings = GenerationSettings(**values)
        job = (self.title.value, self.instruction.value, settings, self.best_of.value)
        with self._lock:
            if job == self._job:
                return
            self.stop()
            self._job = job
            if not self._running:
                self._running, self.stop_button.disabled = True, False
                self._thread = threading.Thread(target=self._work, name=THREAD, daemon=True)
                self._thread.start()

    def another(self, _: object = None) -> None:
        """Begin a poem with the next seed."""
        self.seed.value += 1
        self.write()

    def stop(self, _: object = None) -> None:
        """End the poem before its next character."""
        with self._lock:
            self._job = None
            self._stopping.set()
            if self._stream:
                self._stream.stop()

    def _work(self) -> None:
        """The work of the thread: it writes what is asked for, until nothing new is."""
        done: Job | None = None
        while True:
            with self._lock:
                job = self._job
                if job is None or job is done:
                    self._job, self._running, self.stop_button.disabled = None, False, True
                    return
                self._stream = None
                self._stopping.clear()
            self._show(*job)
            done = job

    def _show(self, typed: str, instruction: Instruction | None, settings: GenerationSettings, best_of: int) -> None:
        """Write one poem, and show each character, then how the poem ended."""
        title = text = note = origin = ""
        state: State = "refused"
        try:
            read = read_title(typed, self._checkpoint.tokenizer)
            title, note = read.title, read.message
            if title and best_of > 1:
                note = sentences(note, say("Best of {count} poems, by form, rhyme and tones.", count=best_of))
            if title:  # a refused title is empty
                stream = self._stream = write(self._checkpoint, title, settings, instruction, best_of)
                self._draw(title, "", "writing" if best_of == 1 else "choosing", note)
                if self._stopping.is_set():  # Stop was pressed before there was a stream
                    stream.stop()
                for _ in stream:
                    text = stream.text
                    self._draw(title, text, "writing", note)
                    self._stopping.wait(self.pace)
                state = stream.reason or "failed"
            if state == "end":  # the poem is shown first: the training poems take two seconds to load
                self._draw(title, text, state, note)
                origin = nearest_note(training_index().nearest(text))
        except Exception as error:  # the box shows it: a thread has no caller that could catch it
            shown = str(error).replace(str(paths.ASSETS), "assets")  # a visitor of `make app` need not know the folder
            state, note = "failed", f"{type(error).__name__}: {shown}"
        self._draw(title, text, state, note, origin)

    def _draw(self, *shown: Any) -> None:
        """Show what `poem_html` makes of its arguments; without any, of the last ones."""
        self._shown = shown or self._shown
        self.page.value = poem_html(*self._shown, script=self.script.value)


def labelled(kind: type[widgets.Widget], name: str, width: str, **options: object) -> widgets.Widget:
    """A field with its name before it, as wide as its name needs."""
    return kind(description=name, style={"description_width": "initial"}, layout={"width": width}, **options)


def named(instruction: Instruction) -> str:
    """What the boxes call an instruction: its name and its label, or for Chinese readers the label alone."""
    return simplified(instruction.label) if is_chinese() else f"{instruction.name} {instruction.label}"


def script_menu(redraw: Callable[[], None]) -> widgets.Dropdown:
    """A menu of the characters to show, which calls `redraw`. The boxes offer it to Chinese readers."""
    scripts = [(say("Traditional"), str), (say("Simplified"), simplified)]
    menu = labelled(widgets.Dropdown, say("Characters"), "9em", options=scripts)
    menu.observe(lambda _: redraw(), "value")
    return menu


def together(*items: widgets.Widget) -> widgets.HBox:
    """Widgets that stay in one row where the rows of the box wrap."""
    return widgets.HBox(items, layout={"align_items": "center"})


def _with_slider(field: widgets.BoundedFloatText) -> widgets.HBox:
    """A number field and a slider that show the same value."""
    slider = widgets.FloatSlider(field.value, min=field.min, max=field.max, step=field.step, readout=False)
    slider.layout.width = "8em"
    rounded = partial(round, ndigits=2)  # 18 steps of 0.05 are 0.9000000000000001
    widgets.link((slider, "value"), (field, "value"), transform=(rounded, rounded))
    return together(field, slider)
