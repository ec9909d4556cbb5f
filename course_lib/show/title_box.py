"""The title box: type a title, press *Write*, and watch the poem appear.

`drafts` writes the poem, `poem_html` draws it, and `TitleBox` connects both to the fields and buttons. All widgets
exist in ipywidgets 7 and 8.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import partial
from html import escape
from typing import Literal

import ipywidgets as widgets
import numpy as np

from course_lib.checkpoints import Checkpoint
from course_lib.evaluation.novelty import training_index
from course_lib.generation import Reason, generate, generation_limits, prompt_ids, rank, write, written_poem
from course_lib.instructions import Instruction
from course_lib.poems import DEMO_TITLE
from course_lib.prosody import scan
from course_lib.sampling import GenerationSettings, text_key
from course_lib.show.annotate import LEGEND, nearest_note, signed_rows, sound
from course_lib.show.html import INK, PAPER, RED, RULE, SANS, SERIF, Html, small
from course_lib.titles import read_title

State = Literal["ready", "choosing", "writing", "refused", "failed", Reason]

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


# --- the poem while it is written -----------------------------------------------------------------


def drafts(
    checkpoint: Checkpoint, title: str, settings: GenerationSettings, instruction: Instruction | None, candidates: int
) -> Iterator[tuple[str, State]]:
    """Yield the text so far, first an empty one, and its state. The last state says why the poem is over.

    Of several candidates, the best one is yielded after all are written: the poem that `iter_poems` would choose.
    Before that, each step of the model yields an empty text, so that a reader can stop at any time.
    """
    yield "", "writing" if candidates == 1 else "choosing"
    if candidates == 1:
        stream = write(checkpoint, title, settings, instruction)
        for _ in stream:
            yield stream.text, "writing"
        yield stream.text, stream.reason or "failed"
        return
    prompt = prompt_ids(checkpoint, title, instruction)
    keys = np.concatenate([text_key(settings.seed, n, prompt) for n in range(candidates)])
    limits = generation_limits(checkpoint.tokenizer)
    texts: list[list[int]] = [[] for _ in range(candidates)]
    for step in generate(checkpoint.model, [prompt] * candidates, settings, limits, keys):
        for number, token in step:
            texts[number].append(token)
        yield "", "choosing"
    best = max((written_poem(checkpoint, prompt, ids, "", candidates) for ids in texts), key=rank)
    for length in range(1, len(best.text) + 1):
        yield best.text[:length], "writing"
    yield best.text, best.reason


# --- the page, as HTML ----------------------------------------------------------------------------


def poem_html(title: str, text: str, state: State, note: str = "", origin: str = "") -> Html:
    """A poem in vertical columns from right to left, one couplet a column, above a line that tells its state.

    On a narrow page the columns wrap. `note` is an extra sentence, such as why a title was refused. A poem that the
    model ended has the signs of its tones and rhymes, and below it `origin`, a sentence on its nearest training poem.
    """
    text = "\n".join(row.strip() for row in text.strip().split("\n"))
    rows = [[escape(character) for character in row] for row in text.split("\n")]
    below: list[str] = []
    if state == "end":
        scansion = scan(text)
        rows = signed_rows(text, scansion)
        below = [sound(scansion), LEGEND, origin]
    height = min(LONGEST, max(SHORTEST, *map(len, rows)))
    columns = [_column(part, height) for row in rows for part in _parts(row, height)] if text else []
    heading = [_column(part, height, "font-weight:bold") for part in _parts([escape(c) for c in title], height)]
    if state in ("choosing", "writing"):
        columns += [_column((), height)] * (USUAL - len(columns))
    if state == "end":
        columns.append(_seal())
    poem = "".join([*heading, '<div style="width:.3em"></div>', *columns])
    flow = "display:flex;flex-flow:row-reverse wrap;gap:.8em .1em;width:fit-content;margin:0 auto"
    flow += f";font:1.5em/1.8 {SERIF};min-height:{SHORTEST * 1.12:.2f}em"
    paper = f"background:{PAPER};color:{INK};border:1px solid {RULE};border-radius:8px;box-sizing:border-box"
    return Html(
        f'<div style="{paper};max-width:46em;padding:1.4em 1.4em .8em">'
        f'<div lang="zh-Hant" style="{flow}">{poem}</div>'
        f"{_state_line(state, len(text.replace(chr(10), '')), note)}"
        f"{''.join(map(small, filter(None, below)))}</div>"
    )


def _state_line(state: State, characters: int, note: str) -> str:
    name, meaning = STATES[state]
    count = f"{characters} character{'' if characters == 1 else 's'}"
    sentences = " ".join(filter(None, (meaning.format(count=count), note)))
    return f'<div role="status" style="margin-top:1em;font:1em/1.5 {SANS}"><b>{name}</b> {escape(sentences)}</div>'


def _parts(row: Sequence[str], height: int) -> list[Sequence[str]]:
    """A row cut to the height of a column. An empty row stays one empty column."""
    return [row[i : i + height] for i in range(0, len(row), height)] or [()]


def _column(characters: Sequence[str], height: int, style: str = "") -> str:
    size = f"writing-mode:vertical-rl;white-space:pre;letter-spacing:.08em;height:{height * 1.12:.2f}em"
    return f'<div style="{size};min-width:1.8em;{style}">{"".join(characters)}</div>'


def _seal() -> str:
    """The end mark, drawn as the red seal of a finished scroll: 完, "complete"."""
    box = f"align-self:flex-end;background:{RED};color:{PAPER};border-radius:.2em;padding:.1em .25em"
    return f'<div title="the end mark" style="{box};font-size:.8em">完</div>'


# --- the widget -----------------------------------------------------------------------------------


class TitleBox(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Fields for the title and the settings, the buttons *Write* and *Stop*, and a page for the poem.

    A thread writes one poem at a time, so that *Stop* can be pressed meanwhile. `pace` is the least time between two
    characters, in seconds. Sliders have no name that a screen reader could read, so each has a number field beside it.
    The menu of instructions is hidden if the checkpoint was taught only one.
    """

    def __init__(self, checkpoint: Checkpoint, *, pace: float = 0.05) -> None:
        self._checkpoint = checkpoint
        self.pace = pace
        self._busy = threading.Lock()  # held while a poem is written
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        usual = GenerationSettings()
        menu = [(f"{instruction.name} {instruction.label}", instruction) for instruction in checkpoint.instructions]
        number = widgets.BoundedFloatText
        self.title = _field(widgets.Text, "Title", "auto", value=DEMO_TITLE, placeholder="題目")
        self.instruction = _field(widgets.Dropdown, "Instruction", "15em", options=menu)
        self.temperature = _field(number, "Temperature", "12em", value=usual.temperature, min=0, max=2, step=0.05)
        self.top_p = _field(number, "Top-p", "9em", value=usual.top_p, min=0.05, max=1, step=0.05)
        self.seed = _field(widgets.IntText, "Seed", "9em", value=usual.seed)
        self.best_of = _field(widgets.BoundedIntText, "Best of", "9em", value=1, min=1, max=MOST)
        width = widgets.Layout(width="6em")
        self.write_button = widgets.Button(description="Write", button_style="primary", layout=width)
        self.stop_button = widgets.Button(description="Stop", disabled=True, layout=width)
        self.page = widgets.HTML(poem_html("", "", "ready"))
        self.title.on_msg(self._on_message)
        self.write_button.on_click(self.write)
        self.stop_button.on_click(self.stop)
        super().__init__([*self._controls(), self.page], layout=widgets.Layout(max_width="46em"))

    def __repr__(self) -> str:  # a page without a kernel shows this in place of the widget
        return "The title box comes to life when this cell is run in Jupyter."

    def _controls(self) -> list[widgets.HBox]:
        self.title.layout.flex, self.title.layout.min_width = "1 1 12em", "10em"
        menu = [self.instruction] if len(self._checkpoint.instructions) > 1 else []
        rows = [
            [self.title, self.write_button, self.stop_button],
            [*menu, self.seed, self.best_of],
            [_with_slider(self.temperature), _with_slider(self.top_p)],
        ]
        layout = widgets.Layout(flex_flow="row wrap", align_items="center")
        return [widgets.HBox(row, layout=layout) for row in rows]

    def _on_message(self, _: object, content: dict[str, object], __: object) -> None:
        """Write when Enter is pressed. `Text.on_submit` does the same, but ipywidgets 8 deprecates it."""
        if content.get("event") == "submit":
            self.write()

    def write(self, _: object = None) -> None:
        """Begin a poem on the title. Does nothing while another poem is written."""
        if not self._busy.acquire(blocking=False):
            return
        try:
            title = read_title(self.title.value, self._checkpoint.tokenizer)
            if title.refused:
                self._finish("", "", "refused", title.message)
                return
            settings = GenerationSettings(self.temperature.value, self.top_p.value, seed=self.seed.value)
            candidates = self.best_of.value
            poem = drafts(self._checkpoint, title.title, settings, self.instruction.value, candidates)
            best = f"Best of {candidates} poems, by form, rhyme and tones." if candidates > 1 else ""
            arguments = (poem, title.title, " ".join(filter(None, (title.message, best))))
            self._stopping.clear()
            self.write_button.disabled, self.stop_button.disabled = True, False
            self._thread = threading.Thread(target=self._work, args=arguments, name=THREAD, daemon=True)
            self._thread.start()
        except Exception as error:  # the box shows it: a button has no caller that could catch it
            self._finish("", "", "failed", f"{type(error).__name__}: {error}")

    def stop(self, _: object = None) -> None:
        """End the poem at its next character."""
        self._stopping.set()

    def wait(self, seconds: float | None = None) -> None:
        """Return when the poem is finished, or after `seconds`."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _work(self, poem: Iterator[tuple[str, State]], title: str, note: str) -> None:
        """Run in the thread: show each character, then how the poem ended."""
        text = origin = ""
        state: State = "failed"
        try:
            for text, state in poem:
                self.page.value = poem_html(title, text, state, note)
                if state in ("choosing", "writing") and self._stopping.wait(self.pace if text else 0):
                    state = "stopped"  # noqa: PLW2901
                    break
            if state == "end":  # after the poem is shown: the training poems take two seconds to load
                origin = nearest_note(training_index().nearest(text))
        except Exception as error:  # the box shows it: a thread has no caller that could catch it
            state, note = "failed", f"{type(error).__name__}: {error}"
        finally:
            self._finish(title, text, state, note, origin)

    def _finish(self, title: str, text: str, state: State, note: str, origin: str = "") -> None:
        """Show the last page and let the next poem begin."""
        try:
            self.page.value = poem_html(title, text, state, note, origin)
            self.write_button.disabled, self.stop_button.disabled = False, True
        finally:
            self._busy.release()


def _field(kind: type[widgets.Widget], name: str, width: str, **options: object) -> widgets.Widget:
    layout = widgets.Layout(width=width)
    return kind(description=name, style={"description_width": "initial"}, layout=layout, **options)


def _with_slider(field: widgets.BoundedFloatText) -> widgets.HBox:
    """A number field and a slider that show the same value."""
    slider = widgets.FloatSlider(
        field.value, min=field.min, max=field.max, step=field.step, readout=False, layout=widgets.Layout(width="8em")
    )
    rounded = partial(round, ndigits=2)  # 18 steps of 0.05 are 0.9000000000000001
    widgets.link((slider, "value"), (field, "value"), transform=(rounded, rounded))
    return widgets.HBox([field, slider], layout=widgets.Layout(align_items="center"))


def title_box(checkpoint: Checkpoint) -> TitleBox:
    """A title box that writes with this checkpoint. It appears when it ends a cell."""
    return TitleBox(checkpoint)
